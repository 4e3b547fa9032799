"""Differential rounds: kho's engine and QEMU's take turns on one image, and a model in this test says what must be read.
A round is at least 20 operations; each kind is at least one in 20 of them over all rounds (asserted). A failing round
prints its seed, and KHO_ROUND=that runs that round alone."""

import collections
import hashlib
import os
import random

import pytest

import harness
from interop.engine import KhoIo, assert_clean, assert_same, qemu_img, qemu_io

ROUNDS = 8000 if harness.SOAK else 100
CLUSTERS = (512, 4096, 16384, 65536)

# How often each kind is in a round, in random order: at least one operation in 20. "turn" hands the image to the other
# engine (a reopen). What cannot be done in the image's present state is replaced by a write, and counted as that.
KINDS = {
    "write": 2, "write-unaligned": 2, "zero": 2, "zero-unaligned": 2, "read": 2, "flush": 2, "turn": 3, "grow": 3,
    "compressed": 2, "overwrite-compressed": 2, "snapshot": 3, "discard": 2,
}
QEMU_ONLY = {"compressed", "discard", "snapshot"}


class Round:
    def __init__(self, seed, folder, io):
        self.rng = random.Random(seed)
        self.io = io
        self.folder = folder
        self.path = folder / "disk.qcow2"
        self.cluster = self.rng.choice(CLUSTERS)
        self.version = self.rng.choice((2, 3, 3))
        self.refcount_bits = 16 if self.version == 2 else self.rng.choice((1, 2, 4, 8, 16, 16, 16, 32, 64))
        # Extended L2 entries: clusters are mapped by their 32nd parts.
        self.extended = self.version == 3 and self.cluster >= 16384 and self.rng.random() < 0.7
        self.unit = self.cluster // 32 if self.extended else self.cluster
        self.snapshots = []
        self.done = collections.Counter()
        self.compressed = []  # (offset, length) of clusters that were written compressed
        self.log = []
        self.batch = []  # qemu-io's commands, while it is QEMU's turn
        self.engine = self.rng.choice(("kho", "qemu"))
        self.make_image()

    def make_image(self):
        size = self.cluster * self.rng.randint(24, 60) + 512 * self.rng.randint(0, 3)
        options = f"cluster_size={self.cluster},compat={'0.10' if self.version == 2 else '1.1'}"
        if self.version == 3:
            options += f",refcount_bits={self.refcount_bits},compression_type={self.rng.choice(('zlib', 'zstd'))}"
            options += f",lazy_refcounts={self.rng.choice(('on', 'off'))}"
            options += f",extended_l2={'on' if self.extended else 'off'}"
        backing = []
        self.touched = set()  # starts of clusters that were written or zeroed
        self.model = bytearray(size)
        if self.rng.random() < 0.5:
            base_bytes = max(512, (size + self.rng.choice((-1, 0, 1)) * self.cluster * 5) // 512 * 512)
            base = self.patterned(base_bytes)
            (self.folder / "base.raw").write_bytes(base)
            self.model[:] = base[:size].ljust(size, b"\0")
            backing = ["-b", "base.raw", "-F", "raw"]
        self.backing = bool(backing)
        self.log.append(f"create {options} {' '.join(backing)} {size}")
        qemu_img("create", "-q", "-f", "qcow2", "-o", options, *backing, self.path, str(size))
        if self.engine == "kho":
            self.io("open", "qcow2", self.path)

    def patterned(self, length):
        """Runs of one byte each: what qemu-io can compare with."""
        content = bytearray()
        while len(content) < length:
            content += bytes([self.rng.randint(1, 255)]) * self.rng.randint(1, self.cluster * 2)
        return bytes(content[:length])

    # One engine holds the image at any time.

    def turn(self, to=None):
        to = to or ("qemu" if self.engine == "kho" else "kho")
        if self.engine == "kho":
            self.io("close")
        else:
            self.run_batch()
        self.engine = to
        if to == "kho":
            self.io("open", "qcow2", self.path)

    def run_batch(self):
        if self.batch:
            qemu_io(self.path, self.batch)
            self.batch = []

    def write(self, off, length):
        byte = self.rng.randint(1, 255)
        if self.engine == "kho":
            self.io("write", off, length, byte)
        else:
            self.batch.append(f"write -P {byte} {off} {length}")
        self.fill(off, bytes([byte]) * length)

    def zero(self, off, length):
        if self.engine == "kho":
            self.io("zero", off, length)
        else:
            self.batch.append(f"write -z {self.rng.choice(('', '-u '))}{off} {length}")
        self.fill(off, bytes(length))

    def verify(self, off, length):
        want = bytes(self.model[off:off + length])
        if self.engine == "kho":
            got = self.io("read", off, length)
            assert got == hashlib.sha256(want).hexdigest(), f"kho reads other bytes at {off}+{length}"
            return
        while length > 0:  # qemu-io compares with one byte, so one run of equal bytes at a time
            run = len(want) - len(want.lstrip(want[:1]))
            self.batch.append(f"read -P {want[0]} {off} {run}")
            off, length, want = off + run, length - run, want[run:]

    def aligned(self, most=6):
        clusters = len(self.model) // self.cluster
        first = self.rng.randrange(clusters)
        return first * self.cluster, self.rng.randint(1, min(most, clusters - first)) * self.cluster

    def units(self):
        """Whole units of mapping, up to some clusters."""
        units = len(self.model) // self.unit
        first = self.rng.randrange(units)
        most = min(self.rng.choice((3, 6 * self.cluster // self.unit)), units - first)
        return first * self.unit, self.rng.randint(1, most) * self.unit

    def unaligned(self):
        off = self.rng.randrange(len(self.model))
        return off, self.rng.randint(1, min(self.cluster * 3, len(self.model) - off))

    def do(self, kind):
        if kind in QEMU_ONLY and self.engine == "kho":
            self.turn("qemu")
        self.log.append(f"{self.engine}: {kind}")
        self.done[kind] += 1
        if kind == "write":
            self.write(*self.units())
        elif kind == "write-unaligned":
            self.write(*self.unaligned())
        elif kind == "zero":
            self.zero(*self.units())
        elif kind == "zero-unaligned":
            self.zero(*self.unaligned())
        elif kind == "read":
            self.verify(*self.unaligned())
        elif kind == "flush":
            self.io("flush") if self.engine == "kho" else self.batch.append("flush")
        elif kind == "turn":
            self.turn()
        elif kind == "grow":
            self.grow()
        elif kind == "compressed":
            self.write_compressed()
        elif kind == "overwrite-compressed":
            self.overwrite_compressed()
        elif kind == "snapshot":
            self.snapshot()
        elif kind == "discard":
            self.discard()

    def replaced(self):
        self.done[self.log[-1].split()[-1]] -= 1
        self.do("write-unaligned")

    def grow(self):
        """Version 2 has no sizes in its snapshots and no zero clusters to hide a backing file with: neither engine
        resizes in the first case, QEMU not in the second."""
        if self.version == 2 and self.snapshots:
            return self.replaced()
        size = len(self.model) + 512 * self.rng.randint(1, self.cluster // 128 + 3)
        if self.backing:
            self.touched.update(range(len(self.model) // self.cluster * self.cluster, size, self.cluster))
        if self.version == 2 and self.backing and self.engine == "qemu":
            self.turn("kho")
        if self.engine == "kho":
            self.io("resize", size)
        else:
            self.batch.append(f"truncate {size}")
        self.model.extend(bytes(size - len(self.model)))

    def write_compressed(self):
        """QEMU compresses into clusters without a place only, so that what is there is discarded before."""
        off, length = self.aligned(3)
        if self.version == 2 and self.backing:  # no discards there: a cluster that nothing has touched
            while off < len(self.model) and not self.touched.isdisjoint(range(off, off + length)):
                off += self.cluster
            if off + length > len(self.model) // self.cluster * self.cluster:
                return self.replaced()
        else:
            self.batch.append(f"discard {off} {length}")
        byte = self.rng.randint(1, 255)
        self.batch.append(f"write -c -P {byte} {off} {length}")
        self.fill(off, bytes([byte]) * length)
        self.compressed.append((off, length))
        # QEMU 7.2 goes on packing into a host cluster after a discard has freed it and a write has taken it, and so
        # destroys data: it must not remember where it packed last.
        self.run_batch()

    def fill(self, off, content):
        """The model's side of a write."""
        self.model[off:off + len(content)] = content
        first = off // self.cluster * self.cluster
        self.touched.update(range(first, off + len(content), self.cluster))

    def overwrite_compressed(self):
        """A part of a compressed cluster, by kho: the rest of it must be inflated and kept."""
        if self.engine == "qemu":
            self.turn("kho")
        off, length = self.rng.choice(self.compressed) if self.compressed else self.aligned(2)
        inner = self.rng.randrange(length)
        self.write(off + inner, self.rng.randint(1, length - inner))

    def snapshot(self):
        """Takes one, and every cluster is shared from now on, so that writes must copy; or lets one go."""
        self.turn("qemu")
        # Compressed clusters share a host cluster: each counts, and a snapshot doubles that.
        fits = self.refcount_bits >= 8 or not self.compressed
        if len(self.snapshots) < min(4, (1 << self.refcount_bits) - 2) and fits:
            self.snapshots.append(f"s{self.done.total()}")
            qemu_img("snapshot", "-c", self.snapshots[-1], self.path)
        elif self.snapshots:
            qemu_img("snapshot", "-d", self.snapshots.pop(0), self.path)
        else:
            return self.replaced()
        self.turn(self.rng.choice(("kho", "qemu")))

    def discard(self):
        """Whole clusters; in version 2 what is discarded may read as the backing file, so that zeros are written."""
        off, length = self.aligned()
        self.batch.append(f"discard {off} {length}" if self.version == 3 else f"write -z {off} {length}")
        self.fill(off, bytes(length))

    def finish(self):
        """Both engines read what the model says, and the image is clean."""
        self.turn("kho")
        self.verify(0, len(self.model))
        self.io("close")
        model = self.folder / "model.raw"
        model.write_bytes(self.model)
        assert_same(self.path, "qcow2", model, "raw")
        assert_clean(self.path)


def run_round(seed, folder, io):
    folder.mkdir()
    r = None
    try:
        r = Round(seed, folder, io)
        kinds = [kind for kind, times in KINDS.items() for _ in range(times)]
        r.rng.shuffle(kinds)
        for kind in kinds:
            r.do(kind)
        r.finish()
    except AssertionError as error:
        steps = "\n  ".join(r.log if r else [])
        raise AssertionError(f"round KHO_ROUND={seed} (runs alone so)\n  {steps}\n{error}") from error
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return r.done


def test_engines_take_turns(kho, rng):
    """Rule: whatever one engine writes, the other reads and writes on, for any order of operations."""
    io = KhoIo(kho)
    done = collections.Counter()
    if "KHO_ROUND" in os.environ:
        seeds = [int(os.environ["KHO_ROUND"])]
    else:
        seeds = rng.sample(range(1 << 31), ROUNDS)
    for number, seed in enumerate(seeds):
        of_round = run_round(seed, kho.tmp / f"round-{number}", io)
        assert of_round.total() >= 20
        done += of_round
    io.end()
    if len(seeds) == ROUNDS:
        assert min(done[kind] for kind in KINDS) >= done.total() * 0.05, done


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_cluster_size_is_drawn(cluster):
    """Rule: each cluster size is in the rounds."""
    assert cluster in {random.Random(seed).choice(CLUSTERS) for seed in range(50)}
