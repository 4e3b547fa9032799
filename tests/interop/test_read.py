"""Images made by QEMU read identically: every cluster size, version, refcount width, compression, backing, snapshots."""

import json
import shutil

import pytest

import harness
from interop import images
from interop.engine import qemu_img, qemu_json, sha256_of


def of_cluster(cluster):
    return [shape for shape in images.shapes() if shape.cluster == cluster]


def assert_reads_alike(kho, path):
    qemu_img("convert", "-f", "qcow2", "-O", "raw", path, kho.tmp / "qemu.raw")
    kho("img", "convert", "-f", "qcow2", "-O", "raw", path, kho.tmp / "kho.raw")
    assert sha256_of(kho.tmp / "qemu.raw") == sha256_of(kho.tmp / "kho.raw")


def assert_maps_alike(kho, path):
    assert json.loads(kho("img", "map", "-f", "qcow2", "--output=json", path).out) == qemu_json("map", "-f", "qcow2", path)


def assert_tells_alike(kho, path):
    """Every key that qemu-img prints is there with the same value, for the image and its whole chain."""
    ours = json.loads(kho("img", "info", "--backing-chain", "--output=json", path).out)
    theirs = qemu_json("info", "--backing-chain", path)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs):
        assert our == their
    assert kho("img", "info", "--backing-chain", path).out == qemu_img("info", "--backing-chain", path).out


def assert_checks_alike(kho, path):
    """The same counts, and the same verdict."""
    ours = json.loads(kho("img", "check", "-f", "qcow2", "--output=json", path).out)
    theirs = qemu_json("check", "-f", "qcow2", path)
    for key, value in theirs.items():
        assert ours[key] == value, (key, ours, theirs)


@pytest.mark.parametrize("cluster", images.CLUSTERS)
def test_qemus_images(kho, cluster):
    for shape in of_cluster(cluster):
        folder = kho.tmp / "image"
        folder.mkdir()
        path = images.make(shape, folder)
        try:
            assert_reads_alike(kho, path)
            assert_maps_alike(kho, path)
            assert_tells_alike(kho, path)
            assert_checks_alike(kho, path)
        except AssertionError as error:
            raise AssertionError(f"{shape}: {error}") from error
        shutil.rmtree(folder)
        for name in ("qemu.raw", "kho.raw"):
            (kho.tmp / name).unlink()


def test_every_turn_is_taken():
    """Rule: each cluster size meets both versions, both compressions, every kind of backing, and snapshots; each refcount
    width meets several cluster sizes."""
    for cluster in images.CLUSTERS:
        seen = of_cluster(cluster)
        assert {s.version for s in seen} == {2, 3}
        assert {s.compression for s in seen} == {"zlib", "zstd"}
        assert {s.backing for s in seen} == set(images.BACKINGS)
        assert {s.snapshots for s in seen} == {False, True}
        assert cluster < images.EXTENDED_MIN or {s.extended for s in seen} == {False, True}
    for bits in images.REFCOUNT_BITS:
        assert len({s.cluster for s in images.shapes() if s.refcount_bits == bits}) >= 3


@pytest.mark.parametrize("preallocation", ["off", "metadata", "falloc", "full"])
@pytest.mark.parametrize("extended", ["off", "on"])
def test_preallocated_images_map_alike(kho, preallocation, extended):
    path = kho.tmp / "thick.qcow2"
    options = f"preallocation={preallocation},extended_l2={extended}"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, "40M")
    assert_maps_alike(kho, path)
    assert_reads_alike(kho, path)


def test_raw_images(kho):
    """Holes, data, and a last sector that is not whole."""
    path = kho.tmp / "disk.raw"
    with open(path, "wb") as file:
        file.truncate(3_000_000)
        file.seek(1 << 20)
        file.write(b"x" * 70_000)
        file.seek(2_999_000)
        file.write(b"y" * 900)
    ours = json.loads(kho("img", "map", "-f", "raw", "--output=json", path).out)
    assert ours == qemu_json("map", "-f", "raw", path)
    assert json.loads(kho("img", "info", "--output=json", path).out) == qemu_json("info", path)
    assert kho("img", "map", "-f", "raw", path).out == qemu_img("map", "-f", "raw", path).out
    kho("img", "convert", "-f", "raw", "-O", "raw", path, kho.tmp / "copy.raw")
    assert (kho.tmp / "copy.raw").read_bytes()[:3_000_000] == path.read_bytes()
    assert (kho.tmp / "copy.raw").stat().st_blocks * 512 < 300_000


def keys_of(value):
    if isinstance(value, list):
        return set().union(*map(keys_of, value)) if value else set()
    return set(value).union(*map(keys_of, value.values())) if isinstance(value, dict) else set()


def test_every_key_is_documented(kho):
    """Rule: docs/json.md tells of every key that the img verbs print."""
    docs = (harness.REPO / "docs/json.md").read_text().partition("## Images")[2]
    shape = images.Shape(65536, 3, 16, "zstd", "chain", True)
    path = images.make(shape, kho.tmp)
    printed = [kho.json("img", "info", "--backing-chain", path), kho.json("img", "map", path), kho.json("img", "check", path)]
    for key in keys_of(printed):
        assert f"`{key}`" in docs, f"docs/json.md does not tell of {key}"
