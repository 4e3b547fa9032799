"""Snapshots of machines that are shut off: taken, gone back to, deleted; contents by qemu-img, whatever is killed."""

import json
import os
import pathlib

import harness
import layers
import machine
import pytest
from snapshot import snapshot

NOT_FOUND, EXISTS, INVALID, UNSUPPORTED, BUSY = 3, 4, 5, 6, 8


def info(path):
    return json.loads(harness.run(["qemu-img", "info", "-U", "--output=json", path]).out)


# --- taking --------------------------------------------------------------------------------------------------------------

def test_create(kho):
    m = layers.Machine(kho)
    os.chmod(m.folder / "vdb.raw", 0o600)
    assert kho("snapshot-create-as", "m", "s1", "the first").out == "Domain snapshot s1 created\n"
    one, = m.snapshots()
    assert one["name"] == "s1" and one["description"] == "the first" and one["state"] == "shutoff"
    assert one["parent"] is None and one["current"] and one["memory-file"] is None
    assert one["disks"] == [{"target": "vda", "file": f"{m.folder}/vda.qcow2", "format": "qcow2"},
                            {"target": "vdb", "file": f"{m.folder}/vdb.raw", "format": "raw"}]
    assert m.disks() == {"vda": (f"{m.folder}/vda.1.qcow2", "qcow2"), "vdb": (f"{m.folder}/vdb.2.qcow2", "qcow2")}
    over = info(m.folder / "vdb.2.qcow2")
    assert over["backing-filename"] == "vdb.raw" and over["backing-filename-format"] == "raw"
    assert over["virtual-size"] == layers.DISK_MIB << 20
    assert (m.folder / "vdb.2.qcow2").stat().st_mode & 0o777 == 0o600  # nobody reads on who might not read before
    before = m.state()
    kho("snapshot-create-as", "m", "--name", "s2")
    m.check()
    assert kho("snapshot-parent", "m", "s2").out == "s1\n"
    m.write("vda", 7, 0, 64)
    after = m.state()
    assert after["snapshots"]["s1"] == before["snapshots"]["s1"]
    assert after["snapshots"]["s2"]["disks"] == before["now"] != after["now"]


def test_an_image_with_bitmaps(kho):
    """Rule: a snapshot only reads the file that it closes. Its deletion would write, and is refused before it begins."""
    m = layers.Machine(kho)
    harness.run(["qemu-img", "bitmap", "--add", m.folder / "vda.qcow2", "b0"])
    kho("snapshot-create-as", "m", "s1")
    before = m.snapshots()
    kho.refuses("snapshot-delete", "m", "s1", status=UNSUPPORTED, says=["vda.qcow2", "persistent bitmap 'b0'"])
    assert m.snapshots() == before
    m.check()
    assert info(m.folder / "vda.qcow2")["format-specific"]["data"]["bitmaps"][0]["name"] == "b0"


def test_an_image_with_a_data_file(kho):
    """Rule: what two files hold is neither closed by a snapshot nor merged, since one of them alone tells nothing."""
    m = layers.Machine(kho)
    path, command = m.folder / "vda.qcow2", ["qemu-img", "create", "-q", "-f", "qcow2"]
    kho("snapshot-create-as", "m", "s1")
    (over, _), held = m.disks()["vda"], m.folder / "vda.qcow2.was"
    path.rename(held)
    harness.run([*command, "-o", f"data_file={m.folder}/vda.data", path, f"{layers.DISK_MIB}M"])
    before = snapshot(m.folder, kho.root / "lib", kho.root / "etc")
    for force in ([], ["--force"]):
        kho.refuses("snapshot-delete", "m", "s1", *force, status=UNSUPPORTED,
                    says=[f"{path} keeps its data in another file ({m.folder}/vda.data)", "--metadata m s1"])
    assert snapshot(m.folder, kho.root / "lib", kho.root / "etc") == before
    # as what follows a snapshot's file, and as what a snapshot would close
    held.rename(path)
    harness.run([*command, "-o", f"data_file={m.folder}/vda.data", "-b", "vda.qcow2", "-F", "qcow2", over])
    before = snapshot(m.folder, kho.root / "lib", kho.root / "etc")
    kho.refuses("snapshot-delete", "m", "s1", status=UNSUPPORTED, says=[f"{over} keeps its data", "--metadata m s1"])
    kho.refuses("snapshot-create-as", "m", "s2", status=UNSUPPORTED, says=[f"{over} keeps its data", "vda,snapshot=no"])
    assert snapshot(m.folder, kho.root / "lib", kho.root / "etc") == before
    kho("snapshot-create-as", "m", "s2", "--diskspec", "vda,snapshot=no")
    kho("snapshot-delete", "m", "s1", "--metadata")


