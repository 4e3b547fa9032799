"""kho img compare, measure and dd: what qemu-img finds, in kho's own words and statuses."""

import json

import pytest

from interop.engine import assert_same, qemu_img, qemu_io, qemu_json

DIFFER = 14


@pytest.fixture
def disks(kho):
    """one.qcow2 and two.raw, which read the same."""
    qemu_img("create", "-q", "-f", "qcow2", kho.tmp / "one.qcow2", "8M")
    qemu_io(kho.tmp / "one.qcow2", ["write -P 1 64k 3M", "write -z 1M 64k", "write -P 2 7M 4k"])
    qemu_img("convert", "-O", "raw", kho.tmp / "one.qcow2", kho.tmp / "two.raw")
    return kho.tmp / "one.qcow2", kho.tmp / "two.raw"


def told(kho, *args, status=0):
    return json.loads(kho("img", "compare", "--json", *args, status=status).out)


def test_alike(kho, disks):
    assert told(kho, *disks) == {"same": True, "difference": None, "offset-bytes": None, "sizes-differ": False}
    assert kho("img", "compare", *disks).out == "They read the same.\n"


@pytest.mark.parametrize("offset", [0, 512, 65536 - 512, 3 << 20, (8 << 20) - 512])
@pytest.mark.parametrize("workers", [1, 4])
def test_first_difference(kho, disks, offset, workers):
    """Wherever it is, however many look, and whatever differs behind it."""
    qemu_io(disks[1], [f"write -P 9 {offset} 512"] + (["write -P 9 6M 1M"] if offset < 6 << 20 else []), "raw")
    said = told(kho, "--workers", workers, *disks, status=DIFFER)
    assert (said["same"], said["difference"], said["offset-bytes"]) == (False, "content", offset)


def test_longer(kho, disks):
    qemu_img("resize", "-q", "-f", "raw", disks[1], "9M")
    assert told(kho, *disks) == {"same": True, "difference": None, "offset-bytes": None, "sizes-differ": True}
    assert told(kho, "--strict", *disks, status=DIFFER)["difference"] == "size"
    qemu_io(disks[1], ["write -P 9 8700k 512"], "raw")
    assert told(kho, *disks, status=DIFFER)["offset-bytes"] == 8700 << 10


def test_strict_is_about_holes(kho, disks):
    assert told(kho, "--strict", *disks, status=DIFFER)["difference"] == "allocation"
    assert told(kho, "--strict", disks[0], disks[0])["same"]


def test_measure_is_enough(kho, disks):
    """What is promised suffices, and is what qemu-img says."""
    for source in disks:
        said = json.loads(kho("img", "measure", "-O", "qcow2", "--json", source).out)
        theirs = qemu_json("measure", "-O", "qcow2", source)
        assert {key: theirs[key] for key in said} == said
    kho("img", "convert", "-O", "qcow2", disks[1], kho.tmp / "made.qcow2")
    assert (kho.tmp / "made.qcow2").stat().st_size <= said["required"]
    assert "either an image or --size" in kho.refuses("img", "measure", status=5).err


def test_part_of_a_disk(kho, disks):
    kho("img", "dd", "--offset", "1M", "--length", "2M", disks[0], kho.tmp / "part.raw")
    assert (kho.tmp / "part.raw").read_bytes() == disks[1].read_bytes()[1 << 20:3 << 20]
    kho("img", "dd", "-O", "qcow2", "--offset", "512", disks[1], kho.tmp / "part.qcow2")
    (kho.tmp / "rest.raw").write_bytes(disks[1].read_bytes()[512:])
    assert_same(kho.tmp / "part.qcow2", "qcow2", kho.tmp / "rest.raw", "raw")
    kho.refuses("img", "dd", disks[0], kho.tmp / "part.raw", status=4, says="exists")
    kho.refuses("img", "dd", "--offset", "9M", disks[0], kho.tmp / "no.raw", status=5, says="past the end")
    kho.refuses("img", "dd", "--length", "9M", disks[0], kho.tmp / "no.raw", status=5, says="more than")
