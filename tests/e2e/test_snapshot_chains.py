"""Who needs a file is told from whole chains: what lies on it through files that nobody names stays as it is, too. Contents are
read by qemu-img."""

import fcntl
import os
import struct

import harness
import layers
import machine
import pytest

UNSUPPORTED, BUSY = 6, 8


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
    top = layers.overlay(kho.base / "two/b2.qcow2", layers.overlay(kho.base / "one/b1.qcow2", file))
    machine.define(kho, "b", machine.disk(top))
    return top


def by_metadata(kho, m, file):
    """The same by kho alone: a snapshot of b is forgotten, and the file that it closed is still there."""
    machine.define(kho, "b", machine.disk(layers.overlay(kho.base / "one/b1.qcow2", file)))
    kho("snapshot-create-as", "b", "t")
    kho("snapshot-delete", "--metadata", "b", "t")
    return kho.json("domblklist", "b")[0]["source"]


@pytest.mark.parametrize("through, way, runs", [(by_image, "up", False), (by_metadata, "down", False), (by_image, "down", True)])
def test_another_machine_reads_through_a_file_that_nobody_names(kho, m, through, way, runs):
    m.write("vda", 3, 1024, WAYS[way])
    top = through(kho, m, m.folder / "vda.1.qcow2")
    before, state = layers.reads(top), m.state()
    if runs:
        kho("start", "m")
    kho.refuses("snapshot-delete", "m", "s2", status=UNSUPPORTED, says=["s2", "b1.qcow2 under disk vda of machine 'b'"])
    kho("snapshot-delete", "m", "s1")  # that one is under it: only its own machine's files name it
    assert layers.reads(top) == before
    if runs:
        kho("destroy", "m")
    assert m.state()["now"] == state["now"]
    kho("start", "b")
    kho("destroy", "b")


def test_a_revert_leaves_what_is_read_through_a_file_that_nobody_names(kho, m):
    m.write("vda", 3, 0, 64)
    top = by_image(kho, m, m.folder / "vda.2.qcow2")
    before = layers.reads(top)
    kho("snapshot-revert", "m", "s2")
    assert layers.reads(top) == before
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
    layers.overlay(one, m.folder / "vda.qcow2")
    layers.overlay(two, one)
    harness.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", two, "-F", "qcow2", one])
    machine.define(kho, "b", machine.disk(two))
    kho("snapshot-delete", "m", "s2")
    kho("snapshot-delete", "m", "s1")
    m.check()


# --- while a delete is at work --------------------------------------------------------------------------------------------

def deleting(m):
    return [f"snapshot 's2' of machine '{m.name}'", f"kho snapshot-delete {m.name} s2"]


@pytest.fixture
def stopped(kho, m):
    """A delete downwards into vda.1.qcow2, just before its first write."""
    m.write("vda", 3, 1024, 64)
    kho("pool-define-as", "p", "dir", "--target", m.folder)
    kho("pool-start", "p")
    child = layers.stop_at(kho, "snapshot-delete:merge:before", "snapshot-delete", "m", "s2")
    assert child and m.snapshots()[1]["deleting"]
    yield child
    if child.poll() is None:
        layers.kill(child)


def end(child):
    child.send_signal(18)
    out, err = child.communicate(timeout=60)
    return child.returncode, err.decode()


def test_nothing_is_built_on_what_a_delete_changes(kho, m, stopped):
    now = layers.reads(m.folder / "vda.2.qcow2")
    file = m.folder / "vda.1.qcow2"
    clone = layers.overlay(kho.tmp / "clone.qcow2", file)
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", kho.tmp / "source.qcow2", "4M"])
    files = sorted(m.folder.iterdir()), sorted(kho.tmp.iterdir())
    for below in (file, m.folder / "vda.2.qcow2"):  # that one goes
        for verb in [("img", "create", "-f", "qcow2", "-b", below, "-F", "qcow2", kho.tmp / "new.qcow2"),
                     ("img", "create", "-f", "qcow2", "-o", f"backing_file={below},backing_fmt=qcow2", kho.tmp / "new.qcow2"),
                     ("img", "convert", "-f", "qcow2", "-O", "qcow2", "-B", below, "-F", "qcow2",
                      kho.tmp / "source.qcow2", kho.tmp / "new.qcow2"),
                     ("img", "convert", "-f", "qcow2", "-O", "raw", below, kho.tmp / "new.raw"),
                     ("vol-create-as", "p", "new.qcow2", "4M", "--format", "qcow2", "--backing-vol", below.name,
                      "--backing-vol-format", "qcow2"),
                     ("vol-clone", below.name, "new.qcow2", "--pool", "p")]:
            kho.refuses(*verb, status=BUSY, says=[below.name, *deleting(m)])
    for more in ("", "<readonly/>"):
        kho.refuses("define", "-", input=machine.xml("b", machine.disk(file, more=more)), status=BUSY, says=deleting(m))
        kho.refuses("define", "-", input=machine.xml("b", machine.disk(clone, more=more)), status=BUSY, says=deleting(m))
    kho("define", "-", input=machine.xml("b"))
    kho.refuses("attach-disk", "b", clone, "vda", "--subdriver", "qcow2", "--config", status=BUSY, says=deleting(m))
    assert (sorted(m.folder.iterdir()), sorted(kho.tmp.iterdir())) == files
    clone.unlink()
    assert end(stopped) == (0, "")
    assert layers.reads(m.folder / "vda.1.qcow2") == now
    m.check()


