"""The pool and vol verbs on full disks, killed, and many at once: the old state or the new one, no temporary file."""

import hashlib
import os
import signal
import subprocess

import pytest

import harness
from snapshot import snapshot

MIB = 1 << 20
LEVELS = 20
OK, NO_SPACE = 0, 10


def temporaries(folder):
    return [str(path) for path in folder.rglob("*") if path.name.endswith(".kho-tmp")]


@pytest.fixture
def full(kho, small_fs):
    """A tree and an active pool `p` on a small file system, with what the verbs below need."""
    fs = small_fs("ext4", 24)
    kho.fs = fs
    kho.root = fs.path / "root"
    kho("pool-define-as", "p", "dir", "--target", fs.path / "p")
    kho("pool-start", "--build", "p")
    kho("pool-define-as", "idle", "dir", "--target", fs.path / "idle" / "deep")
    kho("vol-create-as", "p", "v.img", "2M")
    kho("vol-create-as", "p", "v.qcow2", "2M", "--format", "qcow2")
    for name in ("v.img", "v.qcow2"):
        format = "raw" if name == "v.img" else "qcow2"
        harness.run(["qemu-io", "-f", format, "-c", "write -P 9 0 1M", fs.path / "p" / name])
    xml = kho.tmp / "pool.xml"
    xml.write_text(f"<pool type='dir'><name>new</name><target><path>{fs.path}/new</path></target></pool>")
    volume = kho.tmp / "volume.xml"
    volume.write_text("<volume><name>n</name><capacity unit='M'>1</capacity></volume>")
    return kho


# verb, its words, what takes it back, and how much free space the highest level has
VERBS = [
    ("pool-define", ["pool-define", "{tmp}/pool.xml"], [["pool-undefine", "new"]], 32768),
    ("pool-define-as", ["pool-define-as", "new", "dir", "--target", "/x"], [["pool-undefine", "new"]], 32768),
    ("pool-build", ["pool-build", "idle"], "rmdir", 32768),
    ("pool-start", ["pool-start", "--build", "idle"], [["pool-destroy", "idle"]], 32768),
    ("pool-autostart", ["pool-autostart", "p"], [["pool-autostart", "p", "--disable"]], 16384),
    ("pool-destroy", ["pool-destroy", "p"], [["pool-start", "p"]], 16384),
    ("pool-undefine", ["pool-undefine", "idle"], None, 16384),
    ("vol-create-as raw", ["vol-create-as", "p", "n", "1M"], [["vol-delete", "--pool", "p", "n"]], 3145728),
    ("vol-create-as sparse", ["vol-create-as", "p", "n", "1M", "--allocation", "0"], [["vol-delete", "--pool", "p", "n"]], 32768),
    ("vol-create-as qcow2", ["vol-create-as", "p", "n", "1M", "--format", "qcow2"], [["vol-delete", "--pool", "p", "n"]], 524288),
    ("vol-create", ["vol-create", "p", "{tmp}/volume.xml"], [["vol-delete", "--pool", "p", "n"]], 3145728),
    ("vol-resize raw", ["vol-resize", "--pool", "p", "v.img", "3M", "--allocate"],
     [["vol-resize", "--pool", "p", "v.img", "2M", "--shrink"]], 3145728),
    ("vol-resize qcow2", ["vol-resize", "--pool", "p", "v.qcow2", "1G"], [["vol-resize", "--pool", "p", "v.qcow2", "2M", "--shrink"]],
     262144),
    ("vol-clone raw", ["vol-clone", "--pool", "p", "v.img", "n"], [["vol-delete", "--pool", "p", "n"]], 3145728),
    ("vol-clone qcow2", ["vol-clone", "--pool", "p", "v.qcow2", "n"], [["vol-delete", "--pool", "p", "n"]], 1835008),
    ("vol-delete", ["vol-delete", "--pool", "p", "v.img"], None, 16384),
]


def take_back(kho, how):
    if how == "rmdir":
        (kho.fs.path / "idle" / "deep").rmdir()
        (kho.fs.path / "idle").rmdir()
        return
    for words in how:
        kho(*words)


