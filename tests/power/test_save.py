"""A power failure at the end of every fsync of a save and of its start: the machine has its memory or has not, and memory that is
there fits the disk that is there."""

import struct

import counter
import harness
import machine
import pytest
from power.replay import RANDOMS, Recording, recorded_emulator


EVERY = 3 if harness.SOAK else 12  # of the states that have the memory, how many are started from


@pytest.fixture
def disk(kho):
    """In the tree, which is what the recording sees."""
    folder = kho.root / "disks"
    folder.mkdir()
    counter.make_disk(folder / "web1.qcow2")
    machine.define(kho, "web1", recorded_emulator(kho), machine.disk(folder / "web1.qcow2"))
    return folder / "web1.qcow2"


def states(kho, recording, rng, randoms=RANDOMS):
    """What a power failure could have left, one after the other in place of the tree."""
    for what, state in recording.states(rng, randoms):
        state.write_out(kho.root)
        yield what


def is_used(file):
    return bool(struct.unpack_from(">I", file.read_bytes(), 12)[0] & 2)


def nothing_half_done(kho, what):
    kho("recover")
    for pattern in ("*.kho-tmp", "*.resuming", "*.jsonl"):
        assert not list(kho.root.rglob(pattern)), what


def goes_on(kho, count, what, *words):
    kho(*words)
    assert kho("domstate", "web1", "--reason").out == "running (restored)\n", what
    counter.wait_counting(kho, "web1", count + 1)
    kho("destroy", "web1")


def test_managed_save(kho, build, disk, rng):
    recording = Recording(kho, build / "record.so", kho.base / "record.log")
    kho("start", "web1", env=recording.env)
    counter.wait_counting(kho, "web1", 2)
    kho("managedsave", "web1", env=recording.env)
    count, file, seen = counter.on_disk(disk), kho.root / "lib/qemu/save/web1.save", []
    for what in states(kho, recording, rng):
        nothing_half_done(kho, what)
        seen.append(file.exists())
        if file.exists():
            assert not is_used(file) and counter.on_disk(disk) == count, what
            if seen.count(True) % EVERY == 1:
                goes_on(kho, count, what, "start", "web1")
    assert set(seen) == {True, False}


@pytest.mark.parametrize("managed", [True, False])
def test_start_from_it(kho, build, disk, rng, managed):
    folder = kho.root / ("lib/qemu/save" if managed else "disks")
    file = folder / "web1.save"
    words = ("start", "web1") if managed else ("restore", file)
    kho("start", "web1")
    counter.wait_counting(kho, "web1", 2)
    kho(*(("managedsave", "web1") if managed else ("save", "web1", file)))
    count = counter.on_disk(disk)
    recording = Recording(kho, build / "record.so", kho.base / "record.log")
    kho(*words, env=recording.env)
    counter.wait_counting(kho, "web1", count + 5)
    kho("destroy", "web1")
    seen = []
    for what in states(kho, recording, rng, RANDOMS if managed or harness.SOAK else 0):
        nothing_half_done(kho, what)
        unused = file.exists() and not is_used(file)
        assert unused or file.exists() != managed, what
        seen.append(unused)
        if unused:
            assert counter.on_disk(disk) == count, what  # no guest has written since
            if seen.count(True) % EVERY == 1:
                goes_on(kho, count, what, *words)
    assert set(seen) == {True, False}