def test_a_clone_by_others_is_seen_before_the_first_write(kho, m):
    m.write("vda", 3, 1024, 64)
    child = layers.stop_at(kho, "snapshot-delete:look-again:before", "snapshot-delete", "m", "s2")
    state = m.state()
    clone = layers.overlay(m.folder / "clone.qcow2", m.folder / "vda.1.qcow2")
    before = layers.reads(clone)
    status, err = end(child)
    assert status == BUSY and "clone.qcow2 has come to need" in err and "vda.1.qcow2" in err, err
    assert layers.reads(clone) == before and m.state() == layers.without_mark(state, "s2")
    kho.refuses("snapshot-delete", "m", "s2", status=UNSUPPORTED, says="clone.qcow2")
    clone.unlink()
    kho("snapshot-delete", "m", "s2")
    m.check()


@pytest.mark.parametrize("how", ["img-create", "vol-create-as"])
def test_an_image_whose_backing_file_goes_meanwhile_is_not_kept(kho, m, how):
    """Whoever removes a file holds the lock from the look who needs it: an image that was made since asks under that lock."""
    kho("pool-define-as", "p", "dir", "--target", m.folder)
    kho("pool-start", "p")
    base, new = m.folder / "base.qcow2", m.folder / "new.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "4M"])
    verb = {"img-create": ["img-create", "-f", "qcow2", "-b", base.name, "-F", "qcow2", new],
            "vol-create-as": ["vol-create-as", "p", new.name, "4M", "--format", "qcow2", "--backing-vol", base.name,
                              "--backing-vol-format", "qcow2"]}[how]
    fd = os.open(kho.root / "run/lock/name/image-deleting", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))  # F_OFD_SETLK
    child = kho.spawn(*verb)
    harness.wait_for("the image", new.exists)
    base.unlink()
    os.close(fd)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 3 and b"base.qcow2 was removed while" in err, err
    assert not new.exists() and out == b""


@pytest.fixture
def half(kho, m):
    """A snapshot whose delete downwards was interrupted after its first write; and b, which was built on its file by others."""
    m.write("vda", 3, 1024, 64)
    metadata = kho.root / "lib/qemu/snapshot/m/s2.xml"
    machine.define(kho, "b", machine.disk(layers.overlay(kho.base / "one/b1.qcow2", m.folder / "vda.1.qcow2")))
    machine.define(kho, "c", machine.disk(layers.overlay(kho.base / "one/c1.qcow2", m.folder / "vda.2.qcow2")))
    metadata.write_text(metadata.read_text().replace("<kho:snapshot ", "<kho:snapshot deleting='yes' ", 1))
    return m


def test_a_half_deleted_file_is_read_by_its_machine_alone(kho, half):
    before = half.state()
    for verb in [("start", "b"), ("backup", "b", "--to", kho.base / "store"), ("start", "c")]:
        kho.refuses(*verb, status=BUSY, says=deleting(half))
    kho.refuses("img", "resize", half.folder / "vda.1.qcow2", "8M", status=BUSY, says=deleting(half))
    assert half.state() == before
    kho("start", "m")
    kho("destroy", "m")
    # what comes to it through a newer layer of its machine reads as ever
    kho("snapshot-create-as", "m", "s3")
    machine.define(kho, "d", machine.disk(layers.overlay(kho.base / "one/d1.qcow2", half.folder / "vda.3.qcow2")))
    kho("start", "d")
    kho("destroy", "d")
