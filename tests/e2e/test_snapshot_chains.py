"""Who needs a file is told from whole chains: what lies on it through files that nobody names stays as it is, too. Contents are
read by qemu-img."""

import os

import harness
import layers
import machine
import pytest

UNSUPPORTED, BUSY = 6, 8


def overlay(path, backing):
    """An overlay that only its own header tells of, with something of its own."""
    path.parent.mkdir(exist_ok=True)
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", path])
    layers.qemu_io(path, "qcow2", "write -P 99 3M 64k")
    return path


def reads(path):
    """What the guest would read, whatever the names and times: asked anew."""
    layers.seen.clear()
    return layers.content(path, "qcow2")


@pytest.fixture
def m(kho):
    """s2 closed vda.1.qcow2, which both machines' chains go through; more or less than the file that follows it holds."""
    found = layers.Machine(kho, formats=("qcow2",))
    found.write("vda", 1, 0, 1024)
    kho("snapshot-create-as", "m", "s1")
    found.write("vda", 2, 0, 1024)
    kho("snapshot-create-as", "m", "s2")
    return found


WAYS = {"down": 64, "up": 2048}  # KiB of the file that follows: the way that moves less is taken


def by_image(kho, m, file):
    """The machine b reads @file through a file in a third folder."""
    top = overlay(kho.base / "two/b2.qcow2", overlay(kho.base / "one/b1.qcow2", file))
    machine.define(kho, "b", machine.disk(top))
    return top


def by_metadata(kho, m, file):
    """The same by kho alone: a snapshot of b is forgotten, and the file that it closed is still there."""
    machine.define(kho, "b", machine.disk(overlay(kho.base / "one/b1.qcow2", file)))
    kho("snapshot-create-as", "b", "t")
    kho("snapshot-delete", "--metadata", "b", "t")
    return kho.json("domblklist", "b")[0]["source"]


@pytest.mark.parametrize("through, way, runs", [(by_image, "up", False), (by_metadata, "down", False), (by_image, "down", True)])
def test_another_machine_reads_through_a_file_that_nobody_names(kho, m, through, way, runs):
    m.write("vda", 3, 1024, WAYS[way])
    top = through(kho, m, m.folder / "vda.1.qcow2")
    before, state = reads(top), m.state()
    if runs:
        kho("start", "m")
    kho.refuses("snapshot-delete", "m", "s2", status=UNSUPPORTED, says=["s2", "b1.qcow2 under disk vda of machine 'b'"])
    kho("snapshot-delete", "m", "s1")  # that one is under it: only its own machine's files name it
    assert reads(top) == before
    if runs:
        kho("destroy", "m")
    assert m.state()["now"] == state["now"]
    kho("start", "b")
    kho("destroy", "b")


def test_a_revert_leaves_what_is_read_through_a_file_that_nobody_names(kho, m):
    m.write("vda", 3, 0, 64)
    top = by_image(kho, m, m.folder / "vda.2.qcow2")
    before = reads(top)
    kho("snapshot-revert", "m", "s2")
    assert reads(top) == before
    kho("snapshot-revert", "m", "s1")
    assert not (m.folder / "vda.3.qcow2").exists()  # nobody needs that one
    kho("undefine", "b")
    os.unlink(top)
    os.unlink(kho.base / "one/b1.qcow2")


def test_a_layer_whose_snapshot_was_forgotten_takes_part(kho, m):
    """It is in the machine's own chain, and in no other: what is under it may go into it."""
    m.write("vda", 3, 0, 64)
    kho("snapshot-delete", "--metadata", "m", "s2")
    now = m.state()["now"]
    kho("snapshot-delete", "m", "s1")
    assert m.state()["now"] == now and m.snapshots() == []
    m.check()


def test_a_chain_that_loops_ends(kho, m):
    """One that cannot be opened is in nobody's way, as long as it is a chain of others."""
    one, two = kho.base / "one.qcow2", kho.base / "two.qcow2"
    overlay(one, m.folder / "vda.qcow2")
    overlay(two, one)
    harness.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", two, "-F", "qcow2", one])
    machine.define(kho, "b", machine.disk(two))
    kho("snapshot-delete", "m", "s2")
    kho("snapshot-delete", "m", "s1")
    m.check()
