"""What cannot be saved or brought back is told in one line, and nothing has changed: neither the file, nor the disks, nor what
runs. What fails or is cancelled on its way leaves the guest as it was."""

import os
import signal
import struct
import time
import zlib

import counter
import harness
import machine
import pytest
import steps
from snapshot import snapshot

PAGE = 4096


@pytest.fixture
def disk(kho):
    path = kho.tmp / "web1.qcow2"
    counter.define(kho, "web1", path)
    kho("start", "web1")
    counter.wait_counting(kho, "web1", 1)
    return path


@pytest.fixture
def file(kho, disk):
    """A save file of a machine that is off."""
    path = kho.tmp / "web1.save"
    kho("save", "web1", path)
    return path


def refused(kho, *words, says=(), watched=()):
    """Refuses, and nothing has changed in the tree and in these folders."""
    folders = [kho.root / "etc", kho.root / "lib", kho.tmp, *watched]
    before = snapshot(*folders)
    ran = kho.refuses(*words, says=says)
    assert snapshot(*folders) == before, ran
    return ran


# ---- saving ----

def test_save_of_what_does_not_run(kho, file):
    refused(kho, "save", "web1", kho.tmp / "other.save", says="no memory to save")
    refused(kho, "managedsave", "web1", says="no memory to save")
    refused(kho, "save", "web2", kho.tmp / "other.save", says="no machine has the name")


def test_save_into_what_is_no_place_for_it(kho, disk):
    kho("suspend", "web1")  # so that its disk stays as it is
    refused(kho, "save", "web1", os.fsdecode(os.fsencode(kho.tmp) + b"/f\xff.save"), says="no UTF-8")
    refused(kho, "save", "web1", kho.root / "lib/qemu/save/web1.save", says=["own files", "managedsave"])
    for option, value in (("--memspec", "file={}"), ("--diskspec", "vda,file={}")):
        own = kho.root / "lib/qemu/snapshot/web1/s.xml"
        refused(kho, "snapshot-create-as", "web1", "s", option, value.format(own), says="own files")
    kho("destroy", "web1")


def test_save_onto_what_is_no_save_file_of_it(kho, disk):
    kho("suspend", "web1")  # so that its disk stays as it is
    other = kho.tmp / "other.img"
    other.write_bytes(b"something of value")
    refused(kho, "save", "web1", other, says=["exists", "choose another name"])
    refused(kho, "save", "web1", disk, says=["exists", "choose another name"])
    refused(kho, "save", "web1", kho.tmp, says="exists")
    refused(kho, "save", "web1", kho.tmp / "none" / "web1.save", says="none")
    link = kho.tmp / "link"
    link.symlink_to("/dev/null")
    refused(kho, "save", "web1", link, says="exists")
    machine.define(kho, "web2")
    kho("start", "web2")
    kho("save", "web2", kho.tmp / "web2.save")
    refused(kho, "save", "web1", kho.tmp / "web2.save", says=["memory of machine 'web2'", "choose another name"])
    kho("resume", "web1")
    counter.wait_counting(kho, "web1", counter.look(kho, "web1")[0] + 1)
    kho("destroy", "web1")


def test_no_room(kho, disk, small_fs):
    """Said before, with the figure."""
    fs = small_fs("ext4", 64)
    kho("suspend", "web1")
    ran = refused(kho, "save", "web1", fs.path / "web1.save", says=["may need 96 MiB", str(fs.path), "left"],
                  watched=[fs.path])
    assert ran.status == 10
    assert kho("domstate", "web1", "--reason").out == "paused (user)\n"
    kho("destroy", "web1")


def test_a_folder_that_cannot_be_written(kho, disk, small_fs):
    """Said before anything is begun; and where it becomes so on the way, the machine is not held up by what was never made."""
    fs = small_fs("ext4", 128)
    file = fs.path / "web1.save"
    kho("suspend", "web1")
    child = steps.stopped(kho, "save:save-memory:before", "save", "web1", file)
    harness.run(["mount", "-o", "remount,ro", fs.path])
    assert "Read-only file system" in steps.go_on(child, status=9)
    assert steps.entries(kho) == []
    refused(kho, "save", "web1", file, says=[str(fs.path), "Read-only file system"])
    assert steps.entries(kho) == [] and kho("domstate", "web1", "--reason").out == "paused (user)\n"
    kho("resume", "web1")
    kho("destroy", "web1")


