"""Amend: what qemu-img can make of an image, kho can, and both read the same afterwards; what it refuses, kho refuses, and
nothing is changed."""

import os
import random
import shutil

import pytest

import harness
from interop import images
from interop.engine import assert_clean, qemu_img, qemu_io, qemu_json, sha256_of
from interop.test_merge import lock_as_writer
from interop.test_snapshots import content, listed

ROUNDS = 120 if harness.SOAK else 14
FACTS = ("virtual-size", "cluster-size", "backing-filename", "backing-filename-format")


def make(rng, folder):
    """An image of any shape, in use for a while."""
    path, cluster = folder / "disk.qcow2", rng.choice((512, 4096, 65536))
    size = rng.randint(200, 900) * 512
    version = rng.choice(("compat=0.10", "compat=1.1", "compat=1.1,lazy_refcounts=on", "compat=1.1,refcount_bits=8",
                          "compat=1.1,refcount_bits=64", "compat=1.1,compression_type=zstd"))
    below = []
    if rng.random() < 0.6:
        qemu_img("create", "-q", "-f", "qcow2", folder / "base.qcow2", str(size))
        qemu_io(folder / "base.qcow2", [f"write -P 200 0 {size}"])
        below = ["-b", "base.qcow2", "-F", "qcow2"]
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster},{version}", *below, path, str(size))
    qemu_io(path, images.scribble(rng, size, cluster))
    if rng.random() < 0.4:
        qemu_img("snapshot", "-c", "first", path)
        qemu_io(path, images.scribble(rng, size, cluster, compressed=False)[:5] + ["write -z 0 64k"])
    return path, size


def wishes(rng, size):
    """-o lists that may go or not."""
    some = {"compat": ("0.10", "1.1", "v2", "v3"), "lazy_refcounts": ("on", "off"), "refcount_bits": ("1", "2", "8", "16", "32", "64"),
            "size": tuple(str(size + step * 512) for step in (0, 7, 300))}
    names = rng.sample(sorted(some), rng.randint(1, 3))
    return ",".join(f"{name}={rng.choice(some[name])}" for name in names)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_same_as_qemu_img(kho, rng, number):
    """Three amendments in a row by both: taken or refused alike, the same facts, contents and snapshots."""
    rng = random.Random(rng.random())
    mine, theirs = kho.tmp / "mine", kho.tmp / "theirs"
    mine.mkdir()
    path, size = make(rng, mine)
    first = shutil.copytree(mine, kho.tmp / "first") / path.name
    for _ in range(3):
        wish = wishes(rng, size)
        shutil.rmtree(theirs, ignore_errors=True)
        shutil.copytree(mine, theirs)
        before = sha256_of(path)
        read = content(path, kho.tmp)
        wanted = qemu_img("amend", "-o", wish, theirs / path.name, status=None)
        got = kho("img", "amend", "-o", wish, path, status=None)
        if got.status == 0 and "v2 image which has snapshots" in wanted.err:
            # kho does where each snapshot records its size, as in an image that was of version 3
            assert_clean(path)
            size = qemu_json("info", path)["virtual-size"]
            shutil.copy(path, theirs)
            continue
        assert (got.status == 0) == (wanted.status == 0), f"{wish}: {got} {wanted}"
        if got.status:
            assert sha256_of(path) == before
            continue
        infos = [qemu_json("info", one) for one in (path, theirs / path.name)]
        assert [infos[0].get(fact) for fact in FACTS] == [infos[1].get(fact) for fact in FACTS]
        assert infos[0]["format-specific"] == infos[1]["format-specific"], wish
        assert listed(path) == listed(theirs / path.name)
        assert content(path, kho.tmp) == content(theirs / path.name, kho.tmp)
        if "size" not in wish:
            assert content(path, kho.tmp) == read
        assert_clean(path)
        size = infos[0]["virtual-size"]
    # What snapshots hold is what they held: QEMU 7.2 writes zeros over some of it on the way to version 2.
    for name in listed(path):
        # QEMU does not go back to a snapshot of some sizes: with its own image no more than with kho's.
        went = [qemu_img("snapshot", "-a", name, one, status=None).status for one in (path, theirs / path.name, first)]
        assert went[0] == went[1], f"{name}: {went}"
        if went[0]:
            continue
        assert went[2] or content(path, kho.tmp) == content(first, kho.tmp)
        assert_clean(path)


