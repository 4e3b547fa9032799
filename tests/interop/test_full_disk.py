"""A full disk: at each of 20 fill levels a verb succeeds whole, or says so in one line and leaves the old state."""

import os
import random
import shutil

import pytest

import harness
from interop.engine import assert_clean, assert_same, qemu_img, qemu_io, sha256_of

NO_SPACE = 10
LEVELS = 20


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("full") / "source.raw"
    path.write_bytes(random.Random(5).randbytes(6 << 20))
    return path


def names(fs):
    return sorted(set(os.listdir(fs.path)) - {".ballast", "lost+found"})


def at_every_level(fs, most_bytes, attempt, undo):
    """Runs @attempt with ever more space left, then @undo. Both ends must have been seen: refused, and done."""
    statuses = []
    for level in range(LEVELS):
        fs.fill(most_bytes * level // (LEVELS - 1))
        statuses.append(attempt())
        undo(statuses[-1])
    assert statuses[0] == NO_SPACE and statuses[-1] == 0, statuses


def refused_or_done(ran):
    assert ran.status in (0, NO_SPACE), str(ran)
    if ran.status:
        assert len(ran.err.splitlines()) == 1, str(ran)
    return ran.status


@pytest.mark.parametrize("fmt,mode", [("raw", "falloc"), ("raw", "full"), ("qcow2", "falloc"), ("qcow2", "full"),
                                      ("qcow2", "metadata"), ("qcow2", "off")])
def test_create(kho, small_fs, fmt, mode):
    fs = small_fs("ext4", 32)
    new = fs.path / "new"
    size, cluster = ("8M", "64k") if mode in ("falloc", "full") else ("2G", "4k") if mode == "metadata" else ("1T", "4k")
    options = f"preallocation={mode}" + (f",cluster_size={cluster}" if fmt == "qcow2" else "")
    most = 12 << 20

    def attempt():
        status = refused_or_done(kho("img", "create", "-f", fmt, "-o", options, new, size, status=None))
        assert names(fs) == ([] if status else ["new"])
        if status == 0 and fmt == "qcow2":
            assert_clean(new)
        return status

    at_every_level(fs, most, attempt, lambda status: status or new.unlink())


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_convert(kho, small_fs, source, fmt):
    fs = small_fs("ext4", 32)
    target = fs.path / "target"

    def attempt():
        status = refused_or_done(kho("img", "convert", "-f", "raw", "-O", fmt, source, target, status=None))
        assert names(fs) == ([] if status else ["target"])
        if status == 0:
            assert_same(target, fmt, source, "raw")
        return status

    at_every_level(fs, 8 << 20, attempt, lambda status: status or target.unlink())


def test_convert_over_an_old_target(kho, small_fs, source):
    fs = small_fs("ext4", 32)
    target = fs.path / "target"
    target.write_bytes(b"precious")

    def attempt():
        status = refused_or_done(kho("img", "convert", "--force", "-O", "qcow2", source, target, status=None))
        assert names(fs) == ["target"]
        if status:
            assert target.read_bytes() == b"precious"
        else:
            assert_same(target, "qcow2", source, "raw")
        return status

    at_every_level(fs, 8 << 20, attempt, lambda status: status or target.write_bytes(b"precious"))


@pytest.mark.parametrize("fmt,cluster,mode,more", [
    ("raw", None, "falloc", "8M"), ("raw", None, "full", "8M"), ("qcow2", "64k", "falloc", "8M"),
    ("qcow2", "64k", "full", "8M"), ("qcow2", "4k", "metadata", "1G"), ("qcow2", "512", "off", "1G")])
def test_resize(kho, small_fs, fmt, cluster, mode, more):
    """Rule: a resize that does not fit changes neither size nor contents, and leaks nothing."""
    fs = small_fs("ext4", 40)
    disk = fs.path / "disk"
    options = ["-o", f"cluster_size={cluster}"] if cluster else []

    def fresh(status=0):
        if status == 0:
            disk.unlink(missing_ok=True)
            fs.fill(20 << 20)
            qemu_img("create", "-q", "-f", fmt, *options, disk, "2M")
            qemu_io(disk, ["write -P 5 100k 1M", "write -P 6 1900k 100k"], fmt)

    def attempt():
        before, size = sha256_of(disk), disk.stat().st_size
        content = kho.tmp / "before.raw"
        qemu_img("convert", "-f", fmt, "-O", "raw", disk, content)
        status = refused_or_done(kho("img", "resize", "-f", fmt, f"--preallocation={mode}", disk, f"+{more}", status=None))
        assert names(fs) == ["disk"]
        if status:
            assert_same(disk, fmt, content, "raw")
            assert fmt == "qcow2" or (sha256_of(disk), disk.stat().st_size) == (before, size)
        if fmt == "qcow2":
            assert_clean(disk)
        return status

    fresh()
    at_every_level(fs, 24 << 20, attempt, fresh)


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_resize_over_a_backing_file(kho, small_fs, version):
    """Rule: the same where tables must hide a longer backing file, 24,000 clusters of which are small ones."""
    fs = small_fs("ext4", 32)
    base, whole, disk = fs.path / "b.q", kho.tmp / "whole", fs.path / "s.q"
    qemu_img("create", "-q", "-f", "qcow2", base, "12M")
    qemu_io(base, ["write -P 7 0 1M", "write -P 8 4M 4M"])
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size=512,compat={version}", "-F", "qcow2", "-b", base, whole, "4112K")
    qemu_io(whole, ["write -P 5 100k 300k", "write -P 6 4111k 1k"])

    def fresh(status=0):
        shutil.copyfile(whole, disk)

    def attempt():
        content = kho.tmp / "before.raw"
        qemu_img("convert", "-f", "qcow2", "-O", "raw", disk, content)
        status = refused_or_done(kho("img", "resize", disk, "12M", status=None))
        if status:
            assert_same(disk, "qcow2", content, "raw")
        else:
            qemu_io(disk, ["read -P 5 100k 300k", "read -P 8 4096k 15k", "read -P 6 4111k 1k", f"read -P 0 4112k {12288 - 4112}k"])
        assert_clean(disk)
        return status

    fresh()
    at_every_level(fs, (1 << 20) if version == "1.1" else (10 << 20), attempt, fresh)


@pytest.mark.parametrize("to", ["20k", "2M", "16M"])
def test_resize_under_a_limit(kho, to):
    """Rule: the same where the file may not become longer (RLIMIT_FSIZE), with internal snapshots that share its tables."""
    whole, disk, content = (kho.tmp / name for name in ("whole", "disk", "content"))
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", whole, "4097K")
    qemu_io(whole, ["write -P 5 0 2M", "write -P 6 4096k 1k"])
    qemu_img("snapshot", "-c", "first", whole)
    qemu_img("convert", "-O", "raw", whole, content)
    statuses = []
    for clusters in (0, 1, 2, 3, 5, 40, 4000):
        shutil.copyfile(whole, disk)
        limit = whole.stat().st_size + clusters * 512
        ran = harness.run(["prlimit", f"--fsize={limit}", kho.program, "img", "resize", "--shrink", disk, to], status=None,
                          env=kho.env())
        statuses.append(ran.status)
        assert ran.status == 0 or len(ran.err.splitlines()) == 1, str(ran)
        assert_clean(disk)
        if ran.status:
            assert_same(disk, "qcow2", content, "raw")
        qemu_img("snapshot", "-a", "first", disk)
        assert_same(disk, "qcow2", content, "raw")
    assert statuses[0] != 0 and statuses[-1] == 0, statuses


@pytest.mark.parametrize("kind", ["leaks", "all"])
def test_repair(kho, small_fs, kind):
    """Rule: a repair on a full disk mends, or says that it cannot; the disk's contents are what they were."""
    fs = small_fs("ext4", 32)
    disk, content = fs.path / "disk", kho.tmp / "content.raw"
    for level in range(LEVELS):
        disk.unlink(missing_ok=True)
        fs.fill(20 << 20)
        qemu_img("create", "-q", "-f", "qcow2", disk, "8M")
        qemu_io(disk, ["write -P 5 0 2M", "write -P 6 4M 100k"])
        qemu_img("convert", "-f", "qcow2", "-O", "raw", disk, content)
        damage(disk, also_corrupt=kind == "all")
        fs.fill((256 << 10) * level // (LEVELS - 1))
        status = refused_or_done(kho("img", "check", "-q", "-r", kind, disk, status=None))
        assert names(fs) == ["disk"]
        assert_same(disk, "qcow2", content, "raw")
        if status == 0:
            assert_clean(disk)
    assert status == 0


def damage(path, also_corrupt):
    """Raises the refcount of a free cluster (a leak); clears that of a data cluster (a corruption)."""
    with open(path, "r+b") as file:
        file.seek(48)
        table = int.from_bytes(file.read(8), "big")
        file.seek(table)
        block = int.from_bytes(file.read(8), "big")
        end = path.stat().st_size // 65536
        file.truncate((end + 1) * 65536)
        file.seek(block + end * 2)
        file.write((1).to_bytes(2, "big"))
        if also_corrupt:
            file.seek(block + (end - 1) * 2)
            file.write(bytes(2))