def test_the_disk_fills_up_on_the_way(kho, disk, small_fs):
    """At each step of the save: the guest goes on, or it is saved whole."""
    fs = small_fs("ext4", 128)
    file = fs.path / "web1.save"
    for leave_kib in [0, 64, 256]:
        fs.fill(110 << 20)
        child = steps.stopped(kho, "save:save-memory:before", "save", "web1", file)
        fs.fill(leave_kib << 10)
        err = steps.go_on(child, status=10)
        assert "no space left" in err.lower() and len(err.splitlines()) == 1, err
        assert sorted(path.name for path in fs.path.iterdir()) == [".ballast", "lost+found"] and steps.entries(kho) == []
        counter.wait_counting(kho, "web1", counter.look(kho, "web1")[0] + 1)
    fs.fill(110 << 20)
    child = steps.stopped(kho, "save:save-memory:after", "save", "web1", file)
    fs.fill(0)
    steps.go_on(child)
    kho("restore", file)  # marking it as used needs no room
    counter.wait_counting(kho, "web1", counter.look(kho, "web1")[0] + 1)
    kho("destroy", "web1")


# ---- bringing back ----

def test_while_it_runs_or_another_has_its_name(kho, file):
    kho("start", "web1", "--paused")  # its guest would write to the disk, which is compared
    refused(kho, "restore", file, says=["'web1'", "paused"])
    kho("destroy", "web1")
    uuid = kho("domuuid", "web1").out.strip()
    kho("undefine", "web1")
    machine.define(kho, "web1")  # another uuid
    refused(kho, "restore", file, says=["'web1' exists already with uuid"])
    kho("start", "web1", "--paused")
    refused(kho, "restore", file, says=["'web1' exists already with uuid"])
    kho("destroy", "web1")
    kho("undefine", "web1")
    machine.define(kho, "web2", uuid=uuid)
    refused(kho, "restore", file, says=[f"uuid {uuid} belongs to machine 'web2' already"])


def test_a_disk_is_missing(kho, file, disk):
    away = disk.with_suffix(".away")
    disk.rename(away)
    refused(kho, "restore", file, says=["'vda'", str(disk)])
    refused(kho, "restore", file, "--force", says=["vda", str(disk)])
    away.rename(disk)
    kho("restore", file)  # neither was a use
    kho("destroy", "web1")


def test_disks_have_moved_on(kho, file, disk):
    """Whether the machine ran meanwhile, or the disk was written by anybody, or the definition names another disk."""
    definition = kho("dumpxml", "web1").out
    overlay = kho.tmp / "web1.1.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", overlay])
    kho("define", "-", input=definition.replace(str(disk), str(overlay)))
    refused(kho, "restore", file, says=["disk 'vda' of the definition is", str(overlay), "--force"])
    more = machine.disk(overlay, target="vdb")
    kho("define", "-", input=definition.replace("<disk ", more + "<disk ", 1))
    refused(kho, "restore", file, says=["disk 'vdb'", "--force"])
    kho("define", "-", input=definition)

    count = counter.on_disk(disk)
    kho("start", "web1")
    counter.wait_counting(kho, "web1", count + 1)
    kho("destroy", "web1")
    refused(kho, "restore", file, says=["disk 'vda'", "has been written since", "--force"])
    kho("restore", file, "--force", "--paused")
    kho("destroy", "web1")


def test_managed_save_whose_disk_has_moved_on(kho, disk):
    kho("managedsave", "web1")
    harness.run(["qemu-io", "-f", "qcow2", "-c", "write 900k 4k", disk])
    refused(kho, "start", "web1", says=["disk 'vda'", "has been written since", "kho start --force-boot web1"])
    kho("start", "web1", "--force-boot")
    kho("destroy", "web1")


def test_an_older_qemu(kho, tmp):
    """The emulator of a definition may be a script; this one is replaced by an older one meanwhile."""
    emulator = tmp / "qemu"
    script = "#!/bin/sh\n[ \"$1\" != --version ] || { echo 'QEMU emulator version %s (Test)'; exit; }\n" \
             "exec /usr/bin/qemu-system-x86_64 \"$@\"\n"
    emulator.write_text(script % "7.2.0")
    emulator.chmod(0o755)
    xml = machine.xml("web1").replace("<devices>", f"<devices><emulator>{emulator}</emulator>")
    kho("define", "-", input=xml)
    kho("start", "web1")
    kho("save", "web1", "web1.save")
    emulator.write_text(script % "7.1.9")
    refused(kho, "restore", "web1.save", says=["was written by QEMU 7.2.", "is QEMU 7.1.9", "older"])
    refused(kho, "restore", "web1.save", "--force", says="older")
    emulator.write_text("#!/bin/sh\nexit 1\n")
    refused(kho, "restore", "web1.save", says="tells no version")
    emulator.write_text(script % "8.0.0")
    kho("restore", "web1.save")
    kho("destroy", "web1")


def mend_page(data):
    struct.pack_into(">I", data, 16, 0)
    struct.pack_into(">I", data, 16, zlib.crc32(bytes(data[:PAGE])))


