"""Two layers become one, up or down: what is read through the whole chain stays, and QEMU finds every image clean. Chains
as QEMU's tools make them: cluster sizes, versions, compressed clusters, zeros and sizes all differ from layer to layer."""

import os
import random

import pytest

import harness
from interop import images
from interop.engine import KhoIo, assert_clean, qemu_img, qemu_io, qemu_json, sha256_of
from interop.test_cancel import moved_bytes

ROUNDS = 60 if harness.SOAK else 10
CLUSTERS = (512, 4096, 65536)


@pytest.fixture
def io(kho):
    session = KhoIo(kho)
    yield session
    session.end()


class Chain:
    """layers[0] is the base, the last one the top."""

    def __init__(self, rng, folder):
        self.rng, self.folder = rng, folder
        self.layers, self.formats = [], []
        size = rng.randint(200, 500) * 1024
        for number in range(rng.choice((3, 4))):
            self.add(number, max(64 << 10, size + rng.choice((-1, 0, 0, 1)) * rng.randint(1, 150) * 512))

    def add(self, number, size):
        rng, fmt = self.rng, "raw" if number == 0 and self.rng.random() < 0.4 else "qcow2"
        path = self.folder / f"{number}.{fmt}"
        cluster, unit = rng.choice(CLUSTERS), None
        if fmt == "raw":
            qemu_img("create", "-q", "-f", "raw", path, str(size))
        else:
            options = f"cluster_size={cluster}," + rng.choice((
                "compat=0.10", "compat=1.1", "compat=1.1,lazy_refcounts=on", "compat=1.1,refcount_bits=64",
                "compat=1.1,compression_type=zstd"))
            if cluster >= images.EXTENDED_MIN and rng.random() < 0.6:
                options, unit = f"cluster_size={cluster},extended_l2=on", cluster // 32
            below = ["-b", self.layers[-1].name, "-F", self.formats[-1]] if self.layers else []
            qemu_img("create", "-q", "-f", "qcow2", "-o", options, *below, path, str(size))
        commands = images.scribble(rng, size, cluster, compressed=fmt == "qcow2", unit=unit)
        # Version 2 cannot discard over a backing file; written zeros do for all.
        commands.append(f"write -z {rng.randrange(size // 2) // 512 * 512} {rng.randint(1, size // 4) // 512 * 512 + 512}")
        qemu_io(path, commands, fmt)
        self.layers.append(path)
        self.formats.append(fmt)

    def content(self, layer=-1):
        """What QEMU reads of a layer through all below it."""
        raw = self.folder / "content.raw"
        qemu_img("convert", "-f", self.formats[layer], "-O", "raw", self.layers[layer], raw)
        return raw.stat().st_size, sha256_of(raw)

    def drop(self, number):
        self.layers.pop(number).unlink()
        self.formats.pop(number)

    def assert_clean(self):
        for path, fmt in zip(self.layers, self.formats):
            if fmt == "qcow2":
                assert_clean(path)

    def assert_names(self, number):
        """The layer states its backing file by a name in the same folder, and that file's format."""
        info = qemu_json("info", "-U", self.layers[number])
        if number == 0:
            assert "backing-filename" not in info, info
        else:
            assert info["backing-filename"] == self.layers[number - 1].name, info
            assert info["backing-filename-format"] == self.formats[number - 1], info


