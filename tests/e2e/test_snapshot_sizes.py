"""Snapshots of disks whose size changed between them, deleted while the machine runs; contents by qemu-img."""

import itertools

import harness
import layers
import machine
import pytest

UNSUPPORTED, BUSY = 6, 8
SMALL, LARGE = 2 << 20, 4 << 20
ODD = SMALL + 512  # ends within a cluster


def resize(path, size):
    harness.run(["qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", path, str(size)])


def layer(m, target, n, size, heavy):
    """What the newest layer holds, and how long it is."""
    path, _ = m.disks()[target]
    resize(path, size)
    blocks = range(n * 64, size >> 10, 512)
    layers.qemu_io(path, "qcow2", *[f"write -P {n + 1} {at}k {448 if heavy else 4}k" for at in blocks if at + 448 <= size >> 10])


def chain(kho, name, sizes, heavy):
    """A machine with a disk for each of @sizes (those of its layers, the lowest first), and a snapshot over each layer but
    the last; @heavy: the layer that holds most."""
    m = layers.Machine(kho, name, kho.base / name, formats=("qcow2",) * len(sizes))
    for n in range(len(sizes[0])):
        for target, row in zip(m.targets, sizes):
            layer(m, target, n, row[n], n in (0, heavy))
        if n + 1 < len(sizes[0]):
            kho("snapshot-create-as", name, f"s{n}")
    return m


def lengths(m):
    return {target: harness.json.loads(harness.run(["qemu-img", "info", "-U", "--output=json", path]).out)["virtual-size"]
            for target, (path, _) in m.disks().items()}


def test_what_is_read_stays_whatever_the_sizes(kho, soak):
    """Rule: a delete under a guest changes nothing that the machine and the other snapshots read, whichever layers are
    shorter and whichever way moves less: in the middle of a chain (s1), then of the file that the guest writes (s2)."""
    every = list(itertools.product((SMALL, LARGE), repeat=4)) + [(LARGE, ODD, LARGE, LARGE), (LARGE, LARGE, ODD, LARGE),
                                                                (SMALL, ODD, LARGE, SMALL), (LARGE, ODD, SMALL, ODD)]
    groups = [every[at:at + 4] for at in range(0, len(every), 4)]
    cases = [(heavy, group) for heavy in (1, 2, 3) for group in groups]
    for n, (heavy, group) in enumerate(cases if soak else [((1, 2, 3)[i % 3], g) for i, g in enumerate(groups)]):
        m = chain(kho, f"m{n}", group, heavy)
        old, long = m.state(), lengths(m)
        kho("start", m.name)
        for name in ["s1", "s2"]:
            ran = kho("snapshot-delete", m.name, name, status=None)
            if ran.status == 0:
                del old["snapshots"][name]
            else:
                assert ran.status == UNSUPPORTED and any(ODD in row for row in group), ran
            state = m.state()
            assert state["now"] == old["now"] and lengths(m) == long, f"{group} {heavy} {name}"
            assert {s: one["disks"] for s, one in state["snapshots"].items()} \
                == {s: one["disks"] for s, one in old["snapshots"].items()}, f"{group} {heavy} {name}"
            m.check()
        kho("destroy", m.name)
        m.check()
        assert m.now() == old["now"]


def test_sizes_that_qemu_cannot_merge(kho):
    """A shorter layer between longer ones, which is not to be written: refused while the machine runs, merged when it is shut
    off."""
    m = chain(kho, "m", [(LARGE, SMALL, LARGE)], 0)
    machine.define(kho, "other", machine.disk(m.folder / "vda.1.qcow2"))
    old = m.state()
    kho("start", "m")
    kho.refuses("snapshot-delete", "m", "s1", status=UNSUPPORTED,
                says=["disk vda", "'s1'", str(SMALL), str(LARGE), "shut the machine down first"])
    assert m.state() == old
    kho("destroy", "m")
    kho("snapshot-delete", "m", "s1")
    assert m.now() == old["now"]
    kho("undefine", "other")


def test_a_paused_guest_whose_layer_is_shorter(kho):
    """Only upwards would keep what is read, for which QEMU wants the guest to run."""
    m = chain(kho, "m", [(LARGE, LARGE, SMALL, LARGE)], 1)
    old = m.state()
    kho("start", "m", "--paused")
    kho.refuses("snapshot-delete", "m", "s1", status=BUSY, says="resume it first")
    assert m.state() == old
    m.check()
    kho("resume", "m")
    kho("snapshot-delete", "m", "s1")
    assert m.now() == old["now"]
    m.check()
    kho("destroy", "m")


@pytest.mark.parametrize("runs", [False, True])
def test_names_with_a_colon(kho, runs):
    m = layers.Machine(kho, formats=("qcow2",))
    path = m.folder / "vm-12:30.qcow2"
    (m.folder / "vda.qcow2").rename(path)
    kho("define", "-", input=kho("dumpxml", "m").out.replace("vda.qcow2", path.name))
    m.write("vda", 1, 0, 256)
    wanted = {}
    if runs:
        kho("start", "m")
    for name in ["s1", "s2", "s3"]:
        kho("snapshot-create-as", "m", name, *["--disk-only"] * runs)
        assert layers.backing(m.disks()["vda"][0]).startswith(f"{m.folder}/./vm-12:30")
        wanted[name] = m.now()
    kho("snapshot-delete", "m", "s2")
    kho("snapshot-delete", "m", "s1")
    if runs:
        kho("destroy", "m")
    assert m.now() == wanted["s3"]
    kho("snapshot-revert", "m", "s3")
    assert m.now() == wanted["s3"]
