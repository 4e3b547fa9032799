"""Images that come from outside (--untrusted): what they name stays closed, and kho itself can do little while it reads."""

import pathlib
import subprocess

import harness
import pytest
from interop.engine import assert_same, qemu_img, qemu_io

INVALID, UNSUPPORTED, DENIED, FINDINGS = 5, 6, 9, 14


@pytest.fixture(autouse=True)
def no_leak_search(monkeypatch):
    """The sanitizer looks for leaks from a process of its own, which such a kho may not have."""
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")


@pytest.fixture
def images(kho):
    """base.qcow2, and over.qcow2 on it; evil.qcow2 and thief.qcow2 name a file of ours."""
    (kho.tmp / "secret").write_bytes(b"secret" * 1000)
    qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "16M", cwd=kho.tmp)
    qemu_io(kho.tmp / "base.qcow2", ["write -P 3 1M 5M"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "over.qcow2", cwd=kho.tmp)
    qemu_io(kho.tmp / "over.qcow2", ["write -P 4 3M 5M"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "secret", "-F", "raw", "evil.qcow2", "16M", cwd=kho.tmp)
    qemu_img("create", "-q", "-f", "qcow2", "-o", "data_file=thief.data", "thief.qcow2", "1M", cwd=kho.tmp)
    (kho.tmp / "thief.data").unlink()
    (kho.tmp / "thief.data").symlink_to("secret")
    return kho.tmp


READING = [["map"], ["convert", "-O", "raw"], ["convert", "-O", "qcow2"], ["dd"], ["measure", "-O", "qcow2"]]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_what_it_names_stays_closed(kho, images, words):
    target = ["new"] if words[0] in ("convert", "dd") else []
    for image, named in ("over.qcow2", "base.qcow2"), ("evil.qcow2", "secret"), ("thief.qcow2", "thief.data"):
        kho.refuses("img", *words, "--untrusted", image, *target, status=DENIED,
                    says=[f"{image} is not trusted and names", f"{images / named}", f"--allow {images / named}"])
        assert not (images / "new").exists()
    kho.refuses("img", "compare", "--untrusted", "evil.qcow2", "base.qcow2", status=DENIED, says=["evil.qcow2", "--allow"])
    kho.refuses("img", "info", "--backing-chain", "--untrusted", "evil.qcow2", status=DENIED, says=["--allow"])


def test_what_is_allowed_is_read(kho, images):
    kho("img", "convert", "--untrusted", "--allow", "base.qcow2", "-O", "qcow2", "over.qcow2", "new")
    assert_same(images / "new", "qcow2", images / "over.qcow2", "qcow2")
    kho("img", "convert", "--force", "--untrusted", "-c", "-O", "qcow2", "base.qcow2", "new")
    assert_same(images / "new", "qcow2", images / "base.qcow2", "qcow2")
    kho("img", "dd", "--untrusted", "--length", "2M", "base.qcow2", "part")
    qemu_io(images / "part", ["read -P 0 0 1M", "read -P 3 1M 1M"], "raw")
    kho("img", "compare", "--untrusted", "new", "base.qcow2")
    chain = kho.json("img", "info", "--backing-chain", "--untrusted", "--allow", "base.qcow2", "over.qcow2")
    assert [one["filename"] for one in chain] == ["over.qcow2", "base.qcow2"]
    assert kho.json("img", "info", "--untrusted", "evil.qcow2")["backing-filename"] == "secret"
    kho("img", "check", "--untrusted", "evil.qcow2")
    assert kho("img", "measure", "--untrusted", "-O", "qcow2", "base.qcow2").out == \
        kho("img", "measure", "-O", "qcow2", "base.qcow2").out


def test_a_repair_writes_that_file_alone(kho, images):
    with open(images / "base.qcow2", "r+b") as file:
        file.seek(2 * 65536 + 2 * 90)
        file.write(b"\0\1")  # a cluster that nothing names
        file.truncate(91 * 65536)
    assert "1 leaked" in kho("img", "check", "--untrusted", "base.qcow2", status=FINDINGS).out
    kho("img", "check", "--untrusted", "-r", "leaks", "base.qcow2")
    kho("img", "check", "base.qcow2")


def test_luks_volumes_are_told(kho):
    """Rule: what begins like a volume is none for a machine, but it is for who looks at a file from outside."""
    (kho.tmp / "key").write_text("abc")
    kho("img", "create", "--secret", "id=s,file=key", "-f", "luks", "-o", "key-secret=s,iter-time=1,preallocation=full", "vol", "1M")
    assert kho.json("img", "info", "--untrusted", "vol")["format"] == "luks"
    ran = kho("img", "convert", "--untrusted", "vol", "out", status=None)
    assert ran.status != 0 and "passphrase is needed" in ran.err
    kho("img", "convert", "--untrusted", "--secret", "id=s,file=key", "vol", "out")
    assert (kho.tmp / "out").read_bytes() == bytes(1 << 20)


def test_words(kho, images):
    qemu_img("create", "-q", "-f", "vmdk", "a.vmdk", "1M", cwd=images)
    kho.refuses("img", "info", "--allow", "x", "base.qcow2", status=INVALID, says=["--allow", "--untrusted"])
    kho.refuses("img", "info", "--untrusted", "a.vmdk", status=UNSUPPORTED, says=["a.vmdk", "vmdk"])
    kho.refuses("img", "map", "--untrusted", "nbd://localhost/x", status=UNSUPPORTED, says=["nbd://localhost/x"])
    for words in (["-O", "vmdk", "base.qcow2", "new"], ["-O", "raw", "base.qcow2", "nbd://localhost/x"]):
        kho.refuses("img", "convert", "--untrusted", *words, status=UNSUPPORTED, says=["--untrusted"])
    kho.refuses("img", "convert", "--untrusted", "-O", "qcow2", "-B", "base.qcow2", "-F", "qcow2", "over.qcow2", "new",
                status=INVALID, says=["--untrusted", "backing file"])
    assert not (images / "new").exists()


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


@pytest.mark.parametrize("untrusted", [False, True])
def test_its_rights_while_it_reads(kho, untrusted):
    """A map that nobody reads on waits in its output: system calls are filtered, and no right is gained any more."""
    image = kho.tmp / "scattered.raw"
    with open(image, "wb") as file:
        for number in range(3000):
            file.seek(number * 8192)
            file.write(b"x")
    child = subprocess.Popen([str(kho.program), "img", "map", *["--untrusted"][:untrusted], "-f", "raw", str(image)],
                             env=kho.env(), stdout=subprocess.PIPE)
    kho.children.append(child)
    assert child.stdout.readline().startswith(b"Offset")
    status = status_of(child.pid)
    assert (status["Seccomp"], status["NoNewPrivs"]) == (("2", "1") if untrusted else ("0", "0"))
    assert child.stdout.read().count(b"\n") == 3000
    assert child.wait(timeout=harness.HANG_GUARD_S) == 0