def test_a_disk_on_a_device(kho):
    """Rule: a device is no file, whatever the definition says: no layer of it is made among the devices."""
    m = layers.Machine(kho)
    device = harness.run(["losetup", "-f", "--show", m.folder / "vdb.raw"]).out.strip()
    try:
        xml = kho("dumpxml", "m", "--inactive").out.replace(f"{m.folder}/vdb.raw", device)
        kho("define", "/dev/stdin", input=xml)
        kho.refuses("snapshot-create-as", "m", "s1", status=UNSUPPORTED,
                    says=[f"vdb of machine 'm' lies on the device {device}", "vdb,snapshot=no"])
        kho("snapshot-create-as", "m", "s1", "--diskspec", "vdb,snapshot=no")
        assert m.disks()["vdb"] == (device, "raw")
    finally:
        harness.run(["losetup", "-d", device])


def test_a_name_is_the_time_where_none_is_given(kho):
    layers.Machine(kho)
    name = kho("snapshot-create-as", "m").out.split()[2]
    assert abs(int(name) - kho.json("snapshot-info", "m", name)["created-s"]) <= 1


def test_which_disks(kho, tmp):
    m = layers.Machine(kho, formats=("qcow2", "raw", "qcow2"))
    iso = tmp / "x.iso"
    iso.write_bytes(b"iso")
    text = kho("dumpxml", "m").out
    text = text.replace("</devices>", machine.disk(iso, "hdc", "raw", "cdrom", "<readonly/>") + "</devices>")
    kho("define", "-", input=text)
    kho("snapshot-create-as", "m", "s1", "--diskspec", "vdb,snapshot=no", "--diskspec",
        f"vdc,snapshot=external,driver=qcow2,file={tmp}/a,,b.qcow2")
    assert [disk["target"] for disk in m.snapshots()[0]["disks"]] == ["vda", "vdc"]
    disks = m.disks()
    assert disks["vdb"][0].endswith("vdb.raw") and disks["vdc"][0] == f"{tmp}/a,b.qcow2"
    assert info(f"{tmp}/a,b.qcow2")["backing-filename"] == f"{m.folder}/vdc.qcow2"
    # the names go on from the disk's own, also for the disk that was left out; every overlay has a number of its own, also
    # the one whose file was named, and none is used twice
    kho("snapshot-create-as", "m", "s2")
    assert {target: os.path.basename(path) for target, (path, _) in m.disks().items()} == {
        "vda": "vda.3.qcow2", "vdb": "vdb.4.qcow2", "vdc": "a,b.5.qcow2", "hdc": "x.iso"}


REFUSED = [
    (["s1"], EXISTS, "'s1' already"),
    (["a/b"], INVALID, "slash"),
    (["--diskspec", "vdx"], NOT_FOUND, ["vdx", "domblklist"]),
    (["--diskspec", "vda", "--diskspec", "vda"], INVALID, "twice"),
    (["--diskspec", "vda,snapshot=internal"], UNSUPPORTED, "internal"),
    (["--diskspec", "vda,snapshot=perhaps"], INVALID, "perhaps"),
    (["--diskspec", "vda,driver=raw"], UNSUPPORTED, "driver=raw"),
    (["--diskspec", "vda,colour=red"], INVALID, "colour=red"),
    (["--diskspec", "vda,snapshot=no,file=/x"], INVALID, "left out"),
    (["--diskspec", ""], INVALID, "which disk"),
    (["--diskspec", "hdc"], INVALID, ["hdc", "empty"]),
    (["--diskspec", "vda,file=there.qcow2"], EXISTS, "there.qcow2 exists"),
    (["--diskspec", "vda,file=new.qcow2", "--diskspec", "vdb,file=new.qcow2"], INVALID, "twice"),
    (["--diskspec", "vda,file=no/folder/new.qcow2"], NOT_FOUND, "no/folder"),
    (["--diskspec", "vda,snapshot=no", "--diskspec", "vdb,snapshot=no"], INVALID, "no disk"),
    (["--memspec", "file=new.mem"], INVALID, "not running"),
    (["--memspec", "snapshot=internal"], UNSUPPORTED, "internal"),
    (["--memspec", "file="], INVALID, "--memspec"),
    (["--quiesce"], INVALID, "not running"),
]


