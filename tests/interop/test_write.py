"""Whatever kho writes, QEMU finds clean and reads as it was put in: create, convert, resize with every option."""

import itertools
import random

import pytest

import harness
from interop import images
from interop.engine import assert_clean, assert_same, qemu_img, qemu_io, qemu_json


def fill_raw(path, rng, size, cluster):
    """Data, zeros within data, and holes, none of them aligned."""
    with open(path, "wb") as file:
        file.truncate(size)
        for _ in range(12):
            file.seek(rng.randrange(size))
            length = min(size - file.tell(), rng.choice((1, 4096, cluster, cluster * 3 + 5)))
            file.write(rng.choice((rng.randbytes(length), bytes(length))))


OPTIONS = ([f"refcount_bits={bits}" for bits in images.REFCOUNT_BITS]
           + ["compat=0.10", "lazy_refcounts=on", "compression_type=zstd", "preallocation=metadata",
              "preallocation=falloc", "preallocation=full", "preallocation=falloc,compat=0.10"])


EXTENDED = ["extended_l2=on", "extended_l2=on,preallocation=metadata", "extended_l2=on,preallocation=falloc",
            "extended_l2=on,lazy_refcounts=on,refcount_bits=64"]


def written_options(cluster):
    """The options that this cluster size meets: four of them, taking turns, and one with subclusters where there may be
    any; in the soak, all."""
    number = images.CLUSTERS.index(cluster)
    turns = OPTIONS if harness.SOAK else [OPTIONS[(number * 4 + turn) % len(OPTIONS)] for turn in range(4)]
    if cluster >= images.EXTENDED_MIN:
        turns = turns + (EXTENDED if harness.SOAK else [EXTENDED[number % 4]])
    return [f"cluster_size={cluster},{option}" for option in turns]


def test_every_option_is_met():
    """Rule: each option is written with several cluster sizes, whatever the counts."""
    for option in OPTIONS:
        assert sum(f"cluster_size={c},{option}" in written_options(c) for c in images.CLUSTERS) >= 3


