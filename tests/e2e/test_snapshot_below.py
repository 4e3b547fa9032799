"""What lies under a closed file, or under a disk of saved memory, belongs to it: kho does not write it, and tells when others have."""

import re

import harness
import layers
import machine
import pytest

INVALID, BUSY = 5, 8


@pytest.fixture
def m(kho):
    """Its disk vda is a linked clone of base.qcow2, which keeps its data in base.raw; vdb lies on nothing."""
    found = layers.Machine(kho)
    base = found.folder / "base.qcow2"
    machine.make_image(base, "-o", f"data_file={found.folder}/base.raw,data_file_raw=on", size=f"{layers.DISK_MIB}M")
    layers.qemu_io(base, "qcow2", "write -P 7 0 1M")
    harness.run(["qemu-img", "rebase", "-u", "-b", base, "-F", "qcow2", found.folder / "vda.qcow2"])
    found.write("vda", 1, 0, 64)
    return found


@pytest.fixture
def plain(kho):
    """One that can start: its base.qcow2 is a file by itself."""
    found = layers.Machine(kho)
    base = machine.make_image(found.folder / "base.qcow2", size=f"{layers.DISK_MIB}M")
    harness.run(["qemu-img", "rebase", "-u", "-b", base, "-F", "qcow2", found.folder / "vda.qcow2"])
    return found


def change(path, format="qcow2"):
    layers.qemu_io(path, format, "write -P 9 2M 64k")
    layers.seen.clear()


def needs(path, name="s1"):
    return [f"snapshot '{name}' of machine 'm' needs {path}", f"kho snapshot-delete m {name}"]


# --- writers ----------------------------------------------------------------------------------------------------------------

def test_it_is_not_written(kho, m):
    base, data = m.folder / "base.qcow2", m.folder / "base.raw"
    other = layers.overlay(kho.base / "other/other.qcow2", base)
    machine.define(kho, "template", machine.disk(base))
    kho("pool-define-as", "p1", "dir", "--target", m.folder)
    kho("pool-start", "p1")
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 1024, 64)
    before = m.state()
    for path, verb in [(base, ("img", "commit", other)), (base, ("img", "resize", base, "8M")),
                       (data, ("img", "resize", data, "8M")), (base, ("vol-resize", base.name, "8M", "--pool", "p1")),
                       (base, ("start", "template"))]:
        kho.refuses(*verb, status=BUSY, says=needs(path))
    assert m.state() == before
    # the machine's own merges go on, and with the last snapshot the guard goes
    kho("snapshot-create-as", "m", "s2")
    kho("snapshot-delete", "m", "s1")
    kho.refuses("img", "commit", other, status=BUSY, says=needs(base, "s2"))
    kho("snapshot-revert", "m", "s2")
    kho("snapshot-delete", "m", "s2")
    assert m.state()["now"] == before["now"]
    kho("img", "commit", other)


def test_it_is_not_written_while_the_snapshot_is_taken(kho, plain):
    base = plain.folder / "base.qcow2"
    child = layers.stop_at(kho, "snapshot-create:publish-snapshot:before", "snapshot-create-as", "m", "s1")
    kho.refuses("img", "resize", base, "8M", status=BUSY, says=["snapshot 's1' of machine 'm', which is being taken", str(base)])
    layers.kill(child)
    kho("recover", "m")
    kho.refuses("img", "resize", base, "8M", status=BUSY, says=needs(base))


def test_a_machine_without_snapshots_keeps_nothing(kho, plain):
    kho("img", "commit", plain.folder / "vda.qcow2")
    kho("img", "resize", plain.folder / "base.qcow2", "8M")


# --- what others changed ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, format", [("base.qcow2", "qcow2"), ("base.raw", "raw")])
def test_a_change_is_told(kho, m, name, format):
    path = m.folder / name
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 1024, 64)
    then = m.state()["snapshots"]["s1"]["disks"]
    # through the image its data file alone is written; an image that is resized is another itself
    if format == "raw":
        change(path, format)
    else:
        harness.run(["qemu-img", "resize", "-q", path, "8M"])
    for verb in ("snapshot-revert", "snapshot-delete"):
        ran = kho.refuses(verb, "m", "s1", status=INVALID,
                          says=["disk vda", f"{path}, which the disk lies on, has been changed", f"kho {verb} --force m s1"])
        assert ran.err.count("\n") == 1
    said = kho("snapshot-create-as", "m", "s2").err
    assert f"warning: {path} has been changed since snapshot 's1' of machine 'm', which needs it, was taken" in said
    # what is taken afterwards fits
    kho("snapshot-revert", "m", "s2")
    kho.refuses("snapshot-revert", "m", "s1", status=INVALID, says=str(path))
    kho("snapshot-revert", "--force", "m", "s1")
    layers.seen.clear()
    assert (m.now() == then) == (format == "qcow2")


def test_a_delete_by_force(kho, plain):
    kho("snapshot-create-as", "m", "s1")
    plain.write("vda", 2, 1024, 64)
    change(plain.folder / "base.qcow2")
    now = plain.now()
    kho.refuses("snapshot-delete", "m", "s1", status=INVALID, says="base.qcow2")
    kho("snapshot-delete", "--force", "m", "s1")
    assert plain.now() == now and plain.snapshots() == []
    plain.check()


def test_it_stays_noted_when_layers_above_are_merged(kho, plain):
    for name in ("s1", "s2", "s3"):
        kho("snapshot-create-as", "m", name)
        plain.write("vda", 2, 1024, 64)
    for name in ("s2", "s1"):
        assert kho("snapshot-delete", "m", name).err == ""
    assert kho("snapshot-revert", "m", "s3").err == ""
    plain.check()
    change(plain.folder / "base.qcow2")
    kho.refuses("snapshot-revert", "m", "s3", status=INVALID, says="base.qcow2")


def test_of_an_older_record_nothing_is_known(kho, plain):
    base, metadata = plain.folder / "base.qcow2", kho.root / "lib/qemu/snapshot/m/s1.xml"
    kho("snapshot-create-as", "m", "s1")
    text = metadata.read_text()
    older = re.sub(r"\s*<kho:below [^>]*/>", "", text)
    assert older != text
    metadata.write_text(older)
    change(base)
    kho("img", "resize", base, "8M")
    assert kho("snapshot-revert", "m", "s1").err == ""
    assert kho("snapshot-delete", "m", "s1").err == ""


# --- saved memory -----------------------------------------------------------------------------------------------------------

def test_a_managed_save(kho, plain):
    base = plain.folder / "base.qcow2"
    other = layers.overlay(kho.base / "other/other.qcow2", base)
    kho("start", "m")
    kho("managedsave", "m")
    for verb in [("img", "resize", base, "8M"), ("img", "commit", other)]:
        kho.refuses(*verb, status=BUSY, says=[f"{base} is under disk vda of machine 'm'", "managedsave-remove m", "--force"])
    kho("start", "m")
    kho("managedsave", "m")
    kho("img", "commit", "--force", other)
    kho.refuses("start", "m", status=INVALID, says=["disk 'vda'", f"{base}, which", "has been written since", "--force-boot m"])
    kho("start", "--force-boot", "m")
    kho("destroy", "m")


def test_a_save_file(kho, plain):
    base = plain.folder / "base.qcow2"
    kho("start", "m")
    kho("save", "m", "m.save")
    change(base)
    kho.refuses("restore", "m.save", status=INVALID, says=["disk 'vda'", f"{base}, which", "has been written since", "--force"])
    kho("restore", "--force", "m.save")
    kho("destroy", "m")