def test_create_refuses(kho):
    m = layers.Machine(kho)
    text = kho("dumpxml", "m").out
    kho("define", "-", input=text.replace("</devices>", machine.disk("/x.iso", "hdc", "raw", "cdrom") + "</devices>"))
    kho("define", "-", input=kho("dumpxml", "m").out.replace("<source file='/x.iso'/>", ""))
    kho("snapshot-create-as", "m", "s1")
    (kho.tmp / "there.qcow2").write_text("mine")
    kept, files = machine.kept(kho), sorted(m.folder.iterdir())
    for args, status, says in REFUSED:
        kho.refuses("snapshot-create-as", "m", *args, status=status, says=says)
    assert {path: text for path, text in machine.kept(kho).items() if path.name != ".overlays"} \
        == {path: text for path, text in kept.items() if path.name != ".overlays"}
    assert sorted(m.folder.iterdir()) == files and not (kho.tmp / "new.qcow2").exists()


def test_a_disk_that_is_no_file_is_refused_by_name(kho):
    m = layers.Machine(kho, formats=("qcow2",))
    volume = "<disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdb' bus='virtio'/>{}</disk></devices>"
    text = kho("dumpxml", "m").out
    kho("define", "-", input=text.replace("</devices>", volume.format("")))
    for more in ([], ["--diskspec", "vdb"], ["--diskspec", "vda"]):
        kho.refuses("snapshot-create-as", "m", "s1", *more, status=UNSUPPORTED,
                    says=["disk vdb of machine 'm'", "'volume'", "--diskspec vdb,snapshot=no"])
    assert m.snapshots() == []
    kho("snapshot-create-as", "m", "s1", "--diskspec", "vdb,snapshot=no")
    kho("define", "-", input=text.replace("</devices>", volume.format("<readonly/>")))  # nothing is ever written there
    kho("snapshot-create-as", "m", "s2")
    assert [[disk["target"] for disk in s["disks"]] for s in m.snapshots()] == [["vda"], ["vda"]]


def test_an_image_that_is_missing_shared_or_in_use(kho):
    m = layers.Machine(kho)
    text = kho("dumpxml", "m").out
    kho("define", "-", input=text.replace("<target dev='vda' bus='virtio'/>",
                                          "<target dev='vda' bus='virtio'/><shareable/>"))
    kho.refuses("snapshot-create-as", "m", "s", status=INVALID, says=["vda", "shared", "snapshot=no"])
    kho("define", "-", input=text)
    kho("snapshot-create-as", "m", "s1")
    os.rename(m.folder / "vda.qcow2", m.folder / "elsewhere")
    for verb in [("snapshot-create-as", "m", "s2"), ("snapshot-revert", "m", "s1"), ("snapshot-delete", "m", "s1")]:
        kho.refuses(*verb, status=NOT_FOUND, says="vda.qcow2")
    os.rename(m.folder / "elsewhere", m.folder / "vda.qcow2")
    holder = harness.subprocess.Popen(["qemu-io", "-f", "qcow2", m.folder / "vda.1.qcow2"],
                                      stdin=harness.subprocess.PIPE, stdout=harness.subprocess.PIPE)
    try:
        holder.stdin.write(b"read 0 512\n")
        holder.stdin.flush()
        holder.stdout.readline()
        for verb in [("snapshot-create-as", "m", "s2"), ("snapshot-delete", "m", "s1")]:
            kho.refuses(*verb, status=BUSY, says=["vda.1.qcow2", "qemu-io"])
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
    m.check()