@pytest.mark.parametrize("number", range(ROUNDS))
def test_merge_up(kho, io, rng, number):
    """Each layer in turn takes its base's place, until one is left."""
    chain = Chain(random.Random(rng.random()), kho.tmp)
    whole = [chain.content(layer) for layer in range(len(chain.layers))]
    while len(chain.layers) > 1:
        over = chain.rng.randrange(1, len(chain.layers))
        base = chain.layers[over - 1], chain.formats[over - 1]
        for _ in range(chain.rng.randint(1, 2)):  # made again, it finds that it is done
            io("mergeup", chain.layers[over], *base)
        chain.drop(over - 1)
        whole.pop(over - 1)
        over -= 1
        chain.assert_names(over)
        chain.assert_clean()
        for layer in range(over, len(chain.layers)):
            assert chain.content(layer) == whole[layer]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_merge_down(kho, io, rng, number):
    """Each layer in turn goes into its base, and whoever named it names the base."""
    chain = Chain(random.Random(rng.random()), kho.tmp)
    whole = [chain.content(layer) for layer in range(len(chain.layers))]
    while len(chain.layers) > 1:
        over = chain.rng.randrange(1, len(chain.layers))
        before = sha256_of(chain.layers[over])
        merge = ("mergedown", chain.layers[over], chain.layers[over - 1], chain.formats[over - 1])
        io(*merge)
        if chain.rng.random() < 0.5:
            io(*merge)
        assert sha256_of(chain.layers[over]) == before
        for layer in range(over, len(chain.layers)):
            assert chain.content(layer) == whole[layer]
        assert chain.content(over - 1) == whole[over]
        if over + 1 < len(chain.layers):
            io("setbacking", chain.layers[over + 1], chain.layers[over - 1].name, chain.formats[over - 1])
        chain.drop(over)
        whole.pop(over - 1)
        for layer in range(over - 1, len(chain.layers)):
            chain.assert_names(layer) if layer >= over else None
            assert chain.content(layer) == whole[layer]
        chain.assert_clean()


def test_merge_up_over_several_layers(kho, io):
    """The base may lie deeper; what lies between goes into the overlay too. Names reach other folders."""
    (kho.tmp / "sub").mkdir()
    qemu_img("create", "-q", "-f", "raw", kho.tmp / "sub/0.raw", "1M")
    qemu_io(kho.tmp / "sub/0.raw", ["write -P 1 0 1M"], "raw")
    for number, (folder, below) in enumerate((("sub", "0.raw"), ("sub", "1.qcow2"), (".", "sub/2.qcow2")), 1):
        fmt = "raw" if below.endswith("raw") else "qcow2"
        qemu_img("create", "-q", "-f", "qcow2", "-b", below, "-F", fmt, kho.tmp / folder / f"{number}.qcow2")
        qemu_io(kho.tmp / folder / f"{number}.qcow2", [f"write -P {number + 1} {number * 100}k 150k"])
    top = kho.tmp / "3.qcow2"
    qemu_img("convert", "-O", "raw", top, kho.tmp / "before.raw")
    io("mergeup", top, kho.tmp / "sub/1.qcow2", "qcow2")
    for number in (1, 2):
        (kho.tmp / f"sub/{number}.qcow2").unlink()
    assert qemu_json("info", top)["backing-filename"] == str(kho.tmp / "sub/0.raw")
    qemu_img("compare", "-f", "raw", "-F", "qcow2", kho.tmp / "before.raw", top)
    assert_clean(top)


