"""Compressed copies: each level and type is read by qemu-img as what it was made of, whatever the cluster size; the best level,
and zstd by default, are not larger than what qemu-img makes itself, and each level is what it says beside the others."""

import os
import random

import pytest

from interop.engine import assert_clean, assert_same, qemu_img, qemu_json

MIB = 1 << 20
CLUSTERS = (512, 4096, 65536, 2 << 20)


def text(rng, length):
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 11))) for _ in range(2000)]
    return " ".join(rng.choices(words, [1 / (rank + 1) for rank in range(len(words))], k=length // 4)).encode()[:length]


def contents(rng, kind):
    if kind == "text":
        return text(rng, 3 * MIB + 4096)
    if kind == "random":
        return rng.randbytes(2 * MIB)
    if kind == "zeros":
        return bytes(3 * MIB)
    # Pieces shorter, as long and longer than clusters, some hardly smaller when they are packed, and a cluster cut short.
    pieces, length = [], 0
    while length < 4 * MIB:
        size = rng.choice((512, 4096, 20000, 65536, 300000))
        noise = rng.randbytes(size * rng.choice((1, 8, 15)) // 16)
        pieces.append(rng.choice((text(rng, size), rng.randbytes(size), bytes(size), noise + bytes(size - len(noise)))))
        length += len(pieces[-1])
    return b"".join(pieces)[:4 * MIB + 1536]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    rng, folder = random.Random(12), tmp_path_factory.mktemp("compress")
    for kind in ("text", "random", "zeros", "mixed"):
        (folder / kind).write_bytes(contents(rng, kind))
    return folder


def options(compression, cluster):
    return f"compression_type={compression},cluster_size={cluster}"


def compress(kho, source, target, compression, cluster, *level):
    kho("img", "convert", "-c", *level, "-f", "raw", "-O", "qcow2", "-o", options(compression, cluster), source, target)
    return target.stat().st_size


@pytest.mark.parametrize("kind", ("text", "random", "zeros", "mixed"))
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("compression", ("zlib", "zstd"))
def test_levels(kho, tmp, sources, compression, cluster, kind):
    source, theirs = sources / kind, tmp / "theirs.qcow2"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options(compression, cluster), source, theirs)
    bytes_ = {}
    for level in ("default", "fast", "best"):
        target = tmp / f"{level}.qcow2"
        bytes_[level] = compress(kho, source, target, compression, cluster, *[] if level == "default" else ["--compress-level", level])
        assert_same(target, "qcow2", source, "raw")
        assert_clean(target)
    kho("img", "convert", "-O", "raw", theirs, tmp / "back.raw")
    assert (tmp / "back.raw").read_bytes() == source.read_bytes()

    # Where a block of refcounts comes to lie between packed clusters, the one that does not fit before it is luck for both.
    blocks = theirs.stat().st_size * 2 // cluster // cluster
    most = theirs.stat().st_size + blocks * cluster
    assert bytes_["best"] <= most
    if cluster >= 65536:  # sectors and gaps count for more in small ones
        assert bytes_["best"] <= bytes_["fast"]
    if compression == "zlib":
        assert bytes_["default"] == bytes_["fast"]
    else:
        assert bytes_["best"] <= bytes_["default"] <= most
    if kind == "text" and cluster == 65536:
        found = qemu_json("check", "--output=json", tmp / "best.qcow2")
        assert found["compressed-clusters"] == found["allocated-clusters"] == -(-source.stat().st_size // cluster)
        assert bytes_["best"] < source.stat().st_size // 2
        assert bytes_["fast"] <= most * 1.15


def test_fast_looks_back_4_kib(kho, tmp, rng):
    """What repeats from farther back than QEMU's inflate can see is not a repetition."""
    page = rng.randbytes(4096 + 512)
    (tmp / "far.raw").write_bytes((page * 15)[:65536] * 4)
    for level in ("fast", "best"):
        compress(kho, tmp / "far.raw", tmp / f"{level}.qcow2", "zlib", 65536, "--compress-level", level)
        assert_same(tmp / f"{level}.qcow2", "qcow2", tmp / "far.raw", "raw")


def test_words(kho, tmp):
    (tmp / "a.raw").write_bytes(bytes(65536))
    for word in ("9", "FAST", "slow", ""):
        ran = kho.refuses("img", "convert", "-c", "--compress-level", word, "-O", "qcow2", "a.raw", "a.qcow2", cwd=tmp)
        assert "--compress-level" in ran.err and "fast" in ran.err and "best" in ran.err
    kho.refuses("img", "convert", "--compress-level", "fast", "-O", "qcow2", "a.raw", "a.qcow2", cwd=tmp,
                says="--compress-level goes with --compress")
    assert os.listdir(tmp) == ["a.raw"]
