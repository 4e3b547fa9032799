"""What a snapshot closed, and what others lie on: a file of a pool keeps what is under it, and nothing but the snapshots' own
merges writes a closed file. Contents are read by qemu-img."""

import os
import struct

import harness
import layers
import machine
import pytest

NOT_FOUND, EXISTS, INVALID, UNSUPPORTED, BUSY = 3, 4, 5, 6, 8


def make_pool(kho, name, folder):
    kho("pool-define-as", name, "dir", "--target", folder)
    kho("pool-start", name, "--build")
    return folder


def clone(kho, backing, name="clone.qcow2"):
    """A volume of another pool than the one that its backing file is in; with something of its own."""
    kho("vol-create-as", "p2", name, f"{layers.DISK_MIB}M", "--format", "qcow2", "--backing-vol", backing,
        "--backing-vol-format", "qcow2")
    path = kho.base / "p2" / name
    layers.qemu_io(path, "qcow2", "write -P 99 2M 64k")
    return path


@pytest.fixture
def m(kho):
    """Its disks are in pool p1; p2 is another one."""
    found = layers.Machine(kho)
    make_pool(kho, "p1", found.folder)
    make_pool(kho, "p2", kho.base / "p2")
    return found


def reads(path):
    """What the guest would read, whatever the names and times: asked anew."""
    layers.seen.clear()
    return layers.content(path, "qcow2")


# --- volumes of other pools -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("active", [True, False])
def test_a_clone_in_another_pool_keeps_what_a_snapshot_closed(kho, m, active):
    m.write("vda", 1, 0, 2048)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 64)  # less than the file holds: downwards is the shorter way
    over = clone(kho, m.folder / "vda.qcow2")
    if not active:
        kho("pool-destroy", "p2")
    before, state = reads(over), m.state()
    kho.refuses("snapshot-delete", "m", "s1", status=UNSUPPORTED, says=["vda", "s1", str(over)])
    assert reads(over) == before and m.state() == state
    m.check()
    if active:
        kho("vol-delete", "clone.qcow2", "--pool", "p2")
        kho("snapshot-delete", "m", "s1")
        assert m.state()["now"] == state["now"]
        m.check()


@pytest.mark.parametrize("fuller", ["file", "overlay"])
def test_a_clone_of_the_overlay_in_another_pool(kho, m, fuller):
    """The file under it goes or stays, whichever way is shorter: the clone reads the same."""
    m.write("vda", 1, 0, 2048 if fuller == "file" else 64)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 128, 64 if fuller == "file" else 2048)
    over = clone(kho, m.folder / "vda.1.qcow2")
    before, now = reads(over), m.state()["now"]
    kho("snapshot-delete", "m", "s1")
    assert reads(over) == before and m.state()["now"] == now
    assert os.path.exists(m.folder / "vda.1.qcow2")


def test_a_revert_leaves_the_overlay_that_a_clone_lies_on(kho, m):
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 64)
    over = clone(kho, m.folder / "vda.1.qcow2")
    before, then = reads(over), m.state()["snapshots"]["s1"]["disks"]
    kho("snapshot-revert", "m", "s1")
    assert reads(over) == before and m.state()["now"] == then
    assert not os.path.exists(m.folder / "vdb.2.qcow2")  # nobody needs that one


def test_what_a_guest_wrote_into_a_raw_volume_lies_on_nothing(kho, m):
    kho("vol-create-as", "p2", "raw.img", "4M", "--format", "raw")
    kho("snapshot-create-as", "m", "s1")
    forged = kho.tmp / "forged.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", m.folder / "vda.qcow2", "-F", "qcow2", forged])
    with open(kho.base / "p2/raw.img", "r+b") as volume:
        volume.write(forged.read_bytes())
    forged.unlink()
    kho("snapshot-delete", "m", "s1")
    m.check()


# --- writers of closed files ----------------------------------------------------------------------------------------------

def closed(name, path):
    return [f"snapshot '{name}' of machine 'm'", str(path), f"kho snapshot-revert m {name}"]


