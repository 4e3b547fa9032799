"""kho under the name qemu-img, and Debian's qemu-img: the same command line to both, and all that is seen of it compared.
The rows are in qemu_img/rows_VERB.py; a verb or an option without a row fails here."""

import fcntl
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import tempfile

import pytest

import harness
from interop.qemu_img import matrix

FOLDER = pathlib.Path(__file__).parent / "qemu_img"
ROWS = [row for path in sorted(FOLDER.glob("rows_*.py"))
        for row in importlib.import_module(f"interop.qemu_img.{path.stem}").ROWS]


# In memory where that can be: every image that is made is flushed, which a disk takes its time for.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"


@pytest.fixture(scope="session")
def templates():
    with tempfile.TemporaryDirectory(prefix="kho-matrix-", dir=MEMORY) as folder:
        yield matrix.Templates(pathlib.Path(folder))


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="kho-row-", dir=MEMORY) as folder:
        yield pathlib.Path(folder)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row, build, templates, place):
    matrix.run_row(row, build, templates, place)


def test_every_verb_and_option_has_a_row(build, tmp):
    (tmp / "qemu-img").symlink_to(build / "kho")
    table = harness.run([tmp / "qemu-img", "--table"]).out.splitlines()
    missing = sorted(set(table) - matrix.covered(ROWS, table))
    assert not missing, f"no row in tests/interop/qemu_img/ has: {', '.join(missing)}"


@pytest.fixture
def face(build, tmp):
    """Runs kho under the name qemu-img, in tmp."""
    (tmp / "bin").mkdir()
    (tmp / "bin/qemu-img").symlink_to(build / "kho")

    def run(*args, status=0, **keywords):
        return harness.run([tmp / "bin/qemu-img", *args], status=status, cwd=tmp, **keywords)
    return run


@pytest.mark.parametrize("verb", [("create", "-f", "qcow2", "link", "1M"), ("convert", "-O", "qcow2", "source", "link"),
                                  ("dd", "-O", "qcow2", "if=source", "of=link")], ids=lambda verb: verb[0])
def test_what_is_replaced_keeps_its_dress(face, tmp, verb):
    """Mode, owner and access list, through a symbolic link that stays one."""
    (tmp / "source").write_bytes(bytes(1 << 20))
    (tmp / "old").write_bytes(b"old")
    (tmp / "link").symlink_to("old")
    os.chown(tmp / "old", 65534, 65534)
    os.chmod(tmp / "old", 0o640)
    entries = [(0x01, 6, -1), (0x02, 4, 4242), (0x04, 4, -1), (0x10, 4, -1), (0x20, 0, -1)]  # user 4242 may read it
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(tmp / "old", "system.posix_acl_access", listed)
    face(*verb)
    assert os.readlink(tmp / "link") == "old"
    now = os.stat(tmp / "old")
    assert (now.st_uid, now.st_gid, now.st_mode & 0o7777) == (65534, 65534, 0o640)
    assert os.getxattr(tmp / "old", "system.posix_acl_access") == listed
    assert (tmp / "old").read_bytes()[:4] == b"QFI\xfb"
    assert sorted(path.name for path in tmp.iterdir()) == ["bin", "link", "old", "source"]


def test_rights_of_a_group_that_is_lost(face, tmp):
    """Whoever may not give a file to the group that it had gives what that group was allowed to no other, also with a list."""
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    (tmp / "place").mkdir()
    os.chown(tmp / "place", 65534, 65534)
    os.chmod(tmp, 0o755)
    entries = [(0x01, 6, -1), (0x02, 4, 4242), (0x04, 4, -1), (0x10, 4, -1), (0x20, 0, -1)]
    left = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", tag, 0 if tag == 0x04 else rights, who) for tag, rights, who in entries)
    for name, groups, mode, listed in (("plain", user, 0o604, False), ("list", user, 0o640, True),
                                       ("member", [*user[:-1], "--groups=4243"], 0o664, False)):
        (tmp / "place" / name).write_bytes(b"old")
        os.chown(tmp / "place" / name, 65534, 4243)
        os.chmod(tmp / "place" / name, 0o640 if listed else 0o664)
        if listed:
            os.setxattr(tmp / "place" / name, "system.posix_acl_access",
                        struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries))
        before = os.stat(tmp / "place" / name)
        harness.run([*groups, tmp / "bin/qemu-img", "create", "-q", "-f", "qcow2", tmp / "place" / name, "1M"])
        now = os.stat(tmp / "place" / name)
        assert now.st_ino != before.st_ino
        assert (now.st_gid, now.st_mode & 0o7777) == (4243 if name == "member" else 65534, mode), name
        if listed:
            assert os.getxattr(tmp / "place" / name, "system.posix_acl_access") == left