def test_a_file_that_was_changed_behind_our_back(kho):
    """Told by its size and time, wherever it lies in the chain; and nothing is changed."""
    m = layers.Machine(kho)
    for n in range(1, 5):
        m.write("vda", n, 64 * n, 512)
        kho("snapshot-create-as", "m", f"s{n}")
    first, third = m.folder / "vda.qcow2", m.folder / "vda.3.qcow2"
    harness.run(["cp", "-a", first, third, kho.base])
    old = m.state()
    for path, by, reverts, deletes in [(first, "s1", ["s1", "s2", "s3", "s4"], ["s1"]),
                                       (third, "s3", ["s3", "s4"], ["s1", "s2", "s3"])]:
        layers.qemu_io(path, "qcow2", "write -P 99 3M 4k")
        kept = machine.kept(kho), {file: file.stat().st_mtime_ns for file in m.folder.iterdir()}
        for name in reverts:
            kho.refuses("snapshot-revert", "m", name, status=INVALID,
                        says=["disk vda", f"'{name}'", f"{path} has been changed", f"'{by}' closed it", "--force m"])
        for name in deletes:  # it would be mixed with what is beside it
            kho.refuses("snapshot-delete", "m", name, status=INVALID,
                        says=[f"{path} has been changed", f"'{by}' closed it", f"snapshot-delete --metadata m {name}"])
        assert kept == (machine.kept(kho), {file: file.stat().st_mtime_ns for file in m.folder.iterdir()})
        harness.run(["cp", "-a", kho.base / path.name, path])
        assert m.state() == old
    kho("snapshot-revert", "m", "s3")
    m.check()
    os.utime(first)
    kho("snapshot-delete", "m", "s3", "--metadata")
    kho.refuses("snapshot-revert", "m", "s1", status=INVALID, says="vda.qcow2 has been changed")
    kho("snapshot-revert", "m", "s1", "--force")
    assert m.now() == old["snapshots"]["s1"]["disks"]


def test_a_file_that_is_missing(kho):
    m = layers.Machine(kho)
    for n in range(1, 4):
        m.write("vda", n, 64 * n, 512)
        kho("snapshot-create-as", "m", f"s{n}")
    gone = m.folder / "vda.1.qcow2"
    os.rename(gone, kho.base / "elsewhere")
    kept = machine.kept(kho), sorted(m.folder.iterdir())
    for name in ["s2", "s3"]:
        kho.refuses("snapshot-revert", "m", name, status=NOT_FOUND,
                    says=["disk vda", f"'{name}'", str(gone), "put it back", f"--metadata m {name}"])
    kho.refuses("snapshot-delete", "m", "s2", status=NOT_FOUND,
                says=["disk vda", "'s2'", f"{gone} is not there", "put it back", "--metadata m s2"])
    assert {path: text for path, text in kept[0].items() if path.name != ".overlays"} \
        == {path: text for path, text in machine.kept(kho).items() if path.name != ".overlays"}
    assert kept[1] == sorted(m.folder.iterdir())
    said = kho("snapshot-revert", "m", "s1").err  # it might lie on the disk that is given up, for all that can be told
    assert f"{m.folder}/vdb.6.qcow2 stays" in said and str(gone) in said and said.count("\n") == 1
    os.rename(kho.base / "elsewhere", gone)
    kho("snapshot-revert", "m", "s2")
    (m.folder / "vdb.6.qcow2").unlink()
    m.check()


def test_a_chain_that_could_not_start_is_not_made(kho):
    m = layers.Machine(kho, formats=("qcow2",))
    path = m.folder / "a00.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "vda.qcow2", "-F", "qcow2", path])
    first = path.read_bytes()
    for n in range(1, 95):
        path = m.folder / f"a{n:02}.qcow2"
        path.write_bytes(first.replace(b"vda.qcow2", b"a%02d.qcow2" % (n - 1)))
    kho("define", "-", input=kho("dumpxml", "m").out.replace("vda.qcow2", path.name))
    kho("snapshot-create-as", "m", "s1")
    kho.refuses("snapshot-create-as", "m", "s2", status=UNSUPPORTED, says=["98 files", "97", "delete a snapshot"])


# --- going back ----------------------------------------------------------------------------------------------------------