def test_an_old_definition_does_not_start(kho, m):
    old = kho("dumpxml", "m").out
    m.write("vda", 1, 0, 64)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 64)
    kho("snapshot-create-as", "m", "s2")
    new, before = kho("dumpxml", "m").out, m.state()
    ran = kho("define", "-", input=old)
    assert ran.err.count("\n") == 1 and "will not start" in ran.err and "snapshot 's1' of machine 'm'" in ran.err
    kho.refuses("start", "m", status=BUSY, says=[*closed("s1", m.folder / "vda.qcow2"), "disk vda", "vda.3.qcow2"])
    kho.refuses("start", "m", "--force-boot", status=BUSY, says=closed("s1", m.folder / "vda.qcow2"))
    assert kho("domstate", "m").out.strip() == "shut off"
    # the cure that it names
    cured = kho("define", "-", input=old.replace("vda.qcow2", "vda.3.qcow2").replace("vdb.raw", "vdb.4.qcow2")
                .replace("type='raw'", "type='qcow2'").replace('type="raw"', 'type="qcow2"'))
    assert cured.err == "" and m.state() == before
    kho("define", "-", input=new)
    kho("start", "m")
    kho("destroy", "m")
    m.check()


def test_a_revert_is_the_way_out_of_an_old_definition(kho, m):
    old = kho("dumpxml", "m").out
    kho("snapshot-create-as", "m", "s1")
    kho("define", "-", input=old)
    kho("snapshot-revert", "m", "s1", "--running")
    kho("destroy", "m")
    kho("start", "m")
    kho("destroy", "m")


@pytest.mark.parametrize("how", ["itself", "symlink", "hard link"])
def test_another_machine_does_not_write_a_closed_file(kho, m, how):
    kho("snapshot-create-as", "m", "s1")
    path = m.folder / "vda.qcow2"
    if how != "itself":
        named = kho.tmp / "link.qcow2"
        (os.symlink if how == "symlink" else os.link)(path, named)
        path = named
    machine.define(kho, "other", machine.disk(path))
    before = m.state()
    kho.refuses("start", "other", status=BUSY, says=["machine 'other'", "disk vda", *closed("s1", path)])
    # reading stays possible, and so is an overlay of one's own
    machine.define(kho, "reader", machine.disk(path, more="<readonly/>"))
    kho("start", "reader")
    kho("img", "convert", "-O", "raw", path, kho.tmp / "copy.raw")
    kho("destroy", "reader")
    machine.define(kho, "writer", machine.disk(clone(kho, m.folder / "vda.qcow2")))
    kho("start", "writer")
    kho("destroy", "writer")
    assert m.state() == before


def test_a_file_is_free_again_when_its_snapshot_is_gone(kho, m):
    kho("snapshot-create-as", "m", "s1")
    kho.refuses("vol-resize", "vda.qcow2", "8M", "--pool", "p1", status=BUSY, says=closed("s1", m.folder / "vda.qcow2"))
    kho("snapshot-delete", "m", "s1", "--metadata")
    kho("vol-resize", "vda.qcow2", "8M", "--pool", "p1")


def test_damaged_metadata_of_another_snapshot_opens_nothing(kho, m):
    kho("snapshot-create-as", "m", "s1")
    kho("snapshot-create-as", "m", "a")
    (kho.root / "lib/qemu/snapshot/m/a.xml").write_text("<domainsnap")
    machine.define(kho, "other", machine.disk(m.folder / "vda.qcow2"))
    kho.refuses("start", "other", status=BUSY, says="snapshot 's1' of machine 'm'")


def test_a_file_is_closed_before_its_metadata_stands(kho, m):
    """Whoever took the snapshot may die in between: recovery must find the file as it was."""
    now = m.now()
    machine.define(kho, "other", machine.disk(m.folder / "vda.qcow2"))
    child = layers.stop_at(kho, "snapshot-create:publish-snapshot:before", "snapshot-create-as", "m", "s1")
    for alive in (True, False):
        if not alive:
            layers.kill(child)
        for verb in (["img", "resize", m.folder / "vda.qcow2", "8M"], ["start", "other"]):
            kho.refuses(*verb, status=BUSY, says=["snapshot 's1' of machine 'm'", "vda.qcow2", "kho recover m"])
    kho("recover", "m")
    assert m.state()["snapshots"]["s1"]["disks"] == now
    kho.refuses("start", "other", status=BUSY, says=closed("s1", m.folder / "vda.qcow2"))
    m.check()