@pytest.mark.parametrize("words, undo, most", [row[1:] for row in VERBS], ids=[row[0] for row in VERBS])
def test_full_disk(full, words, undo, most):
    """At each of 20 levels: done, or refused with one line, the old state intact and no temporary file."""
    words = [word.format(tmp=full.tmp) for word in words]
    statuses = []
    resized = full.fs.path / "p" / "v.qcow2" if "v.qcow2" in words and words[0] == "vol-resize" else None
    before = contents(full, resized)
    for level in range(LEVELS):
        full.fs.fill(most * level // (LEVELS - 1))
        ran = full(*words, status=None)
        assert temporaries(full.fs.path) == []
        statuses.append(ran.status)
        if ran.status == OK:
            full.fs.fill(most + 2 * MIB)
            if undo is None:
                break
            take_back(full, undo)
            before = contents(full, resized)
        else:
            assert ran.status == NO_SPACE and len(ran.err.splitlines()) == 1, str(ran)
            assert contents(full, resized) == before, f"level {level} changed something: {ran}"
    assert statuses[-1] == OK
    if most > 1 * MIB:
        assert NO_SPACE in statuses
    harness.run(["qemu-img", "check", "-q", full.fs.path / "p" / "v.qcow2"])
    harness.run(["qemu-io", "-f", "qcow2", "-c", "read -P 9 0 1M", full.fs.path / "p" / "v.qcow2"])


def contents(kho, resized):
    """What a person sees: the tree, and each volume's bytes; of the qcow2 volume that is being @resized those that the guest
    sees, since its tables may have moved."""
    seen = snapshot(kho.root)
    for path in sorted((kho.fs.path / "p").iterdir()):
        if path == resized:
            path = kho.tmp / "guest"
            harness.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", resized, path])
        seen[path.name] = (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    seen["idle"] = (kho.fs.path / "idle").exists()
    return seen


def kill_at_random(kho, rng, words, longest_s):
    """Runs a verb and kills it at a random moment; returns whether it had ended before."""
    child = kho.spawn(*words)
    try:
        child.communicate(timeout=rng.uniform(0, longest_s))
        return True
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.communicate()
        return False


def test_killed_defines(kho, rng, soak):
    """A definition killed at any moment is there, whole, or is not; the next one finds nothing in its way."""
    killed = 0
    for round in range(300 if soak else 30):
        words = ["pool-define-as", "p", "dir", "--target", kho.base / "p"]
        killed += not kill_at_random(kho, rng, words, 0.06)
        pools = kho.json("pool-list", "--all")
        assert [p["problem"] for p in pools] in ([], [None])
        if pools:
            kho("pool-undefine", "p")
        else:
            kho(*words)
            kho("pool-undefine", "p")
        assert temporaries(kho.base) == []
    assert killed > 0


@pytest.mark.parametrize("kind", ["create", "clone"])
def test_killed_volumes(kho, rng, soak, kind):
    """A volume appears whole, or not at all, and leaves no temporary file."""
    folder = kho.base / "p"
    kho("pool-define-as", "p", "dir", "--target", folder)
    kho("pool-start", "--build", "p")
    kho("vol-create-as", "p", "source.qcow2", "64M", "--format", "qcow2")
    harness.run(["qemu-io", "-c", "write -P 9 0 32M", folder / "source.qcow2"])
    words = (["vol-clone", "--pool", "p", "source.qcow2", "n"] if kind == "clone" else
             ["vol-create-as", "p", "n", "64M", "--format", "qcow2", "--prealloc-metadata"])
    killed = 0
    for round in range(200 if soak else 20):
        killed += not kill_at_random(kho, rng, words, 0.15)
        assert temporaries(kho.base) == []
        names = [v["name"] for v in kho.json("vol-list", "p")]
        assert names in (["source.qcow2"], ["n", "source.qcow2"])
        if "n" in names:
            harness.run(["qemu-img", "check", "-q", folder / "n"])
            if kind == "clone":
                harness.run(["qemu-img", "compare", folder / "source.qcow2", folder / "n"])
            kho("vol-delete", "--pool", "p", "n")
    assert killed > 0
    kho(*words)


def together(kho, commands):
    """Starts all commands at once; returns their exit statuses."""
    children = [kho.spawn(*words) for words in commands]
    for child in children:
        child.communicate(timeout=harness.HANG_GUARD_S)
    return sorted(child.returncode for child in children)


def test_concurrent_defines(kho):
    """Of many defines that want the same name, uuid or folder, one wins; those that do not meet all win."""
    uuid = "7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00"
    cases = [lambda i: ["same", "dir", "--target", kho.base / f"t{i}"],
             lambda i: [f"u{i}", "dir", "--target", kho.base / f"u{i}", "--uuid", uuid],
             lambda i: [f"f{i}", "dir", "--target", kho.base / "folder"]]
    for case in cases:
        assert together(kho, [["pool-define-as", *case(i)] for i in range(6)]) == [0] + [4] * 5
    assert len(kho.json("pool-list", "--all")) == 3
    assert together(kho, [["pool-define-as", f"d{i}", "dir", "--target", kho.base / f"d{i}"] for i in range(6)]) == [0] * 6
    assert len(kho.json("pool-list", "--all")) == 9
    assert together(kho, [["pool-start", "--build", "d0"]] * 4) == [0, 5, 5, 5]
    assert together(kho, [["pool-destroy", "d0"]] * 4) == [0, 5, 5, 5]
    statuses = together(kho, [["pool-undefine", "d0"]] * 4)
    assert statuses == [0, 3, 3, 3]


def test_concurrent_volumes(kho):
    kho("pool-define-as", "p", "dir", "--target", kho.base / "p")
    kho("pool-start", "--build", "p")
    for format in ("raw", "qcow2"):
        assert together(kho, [["vol-create-as", "p", format, "4M", "--format", format]] * 5) == [0, 4, 4, 4, 4]
        # each waits for the one before it, and none is lost
        assert together(kho, [["vol-resize", "--pool", "p", format, "1M", "--delta"]] * 5) == [0] * 5
        assert kho.json("vol-info", "--pool", "p", format)["capacity-bytes"] == 9 * MIB


def test_delete_against_overlays(kho, soak):
    """A base is deleted while overlays of it are made: never is an overlay without its base."""
    folder = kho.base / "p"
    kho("pool-define-as", "p", "dir", "--target", folder)
    kho("pool-start", "--build", "p")
    for round in range(100 if soak else 8):
        kho("vol-create-as", "p", "base", "4M", "--format", "qcow2")
        together(kho, [["vol-create-as", "p", "o1", "4M", "--format", "qcow2", "--backing-vol", "base", "--backing-vol-format", "qcow2"],
                       ["vol-delete", "--pool", "p", "base"],
                       ["vol-create-as", "p", "o2", "4M", "--format", "qcow2", "--backing-vol", "base", "--backing-vol-format", "qcow2"]])
        names = {entry.name for entry in folder.iterdir()}
        assert "base" in names or not names & {"o1", "o2"}, f"an overlay lost its base: {names}"
        for name in ("o1", "o2", "base"):
            if name in names:
                kho("vol-delete", "--pool", "p", name)


def open_files(pid):
    """What a process has open, as paths; a file without a name as FOLDER/#INODE (deleted)."""
    paths = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            paths.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except FileNotFoundError:
            pass
    return paths


def test_interrupted_wait(kho):
    """Ctrl-C ends the wait for a pool that another process changes, with nothing changed."""
    kho("pool-define-as", "p", "dir", "--target", kho.base / "p", "--uuid", "7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00")
    lock = kho.root / "run" / "lock" / "storage" / "7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00"
    fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        harness.fcntl.fcntl(fd, 37, harness.struct.pack("hhqqi4x", harness.fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))  # F_OFD_SETLK
        child = kho.spawn("pool-undefine", "p")
        harness.wait_for("the wait to begin", lambda: str(lock) in open_files(child.pid))
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=harness.HANG_GUARD_S)
        assert child.returncode == 130 and b"pool p" in err and len(err.splitlines()) == 1
        assert [p["name"] for p in kho.json("pool-list", "--all")] == ["p"]
    finally:
        os.close(fd)
    kho("pool-undefine", "p")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelled_clone(kho, number):
    """Ctrl-C ends a copy at once, and nothing of it stays."""
    folder = kho.base / "p"
    kho("pool-define-as", "p", "dir", "--target", folder)
    kho("pool-start", "--build", "p")
    kho("vol-create-as", "p", "source", "1G", "--allocation", "0")
    harness.run(["qemu-io", "-f", "raw", "-c", "write -P 9 0 256M", folder / "source"])
    child = kho.spawn("vol-clone", "--pool", "p", "source", "copy")
    harness.wait_for("the copy to be written", lambda: any(str(folder / "#") in path for path in open_files(child.pid)))
    child.send_signal(number)
    _, err = child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == 130 and len(err.splitlines()) == 1, err
    assert [entry.name for entry in folder.iterdir()] == ["source"]