def test_revert_and_branches(kho):
    m = layers.Machine(kho)
    m.write("vda", 1, 0, 512)
    m.write("vdb", 1, 0, 512)
    kho("snapshot-create-as", "m", "s1")
    first = m.now()
    m.write("vda", 2, 256, 512)
    kho("snapshot-create-as", "m", "s2")
    second = m.now()
    m.write("vdb", 3, 0, 1024)
    assert kho("snapshot-revert", "m", "s1").out == "Domain snapshot s1 reverted\n"
    m.check()  # what was written after s2 is gone, with its files
    assert m.now() == first and m.state()["current"] == "s1"
    m.write("vda", 4, 0, 64)
    kho("snapshot-create-as", "m", "s3")
    m.check()
    assert kho("snapshot-list", "m", "--tree").out == "s1\n  |\n  +- s2\n  |\n  +- s3\n\n"
    kho("snapshot-revert", "m", "--current")
    kho("snapshot-revert", "m", "s2")
    m.check()
    assert m.now() == second
    # a delete that would need a file to go into two is refused, and names both
    kho.refuses("snapshot-delete", "m", "s1", status=UNSUPPORTED, says=["vda", "'s2'", "'s3'", "first"])
    kho("snapshot-delete", "m", "s3")
    m.check()
    kho("snapshot-delete", "m", "s1")
    m.check()
    assert m.now() == second and m.state()["snapshots"]["s2"]["disks"] == second


def test_revert_brings_the_definition_back(kho, tmp):
    m = layers.Machine(kho)
    kho("snapshot-create-as", "m", "s1", "--diskspec", "vdb,snapshot=no")
    m.write("vdb", 9, 0, 64)
    extra = tmp / "extra.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", extra, "1M"])
    text = kho("dumpxml", "m").out
    kho("define", "-", input=text.replace("32768", "65536").replace(
        "</devices>", machine.disk(extra, "vdc") + "</devices>"))
    kept = m.now()["vdb"]
    kho("snapshot-revert", "m", "s1")
    assert kho.json("dominfo", "m")["max-memory-kib"] == 32768
    assert set(m.disks()) == {"vda", "vdb"} and m.now()["vdb"] == kept and extra.exists()


def test_what_others_need_stays(kho, tmp):
    """Rule: an overlay goes only where no disk, no snapshot and no image beside it needs it."""
    m = layers.Machine(kho, formats=("qcow2",))
    kho("snapshot-create-as", "m", "s1")
    named, lain_on = m.folder / "vda.1.qcow2", m.folder / "vda.2.qcow2"
    machine.define(kho, "other", machine.disk(named))
    kho("snapshot-revert", "m", "s1")
    assert named.exists() and m.disks()["vda"][0] == str(lain_on)
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", lain_on, "-F", "qcow2", m.folder / "mine.qcow2"])
    kho("snapshot-revert", "m", "s1")
    assert lain_on.exists()
    # what others lie on is merged into no more, and the base of several is not touched
    kho.refuses("snapshot-delete", "m", "s1", status=UNSUPPORTED, says=["disk vda of machine 'm'", "disk vda of machine 'other'"])
    kho("undefine", "other")
    # what no machine uses any more is in nobody's way, and stays
    over, now = layers.content(m.folder / "mine.qcow2", "qcow2"), m.now()
    assert "vda.2.qcow2" in kho("snapshot-delete", "m", "s1").out
    assert layers.content(m.folder / "mine.qcow2", "qcow2") == over and m.now() == now


# --- deleting ------------------------------------------------------------------------------------------------------------

def both_ways(m, kib_before, kib_after):
    m.write("vda", 1, 0, kib_before)
    m.kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 1024, kib_after)
    return m.now()


@pytest.mark.parametrize("before, after, left", [(2048, 64, "vda.1.qcow2"), (64, 2048, "vda.2.qcow2")])
def test_the_smaller_share_moves(kho, before, after, left):
    m = layers.Machine(kho, formats=("qcow2",))
    kho("snapshot-create-as", "m", "s0")
    now = both_ways(m, before, after)
    assert kho("snapshot-delete", "m", "s1").out == "Domain snapshot s1 deleted\n"
    m.check()
    assert m.now() == now and len(m.snapshots()) == 1 and os.path.basename(m.disks()["vda"][0]) == left