def test_restoring_memory_over_closed_disks(kho, m):
    kho("start", "m")
    kho("save", "m", "m.save")
    kho("snapshot-create-as", "m", "s1")
    before = m.state()
    kho.refuses("restore", "m.save", status=None, says="vda")
    kho.refuses("restore", "m.save", "--force", status=BUSY, says=["disk vda", *closed("s1", m.folder / "vda.qcow2")])
    assert m.state() == before and (kho.tmp / "m.save").exists()
    m.check()


def test_a_closed_file_is_not_plugged_in(kho, m):
    kho("snapshot-create-as", "m", "s1")
    machine.define(kho, "other", more="<features><acpi/></features>")
    path = m.folder / "vda.qcow2"
    attach = ("attach-disk", "other", path, "vda", "--subdriver", "qcow2")
    kho.refuses(*attach, "--config", status=BUSY, says=["machine 'other'", "disk vda", *closed("s1", path)])
    kho("start", "other")
    kho.refuses(*attach, "--live", status=BUSY, says=closed("s1", path))
    kho(*attach, "--live", "--mode", "readonly")
    kho("destroy", "other")
    m.check()


def test_resizing_and_replacing(kho, m):
    kho("snapshot-create-as", "m", "s1")
    path, before = m.folder / "vda.qcow2", m.state()
    for verb in [("vol-resize", "vda.qcow2", "8M", "--pool", "p1"), ("img", "resize", path, "8M"),
                 ("img", "resize", m.folder / "vdb.raw", "8M"),
                 ("img", "create", "--force", "-f", "qcow2", path, "8M"),
                 ("img", "convert", "--force", "-O", "qcow2", m.folder / "vdb.raw", path)]:
        kho.refuses(*verb, status=BUSY, says="snapshot 's1' of machine 'm'")
    m.check()
    assert m.state() == before
    kho("img", "resize", m.folder / "vda.1.qcow2", "8M")  # what is not closed
    kho("snapshot-revert", "m", "s1")
    kho("snapshot-delete", "m", "s1")
    m.check()


def make_leak(path):
    """One more cluster at the end of a qcow2 image, which is counted and nothing refers to."""
    data = bytearray(path.read_bytes())
    table, = struct.unpack(">Q", data[48:56])
    block, = struct.unpack(">Q", data[table:table + 8])
    n = -(-len(data) // 65536)
    data += bytes((n + 1) * 65536 - len(data))
    struct.pack_into(">H", data, block + 2 * n, 1)
    path.write_bytes(data)


def test_a_repair_of_a_closed_file(kho, m):
    path = m.folder / "vda.qcow2"
    m.write("vda", 1, 0, 64)
    make_leak(path)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 64)
    now = m.now()
    for how in ("leaks", "all"):
        kho.refuses("img", "check", "-r", how, path, status=BUSY, says=[*closed("s1", path), "--force"])
    assert kho("img", "check", path, status=14).out.count("leak")  # looking is open to all
    kho("img", "check", "-r", "leaks", "--force", path)
    # a changed file is not merged, nor gone back to, unless that is wanted
    for verb in ("snapshot-revert", "snapshot-delete"):
        kho.refuses(verb, "m", "s1", status=INVALID, says=[str(path), "another", f"kho {verb} --force m s1"])
    kho("snapshot-delete", "--force", "m", "s1")
    layers.seen.clear()
    assert m.now() == now and m.snapshots() == []
    m.check()


@pytest.mark.parametrize("which", ["vda.qcow2", "vda.1.qcow2"])
def test_a_delete_takes_a_changed_file_as_it_is_when_told(kho, m, which):
    """The file that goes or the one that follows it; what others wrote there is kept."""
    m.write("vda", 1, 0, 1024)
    for name in ("s1", "s2"):
        kho("snapshot-create-as", "m", name)
        m.write("vda", 2, 1024, 64)
    layers.qemu_io(m.folder / which, "qcow2", "write -P 77 3M 64k")
    layers.seen.clear()
    now = m.now()
    kho.refuses("snapshot-delete", "m", "s1", status=INVALID, says=[which, "snapshot-delete --force m s1"])
    kho("snapshot-delete", "--force", "m", "s1")
    layers.seen.clear()
    assert m.now() == now
    kho("snapshot-delete", "m", "s2")  # what kho wrote it knows again
    assert m.now() == now
    m.check()


