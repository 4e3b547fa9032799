"""Disks that the machine does not have any more, or has under another name, when their snapshot is deleted or gone back to.
Contents are read by qemu-img."""

import functools
import os

import harness
import layers
import machine
import pytest


@pytest.fixture
def m(kho):
    """s1 closed both disks; vdb has gone on in vdb.2.qcow2, with something of its own."""
    found = layers.Machine(kho, formats=("qcow2", "qcow2"))
    found.write("vda", 1, 0, 1024)
    found.write("vdb", 7, 0, 1024)
    kho("snapshot-create-as", "m", "s1")
    found.write("vda", 2, 0, 64)
    found.write("vdb", 9, 0, 64)
    return found


def contents(folder):
    layers.seen.clear()
    return {path.name: layers.content(path, "qcow2") for path in folder.iterdir()}


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_disk_that_was_taken_out_keeps_its_files(kho, m, runs, elsewhere):
    now = m.now()
    if elsewhere:  # nothing but the list of what kho made leads to the overlay
        kho("snapshot-create-as", "m", "s2", "--diskspec", f"vdb,file={kho.tmp}/vdb.top.qcow2")
    kho("detach-disk", "m", "vdb", "--config")
    if runs:
        kho("start", "m")
    layers.seen.clear()
    before = contents(m.folder)
    if elsewhere:
        over = layers.content(kho.tmp / "vdb.top.qcow2", "qcow2")
        ran = kho("snapshot-delete", "m", "s2")
        assert "vdb.top.qcow2" in ran.out and layers.content(kho.tmp / "vdb.top.qcow2", "qcow2") == over
    ran = kho("snapshot-delete", "m", "s1")
    assert [f"{m.folder}/vdb.qcow2, which snapshot 's1' needed as disk vdb, stays as it is" in line for line in
            ran.out.splitlines()].count(True) == 1 and "vdb.2.qcow2" in ran.out, ran.out
    assert m.snapshots() == [] and m.now() == {"vda": now["vda"]}
    after = contents(m.folder)
    assert {name: after[name] for name in ("vdb.qcow2", "vdb.2.qcow2")} == {name: before[name] for name in ("vdb.qcow2", "vdb.2.qcow2")}
    assert len([name for name in after if name.startswith("vda")]) == 1
    if runs:
        kho("destroy", "m")
    (kho.tmp / "vdb.top.qcow2").unlink(missing_ok=True)


def test_going_back_gives_the_disk_back_and_the_delete_goes_on(kho, m):
    then = m.snapshots()[0]
    kho("detach-disk", "m", "vdb", "--config")
    kho("snapshot-revert", "m", "s1")
    m.write("vdb", 11, 0, 64)
    now, stray = m.now(), layers.content(m.folder / "vdb.2.qcow2", "qcow2")
    ran = kho("snapshot-delete", "m", "s1")
    assert f"{m.folder}/vdb.2.qcow2 lies on it" in ran.out, ran.out
    assert then and m.snapshots() == [] and m.now() == now
    assert layers.content(m.folder / "vdb.2.qcow2", "qcow2") == stray  # named by nobody, but whole
    assert layers.backing(m.disks()["vdb"][0]) is None


@pytest.mark.parametrize("again", [False, True])
def test_a_disk_that_names_its_overlay_by_a_link(kho, again):
    m = layers.Machine(kho, formats=("qcow2",))
    m.write("vda", 1, 0, 1024)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 64)
    now, link = m.now(), m.folder / "link.qcow2"
    os.symlink("vda.1.qcow2", link)
    kho("define", "-", input=kho("dumpxml", "m").out.replace(f"{m.folder}/vda.1.qcow2", str(link)))
    kho("snapshot-create-as", "m", "s2")
    assert layers.closed(m, "s2") == {"vda": (f"{m.folder}/vda.1.qcow2", "qcow2")}
    kho("snapshot-delete", "m", "s2")
    assert m.now() == now
    if again:
        kho("define", "-", input=kho("dumpxml", "m").out.replace(m.disks()["vda"][0], str(link)))
    kho("snapshot-delete", "m", "s1")
    assert m.now() == now and m.disks() == {"vda": (f"{m.folder}/vda.qcow2", "qcow2")}
    link.unlink()
    m.check()


def test_a_revert_drops_an_overlay_that_was_named_by_a_link(kho):
    m = layers.Machine(kho, formats=("qcow2",))
    kho("snapshot-create-as", "m", "s1")
    link = kho.tmp / "link.qcow2"
    os.symlink(m.folder / "vda.1.qcow2", link)
    kho("define", "-", input=kho("dumpxml", "m").out.replace(f"{m.folder}/vda.1.qcow2", str(link)))
    kho("snapshot-revert", "m", "s1")
    m.check()  # no orphan
    link.unlink()


def test_a_definition_that_names_the_file_of_the_running_machine_by_a_link(kho):
    """The snapshot moves both on: nothing starts in the closed file."""
    m = layers.Machine(kho, formats=("qcow2",))
    link = kho.tmp / "link.qcow2"
    os.symlink(m.folder / "vda.qcow2", link)
    text = kho("dumpxml", "m").out
    kho("start", "m")
    kho("define", "-", input=text.replace(f"{m.folder}/vda.qcow2", str(link)))
    kho("snapshot-create-as", "m", "s1", "--disk-only")
    m.check()
    kho("destroy", "m")
    kho("start", "m")
    kho("destroy", "m")
    link.unlink()


def test_a_path_with_a_line_break_is_refused(kho):
    """The list of what kho made has a path a line."""
    folder = kho.base / "di\nsks"
    folder.mkdir()
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / "a.qcow2", "4M"])
    machine.define(kho, "m", machine.disk(str(folder / "a.qcow2").replace("\n", "&#10;")))
    kho.refuses("snapshot-create-as", "m", "s1", status=6, says=["line break", "a.1.qcow2"])
    assert kho.json("snapshot-list", "m") == [] and os.listdir(folder) == ["a.qcow2"]
    # what lies elsewhere has a path like any other
    kho("snapshot-create-as", "m", "s1", "--diskspec", f"vda,file={kho.base}/b.qcow2")
    kho("snapshot-delete", "m", "s1")
    assert kho.json("domblklist", "m")[0]["source"] == f"{folder}/a.qcow2"


def test_going_back_makes_no_layer_that_nobody_names(kho):
    """A disk that was plugged into the machine as it ran is not in its definition."""
    m = layers.Machine(kho, formats=("qcow2",), define=functools.partial(machine.define, more="<features><acpi/></features>"))
    two = m.folder / "two.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", two, "4M"])
    kho("start", "m")
    kho("attach-disk", "m", two, "vdb", "--subdriver", "qcow2", "--live")
    kho("snapshot-create-as", "m", "s1", "--disk-only")
    kho("snapshot-revert", "m", "s1")
    assert list(m.disks()) == ["vda"] and layers.closed(m, "s1")["vdb"] == (str(two), "qcow2")
    m.check()