@pytest.mark.parametrize("runs", [False, True])
def test_what_the_user_made_is_kept(kho, runs):
    """Rule: all goes into the file that kho did not make, whatever moves, and through links; only files of kho's go."""
    m = layers.Machine(kho)
    real = kho.base / "real.qcow2"
    (m.folder / "vda.qcow2").rename(real)
    (m.folder / "vda.qcow2").symlink_to(real)
    m.write("vda", 1, 0, 64)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 2048)
    m.write("vdb", 2, 0, 2048)
    now = m.now()
    if runs:
        kho("start", "m", "--paused")
    assert kho("snapshot-delete", "m", "s1").out == "Domain snapshot s1 deleted\n"
    if runs:
        kho("destroy", "m")
    assert {target: path for target, (path, _) in m.disks().items()} \
        == {"vda": f"{m.folder}/vda.qcow2", "vdb": f"{m.folder}/vdb.raw"}
    assert m.now() == now == {"vda": layers.content(real, "qcow2"), "vdb": layers.content(m.folder / "vdb.raw", "raw")}
    assert sorted(path.name for path in m.folder.iterdir()) == ["vda.qcow2", "vdb.raw"] and real.exists()


def test_what_the_user_made_is_left_where_nothing_needs_it(kho, small_fs):
    """Where there is no room to write into it, and where the machine was given another file: told in one line."""
    disk = small_fs("ext4", 32)
    m = layers.Machine(kho, folder=disk.path / "d", formats=("qcow2",))
    now = both_ways(m, 64, 2048)
    disk.fill(2 << 20)
    left = "is left: the machine does not need it any more, and kho did not make it\n"
    assert kho("snapshot-delete", "m", "s1").out == f"Domain snapshot s1 deleted\n{m.folder}/vda.qcow2 {left}"
    assert m.now() == now and m.disks()["vda"][0] == f"{m.folder}/vda.1.qcow2" and (m.folder / "vda.qcow2").exists()
    disk.fill(16 << 20)
    (m.folder / "vda.qcow2").unlink()
    m.check()
    kho("snapshot-create-as", "m", "s2")
    mine = m.folder / "mine.qcow2"
    (m.folder / "vda.2.qcow2").rename(mine)
    kho("define", "-", input=kho("dumpxml", "m").out.replace("vda.2.qcow2", "mine.qcow2"))
    assert kho("snapshot-delete", "m", "s2").out == "Domain snapshot s2 deleted\n"
    m.check()
    assert m.now() == now and m.disks()["vda"][0] == str(mine) and list(m.folder.iterdir()) == [mine]


def test_delete_in_the_middle_and_at_the_ends(kho):
    m = layers.Machine(kho)
    wanted = {}
    for n in range(1, 6):
        m.write("vda", n, 64 * n, 700)
        m.write("vdb", n, 32 * n, 900)
        kho("snapshot-create-as", "m", f"s{n}")
        wanted[f"s{n}"] = m.now()
    m.write("vda", 99, 0, 64)
    now = m.now()
    for name in ["s3", "s1", "s5", "s2", "s4"]:
        kho("snapshot-delete", "m", name)
        del wanted[name]
        m.check()
        state = m.state()
        assert state["now"] == now
        assert {name: snapshot["disks"] for name, snapshot in state["snapshots"].items()} == wanted
        order = sorted(wanted)
        assert [state["snapshots"][name]["parent"] for name in order] == [None, *order[:-1]][:len(order)]
        assert state["current"] == (order[-1] if order else None)


def test_delete_with_children_or_metadata_alone(kho):
    m = layers.Machine(kho)
    for name in ["a", "b", "c"]:
        m.write("vda", ord(name), 0, 64)
        kho("snapshot-create-as", "m", name)
    kho("snapshot-revert", "m", "a")
    kho("snapshot-create-as", "m", "d")
    now = m.now()
    kho.refuses("snapshot-delete", "m", "a", "--children", "--children-only", status=INVALID, says="--children")
    assert kho("snapshot-delete", "m", "b", "--children-only").out == "Domain snapshot b children deleted\n"
    assert sorted(s["name"] for s in m.snapshots()) == ["a", "b", "d"]
    files = sorted(m.folder.iterdir())
    kho("snapshot-delete", "m", "d", "--metadata")
    assert sorted(m.folder.iterdir()) == files and m.state()["current"] == "a"
    kho("snapshot-delete", "m", "b")
    kho.refuses("snapshot-delete", "m", "nix", status=NOT_FOUND, says="'nix'")
    assert m.now() == now