LINK_VERBS = (("create", "-f", "qcow2", "{}", "1M"), ("convert", "-f", "raw", "-O", "qcow2", "source", "{}"),
              ("dd", "-f", "raw", "-O", "qcow2", "if=source", "of={}"))


@pytest.mark.parametrize("verb", LINK_VERBS, ids=lambda verb: verb[0])
def test_a_link_that_leads_nowhere_yet(face, tmp, verb):
    """What it leads to is made, over several links too, each read from its own folder; a circle is refused."""
    (tmp / "sub").mkdir()
    (tmp / "source").write_bytes(bytes(1 << 20))
    (tmp / "far").symlink_to("sub/near")
    (tmp / "sub/near").symlink_to("../made")
    (tmp / "round").symlink_to("circle")
    (tmp / "circle").symlink_to("round")
    (tmp / "lost").symlink_to("nowhere/made")
    sizes = []
    for who in (lambda *args, **how: harness.run([matrix.REAL, *args], cwd=tmp, **how), face):
        assert not who(*(word.format("far") for word in verb)).err
        assert not (tmp / "made").is_symlink() and os.readlink(tmp / "far") == "sub/near"
        sizes.append(who("info", "--output=json", "made").out.replace("far", "made"))
        for name in ("round", "lost"):
            assert who(*(word.format(name) for word in verb), status=1).err
        (tmp / "made").unlink()
        assert not list((tmp / "sub").glob("*.kho-tmp")) and not (tmp / "circle").is_file()
    assert '"format": "qcow2"' in sizes[1]


def test_kho_makes_what_a_link_leads_to(kho, tmp):
    (tmp / "link").symlink_to("made")
    assert "exists already" in kho("img", "create", "-f", "qcow2", tmp / "link", "1M", status=None).err
    assert not (tmp / "made").exists()
    kho("img", "create", "--force", "-f", "qcow2", tmp / "link", "1M")
    assert (tmp / "link").is_symlink() and (tmp / "made").is_file()


def test_other_names_of_what_is_replaced(face, kho, tmp):
    """They keep the old contents: kho says so, and under QEMU's name nothing."""
    (tmp / "source").write_bytes(bytes(1 << 20))
    for verb in (("create", "--force", "-f", "qcow2", tmp / "old", "1M"), ("convert", "--force", "-O", "qcow2", tmp / "source", tmp / "old")):
        (tmp / "old").write_bytes(b"old")
        os.link(tmp / "old", tmp / "other")
        assert "has 1 more name (hard links)" in kho("img", *verb).err
        assert (tmp / "other").read_bytes() == b"old" and (tmp / "old").read_bytes()[:4] == b"QFI\xfb"
        assert not kho("img", *verb).err
        (tmp / "other").unlink()
    os.link(tmp / "old", tmp / "other")
    assert not face("create", "-q", "-f", "qcow2", "old", "1M").err


NAMES = [os.fsdecode(name) for name in (b"a\xff\xfe", b"a\xe2\x82z", b"\xf0\x9f\x98\x80\xc3\xa4", b"\xed\xa0\x80", b"\xef\xbf\xbf", b"q\"\\\t\x7f\x01")]


