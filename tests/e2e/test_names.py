"""Blanks and odd characters at the ends of names: a file's name is kept to the last of them, a name of ours has none there."""

import pytest

import layers
import machine


def test_memory_goes_where_it_was_said(kho):
    """A delete removes the file that was made, and not the one whose name lacks the blank."""
    m = layers.Machine(kho, formats=("qcow2",))
    precious = m.folder / "precious"
    precious.write_text("data")
    kho("start", "m")
    kho("snapshot-create-as", "m", "s", "--memspec", f"file={precious} ")
    assert (m.folder / "precious ").exists() and m.snapshots()[0]["memory-file"] == f"{precious} "
    kho("snapshot-delete", "m", "s")
    assert precious.read_text() == "data" and not (m.folder / "precious ").exists()
    kho("destroy", "m")


@pytest.mark.parametrize("end", [" ", "\t", " \u00a0"])
def test_a_disk_is_the_file_that_was_said(kho, end):
    m = layers.Machine(kho, formats=("qcow2",))
    first = m.folder / "vda.qcow2"
    kho("snapshot-create-as", "m", "s", "--diskspec", f"vda,file={first}{end}")
    assert kho.json("domblklist", "m")[0]["source"] == f"{first}{end}"
    assert m.snapshots()[0]["disks"][0]["file"] == str(first)
    m.write("vda", 1, 0, 64)
    before = m.now()
    kho("snapshot-delete", "m", "s")
    assert m.now() == before
    m.check()
    one, other = machine.make_image(m.folder / "b.qcow2"), machine.make_image(f"{m.folder}/b.qcow2{end}")
    kho("attach-disk", "m", other, "vdb", "--subdriver", "qcow2", "--config")
    assert kho.json("domblklist", "m")[1]["source"] == other
    kho("attach-disk", "m", one, "vdc", "--subdriver", "qcow2", "--config")
    kho("detach-disk", "m", other, "--config")
    assert [row["source"] for row in kho.json("domblklist", "m")][1:] == [str(one)]


def test_names_of_files_that_xml_cannot_hold_are_refused(kho):
    m = layers.Machine(kho, formats=("qcow2",))
    odd = machine.make_image(f"{m.folder}/b\x01.qcow2")
    before = machine.kept(kho)
    kho.refuses("attach-disk", "m", odd, "vdb", "--subdriver", "qcow2", "--config", status=5, says="no definition can hold")
    kho.refuses("snapshot-create-as", "m", "s", "--diskspec", f"vda,file={odd}x", status=5, says="XML")
    assert machine.kept(kho) == before


def test_names_of_ours_have_no_blank_at_an_end(kho):
    m = layers.Machine(kho, formats=("qcow2",))
    kho("snapshot-create-as", "m", "s1")
    store = kho.tmp / "store"
    store.mkdir()
    kho("backup", "m", "--to", store, "--point", "p")
    before = machine.kept(kho)
    for name in ("s1 ", " s1", "s1\u00a0"):
        kho.refuses("snapshot-create-as", "m", name, status=5, says="blank at one end")
        kho.refuses("restore-backup", store, "m", "--name", name, status=5, says="blank at one end")
        kho.refuses("backup", "m", "--to", store, "--point", name, status=5, says="blank at one end")
        kho.refuses("pool-define-as", name, "dir", "--target", kho.tmp / "pool", status=5, says="blank at one end")
        kho.refuses("define", "-", input=machine.xml(name), status=5, says="blank at one end")
    assert machine.kept(kho) == before and [s["name"] for s in m.snapshots()] == ["s1"]
    m.check()


def test_a_name_that_would_be_too_long_is_told_with_the_cure(kho):
    """Refused before anything is made, and not by what a file system says of a name that nobody gave."""
    folder = kho.base / "disks"
    folder.mkdir()
    disk = folder / ("n" * 239 + ".qcow2")
    machine.make_image(disk)
    machine.define(kho, "m", machine.disk(disk))
    before = machine.kept(kho)
    kho.refuses("snapshot-create-as", "m", "s", status=5, says=["disk vda", "too long", "--diskspec vda,file=PATH"])
    kho.refuses("img", "create", folder / ("x" * 247), "1M", status=5, says=["too long", "246"])
    assert machine.kept(kho) == before and list(folder.iterdir()) == [disk]
    kho("snapshot-create-as", "m", "s", "--diskspec", f"vda,file={folder}/{'x' * 246}")
    kho("snapshot-delete", "m", "s")