def test_a_base_that_another_machine_uses_is_not_written_and_stays(kho):
    m = layers.Machine(kho, formats=("qcow2",))
    now = both_ways(m, 2048, 64)  # downwards would be less
    machine.define(kho, "other", machine.disk(m.folder / "vda.qcow2"))
    base = layers.content(m.folder / "vda.qcow2", "qcow2")
    kho("snapshot-delete", "m", "s1")
    assert m.now() == now and layers.content(m.folder / "vda.qcow2", "qcow2") == base
    assert m.disks()["vda"][0].endswith("vda.1.qcow2") and "backing-filename" not in info(m.folder / "vda.1.qcow2")
    kho("undefine", "other")


def test_a_merge_that_does_not_fit_is_refused_with_the_figures(kho, small_fs):
    disk = small_fs("ext4", 32)
    m = layers.Machine(kho, folder=disk.path / "d", formats=("qcow2",))
    both_ways(m, 1024, 2048)
    before = m.state()
    disk.fill(512 << 10)
    kho.refuses("snapshot-delete", "m", "s1", says=["bytes more", "are free", "vda.1.qcow2"])
    assert m.state() == before


def test_sizes_differ(kho):
    for way, before, after in [("down", 2048, 64), ("up", 64, 2048)]:
        for size in ["6M", "3M"]:
            name = f"{way}{size}"
            m = layers.Machine(kho, name, kho.base / name, formats=("qcow2",))
            kho("snapshot-create-as", name, "s0")
            m.write("vda", 1, 0, before)
            kho("snapshot-create-as", name, "s1")
            harness.run(["qemu-img", "resize", "-q", "--shrink", m.disks()["vda"][0], size])
            m.write("vda", 2, 512, after)
            now = m.now()
            kho("snapshot-delete", name, "s1")
            m.check()
            assert m.now() == now


# --- kills ---------------------------------------------------------------------------------------------------------------

KINDS = ("snapshot-create", "snapshot-revert", "snapshot-delete")


def prepare(kho):
    """Two snapshots with different contents; deleting s1 goes down with vda, up with vdb."""
    m = layers.Machine(kho)
    kho("snapshot-create-as", "m", "s0")  # below which are files that kho did not make
    m.write("vda", 1, 0, 2048)
    m.write("vdb", 1, 0, 4)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 64)
    m.write("vdb", 2, 64, 2048)
    kho("snapshot-create-as", "m", "s2")
    m.write("vda", 3, 32, 64)
    return m


VERBS = {"snapshot-create": ("snapshot-create-as", "m", "s3"), "snapshot-revert": ("snapshot-revert", "m", "s1"),
         "snapshot-delete": ("snapshot-delete", "m", "s1")}


@pytest.fixture
def scene(kho):
    """(machine, saved tree, {kind: (state before, state after)}), each verb having run undisturbed once."""
    m = prepare(kho)
    saved, found = layers.Saved(m), {}
    for kind in KINDS:
        saved.restore()
        old = m.state()
        kho(*VERBS[kind])
        m.check()
        found[kind] = (old, m.state())
    return m, saved, found


def test_killed_at_every_step(kho, scene, soak):
    """Rule: kho, killed at any moment of a change, leaves the old state or the new one; the next command sees to that."""
    m, saved, states = scene
    todo = layers.steps(kho, *KINDS)
    assert {kind for kind, _, _ in todo} == set(KINDS)
    moments, nexts = ["before", "after", "marked"], [("recover",), ("snapshot-list", "m"), ("autostart", "m")]
    for n, (kind, step, _) in enumerate(todo):
        for moment in moments if soak else [moments[n % 3]]:
            saved.restore()
            child = layers.stop_at(kho, f"{kind}:{step}:{moment}", *VERBS[kind])
            assert child, f"{kind} does not come to {step}:{moment}"
            layers.kill(child)
            kho(*nexts[n % 3])
            became = layers.judge(m, *states[kind], deleted="s1" if kind == "snapshot-delete" else None)
            print(kind, step, moment, "new" if became else "old")


