"""Commit: kho and qemu-img, given the same chain, make the same of it; whatever happens meanwhile, what is read through
the overlay stays."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest

import harness
from interop.engine import Moments, assert_clean, qemu_img, qemu_io, qemu_json, sha256_of
from interop.test_merge import Chain, lock_as_writer

ROUNDS = 80 if harness.SOAK else 12


def own_bytes(path):
    """What a layer holds itself, data and zeros."""
    return sum(entry["length"] for entry in qemu_json("map", "-U", path) if entry["depth"] == 0 and entry["present"])


def contents(chain, folder):
    """What QEMU reads of each layer in @folder."""
    found = []
    for path, fmt in zip(chain.layers, chain.formats):
        raw = folder / "content.raw"
        qemu_img("convert", "-f", fmt, "-O", "raw", folder / path.name, raw)
        found.append((raw.stat().st_size, sha256_of(raw)))
        raw.unlink()
    return found


@pytest.mark.parametrize("number", range(ROUNDS))
def test_same_as_qemu_img(kho, rng, number):
    """A layer of a random chain, into the next one or a deeper one, emptied or not."""
    mine = kho.tmp / "mine"
    mine.mkdir()
    chain = Chain(random.Random(rng.random()), mine)
    over = chain.rng.randrange(1, len(chain.layers))
    base = chain.rng.randrange(0, over)
    words = [] if base == over - 1 else ["-b", chain.layers[base].name]
    words += ["-d"] if chain.rng.random() < 0.3 else []
    if chain.rng.random() < 0.3 and chain.rng.choice((True, False)):
        words += ["-r", "1G"]
    before = contents(chain, mine)
    shutil.copytree(mine, kho.tmp / "theirs")
    theirs = qemu_img("commit", "-q", "-f", "qcow2", *words, kho.tmp / "theirs" / chain.layers[over].name, status=None)
    kho("img", "commit", "-f", "qcow2", *words, chain.layers[over])
    after = contents(chain, mine)
    assert after[over:] == before[over:]
    if theirs.status == 0:
        assert after == contents(chain, kho.tmp / "theirs")
    else:  # QEMU does not make every base longer: version 2 with snapshots
        assert "not supported" in theirs.err
        assert after[base][0] != before[over][0] or after[base] == before[over]
    chain.assert_clean()
    if not words:
        assert own_bytes(chain.layers[over]) == 0
        kept = qemu_json("info", chain.layers[over])
        assert kept["backing-filename"] == chain.layers[base].name


def test_overlay_keeps_its_snapshots(kho):
    """Emptied, it gives its space back; what a snapshot inside it holds stays, and so do its COPIED flags."""
    base, over = kho.tmp / "base.qcow2", kho.tmp / "over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "64M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", over)
    qemu_io(over, ["write -P 1 0 4M"])
    qemu_img("snapshot", "-c", "kept", over)
    qemu_io(over, ["write -P 2 2M 20M", "write -c -P 3 32M 64k"])
    kho("img", "commit", over)
    assert own_bytes(over) == 0 and over.stat().st_blocks * 512 < 6 << 20
    assert_clean(over)
    qemu_io(over, ["read -P 1 0 2M", "read -P 2 2M 20M", "read -P 3 32M 64k"])
    qemu_img("snapshot", "-a", "kept", over)
    qemu_io(over, ["read -P 1 0 4M"])
    assert_clean(over)


def test_refused(kho):
    """Nothing below, a base of another chain, a base in use: nothing is changed."""
    base, over, other = kho.tmp / "base.qcow2", kho.tmp / "over.qcow2", kho.tmp / "other.qcow2"
    for path in (base, other):
        qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", over)
    qemu_io(over, ["write -P 1 0 64k"])
    before = {path: sha256_of(path) for path in (base, over, other)}
    kho.refuses("img", "commit", base, says=["base.qcow2", "no backing file"])
    kho.refuses("img", "commit", "-b", other, over, says=["other.qcow2", "not in the backing chain", "over.qcow2"])
    for held in (base, over):
        with open(held, "r+b") as file:
            lock_as_writer(file)
            kho.refuses("img", "commit", over, says=[held.name, str(os.getpid())])
    assert {path: sha256_of(path) for path in before} == before


def test_full_disk(kho, small_fs):
    """A base that cannot take it: refused with the figure before anything is written; the overlay keeps its data."""
    fs = small_fs("ext4", 32)
    base, over = fs.path / "base.qcow2", kho.tmp / "over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "64M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", over)
    qemu_io(over, ["write -P 1 0 40M"])
    before = sha256_of(base), sha256_of(over)
    kho.refuses("img", "commit", over, says=["MiB", "free"])
    assert (sha256_of(base), sha256_of(over)) == before


def big_chain(folder):
    """An overlay of 60 MiB in small clusters over a base; what is read through it."""
    base, over = folder / "base.qcow2", folder / "over.qcow2"
    for path in (base, over):
        path.unlink(missing_ok=True)
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", base, "160M")
    qemu_io(base, [f"write -P {number + 1} {number * 16}M 12M" for number in range(10)])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "-o", "cluster_size=4k", over)
    qemu_io(over, [f"write -P {number + 100} {number * 16 + 8}M 6M" for number in range(10)])
    qemu_img("convert", "-O", "raw", over, folder / "before.raw")
    return base, over


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed(kho, rng, soak, number):
    """At random moments: all reads as before, QEMU finds no corruption, and the next commit ends it."""
    base, over = big_chain(kho.tmp)
    moments = Moments(rng, 0.25)
    for _ in range(50 if soak else 10):
        start = time.monotonic()
        child = subprocess.Popen([str(kho.program), "img", "commit", str(over)], env=kho.env(), cwd=kho.tmp,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = moments.stop(child, number)
        assert time.monotonic() - start < harness.HANG_GUARD_S
        if number == signal.SIGINT and child.returncode > 0:  # before that it does not catch the signal yet
            assert "cancelled" in said and ("reads as before" in said or "unchanged" in said), said
        qemu_img("compare", "-f", "raw", "-F", "qcow2", kho.tmp / "before.raw", over)
        for path in (base, over):
            found = qemu_json("check", "-f", "qcow2", path, status=None)
            assert not found.get("corruptions") and not found["check-errors"], found
        if child.returncode == 0:
            base, over = big_chain(kho.tmp)
    assert moments.hit > 0
    kho("img", "commit", over)
    qemu_img("compare", "-f", "raw", "-F", "qcow2", kho.tmp / "before.raw", base)
    assert own_bytes(over) == 0


def test_rate(kho):
    """A copy of 6 MiB at 4 MiB a second takes a second and more; one without a rate does not have to."""
    base, over = kho.tmp / "base.raw", kho.tmp / "over.qcow2"
    qemu_img("create", "-q", "-f", "raw", base, "64M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", over)
    qemu_io(over, ["write -P 1 8M 6M"])
    start = time.monotonic()
    kho("img", "commit", "-r", "4M", over)
    assert time.monotonic() - start > 1
    qemu_io(base, ["read -P 1 8M 6M"], "raw")