def test_cost(kho, io):
    """The smaller share is told as such, and what is there already needs no space."""
    base, over = kho.tmp / "base.qcow2", kho.tmp / "over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "64M")
    qemu_io(base, ["write -P 1 0 8M"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", over)
    qemu_io(over, ["write -P 2 7M 3M", "write -z 20M 10M"])
    up, up_space, down, down_space = map(int, io("mergecost", over, base, "qcow2").split())
    assert (up, down) == (7 << 20, 3 << 20)
    assert up <= up_space < up + (2 << 20) and (2 << 20) <= down_space < (3 << 20) + (1 << 20)


def test_refused(kho, io):
    """Images that do not lie on each other, a stated format that is another, a base that is in use."""
    for name in ("a.qcow2", "b.qcow2"):
        qemu_img("create", "-q", "-f", "qcow2", kho.tmp / name, "1M")
    over = kho.tmp / "over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", over)
    before = {path.name: sha256_of(path) for path in kho.tmp.glob("*.qcow2")}
    for verb in ("mergeup", "mergedown"):
        qemu_img("create", "-q", "-f", "qcow2", "-b", "over.qcow2", "-F", "qcow2", kho.tmp / "c.qcow2")
        said = io.try_(verb, over, kho.tmp / "c.qcow2", "qcow2")
        (kho.tmp / "c.qcow2").unlink()
        assert said.startswith("invalid ") and "does not lie on" in said, said
        assert io.try_(verb, over, kho.tmp / "none.qcow2", "qcow2").startswith("not-found ")
        with open(kho.tmp / "a.qcow2", "r+b") as held:
            lock_as_writer(held)
            said = io.try_(verb, over, kho.tmp / "a.qcow2", "qcow2")
            assert said.startswith("busy ") and "a.qcow2" in said and str(os.getpid()) in said, said
    assert io.try_("mergeup", over, kho.tmp / "a.qcow2", "raw").startswith("invalid ")
    assert {path.name: sha256_of(path) for path in kho.tmp.glob("*.qcow2")} == before


@pytest.mark.parametrize("verb", ["mergeup", "mergedown"])
def test_full_disk(kho, io, small_fs, verb):
    """Too little space is said before anything is written, with the figure; whatever happens, all reads as before."""
    fs = small_fs("ext4", 32)
    base, over = fs.path / "base.qcow2", fs.path / "over.qcow2"
    refused = 0
    for level in range(7):
        fs.fill(30 << 20)
        qemu_img("create", "-q", "-f", "qcow2", base, "16M")
        qemu_io(base, ["write -P 1 0 5M"])
        qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", over)
        qemu_io(over, ["write -P 2 4M 5M"])
        qemu_img("convert", "-O", "raw", over, kho.tmp / "before.raw")
        hashes = sha256_of(base), sha256_of(over)
        fs.fill(level * (6 << 20) // 6)
        said = io.try_(verb, over, base, "qcow2")
        if said:
            assert said.startswith("no-space ") and "MiB" in said and "free" in said, said
            assert (sha256_of(base), sha256_of(over)) == hashes
        refused += said is not None
        qemu_img("compare", "-f", "raw", "-F", "qcow2", kho.tmp / "before.raw", over)
        for path in (over, base):
            assert_clean(path)
            path.unlink()
    assert 0 < refused < 7


@pytest.mark.parametrize("verb", ["mergeup", "mergedown"])
def test_killed(kho, verb):
    """kill -9 at growing distances: all reads as before, and the next merge goes on."""
    base, over = kho.tmp / "base.qcow2", kho.tmp / "over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", base, "160M")
    qemu_io(base, [f"write -P {number + 1} {number * 16}M 12M" for number in range(10)])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "-o", "cluster_size=4k", over)
    qemu_io(over, [f"write -P {number + 100} {number * 16 + 8}M 6M" for number in range(10)])
    qemu_img("convert", "-O", "raw", over, kho.tmp / "before.raw")
    killed = 0
    for at_mib in (1, 25):
        victim = KhoIo(kho)
        start = moved_bytes(victim.child.pid)
        victim.child.stdin.write(f"{verb} {over} {base} qcow2\n")
        victim.child.stdin.flush()
        harness.wait_for(f"{at_mib} MiB", lambda: moved_bytes(victim.child.pid) - start >= at_mib << 20, every_s=0.0005)
        victim.child.kill()
        killed += victim.child.communicate(timeout=harness.HANG_GUARD_S)[0] == ""
        kho.children.remove(victim.child)
        qemu_img("compare", "-f", "raw", "-F", "qcow2", kho.tmp / "before.raw", over)
        for path in (base, over):
            found = qemu_json("check", "-f", "qcow2", path, status=None)
            assert not found.get("corruptions") and not found["check-errors"], found
    assert killed > 0
    last = KhoIo(kho)
    last(verb, over, base, "qcow2")
    last.end()
    qemu_img("compare", "-f", "raw", "-F", "qcow2", kho.tmp / "before.raw", over if verb == "mergeup" else base)


def lock_as_writer(file):
    """QEMU's locks of a writer, as open-file-description locks."""
    import fcntl
    import struct
    for byte in (100, 101, 103, 201, 203):
        fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))  # F_OFD_SETLK