def test_killed_while_it_takes_back(kho, scene):
    m, saved, states = scene
    for kind, step, undo in layers.steps(kho, *KINDS):
        if not undo or step == "merge":  # that one is taken back where the merge failed half way
            continue
        saved.restore()
        layers.kill(layers.stop_at(kho, f"{kind}:{step}:before", *VERBS[kind]))
        child = layers.stop_at(kho, f"{kind}:{step}:undo", "recover")
        assert child, f"{kind} does not take back {step}"
        layers.kill(child)
        assert "took back" in kho("recover").out
        assert m.state() == states[kind][0]
        m.check()


@pytest.mark.parametrize("step", ["mark:after", "merge:before", "merge:after"])
def test_a_snapshot_that_is_removed_by_hand_while_its_delete_is_open(kho, step):
    """The next command ends what was begun all the same, and the machine reads as before."""
    m = prepare(kho)
    old = m.now()
    layers.kill(layers.stop_at(kho, f"snapshot-delete:{step}", "snapshot-delete", "m", "s1"))
    (kho.root / "lib/qemu/snapshot/m/s1.xml").unlink()
    kho("start", "m", "--paused")
    assert not list((kho.root / "lib/journal").iterdir())
    kho("destroy", "m")
    assert m.now() == old and [s["name"] for s in m.snapshots()] == ["s0", "s2"]


# --- a model --------------------------------------------------------------------------------------------------------------

class Model:
    """What a machine and its snapshots ought to hold, from hashes alone."""

    def __init__(self, m):
        self.m, self.now, self.current, self.snapshots, self.count = m, m.now(), None, {}, 0

    def create(self):
        self.count += 1
        name = f"s{self.count}"
        self.m.kho("snapshot-create-as", "m", name)
        self.snapshots[name] = {"parent": self.current, "deleting": False, "memory": None, "disks": dict(self.now)}
        self.current = name

    def write(self, rng):
        self.now = self.m.scribble(rng, 1)

    def revert(self, rng):
        name = rng.choice(sorted(self.snapshots))
        self.m.kho("snapshot-revert", "m", name)
        self.now, self.current = dict(self.snapshots[name]["disks"]), name

    def delete(self, rng):
        name = rng.choice(sorted(self.snapshots))
        children = [n for n, s in self.snapshots.items() if s["parent"] == name]
        if len(children) + (self.current == name) > 1:  # several files follow
            self.m.kho.refuses("snapshot-delete", "m", name, status=UNSUPPORTED, says="go on from")
            return
        self.m.kho("snapshot-delete", "m", name)
        for child in children:
            self.snapshots[child]["parent"] = self.snapshots[name]["parent"]
        if self.current == name:
            self.current = self.snapshots[name]["parent"]
        del self.snapshots[name]

    def state(self):
        return {"now": self.now, "current": self.current, "snapshots": self.snapshots}


def test_against_a_model(kho, rng, soak):
    m = layers.Machine(kho)
    model = Model(m)
    for n in range(5000 if soak else 200):
        what = rng.choices(["write", "create", "revert", "delete"], [3, 3 if len(model.snapshots) < 8 else 0, 2, 2])[0]
        if what == "create":
            model.create()
        elif what == "write" or not model.snapshots:
            model.write(rng)
        else:
            getattr(model, what)(rng)
        if n % 5 == 0:
            assert m.state() == model.state(), f"after operation {n}: {what}"
            m.check()
    assert m.state() == model.state()
    m.check()


@pytest.mark.parametrize("runs", [False, True])
def test_a_refused_snapshot_changes_nothing(kho, tmp, runs):
    """Not the number of the next overlay either, nor is a folder for snapshots made."""
    m = layers.Machine(kho)
    if runs:
        kho("start", "m", "--paused")

    def refuses(*more, **keywords):
        before = snapshot(kho.root / "etc", kho.root / "lib", m.folder)
        kho.refuses("snapshot-create-as", "m", "s9", *more, **keywords)
        assert snapshot(kho.root / "etc", kho.root / "lib", m.folder) == before
    for taken in (False, True):
        # by the plan, and by the step that makes the overlays
        for target in (tmp / "none/a.qcow2", pathlib.Path("/proc/a.qcow2")):
            refuses("--diskspec", f"vdb,file={target}", says=str(target.parent))
        if not taken:
            kho("snapshot-create-as", "m", "s1")
    if runs:
        kho("destroy", "m")