def test_a_half_deleted_snapshot_keeps_nothing(kho, m):
    """One that is being deleted may have its machine in the file already."""
    kho("snapshot-create-as", "m", "s1")
    metadata = kho.root / "lib/qemu/snapshot/m/s1.xml"
    text = metadata.read_text()
    old = kho("dumpxml", "m").out.replace("vda.1.qcow2", "vda.qcow2")
    kho("define", "-", input=old)
    kho.refuses("start", "m", status=BUSY, says="vda.qcow2")
    metadata.write_text(text.replace("<kho:snapshot ", "<kho:snapshot deleting='yes' ", 1))
    assert m.snapshots()[0]["deleting"]
    kho("start", "m")
    kho("destroy", "m")


def test_a_managed_save_over_a_closed_file(kho, m):
    machine.define(kho, "other", machine.disk(m.folder / "vda.qcow2"))
    kho("start", "other")
    kho("managedsave", "other")
    kho("snapshot-create-as", "m", "s1")
    for more in [(), ("--force-boot",)]:
        kho.refuses("start", "other", *more, status=BUSY, says=closed("s1", m.folder / "vda.qcow2"))
        assert os.listdir(kho.root / "lib/qemu/save") == ["other.save"]  # neither lost
    m.check()


def test_a_closed_file_that_somebody_changed_is_told_of(kho):
    """By what goes on all the same: starts, backups, the next snapshot."""
    m = layers.Machine(kho)
    kho("snapshot-create-as", "m", "s1")
    store = kho.base / "store"
    store.mkdir()
    closed_file = layers.closed(m, "s1")["vda"][0]
    verbs = [("start", "m"), ("destroy", "m"), ("backup", "m", "--to", store), ("snapshot-create-as", "m", "s2")]
    for verb in verbs[:3]:
        assert kho(*verb).err == ""
    layers.qemu_io(closed_file, "qcow2", "write -P 9 0 64k")
    for verb in verbs:
        said = kho(*verb).err
        wanted = "" if verb[0] == "destroy" else f"warning: {closed_file} has been changed since snapshot 's1' of machine 'm' closed it"
        assert said.startswith(wanted) and said.count("\n") == bool(wanted), said


def test_a_closed_file_as_somebodys_data_file(kho, m):
    """Rule: what a snapshot closed is not written by way of an image that keeps its data there, nor made anew for one."""
    size = (m.folder / "vdb.raw").stat().st_size
    (kho.base / "apart").write_bytes(bytes(1 << 20))
    kho("img", "convert", "-O", "qcow2", "-o", f"data_file={kho.base}/vdb.raw,data_file_raw=on", m.folder / "vdb.raw",
        kho.base / "other.qcow2")
    (kho.base / "vdb.raw").unlink()
    (kho.base / "vdb.raw").symlink_to(m.folder / "vdb.raw")
    kho("snapshot-create-as", "m", "s1")
    before = harness.run(["sha256sum", *sorted(m.folder.iterdir())]).out
    kho.refuses("img", "resize", "--shrink", kho.base / "other.qcow2", size // 2, status=BUSY, says=["vdb.raw", "s1"])
    for name in "vda.qcow2", "vdb.raw":
        told = f"data_file={m.folder}/{name}"
        kho.refuses("img", "create", "--force", "-f", "qcow2", "-o", told, kho.base / "new.qcow2", "1M", status=EXISTS,
                    says=[f"data file {m.folder}/{name} exists already", "remove it first"])
        kho.refuses("img", "convert", "--force", "-O", "qcow2", "-o", told, kho.base / "apart", kho.base / "new.qcow2",
                    status=EXISTS, says=[f"data file {m.folder}/{name} exists already"])
    assert harness.run(["sha256sum", *sorted(m.folder.iterdir())]).out == before
    assert not (kho.base / "new.qcow2").exists()
    m.check()