def flip(at):
    def damage(data):
        data[at(data) if callable(at) else at] ^= 0x40
    return damage


def cut(at):
    def damage(data):
        del data[at(data):]
    return damage


def stream_of(data):
    """(begin, length) of QEMU's stream."""
    return struct.unpack_from(">QQ", data, 40)


def unfinished(data):
    struct.pack_into(">I", data, 12, 0)
    mend_page(data)


def newer(data):
    struct.pack_into(">I", data, 8, 2)
    mend_page(data)


def other_machine_type(data):
    """A sound file that QEMU itself refuses: its memory is of another kind of machine."""
    at = data.index(b"pc-i440fx-7.2", PAGE)
    data[at:at + 13] = b"pc-i440fx-7.1"
    live, inactive = struct.unpack_from(">II", data, 24)
    struct.pack_into(">I", data, 20, zlib.crc32(bytes(data[PAGE:PAGE + live + inactive])))
    mend_page(data)


DAMAGED = {
    "magic": (flip(0), "no save file of kho"), "version": (newer, ["version 2", "newer kho"]),
    "first page": (flip(100), "first page"), "xml": (flip(PAGE + 50), "its XML"),
    "stream": (flip(lambda data: sum(stream_of(data)) // 2), "its memory"),
    "stream's end": (flip(lambda data: sum(stream_of(data)) - 1), "its memory"),
    "list of disks": (flip(lambda data: sum(stream_of(data)) + 3), "list of disks"),
    "empty": (cut(lambda data: 0), "no save file of kho"), "cut in the page": (cut(lambda data: 1000), "no save file of kho"),
    "cut in the xml": (cut(lambda data: PAGE + 100), "ends within its XML"),
    "cut in the stream": (cut(lambda data: len(data) // 2), "truncated"),
    "cut at the end": (cut(lambda data: len(data) - 1), "truncated"), "unfinished": (unfinished, "not whole"),
    "another machine type": (other_machine_type, ["QEMU", "web1"]),
}


def test_damaged_files(kho, file, disk):
    """By hand and as a managed save; the disks and the good file are not touched."""
    good = file.read_bytes()
    kept = kho.root / "lib/qemu/save/web1.save"
    before = disk.read_bytes()
    for name, (damage, says) in DAMAGED.items():
        data = bytearray(good)
        damage(data)
        file.write_bytes(data)
        refused(kho, "restore", file, says=says)
        kept.write_bytes(data)
        ran = refused(kho, "start", "web1", says=says)
        assert "kho start --force-boot web1" in ran.err, (name, ran)
        assert kho("domstate", "web1").out == "shut off\n" and steps.entries(kho) == [], name
    kept.unlink()
    for other, says in [(disk, "no save file"), (kho.tmp, "not a regular file"), ("/dev/null", "not a regular file"),
                        (kho.tmp / "none", "none")]:
        refused(kho, "restore", other, says=says)
        refused(kho, "save-image-dumpxml", other, says=says)
    assert disk.read_bytes() == before
    file.write_bytes(good)
    kho("restore", file)
    counter.wait_counting(kho, "web1", counter.look(kho, "web1")[0] + 1)
    kho("destroy", "web1")


def test_random_damage(kho, file, rng):
    """One bit anywhere."""
    good = file.read_bytes()
    for _ in range(200 if harness.SOAK else 10):
        data = bytearray(good)
        at = rng.randrange(len(data)) if rng.random() < 0.7 else rng.randrange(3 * PAGE)
        data[at] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        begin, length = stream_of(good)
        if data[:PAGE] == good[:PAGE] and not PAGE <= at < PAGE + sum(struct.unpack_from(">II", good, 24)) \
                and not begin <= at < len(good):
            continue  # between the XML and the stream stands nothing
        refused(kho, "restore", file)
    file.write_bytes(good)
    kho("restore", file)
    kho("destroy", "web1")


# ---- on the way ----

def go_on_counting(kho):
    counter.wait_counting(kho, "web1", counter.look(kho, "web1")[0] + 1)


def test_cancelled_save(kho, disk):
    """Ctrl-C while QEMU writes: the guest goes on within two seconds, no file is left."""
    before = sorted(kho.tmp.iterdir())
    child = steps.stopped(kho, "save:save-memory:before", "save", "web1", kho.tmp / "web1.save")
    child.send_signal(signal.SIGINT)
    start = time.monotonic()
    err = steps.go_on(child, status=130)
    assert "cancelled" in err and time.monotonic() - start < 20  # 2 s on an idle machine: the benchmark's business
    assert sorted(kho.tmp.iterdir()) == before and steps.entries(kho) == []
    assert kho("domstate", "web1", "--reason").out == "running (save canceled)\n"
    go_on_counting(kho)
    kho("suspend", "web1")
    child = steps.stopped(kho, "save:save-memory:before", "managedsave", "web1")
    child.send_signal(signal.SIGINT)
    steps.go_on(child, status=130)
    assert kho("domstate", "web1", "--reason").out == "paused (user)\n"
    kho("resume", "web1")
    go_on_counting(kho)
    kho("destroy", "web1")


def test_cancelled_at_any_moment(kho, disk, rng):
    """Saved, or as before: whatever Ctrl-C met."""
    file = kho.tmp / "web1.save"
    for _ in range(100 if harness.SOAK else 8):
        child = kho.spawn("save", "web1", file)
        try:
            child.wait(timeout=rng.uniform(0.02, 0.4))
        except Exception:
            child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=harness.HANG_GUARD_S)
        if child.returncode == 0:
            assert kho("domstate", "web1", "--reason").out == "shut off (saved)\n"
            kho("restore", file)
            file.unlink()
        else:
            assert b"cancelled" in err or child.returncode < 0, err
            assert not file.exists()
        assert sorted(kho.tmp.iterdir()) == [disk] and steps.entries(kho) == []
        go_on_counting(kho)
    kho("destroy", "web1")


def test_cancelled_restore(kho, file):
    for where in ["resume:set-aside:before", "resume:start-paused:before", "resume:run:before"]:
        child = steps.stopped(kho, where, "restore", file)
        child.send_signal(signal.SIGINT)
        before = file.read_bytes()
        assert "cancelled" in steps.go_on(child, status=130), where
        assert kho("domstate", "web1").out == "shut off\n" and steps.entries(kho) == []
        assert bytearray(file.read_bytes()) == before
    kho("restore", file)
    kho("destroy", "web1")


def test_meanwhile(kho, disk):
    """While it is saved it can be looked at, suspended and destroyed, and not let go or changed."""
    child = steps.stopped(kho, "save:save-memory:after", "save", "web1", kho.tmp / "web1.save")
    assert kho("domstate", "web1", "--reason").out == "paused (saving)\n"
    kho.refuses("resume", "web1", says=["is paused for a save to", "kho save"])
    kho.refuses("managedsave", "web1", says="is busy: save to")
    kho.refuses("undefine", "web1", says="is busy: save to")
    kho("suspend", "web1")
    kho("destroy", "web1")
    steps.go_on(child)  # what was written is whole: destroyed or not, it is saved
    kho("restore", kho.tmp / "web1.save")
    go_on_counting(kho)
    child = steps.stopped(kho, "save:save-memory:before", "managedsave", "web1")
    kho("destroy", "web1")
    assert "not saved" in steps.go_on(child, status=5)
    assert kho("domstate", "web1", "--reason").out == "shut off (destroyed)\n"
    assert list((kho.root / "lib/qemu/save").iterdir()) == []


def test_let_go_behind_our_back(kho, disk):
    """A guest that somebody else's QMP let go when all was written is not ended: what it writes now is in no file."""
    for more in [[], ["stop"]]:
        child = steps.stopped(kho, "save:publish:before", "save", "web1", kho.tmp / "web1.save")
        with machine.qmp(kho, "web1") as client:
            for command in ["cont", *more]:
                client.ask(command)
        assert "was let go on, or reset, while it was saved" in steps.go_on(child, status=8)
        assert sorted(kho.tmp.iterdir()) == [disk]
        go_on_counting(kho)
    kho("destroy", "web1")


def test_a_file_that_comes_meanwhile(kho, disk):
    """Nobody's file is replaced that was not there when the save was asked for."""
    file = kho.tmp / "web1.save"
    child = steps.stopped(kho, "save:save-memory:before", "save", "web1", file)
    file.write_text("of value")
    assert str(file) in steps.go_on(child, status=4)
    assert file.read_text() == "of value" and sorted(kho.tmp.iterdir()) == [disk, file]
    assert kho("domstate", "web1", "--reason").out == "running (save canceled)\n"
    go_on_counting(kho)
    kho("destroy", "web1")


def test_a_paused_guest_whose_save_failed_at_the_end(kho, disk):
    """QEMU has let go of its disks then, and would abort if it were to write its memory once more."""
    kho("suspend", "web1")
    file = kho.tmp / "web1.save"
    child = steps.stopped(kho, "save:publish:before", "save", "web1", file)
    file.mkdir()
    steps.go_on(child, status=4)
    file.rmdir()
    assert kho("domstate", "web1", "--reason").out == "paused (user)\n"
    refused(kho, "save", "web1", file, says=["web1", "kho resume"])
    kho("resume", "web1")
    go_on_counting(kho)
    kho("save", "web1", file)
    kho("restore", file)
    go_on_counting(kho)
    kho("destroy", "web1")