def test_zero_clusters_of_version_2(kho):
    """Plain zeros and those with a place, over a backing file, shared with a snapshot: they read as zeros without flags."""
    base, path = kho.tmp / "base.qcow2", kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "8M")
    qemu_io(base, ["write -P 9 0 8M"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", path)
    qemu_io(path, ["write -P 1 0 2M", "write -z 1M 1M", "write -z 4M 1M"])
    qemu_img("snapshot", "-c", "s", path)
    qemu_io(path, ["write -P 2 4M 64k", "write -z 6M 64k"])
    before = content(path, kho.tmp)
    kho("img", "amend", "-o", "compat=0.10", path)
    assert content(path, kho.tmp) == before
    assert_clean(path)
    qemu_img("snapshot", "-a", "s", path)
    qemu_io(path, ["read -P 1 0 1M", "read -P 0 1M 1M", "read -P 9 2M 2M", "read -P 0 4M 1M", "read -P 9 5M 3M"])
    assert_clean(path)


def test_lazy_refcounts_of_version_2(kho):
    """Wished for where they stand is no wish: version 2 goes without them. Wished for anew, version 2 has none."""
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "1M")
    kho("img", "amend", "-o", "compat=0.10,lazy_refcounts=on", path)
    info = qemu_json("info", path)["format-specific"]["data"]
    assert info["compat"] == "0.10" and "lazy-refcounts" not in info
    assert_clean(path)
    kho.refuses("img", "amend", "-o", "lazy_refcounts=on", path, says=["lazy refcounts"])


def test_refused(kho):
    """Smaller without --shrink, options for making, in use: nothing is changed."""
    path, raw = kho.tmp / "disk.qcow2", kho.tmp / "disk.raw"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("create", "-q", "-f", "raw", raw, "1M")
    before = sha256_of(path)
    kho.refuses("img", "amend", "-o", "size=512k", path, says=["shrink"])
    kho.refuses("img", "amend", "-o", "size=2000000", path, says=["sectors"])
    kho.refuses("img", "amend", "-o", "compat=0.10,refcount_bits=8", path, says=["16 bits"])
    kho.refuses("img", "amend", "-o", "cluster_size=4k", path, says=["cluster_size"])
    kho.refuses("img", "amend", "-o", "backing_file=x", path, says=["rebase"])
    kho.refuses("img", "amend", "-o", "lazy_refcounts=on", raw, says=["raw"])
    with open(path, "r+b") as file:
        lock_as_writer(file)
        kho.refuses("img", "amend", "-o", "refcount_bits=8", path, says=["disk.qcow2", str(os.getpid())])
    assert sha256_of(path) == before
    kho("img", "amend", "--shrink", "-o", "size=512k,refcount_bits=8", path)
    assert qemu_json("info", path)["virtual-size"] == 512 << 10
    assert_clean(path)


def test_the_name_of_a_data_file(kho, tmp):
    """It is changed and the file is not; both read the disk through it by its new name. Without a data file there is none."""
    qemu_img("create", "-q", "-f", "qcow2", "-o", "data_file=d.raw", "disk.qcow2", "1M", cwd=tmp)
    qemu_io("disk.qcow2", ["write -P 7 64k 64k"], cwd=tmp)
    kho("img", "amend", "-o", "data_file=a-much-longer-name,lazy_refcounts=on", tmp / "disk.qcow2")
    assert not (tmp / "a-much-longer-name").exists()
    (tmp / "d.raw").rename(tmp / "a-much-longer-name")
    qemu_io("disk.qcow2", ["read -P 7 64k 64k"], cwd=tmp)
    qemu_img("check", "-q", "disk.qcow2", cwd=tmp)
    assert kho("img", "info", tmp / "disk.qcow2").out.count("data file: a-much-longer-name") == 1
    qemu_img("create", "-q", "-f", "qcow2", tmp / "plain.qcow2", "1M")
    before = (tmp / "plain.qcow2").read_bytes()
    assert "has no data file" in kho("img", "amend", "-o", "data_file=e,refcount_bits=8", tmp / "plain.qcow2", status=None).err
    assert (tmp / "plain.qcow2").read_bytes() == before