@pytest.mark.parametrize("cluster", images.CLUSTERS)
def test_create_convert_resize(kho, cluster):
    rng = random.Random(cluster)
    raw = kho.tmp / "put-in.raw"
    size = cluster * 21 + 1024
    fill_raw(raw, rng, size, cluster)
    for options in written_options(cluster):
        empty, full = kho.tmp / "empty.qcow2", kho.tmp / "full.qcow2"
        kho("img", "create", "-f", "qcow2", "-o", options, empty, str(size))
        assert_clean(empty)
        info = qemu_json("info", empty)
        assert info["virtual-size"] == size and info["cluster-size"] == cluster
        for wanted in options.split(","):
            assert_told(info, *wanted.split("="))
        kho("img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, full)
        assert_clean(full)
        assert_same(full, "qcow2", raw, "raw")

        kho("img", "resize", "-f", "qcow2", full, f"+{cluster * 30}")
        qemu_img("resize", "-q", "-f", "raw", raw, str(size + cluster * 30))
        assert_clean(full)
        assert_same(full, "qcow2", raw, "raw")
        kho("img", "resize", "-f", "qcow2", "--shrink", full, str(size))
        qemu_img("resize", "-q", "--shrink", "-f", "raw", raw, str(size))
        assert_clean(full)
        assert_same(full, "qcow2", raw, "raw")
        for path in (empty, full):
            path.unlink()


def assert_told(info, name, value):
    data = info["format-specific"]["data"]
    told = {"cluster_size": info["cluster-size"], "refcount_bits": data["refcount-bits"], "compat": data["compat"],
            "lazy_refcounts": "on" if data.get("lazy-refcounts") else "off",
            "compression_type": data["compression-type"],
            "extended_l2": "on" if data.get("extended-l2") else "off"}.get(name)
    assert told is None or str(told) == value, (name, value, info)


@pytest.mark.parametrize("mode", ["falloc", "full"])
@pytest.mark.parametrize("fmt,options", [("raw", ""), ("qcow2", ""), ("qcow2", ",extended_l2=on")])
def test_thick_images_have_their_space(kho, fmt, options, mode):
    """Rule: what is thick is allocated, after create and after a resize that asks for it."""
    path = kho.tmp / "thick"
    kho("img", "create", "-f", fmt, "-o", f"preallocation={mode}{options}", path, str((12 << 20) - 5120))
    assert path.stat().st_blocks * 512 >= (12 << 20) - 5120
    kho("img", "resize", "-f", fmt, f"--preallocation={mode}", path, "+8M")
    assert path.stat().st_blocks * 512 >= (20 << 20) - 5120
    if fmt == "qcow2":
        assert_clean(path)
        assert all(entry["present"] for entry in qemu_json("map", path))


def test_metadata_preallocation_is_sparse(kho):
    path = kho.tmp / "tables.qcow2"
    kho("img", "create", "-f", "qcow2", "-o", "preallocation=metadata", path, "1G")
    assert path.stat().st_blocks * 512 < 2 << 20
    assert path.stat().st_size > 1 << 30
    assert_clean(path)
    kho("img", "convert", "-f", "qcow2", "-O", "raw", path, kho.tmp / "empty.raw")
    assert (kho.tmp / "empty.raw").stat().st_blocks == 0


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_overlays(kho, version):
    """Rule: an overlay's name for its backing file stands as it was given, and new space hides a longer backing file."""
    rng = random.Random(version)
    (kho.tmp / "base.raw").write_bytes(rng.randbytes(1 << 20))
    (kho.tmp / "sub").mkdir()
    for name, backing in (("over.qcow2", "base.raw"), ("sub/over.qcow2", "../base.raw"), ("abs.qcow2", kho.tmp / "base.raw")):
        kho("img", "create", "-f", "qcow2", "-o", f"compat={version}", "-b", backing, "-F", "raw", name)
        assert_clean(kho.tmp / name)
        info = qemu_json("info", kho.tmp / name)
        assert info["backing-filename"] == str(backing) and info["backing-filename-format"] == "raw"
        assert_same(kho.tmp / name, "qcow2", kho.tmp / "base.raw", "raw")
    kho("img", "create", "-f", "qcow2", "-o", f"compat={version},cluster_size=4k", "-b", "base.raw", "-F", "raw",
        "short.qcow2", "100000")
    kho("img", "resize", "-f", "qcow2", "short.qcow2", "300000")
    assert_clean(kho.tmp / "short.qcow2")
    kho("img", "convert", "short.qcow2", "short.raw")
    base = (kho.tmp / "base.raw").read_bytes()
    visible = 100000 + -100000 % 512
    want = base[:visible].ljust(300000 + -300000 % 512, b"\0")
    assert (kho.tmp / "short.raw").read_bytes() == want
    assert_same(kho.tmp / "short.qcow2", "qcow2", kho.tmp / "short.raw", "raw")


@pytest.mark.parametrize("extended", ["off", "on"])
def test_convert_with_a_backing_file_copies_what_differs(kho, extended):
    rng = random.Random(7)
    qemu_img("create", "-q", "-f", "qcow2", kho.tmp / "base.qcow2", "8M")
    qemu_io(kho.tmp / "base.qcow2", ["write -P 5 0 4M"])
    qemu_img("convert", "-O", "raw", kho.tmp / "base.qcow2", kho.tmp / "whole.raw")
    with open(kho.tmp / "whole.raw", "r+b") as file:
        for at in (0, 3 << 20, 5 << 20):
            file.seek(at)
            file.write(rng.randbytes(1000))
        file.seek(2 << 20)
        file.write(bytes(1 << 20))
    kho("img", "convert", "-f", "raw", "-O", "qcow2", "-o", f"extended_l2={extended}", "-B", "base.qcow2", "-F", "qcow2",
        "whole.raw", "over.qcow2")
    assert_clean(kho.tmp / "over.qcow2")
    assert_same(kho.tmp / "over.qcow2", "qcow2", kho.tmp / "whole.raw", "raw")
    written = [e for e in qemu_json("map", kho.tmp / "over.qcow2") if e["depth"] == 0 and e["data"]]
    # The first megabyte differs in one cluster; the last two in one each; the zeros have no data.
    assert sum(e["length"] for e in written) == 3 * (2048 if extended == "on" else 65536)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_any_number_of_workers(kho, workers):
    """Rule: the target does not depend on how many copy at the same time, nor on cluster sizes that do not match."""
    rng = random.Random(workers)
    fill_raw(kho.tmp / "a.raw", rng, 20 << 20, 65536)
    kho("img", "convert", "-m", str(workers), "-f", "raw", "-O", "qcow2", "-o", "cluster_size=512", "a.raw", "b.qcow2")
    kho("img", "convert", "-m", str(workers), "-O", "qcow2", "-o", "cluster_size=2M", "b.qcow2", "c.qcow2")
    kho("img", "convert", "-m", str(workers), "-S", "0", "-O", "raw", "c.qcow2", "d.raw")
    for name, fmt in (("b.qcow2", "qcow2"), ("c.qcow2", "qcow2"), ("d.raw", "raw")):
        if fmt == "qcow2":
            assert_clean(kho.tmp / name)
        assert_same(kho.tmp / name, fmt, kho.tmp / "a.raw", "raw")


def test_shared_blocks(kho, small_fs):
    """Rule: where the file system shares blocks, a copy takes no space, and both copies live their own lives."""
    fs = small_fs("xfs", 300)
    (fs.path / "a.raw").write_bytes(random.Random(1).randbytes(40 << 20))
    with open(fs.path / "a.raw", "rb") as file:
        harness.os.fsync(file.fileno())
    before = fs.free_bytes()
    kho("img", "convert", "-f", "raw", "-O", "raw", fs.path / "a.raw", fs.path / "b.raw")
    kho("img", "convert", "-f", "raw", "-O", "qcow2", fs.path / "a.raw", fs.path / "c.qcow2")
    assert before - fs.free_bytes() < 4 << 20
    assert_clean(fs.path / "c.qcow2")
    for name, fmt in (("b.raw", "raw"), ("c.qcow2", "qcow2")):
        assert_same(fs.path / name, fmt, fs.path / "a.raw", "raw")
        qemu_io(fs.path / name, ["write -P 9 1M 1M"], fmt)
    assert (fs.path / "a.raw").read_bytes() == random.Random(1).randbytes(40 << 20)


@pytest.mark.parametrize("source,target", itertools.product(("raw", "qcow2"), repeat=2))
def test_replacing(kho, source, target):
    """Rule: a target that exists is left alone, unless --force says otherwise; then it is the new one whole."""
    kho("img", "create", "-f", source, "a", "3M")
    qemu_io(kho.tmp / "a", ["write -P 7 1M 1M"], source)
    (kho.tmp / "b").write_bytes(b"precious")
    kho.refuses("img", "convert", "-f", source, "-O", target, "a", "b", status=4, says="exists")
    assert (kho.tmp / "b").read_bytes() == b"precious"
    kho("img", "convert", "--force", "-f", source, "-O", target, "a", "b")
    assert_same(kho.tmp / "b", target, kho.tmp / "a", source)


def compressible(path, rng, size):
    """Text, noise, noise repeated from far back, zeros and holes, in pieces of many sizes."""
    with open(path, "wb") as file:
        file.truncate(size)
        at = 0
        while at < size:
            length = min(size - at, rng.choice((100, 5000, 70_000, 700_000)))
            noise = rng.randbytes(length // 3 + 1)
            file.seek(at)
            file.write(rng.choice((b"the same words " * length, noise * 3, rng.randbytes(length), bytes(length)))[:length])
            at += length + rng.choice((0, 0, 3000, 300_000))
        file.truncate(size)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster", ["4k", "64k", "2M"])
def test_convert_compressed(kho, rng, cluster, compression):
    """Rule: QEMU finds compressed images clean and reads them as they were put in, and goes on writing to them."""
    raw, target = kho.tmp / "put-in.raw", kho.tmp / "small.qcow2"
    size = (12 << 20) + 1536
    compressible(raw, rng, size)
    for more in ("refcount_bits=2", "refcount_bits=16", "extended_l2=on"):
        if cluster == "4k" and more == "extended_l2=on":
            continue
        kho("img", "convert", "--force", "-c", "-f", "raw", "-O", "qcow2", "-o",
            f"cluster_size={cluster},compression_type={compression},{more}", raw, target)
        assert_clean(target)
        assert_same(target, "qcow2", raw, "raw")
        assert qemu_json("check", target)["compressed-clusters"] > 0
        assert qemu_json("info", target)["format-specific"]["data"]["compression-type"] == compression
    qemu_img("convert", "-c", "-O", "qcow2", "-o", f"cluster_size={cluster},compression_type={compression}", raw,
             kho.tmp / "theirs.qcow2")
    assert target.stat().st_size < (kho.tmp / "theirs.qcow2").stat().st_size * 1.25

    # A part of the disk is written anew, by both engines; what lies beside it stays.
    content = bytearray(raw.read_bytes())
    qemu_io(target, ["write -P 7 1000000 300000"])
    content[1000000:1300000] = b"\x07" * 300000
    raw.write_bytes(content)
    assert_same(target, "qcow2", raw, "raw")
    assert_clean(target)


def test_convert_compressed_over_a_backing_file(kho, rng):
    base, whole, target = (kho.tmp / name for name in ("base.raw", "whole.raw", "over.qcow2"))
    compressible(base, rng, 4 << 20)
    content = bytearray(base.read_bytes())
    content[700_000:900_000] = b"changed " * 25_000
    content[2_000_000:2_100_000] = bytes(100_000)
    whole.write_bytes(content)
    kho("img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-B", "base.raw", "-F", "raw", whole, target)
    assert_clean(target)
    assert_same(target, "qcow2", whole, "raw")
    assert target.stat().st_size < 1 << 20


def test_compressed_refusals(kho):
    (kho.tmp / "a.raw").write_bytes(b"x" * 65536)
    kho.refuses("img", "convert", "-c", "-f", "raw", "-O", "raw", "a.raw", "b.raw", status=5, says="compressed")
    kho.refuses("img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "preallocation=full", "a.raw", "b.qcow2",
                status=5, says="preallocated")
    assert not list(kho.tmp.glob("b.*"))
