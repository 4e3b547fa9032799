"""Images as QEMU's tools make them: one of every shape that kho must read."""

import dataclasses
import itertools
import os
import random

import harness
from interop.engine import qemu_img, qemu_io

CLUSTERS = [1 << bits for bits in range(9, 22)]
REFCOUNT_BITS = [1, 2, 4, 8, 16, 32, 64]
EXTENDED_MIN = 16384
BACKINGS = ("none", "raw-relative", "qcow2-absolute", "chain")


@dataclasses.dataclass(frozen=True)
class Shape:
    cluster: int
    version: int
    refcount_bits: int
    compression: str
    backing: str
    snapshots: bool
    extended: bool = False  # L2 entries with subclusters

    def __str__(self):
        return (f"{self.cluster}-v{self.version}-rc{self.refcount_bits}-{self.compression}-{self.backing}"
                f"{'-snap' if self.snapshots else ''}"
                f"{'-extended' if self.extended else ''}")

    @property
    def options(self):
        text = f"cluster_size={self.cluster},compat={'0.10' if self.version == 2 else '1.1'}"
        if self.version == 3:
            text += f",refcount_bits={self.refcount_bits},compression_type={self.compression}"
        if self.extended:
            text += ",extended_l2=on"
        return text

    @property
    def unit(self):
        """What is mapped as one."""
        return self.cluster // 32 if self.extended else self.cluster

    @property
    def size(self):
        return self.cluster * 37 + 1536  # not a whole cluster, and more than one L2 table where they are small


def shapes():
    """Every cluster size with version 2 and three refcount widths, which take turns, as do compression, backing and
    snapshots; where they may be, one more with subclusters. In the soak, the whole product."""
    for number, cluster in enumerate(CLUSTERS):
        if harness.SOAK:
            turns = itertools.product([(2, 16)] + [(3, bits) for bits in REFCOUNT_BITS], ("zlib", "zstd"), BACKINGS,
                                      (False, True))
        else:
            widths = [(3, REFCOUNT_BITS[(number * 3 + turn) % 7]) for turn in range(3)]
            turns = [(head, ("zlib", "zstd")[turn % 2], BACKINGS[(number + turn) % 4], turn % 3 == 0)
                     for turn, head in enumerate([(2, 16)] + widths)]
        for (version, bits), compression, backing, snapshots in turns:
            if version == 2:
                compression = "zlib"
            yield Shape(cluster, version, bits, compression, backing, snapshots and bits > 1)
            if harness.SOAK and version == 3 and cluster >= EXTENDED_MIN:
                yield Shape(cluster, version, bits, compression, backing, snapshots and bits > 1, True)
        if not harness.SOAK and cluster >= EXTENDED_MIN:
            yield Shape(cluster, 3, 16, ("zlib", "zstd")[number % 2], BACKINGS[number % 4], number % 3 > 0, True)


def scribble(rng, size, cluster, compressed=True, unit=None):
    """qemu-io commands that leave data, zeros, holes and compressed clusters, in and across clusters and (parts of
    clusters that are mapped as one) units."""
    clusters = size // cluster
    unit = unit or cluster
    commands = []
    for _ in range(8):
        off = rng.randrange(size - 512)
        length = min(size - off, rng.choice((1, 511, unit * 3, cluster // 2, cluster, cluster * 2 + 77)))
        commands.append(f"write -P {rng.randint(1, 255)} {off} {length}")
    for number in rng.sample(range(clusters), min(clusters, 3 if compressed else 0)):
        off = number * cluster  # QEMU compresses into clusters without a place only
        commands.insert(0, f"write -c -P {rng.randint(1, 255)} {off} {cluster}")
    for _ in range(2 if clusters else 0):
        commands.append(f"write -z {rng.randrange(clusters) * cluster} {cluster}")
    for _ in range(4 if unit < cluster else 0):
        commands.append(f"write -z {rng.randrange(size // unit - 8) * unit} {rng.randint(1, 8) * unit}")
    return commands


def backing_of(shape, folder, rng):
    """Makes the shape's backing files; (arguments for qemu-img create)."""
    size = shape.size + rng.choice((-3, 0, 4)) * shape.cluster // 512 * 512
    if shape.backing == "none":
        return []
    if shape.backing == "raw-relative":
        (folder / "base.raw").write_bytes(rng.randbytes(min(size, 1 << 20)))
        return ["-b", "base.raw", "-F", "raw"]
    base = folder / "base.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", base, str(size))
    qemu_io(base, scribble(rng, size, 4096))
    if shape.backing == "qcow2-absolute":
        return ["-b", base, "-F", "qcow2"]
    (folder / "sub").mkdir()
    for name, below in (("sub/two.qcow2", "../base.qcow2"), ("sub/three.qcow2", "two.qcow2"), ("four.qcow2", "sub/three.qcow2")):
        qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, folder / name)
        qemu_io(folder / name, scribble(rng, size, 65536, compressed=False)[:4])
    return ["-b", "four.qcow2", "-F", "qcow2"]


def make(shape, folder, seed=1):
    """An image of this shape, in use for a while: written, compressed, zeroed, snapshotted, written again."""
    rng = random.Random(f"{shape} {seed}")
    path = folder / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", shape.options, *backing_of(shape, folder, rng), path, str(shape.size))
    # Compressed clusters share a host cluster: each counts, and a snapshot doubles that.
    qemu_io(path, scribble(rng, shape.size, shape.cluster, not shape.snapshots or shape.refcount_bits >= 8, shape.unit))
    if shape.snapshots:
        qemu_img("snapshot", "-c", "first", path)
        qemu_io(path, scribble(rng, shape.size, shape.cluster, False, shape.unit)[-8:] if shape.extended else
                scribble(rng, shape.size, shape.cluster, compressed=False)[:4])
    settle(folder)
    return path


def settle(folder):
    """Where a file has holes is told differently before the file system has put its data in place, and after."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