def test_names_that_are_no_text(face, kho, tmp):
    """In JSON as the real qemu-img writes them, and in kho's own: no key goes for a name's sake."""
    for name in NAMES:
        harness.run([matrix.REAL, "create", "-q", "-f", "qcow2", name, "1M"], cwd=tmp)
        harness.run([matrix.REAL, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", name, "over" + name], cwd=tmp)
        for line in (("info", "--output=json", name), ("info", "--output=json", "--backing-chain", "over" + name),
                     ("check", "--output=json", name)):
            ours, real = face(*line).out, harness.run([matrix.REAL, *line], cwd=tmp).out
            assert ours == real and '"filename"' in ours
        text = json.loads(real)["filename"]
        assert json.loads(kho("--json", "img", "info", tmp / name).out)["filename"].endswith(text)
        assert json.loads(kho("--json", "img", "check", tmp / name).out)["filename"].endswith(text)


def test_the_real_tool_is_asked_and_not_kho(face, tmp):
    """Where kho comes first on PATH under its name: check of what QEMU reads for kho; where there is no other, that is said."""
    first = {**os.environ, "PATH": f"{tmp}/bin:{os.environ['PATH']}"}
    for fmt in ("vmdk", "vdi", "vhdx", "vpc", "qed"):
        harness.run([matrix.REAL, "create", "-q", "-f", fmt, f"a.{fmt}", "4M"], cwd=tmp)
        line = ("check", "-f", fmt, f"a.{fmt}")
        real = harness.run([matrix.REAL, *line], cwd=tmp, status=None)
        ours = face(*line, env=first, status=None)
        assert (ours.status, ours.out, ours.err) == (real.status, real.out, real.err), f"{real}\n{ours}"
    (tmp / "bin/qemu-storage-daemon").symlink_to(shutil.which("qemu-storage-daemon"))
    alone = face("check", "-f", "vdi", "a.vdi", env={**os.environ, "PATH": f"{tmp}/bin"}, status=None)
    assert alone.status == 1 and "install the package" in alone.err and "is kho" in alone.err


def test_cancelled_convert_leaves_what_stood_there(face, tmp, build):
    """And ends by the signal, as qemu-img does; SIGUSR1 asks how far it is."""
    with open(tmp / "source", "wb") as file:
        for _ in range(256):
            file.write(os.urandom(1 << 20))
    (tmp / "target").write_bytes(b"old")
    child = subprocess.Popen([tmp / "bin/qemu-img", "convert", "-p", "-S", "0", "-O", "qcow2", "-c", "source", "target"], cwd=tmp,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child.stdout.read(1)  # it has begun
    child.send_signal(signal.SIGUSR1)
    assert re.fullmatch(r" +\(\d+\.\d\d/100%\)\n", child.stderr.readline())  # how far it is
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == -signal.SIGINT
    assert (tmp / "target").read_bytes() == b"old"
    assert sorted(path.name for path in tmp.iterdir()) == ["bin", "source", "target"]


def test_locks_are_told_in_qemus_words(face, tmp):
    """Of a writer and of a reader, by each verb that meets one."""
    for name in ("a.qcow2", "b.qcow2"):
        face("create", "-q", "-f", "qcow2", name, "1M")
    lines = {False: [("info", "a.qcow2"), ("info", "-U", "a.qcow2"), ("map", "a.qcow2"), ("check", "a.qcow2"),
                     ("resize", "a.qcow2", "+1M"), ("convert", "a.qcow2", "x"), ("convert", "-n", "-O", "qcow2", "b.qcow2", "a.qcow2"),
                     ("convert", "-O", "qcow2", "b.qcow2", "a.qcow2"), ("create", "-f", "qcow2", "a.qcow2", "1M"),
                     ("compare", "a.qcow2", "b.qcow2"), ("measure", "a.qcow2"), ("check", "-U", "a.qcow2")],
             True: [("info", "a.qcow2"), ("resize", "a.qcow2", "+1M"), ("check", "-r", "all", "a.qcow2"),
                    ("create", "-f", "qcow2", "a.qcow2", "1M"), ("compare", "a.qcow2", "b.qcow2")]}
    for read_only, tries in lines.items():
        holder = subprocess.Popen(["qemu-io", *(["-r"] if read_only else []), "a.qcow2"], cwd=tmp, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        holder.stdin.write("map\n")
        holder.stdin.flush()
        holder.stdout.readline()  # it has the image open
        try:
            for line in tries:
                real, ours = harness.run([matrix.REAL, *line], status=None, cwd=tmp), face(*line, status=None)
                assert (ours.status, ours.out, ours.err) == (real.status, real.out, real.err), f"{real}\n{ours}"
        finally:
            holder.communicate("quit\n")


@pytest.fixture
def device(tmp):
    """A loop device of 16 MiB, full of old data."""
    (tmp / "device").write_bytes(b"old " * (4 << 20))
    name = harness.run(["losetup", "--find", "--show", tmp / "device"]).out.strip()
    yield name
    harness.run(["losetup", "--detach", name])


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_devices_are_written_in_place(face, tmp, device, fmt):
    """By convert and create, as by the real qemu-img, which reads what is there."""
    face("create", "-q", "-f", "qcow2", "source", "12M")
    harness.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", "-c", "write -z 5M 1M", tmp / "source"])
    face("convert", "-O", fmt, "source", device)
    ran = harness.run([matrix.REAL, "compare", "-f", "qcow2", "-F", fmt, tmp / "source", device], status=None)
    assert ran.out.endswith("Images are identical.\n") or (fmt == "raw" and "mismatch at offset 12582912" in ran.out), str(ran)
    face("create", "-q", "-f", "qcow2", device, "1G")
    told = face("info", device).out
    assert "virtual size: 1 GiB" in told and told == harness.run([matrix.REAL, "info", device]).out


def test_a_volume_is_made_on_a_device(face, tmp, device):
    """Zeros of the source among what is written; what is too large is refused before anything is."""
    key = ("--object", "secret,id=s,data=abc")
    face("create", "-q", "-f", "raw", "source", "3M")
    harness.run(["qemu-io", "-f", "raw", "-c", "write -P 7 1M 1M", tmp / "source"])
    face("convert", *key, "-f", "raw", "-O", "luks", "-o", "key-secret=s,iter-time=10", "source", device)
    ran = harness.run([matrix.REAL, "compare", *key, "--image-opts", f"driver=raw,file.filename={tmp}/source",
                       f"driver=luks,key-secret=s,file.driver=host_device,file.filename={device}"], status=None)
    assert ran.err == "" and "size mismatch" in ran.out and "mismatch at offset 3145728" in ran.out, str(ran)  # what was there before
    before = (tmp / "device").read_bytes()
    face("create", "-q", "-f", "raw", "source", "15M")
    assert "are needed" in face("convert", *key, "-f", "raw", "-O", "luks", "-o", "key-secret=s,iter-time=10", "source", device,
                                status=1).err
    assert (tmp / "device").read_bytes() == before


def test_a_device_that_is_too_small_keeps_what_it_has(face, tmp, device):
    before = (tmp / "device").read_bytes()
    face("create", "-q", "-f", "raw", "source", "17M")
    assert "are needed" in face("convert", "-O", "raw", "source", device, status=1).err
    assert (tmp / "device").read_bytes() == before


def test_a_copy_into_a_device_that_is_cancelled_leaves_a_mark(face, tmp, device):
    """What is half a disk is taken for none by anybody, and kho says why."""
    with open(tmp / "source", "wb") as file:
        file.write(os.urandom(15 << 20))
    child = subprocess.Popen([tmp / "bin/qemu-img", "convert", "-p", "-r", "1M", "-O", "raw", "source", device], cwd=tmp,
                             stdout=subprocess.PIPE)
    child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == -signal.SIGINT
    assert (tmp / "device").read_bytes().startswith(b"kho: this disk is incomplete")
    assert "incomplete" in face("info", device, status=1).err


def test_a_file_of_somebody_else_stays_his(face, tmp):
    """Written in place: by a user who may write the file, and neither own it nor make another beside it."""
    (tmp / "source").write_bytes(b"new " * (1 << 20))
    (tmp / "place").mkdir()
    (tmp / "place/target").write_bytes(b"old " * 5000)
    os.chmod(tmp / "place/target", 0o666)
    os.chmod(tmp, 0o755)
    before = os.stat(tmp / "place/target")
    for fmt in ("raw", "qcow2"):
        harness.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", tmp / "bin/qemu-img", "convert", "-f", "raw",
                     "-O", fmt, tmp / "source", tmp / "place/target"])
        now = os.stat(tmp / "place/target")
        assert (now.st_ino, now.st_uid, now.st_mode) == (before.st_ino, before.st_uid, before.st_mode)
        harness.run([matrix.REAL, "compare", "-f", "raw", "-F", fmt, tmp / "source", tmp / "place/target"])
        assert os.listdir(tmp / "place") == ["target"]


@pytest.mark.parametrize("verb", [("create", "{}", "1M"), ("convert", "-O", "qcow2", "source", "{}")], ids=lambda verb: verb[0])
def test_a_data_file_that_qemu_would_look_for_elsewhere(face, tmp, verb):
    """A relative name leads from the image's folder for kho, and from the working directory for QEMU: where it is to be taken
    for both, it must be whole."""
    (tmp / "sub").mkdir()
    (tmp / "source").write_bytes(b"1" * (1 << 20))
    line = [word.format("sub/x") for word in verb]
    assert "give its whole path" in face(line[0], *(["-f", "qcow2"] if verb[0] == "create" else []), "-o", "data_file=q",
                                         *line[1:], status=1).err
    assert not list((tmp / "sub").iterdir())
    face(line[0], *(["-f", "qcow2"] if verb[0] == "create" else []), "-o", f"data_file={tmp}/q", *line[1:])
    harness.run([matrix.REAL, "check", tmp / "sub/x"], cwd="/")


def extent_size(path):
    """What FS_IOC_FSGETXATTR says: whether FS_XFLAG_EXTSIZE is set, and the size."""
    with open(path, "rb") as file:
        told = fcntl.ioctl(file, 0x801c581f, bytes(28))
    flags, size = struct.unpack_from("=2I", told)
    return flags & 0x800 != 0, size


@pytest.mark.parametrize("verb", [("create", "-f", "{fmt}", "-o", "{options}", "{path}", "1M"),
                                  ("convert", "-O", "{fmt}", "-o", "{options}", "{source}", "{path}")], ids=lambda verb: verb[0])
def test_extents_have_the_size_asked_for(face, tmp, small_fs, verb):
    """Where the file system knows how: on XFS, and no less than the real qemu-img has it; a data file too."""
    place = small_fs("xfs", 300).path
    (tmp / "source").write_bytes(bytes(1 << 20))
    for fmt, more, names in (("raw", "", ("x",)), ("qcow2", "", ("x",)), ("qcow2", f",data_file={place}/d", ("x", "d"))):
        line = [word.format(fmt=fmt, options=f"extent_size_hint=2M{more}", path=place / "x", source=tmp / "source")
                for word in verb]
        told = {}
        for who in (lambda *args: harness.run([matrix.REAL, *args]), face):
            assert not who(*line).err
            told[who] = [extent_size(place / name) for name in names]
            for name in names:
                (place / name).unlink()
        theirs, ours = told.values()
        assert ours == theirs == [(True, 2 << 20)] * len(names)


def test_rate(face, tmp):
    """4 MiB at 4 MiB a second take most of a second; a limit that is no limit takes none."""
    (tmp / "source").write_bytes(os.urandom(4 << 20))
    assert face("convert", "-r", "4M", "source", "slow").seconds > 0.8
    assert (tmp / "slow").read_bytes() == (tmp / "source").read_bytes()
    face("convert", "-r", "100G", "source", "fast")
