"""Bench: as many requests as told, where told; what it writes is there, and refusals come before anything is written."""

import pytest

from interop.engine import assert_clean, qemu_img, qemu_io, sha256_of


def test_reads(kho):
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "8M")
    before = sha256_of(path)
    found = kho.json("img", "bench", "-c", "500", "-s", "8k", "-d", "7", path)
    assert (found["requests"], found["request-bytes"], found["depth"], found["write"]) == (500, 8192, 7, False)
    assert found["seconds"] > 0 and found["requests-per-second"] > 0
    assert "500 read requests of 8192 bytes, 7 at a time: " in kho("img", "bench", "-c", "500", "-s", "8k", "-d", "7", path).out
    assert sha256_of(path) == before


@pytest.mark.parametrize("words", [[], ["--flush-interval", "8", "-d", "4"], ["--flush-interval", "8", "-d", "8", "--no-drain"]])
def test_writes(kho, words):
    """Each request lands a step behind the one before, and the last ones at the disk's start again."""
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "8M")
    kho("img", "bench", "-w", "--pattern", "9", "-c", "64", "-s", "64k", "-S", "128k", "-o", "1M", *words, path)
    qemu_io(path, [f"read -P 9 {at}k 64k" for at in range(0, 8192, 128)] + [f"read -P 0 {at + 64}k 64k" for at in range(0, 8192, 128)])
    assert_clean(path)


def test_refused(kho):
    path, empty = kho.tmp / "disk.qcow2", kho.tmp / "empty.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("create", "-q", "-f", "qcow2", empty, "0")
    before = sha256_of(path)
    kho.refuses("img", "bench", "--flush-interval", "5", path, says=["flush"])
    kho.refuses("img", "bench", "-w", "--flush-interval", "5", path, says=["flush", "64"])
    kho.refuses("img", "bench", "-d", "0", path, says=["1 to"])
    kho.refuses("img", "bench", "-c", "1", "-o", "2M", path, says=["past its end"])
    kho.refuses("img", "bench", empty, says=["0 bytes"])
    assert sha256_of(path) == before
