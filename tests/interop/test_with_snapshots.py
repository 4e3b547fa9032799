"""`kho img convert --with-snapshots`: every state of the disk is in the copy, and what they share they share there, too. QEMU
made the sources and reads the copies; a parser of the test's own counts clusters."""

import os
import shutil
import signal
import time

import pytest

import harness
from interop import states
from interop.engine import Moments, assert_clean, assert_same, qemu_img, qemu_io, qemu_json, sha256_of

UNSUPPORTED, NO_SPACE = 6, 10
ROUNDS = 32 if harness.SOAK else 8
MANY = 400 if harness.SOAK else 110
SHAPES = ("cluster_size=64k", "cluster_size=4k,refcount_bits=64", "cluster_size=512,refcount_bits=32", "cluster_size=2M",
          "cluster_size=64k,extended_l2=on", "cluster_size=4k,compat=0.10", "cluster_size=16k,refcount_bits=8",
          "cluster_size=16k,extended_l2=on")
OTHERS = ("cluster_size=4k", "cluster_size=64k,extended_l2=on", "cluster_size=2M", "cluster_size=512", "cluster_size=32k,compat=0.10")


def cluster_of(shape):
    text = shape.split(",")[0].split("=")[1]
    return int(text.rstrip("kM")) * {"k": 1024, "M": 1 << 20}.get(text[-1], 1)


def size_of(shape):
    return min(60 * max(cluster_of(shape), 4096), 24 << 20)


def content(path, name=None, folder=None):
    """What the disk is, or was in a snapshot: in a copy of the image that goes back to it, since QEMU reads a snapshot as long
    as the disk is now."""
    folder = folder or path.parent
    raw, back = folder / "content.raw", folder / "back-again.qcow2"
    if name:
        shutil.copy(path, back)
        for bitmap in qemu_json("info", back)["format-specific"]["data"].get("bitmaps", []):
            qemu_img("bitmap", "--remove", back, bitmap["name"])
        qemu_img("snapshot", "-a", name, back)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", back if name else path, raw)
    held = raw.stat().st_size, sha256_of(raw)
    raw.unlink()
    back.unlink(missing_ok=True)
    return held


def listed(path):
    return qemu_json("info", "-f", "qcow2", path).get("snapshots", [])


def assert_all_states(source, copy, folder=None):
    """The same list, and the same disks."""
    assert listed(copy) == listed(source)
    for one in [None, *(snapshot["id"] for snapshot in listed(source))]:
        assert content(copy, one, folder) == content(source, one, folder), one
    assert_clean(copy)


