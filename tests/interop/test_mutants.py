"""Images with wrong metadata: what QEMU does not open kho refuses, or its check tells of it."""

import random

import pytest

import harness
from interop.engine import qemu_img, qemu_io

ROUNDS = 2000 if harness.SOAK else 45
VALUES = (0, 1, 512, 4096, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 56, 1 << 63, (1 << 64) - 1)
# What is named in the image and is not there, or not known, is no fault of the image's.
NOT_ITS_FAULT = ("No such file", "Unknown driver", "backing file", "protocol", "Could not open 'b", "key-secret")
SHAPES = {
    "backing": (["-o", "cluster_size=4096", "-b", "b.raw", "-F", "raw"], "1M"),
    "bitmaps": (["-o", "cluster_size=4096"], "1M"),
    "version-2": (["-o", "cluster_size=512,compat=0.10"], "200K"),
    "zstd": (["-o", "compression_type=zstd,lazy_refcounts=on"], "1M"),
}


def number(image, off, width):
    return int.from_bytes(image[off:off + width], "big")


def extensions(image):
    """(type, where its record begins, length) of each, the last one too."""
    at = number(image, 100, 4) if number(image, 4, 4) == 3 else 72
    while True:
        kind, length = number(image, at, 4), number(image, at + 4, 4)
        yield kind, at, length
        if kind == 0:
            return
        at += 8 + (length + 7) // 8 * 8


def regions(image):
    """Where the metadata lie: (offset, length), some more often than others."""
    found = [(0, 112)] * 3 + [(number(image, 40, 8), number(image, 36, 4) * 8), (number(image, 48, 8), 64)]
    if number(image, 60, 4):
        found += [(number(image, 64, 8), 120)] * 3
    for kind, at, length in extensions(image):
        found.append((at, min(8 + length, 64)))
        if kind == 0x23852875:
            directory = number(image, at + 24, 8)
            found += [(at, 32)] * 2 + [(directory, 40)] * 3 + [(number(image, directory, 8), 16)]
    return [region for region in found if region[1]]


def mutate(rng, image):
    """One field or bit of the metadata changed: (the image, what was done)."""
    off, length = rng.choice(regions(image))
    width = rng.choice((1, 1, 4, 8))
    at = min(off + rng.randrange(length) // width * width, len(image) - width)
    if width == 1:
        value = image[at] ^ 1 << rng.randrange(8)
    else:
        value = rng.choice((*VALUES, len(image), rng.randrange(1 << 20))) % (1 << 8 * width)
    return image[:at] + value.to_bytes(width, "big") + image[at + width:], f"{width} bytes at {at}: {value:#x}"


def qemu_refuses(path):
    """QEMU's words, or None: by qemu-img info and by opening it as a guest's disk would be, both."""
    ran = [harness.run(["qemu-img", "info", "-f", "qcow2", path], status=None),
           harness.run(["qemu-io", "-r", "-f", "qcow2", "-c", "quit", path], status=None)]
    words = " ".join(one.err for one in ran if one.status)
    return None if not words or any(word in words for word in NOT_ITS_FAULT) else words


@pytest.mark.parametrize("shape", SHAPES)
def test_kho_opens_no_more_than_qemu(kho, shape):
    rng = random.Random(f"{shape} 11")
    path = kho.tmp / "disk"
    options, size = SHAPES[shape]
    (kho.tmp / "b.raw").write_bytes(bytes(1 << 20))
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, "disk", size], cwd=kho.tmp)
    qemu_io(path, ["write -P 5 10k 60k", "write -P 6 100k 4k"])
    if shape == "bitmaps":
        qemu_img("bitmap", "--add", path, "b0")
    else:
        qemu_img("snapshot", "-c", "first", path)
        qemu_img("snapshot", "-c", "second", path)
    image = path.read_bytes()
    refused = 0
    for _ in range(ROUNDS):
        mutant, done = mutate(rng, image)
        path.write_bytes(mutant)
        ran = kho("img", "check", "-f", "qcow2", path, status=None)
        assert 0 <= ran.status < 90, f"{done}: {ran}"
        if ran.status == 0:
            words = qemu_refuses(path)
            assert words is None, f"{done}: kho finds nothing, QEMU says {words}"
        else:
            refused += 1
    assert refused


@pytest.mark.parametrize("off,value,width", [
    (64, 0x10200, 8),  # where a snapshot table without entries would lie
    (40, 0x10200, 8),  # the L1 table
    (92, 2, 4),  # a raw external file without an external file
])
def test_fields_that_matter_to_qemu_alone(kho, off, value, width):
    """Rule: refused when it is opened, so that nothing is written into what QEMU will not read."""
    path = kho.tmp / "disk"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    image = path.read_bytes()
    path.write_bytes(image[:off] + value.to_bytes(width, "big") + image[off + width:])
    assert qemu_refuses(path)
    kho.refuses("img", "resize", path, "+1M", says="bad qcow2 header")


@pytest.mark.parametrize("size", [1, 512, 1 << 32])
def test_bitmap_of_another_disk_size(kho, size):
    """Rule: a bitmap whose table does not fit the disk is told of. QEMU counts whole sectors only."""
    path = kho.tmp / "disk"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "64K")
    qemu_img("bitmap", "--add", "-g", "512", path, "b0")
    image = path.read_bytes()
    path.write_bytes(image[:24] + size.to_bytes(8, "big") + image[32:])
    ran = kho("img", "check", path, status=None)
    assert (ran.status != 0) == (qemu_refuses(path) is not None), str(ran)


def test_last_extension_with_a_length(kho):
    path = kho.tmp / "disk"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    image = path.read_bytes()
    *_, (kind, at, length) = extensions(image)
    assert (kind, length) == (0, 0)
    path.write_bytes(image[:at + 4] + (1 << 24).to_bytes(4, "big") + image[at + 8:])
    assert qemu_refuses(path)
    kho.refuses("img", "resize", path, "+1M", says="reaches past its room")