def live_a_little(path, rng, shape, turns=9):
    """Writes, snapshots, ways back, deletes and other sizes, by qemu-img: what a disk's owner does."""
    unit = max(cluster_of(shape), 4096)
    for turn in range(turns):
        size = qemu_json("info", path)["virtual-size"]
        for _ in range(3):
            length = rng.choice((512, unit // 2, unit, unit * 3))
            at = rng.randrange(max(size - length, 512) // 512) * 512
            qemu_io(path, [f"write -P {rng.randint(1, 255)} {at} {min(length, size - at)}"])
        if rng.random() < 0.3:
            qemu_io(path, [f"discard {rng.randrange(size // unit) * unit} {unit}"])
        if rng.random() < 0.4 and "compat" not in shape:
            qemu_img("resize", "-q", "-f", "qcow2", "--shrink", path, str(rng.randint(20, 60) * size_of(shape) // 60 // unit * unit + unit))
        names = [one["name"] for one in listed(path)]
        deed = rng.random()
        if deed < 0.6 and len(names) < 9:
            qemu_img("snapshot", "-c", f"at {turn}", path)
        elif deed < 0.85 and names:
            qemu_img("snapshot", "-a", rng.choice(names), path)
        elif names:
            qemu_img("snapshot", "-d", rng.choice(names), path)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_all_is_kept(kho, rng, number):
    """Any history: the same states, and a cluster that two of them share in the source is one in the copy."""
    shape = SHAPES[number % len(SHAPES)]
    path, copy = kho.tmp / "disk.qcow2", kho.tmp / "copy.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", shape, path, str(size_of(shape)))
    live_a_little(path, rng, shape)
    assert kho("img", "convert", "--with-snapshots", "-O", "qcow2", "-o", shape, path, copy).err == ""
    assert_all_states(path, copy)
    had, has = states.read(path), states.read(copy)
    assert states.pattern(has) == states.pattern(had) and states.places(has) == states.places(had)
    assert [(one.name, one.ident, one.size, one.clock_ns) for one in has] == [(one.name, one.ident, one.size, one.clock_ns)
                                                                             for one in had]


@pytest.mark.parametrize("number", range(0, ROUNDS, 1 if harness.SOAK else 2))
def test_into_another_layout(kho, rng, number):
    """Other clusters, subclusters, compression, version 2, encryption and back: the same states, and no more data than each
    cluster once."""
    shape, other = SHAPES[number % len(SHAPES)], OTHERS[number // 2 % len(OTHERS)]
    path, copy, back = kho.tmp / "disk.qcow2", kho.tmp / "copy.qcow2", kho.tmp / "back.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", shape, path, str(size_of(shape)))
    live_a_little(path, rng, shape)
    more = ["-c"] if number // 2 % 2 else []
    words = ["img", "convert", "--with-snapshots", *more, "-O", "qcow2", "-o", other, path, copy]
    if "compat" in other and len({one.size for one in states.read(path)}) > 1:
        kho.refuses(*words, status=UNSUPPORTED, says="version 3")
        words[words.index(other)] = "compat=1.1"
    kho(*words)
    assert_all_states(path, copy)
    secret = kho.tmp / "secret"
    secret.write_text("pass")
    locked = kho.tmp / "locked.qcow2"
    kho("img", "convert", "--with-snapshots", "--secret", f"id=s,file={secret}", "-O", "qcow2",
        "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", copy, locked)
    kho("img", "check", locked)
    kho("img", "convert", "--with-snapshots", "--secret", f"id=s,file={secret}", "-O", "qcow2", locked, back)
    assert_all_states(path, back)


@pytest.mark.parametrize("compress", (False, True))
def test_sizes(kho, compress):
    """Nine states of a disk of 10 MiB that differ in a MiB each, with a way back in between: the copy is as small."""
    path, copy, more = kho.tmp / "disk.qcow2", kho.tmp / "copy.qcow2", ["-c"] if compress else []
    qemu_img("create", "-q", "-f", "qcow2", path, "12M")
    with open(kho.tmp / "noise", "wb") as file:
        file.write(os.urandom(10 << 20))
    qemu_io(path, [f"write -s {kho.tmp}/noise 0 10M"])
    for turn in range(9):
        qemu_img("snapshot", "-c", f"s{turn}", path)
        if turn == 5:
            qemu_img("snapshot", "-a", "s2", path)
        qemu_io(path, [f"write -P {turn + 1} {turn}M 1M"])
    kho("img", "convert", "--with-snapshots", *more, "-O", "qcow2", path, copy)
    assert_all_states(path, copy)
    assert copy.stat().st_size <= path.stat().st_size
    if not compress:
        assert states.places(states.read(copy)) == states.places(states.read(path))


def test_many(kho):
    """A hundred states and more, each with a cluster of its own and one that comes back to what it was long ago."""
    path, copy = kho.tmp / "disk.qcow2", kho.tmp / "copy.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "32M")
    for turn in range(MANY):
        if turn % 50 == 49:
            kho("img", "snapshot", "-a", f"s{turn - 40}", path)
        qemu_io(path, [f"write -P {turn % 255 + 1} {turn % 400 * 64}k 64k"])
        kho("img", "snapshot", "-c", f"s{turn}", path)
    kho("img", "convert", "--with-snapshots", "-O", "qcow2", path, copy, timeout=240)
    assert_clean(copy)
    assert listed(copy) == listed(path)
    had, has = states.read(path), states.read(copy)
    assert states.pattern(has) == states.pattern(had) and states.places(has) == states.places(had)
    for name in ("1", "77", str(MANY)):
        assert content(copy, name) == content(path, name)


def test_backing_files_are_flattened_once(kho, rng):
    """What lies below is in the copy once for all states, also where one of them is shorter or longer than the base."""
    base, path, copy = kho.tmp / "base.raw", kho.tmp / "disk.qcow2", kho.tmp / "copy.qcow2"
    base.write_bytes(rng.randbytes(8 << 20))
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path)
    for turn, size in enumerate((8, 6, 12, 8, 8)):
        qemu_img("resize", "-q", "-f", "qcow2", "--shrink", path, f"{size}M")
        qemu_io(path, [f"write -P {turn + 1} {turn}M 100k"])
        qemu_img("snapshot", "-c", f"s{turn}", path)
    qemu_img("snapshot", "-a", "s0", path)
    kho("img", "convert", "--with-snapshots", "-O", "qcow2", path, copy)
    assert qemu_json("info", copy).get("backing-filename") is None
    base.rename(kho.tmp / "gone.raw")
    assert_clean(copy)
    assert copy.stat().st_size < 11 << 20  # the base, and what was written
    (kho.tmp / "gone.raw").rename(base)
    assert_all_states(path, copy)


def monitor(path, *commands):
    words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-m", "32", "-display", "none", "-nodefaults", "-S", "-drive",
             f"file={path},if=virtio,format=qcow2", "-monitor", "stdio"]
    return harness.run(words, input="".join(f"{command}\n" for command in (*commands, "quit"))).out


@pytest.mark.parametrize("options", ([], ["-c"], ["-o", "cluster_size=4k"]))
def test_vm_state(kho, options):
    """Snapshots of a machine: their state is the same byte for byte, and QEMU loads it from the copy."""
    base, path, copy = kho.tmp / "base.raw", kho.tmp / "disk.qcow2", kho.tmp / "copy.qcow2"
    base.write_bytes(b"\x5a" * (1200 << 20 >> 10))  # as long as the table reaches would do as well: nothing of it may show through
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path, str((64 << 20) + 512))
    monitor(path, "savevm one")
    qemu_io(path, ["write -P 7 1M 1M"])
    monitor(path, "loadvm one", "savevm two")
    kho("img", "convert", "--with-snapshots", *options, "-O", "qcow2", path, copy)
    assert_all_states(path, copy)
    assert all(one["vm-state-size"] > 0 for one in listed(copy)) and len(listed(copy)) == 2
    if "-c" not in options:
        had, has = states.read(path), states.read(copy)
        assert [one.state_bytes for one in has] == [one.state_bytes for one in had] and had[0].state_bytes
    for name in ("one", "two"):
        assert "Error" not in monitor(copy, f"loadvm {name}")
    assert_clean(copy)


def test_with_bitmaps(kho):
    path, copy = kho.tmp / "disk.qcow2", kho.tmp / "copy.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "8M")
    qemu_img("bitmap", "--add", path, "b")
    qemu_io(path, ["write -P 1 1M 1M"])
    qemu_img("snapshot", "-c", "s", path)
    qemu_io(path, ["write -P 2 3M 1M"])
    ran = kho("img", "convert", "-O", "qcow2", path, kho.tmp / "less.qcow2")
    said = ran.err.splitlines()
    assert len(said) == 2 and "1 internal snapshot," in said[0] and "--with-snapshots" in said[0], said
    assert "1 persistent bitmap," in said[1] and "--bitmaps" in said[1], said
    ran = kho("img", "convert", "--with-snapshots", "-O", "qcow2", path, kho.tmp / "less2.qcow2")
    assert len(ran.err.splitlines()) == 1 and "bitmap" in ran.err
    assert kho("img", "convert", "--with-snapshots", "--bitmaps", "-O", "qcow2", path, copy).err == ""
    assert_all_states(path, copy)
    told = [qemu_json("info", file)["format-specific"]["data"]["bitmaps"] for file in (path, copy)]
    assert told[0] == told[1]


def test_refused(kho):
    """What cannot go with it, by its reason; and nothing is made."""
    path, raw = kho.tmp / "disk.qcow2", kho.tmp / "disk.raw"
    qemu_img("create", "-q", "-f", "qcow2", path, "8M")
    qemu_img("create", "-q", "-f", "raw", raw, "8M")
    qemu_io(path, ["write -P 1 0 64k"])
    for turn in range(4):
        qemu_img("snapshot", "-c", f"s{turn}", path)
    before = sorted(os.listdir(kho.tmp))
    for options, says in (
            (["-O", "raw"], "other formats"), (["-O", "vmdk"], "other formats"),
            (["-O", "qcow2", "-B", str(raw), "-F", "raw"], "backing file"), (["-O", "qcow2", "-o", "data_file=d.raw"], "another file"),
            (["-O", "qcow2", "-o", "data_file=d.raw,data_file_raw=on"], "another file"),
            (["-O", "qcow2", "-o", "preallocation=metadata"], "preallocated"), (["-O", "qcow2", "-o", "refcount_bits=1"], "1 bit")):
        kho.refuses("img", "convert", "--with-snapshots", *options, path, "new", status=UNSUPPORTED, says=says)
    kho.refuses("img", "convert", "--with-snapshots", "-f", "raw", "-O", "qcow2", raw, "new", status=UNSUPPORTED, says="raw image")
    kho.refuses("img", "convert", "--with-snapshots", "-O", "qcow2", "-o", "refcount_bits=2", path, "new", says="count")
    assert sorted(os.listdir(kho.tmp)) == before


def make_history(path):
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    for turn in range(5):
        qemu_io(path, [f"write -P {turn + 1} {turn * 2}M 4M"])
        qemu_img("snapshot", "-c", f"s{turn}", path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_at_random_moments(kho, rng, number):
    """What stood there stands, or the whole copy."""
    path, target = kho.tmp / "disk.qcow2", kho.tmp / "target"
    make_history(path)
    words = ["img", "convert", "--force", "--with-snapshots", "-O", "qcow2", path, target]
    start = time.monotonic()
    kho(*words)
    moments = Moments(rng, time.monotonic() - start)
    whole = states.pattern(states.read(target))
    for _ in range(50 if harness.SOAK else 6):
        target.write_bytes(b"precious")
        child = kho.spawn(*words)
        moments.stop(child, number)
        assert sorted(os.listdir(kho.tmp)) == ["disk.qcow2", "target"]
        if target.read_bytes() == b"precious":
            assert child.returncode != 0
        else:
            assert_clean(target)
            assert states.pattern(states.read(target)) == whole
    assert moments.hit > 0


def test_full_disk(kho, small_fs):
    """At each fill level all of it, or one line and nothing."""
    fs = small_fs("ext4", 64)
    path, target = kho.tmp / "disk.qcow2", fs.path / "target"
    make_history(path)
    monitor(path, "savevm vm")
    statuses = []
    for level in range(12):
        fs.fill((path.stat().st_size + (6 << 20)) * level // 11)
        ran = kho("img", "convert", "--with-snapshots", "-O", "qcow2", path, target, status=None)
        statuses.append(ran.status)
        if ran.status:
            assert ran.status == NO_SPACE and len(ran.err.splitlines()) == 1 and "target" in ran.err, str(ran)
            assert not target.exists()
        else:
            assert_all_states(path, target, kho.tmp)
            target.unlink()
    assert statuses[0] == NO_SPACE and statuses[-1] == 0, statuses


def test_a_broken_snapshot_is_told(kho):
    """A table of a snapshot's that names nothing sound: the copy ends with a message, and is not there."""
    path, copy = kho.tmp / "disk.qcow2", kho.tmp / "copy.qcow2"
    make_history(path)
    file = states.File(path)
    l1 = file.number(file.number(64, 8), 8)
    with open(path, "r+b") as image:
        image.seek(l1)
        image.write((1 << 60 | 512).to_bytes(8, "big"))
    kho.refuses("img", "convert", "--with-snapshots", "-O", "qcow2", path, copy, says=["disk.qcow2", "corrupt"])
    assert not copy.exists()


def test_an_old_copy_is_replaced_with_its_mode(kho):
    path, target = kho.tmp / "disk.qcow2", kho.tmp / "target"
    make_history(path)
    shutil.copy(path, target)
    target.chmod(0o640)
    kho.refuses("img", "convert", "--with-snapshots", "-O", "qcow2", path, target, says="target")
    kho("img", "convert", "--force", "--with-snapshots", "-O", "qcow2", path, target)
    assert target.stat().st_mode & 0o777 == 0o640
    assert_same(target, "qcow2", path, "qcow2")
