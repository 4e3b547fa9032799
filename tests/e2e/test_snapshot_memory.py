"""Snapshots with the machine's memory: the guest goes on at that instant, its processes and its disks in step."""

import os
import signal

import booted
import harness
import layers
import machine
import pytest
import steps

EXISTS, INVALID, CORRUPT, BUSY, NO_SPACE, CANCELLED = 4, 5, 7, 8, 10, 130

# A process that keeps its file open: line n is n.
OPEN_FILE = ("(exec 5>>/run/lines; n=0; while :; do n=$((n+1)); echo $n >&5; usleep 20000; done) </dev/null >/dev/null 2>&1 &")


def lines(line):
    """How far the open file goes; it must hold every number once."""
    last = int(line.run("tail -n 1 /run/lines"))
    assert line.run(f"head -n {last} /run/lines | awk '$1 != NR' | head -n 1") == ""
    return last


def until(line, records):
    line.run(f"while ! dd if=/dev/vdb bs=512 skip={records} count=1 2>/dev/null | grep -q {records}; do :; done")


def test_memory_goes_with_all_disks_that_are_written(kho):
    """One that is left out would have moved on by the revert. What the guest cannot write may be."""
    m = layers.Machine(kho, formats=("qcow2",))
    spare = machine.make_image(kho.base / "spare.qcow2")
    shared, only_read = kho.base / "shared.img", kho.base / "read.qcow2"
    kho("define", "-", input=machine.xml(
        "m", machine.disk(m.folder / "vda.qcow2"), machine.disk(spare, "vdb"),
        machine.disk(machine.make_image(only_read), "vdc", more="<readonly/>"),
        machine.disk(machine.make_image(shared, format="raw"), "vdd", "raw", more="<shareable/>"), uuid=kho("domuuid", "m").out.strip()))
    kho("start", "m")
    before = machine.kept(kho)
    out_d = ("--diskspec", "vdd,snapshot=no")
    kho.refuses("snapshot-create-as", "m", "s", status=INVALID, says=["vdd", "--disk-only --diskspec vdd,snapshot=no"])
    kho.refuses("snapshot-create-as", "m", "s", *out_d, status=INVALID, says=["vdd", "--disk-only"])
    kho.refuses("snapshot-create-as", "m", "s", *out_d, "--diskspec", "vdb,snapshot=no", status=INVALID,
                says=["disk vdb", "--disk-only, or let the disk take part"])
    assert machine.kept(kho) == before
    kho("snapshot-create-as", "m", "s", *out_d, "--diskspec", "vdb,snapshot=no", "--disk-only")
    kho("destroy", "m")
    kho("detach-disk", "m", "vdd", "--config")
    kho("start", "m")
    kho("snapshot-create-as", "m", "t", "--diskspec", "vdc,snapshot=no")
    assert kho.json("snapshot-info", "m", "t")["memory-file"]
    kho("destroy", "m")


def test_the_guest_goes_on_at_that_instant(kho):
    m = layers.Machine(kho, define=booted.define)
    kho("start", "m")
    with booted.line(kho, "m") as line:
        line.wait_ready()
        line.run("count start")
        line.run(OPEN_FILE)
        line.run(layers.LOG)
        until(line, 5)
        counted, written = int(line.run("count")), lines(line)
        assert kho("snapshot-create-as", "m", "s1").out == "Domain snapshot s1 created\n"
        one = kho.json("snapshot-info", "m", "s1")
        assert one["state"] == "running" and one["memory-file"] and one["pause-ms"] is not None
        m.check()
        after = int(line.run("count"))
        until(line, 20)  # it went on
        assert int(line.run("count")) > after
        kho("snapshot-create-as", "m", "s2", "--memspec", f"file={kho.base}/my.mem")
        until(line, 25)
    closed = layers.closed(m, "s1")
    first = layers.agreed(closed)
    assert kho("snapshot-revert", "m", "s1").out == "Domain snapshot s1 reverted\n"
    assert kho("domstate", "m", "--reason").out == "running (from snapshot)\n"
    with booted.line(kho, "m") as line:
        line.wait_ready()
        # less than a second of the guest's has passed since, whatever passed here
        assert counted <= int(line.run("count")) < after + 40 and lines(line) >= written
        until(line, first + 5)
    m.check()
    kho("snapshot-revert", "m", "s2", "--paused")
    assert kho("domstate", "m", "--reason").out == "paused (from snapshot)\n"
    kho("resume", "m")
    with booted.line(kho, "m") as line:
        line.wait_ready()
        assert lines(line) > written
        until(line, layers.agreed(layers.closed(m, "s2")) + 3)
    kho("destroy", "m")
    m.check()
    assert layers.agreed(m.disks()) > layers.agreed(layers.closed(m, "s2")) > first
    # the memory goes with the snapshot, wherever it is
    kho("snapshot-delete", "m", "s2")
    assert not (kho.base / "my.mem").exists()
    m.check()



@pytest.mark.parametrize("below, above", [(1024, 64), (64, 1024)], ids=["down", "up"])
def test_after_a_delete_under_the_guest_memory_can_be_written(kho, below, above):
    """The layer that is left was opened as a lower one, or lay over one: QEMU lets go of it and takes it again as of any."""
    m = layers.Machine(kho)
    for target in m.targets:
        m.write(target, 1, 0, below)
    kho("snapshot-create-as", "m", "s1")
    for target in m.targets:
        m.write(target, 2, 2048, above)
    kho("start", "m")
    kho("snapshot-delete", "m", "s1")
    kho("snapshot-create-as", "m", "s2")
    kho("snapshot-revert", "m", "s2")
    assert kho("domstate", "m").out == "running\n"
    kho("managedsave", "m")
    kho("start", "m")
    assert kho("domstate", "m", "--reason").out == "running (restored)\n"
    kho("destroy", "m")
    m.check()


def test_paused_machines(kho):
    m = layers.Machine(kho)
    kho("start", "m", "--paused")
    kho("snapshot-create-as", "m", "s1")
    one = kho.json("snapshot-info", "m", "s1")
    assert one["state"] == "paused" and one["pause-ms"] is None and kho("domstate", "m").out == "paused\n"
    # QEMU has let go of its images until the guest goes on
    kho.refuses("snapshot-create-as", "m", "s2", says=["resume", "'m'"])
    kho.refuses("snapshot-delete", "m", "s1", status=BUSY, says="kho resume")
    m.check()
    # which nothing but that ends: a reset does not, and a later kho-vm knows of it
    kho("reset", "m")
    machine.kill(machine.supervisor_pid(kho, "m"))
    kho.refuses("save", "m", kho.tmp / "m.save", says="kho resume")
    kho.refuses("snapshot-create-as", "m", "s2", says=["resume", "'m'"])
    kho.refuses("snapshot-delete", "m", "s1", status=BUSY, says="kho resume")
    assert kho("domstate", "m").out == "paused\n"
    m.check()
    kho("snapshot-create-as", "m", "s2", "--disk-only")
    kho("resume", "m")
    kho("snapshot-create-as", "m", "s3")
    kho("snapshot-delete", "m", "s1")
    m.check()
    kho("suspend", "m")
    kho("snapshot-revert", "m", "s3")
    assert kho("domstate", "m").out == "running\n"
    kho("snapshot-revert", "m", "s3", "--paused")
    assert kho("domstate", "m", "--reason").out == "paused (from snapshot)\n"
    kho("snapshot-create-as", "m", "s4")
    kho("destroy", "m")
    m.check()


def test_what_is_refused(kho, small_fs):
    m = layers.Machine(kho)
    kho("start", "m")
    taken, disk = kho.base / "taken", small_fs("ext4", 32)
    taken.write_text("mine")
    old = m.state()
    kho.refuses("snapshot-create-as", "m", "s1", "--memspec", f"file={taken}", status=EXISTS, says="taken")
    kho.refuses("snapshot-create-as", "m", "s1", "--memspec", f"file={disk.path}/mem", status=NO_SPACE,
                says=["may need", "left", str(disk.path)])
    kho.refuses("snapshot-create-as", "m", "s1", "--memspec", f"file={kho.base}/no/mem", says="no")
    assert m.state() == old and taken.read_text() == "mine" and kho("domstate", "m").out == "running\n"
    m.check()
    kho("destroy", "m")


def test_a_damaged_memory_is_seen_before_anything_is_given_up(kho):
    m = layers.Machine(kho)
    kho("start", "m")
    kho("snapshot-create-as", "m", "s1")
    path = kho.json("snapshot-info", "m", "s1")["memory-file"]
    old, size = m.state(), os.path.getsize(path)
    with open(path, "r+b") as file:
        file.seek(size // 2)
        byte = file.read(1)
        file.seek(size // 2)
        file.write(bytes([byte[0] ^ 1]))
    kho.refuses("snapshot-revert", "m", "s1", status=CORRUPT, says=[path, "damaged", "without that file", "--force m s1"])
    os.truncate(path, size // 2)
    kho.refuses("snapshot-revert", "m", "s1", status=CORRUPT, says=[path, "truncated", "--force m s1"])
    os.unlink(path)
    kho.refuses("snapshot-revert", "m", "s1", says=[path, "'s1'", "--force m s1"])
    assert m.state() == old and kho("domstate", "m").out == "running\n"
    kho("snapshot-revert", "m", "s1", "--force")
    assert kho("domstate", "m").out == "shut off\n" and m.now() == old["snapshots"]["s1"]["disks"]
    kho("snapshot-revert", "m", "s1", "--force", "--running")
    assert kho("domstate", "m", "--reason").out == "running (booted)\n"
    kho("snapshot-delete", "m", "s1")
    kho("destroy", "m")
    m.check()


def test_a_managed_save_and_snapshots_do_not_mix(kho):
    m = layers.Machine(kho)
    kho("start", "m")
    kho("snapshot-create-as", "m", "s1")
    kho("managedsave", "m")
    for verb in [("snapshot-create-as", "m", "s2"), ("snapshot-revert", "m", "s1"), ("snapshot-delete", "m", "s1")]:
        kho.refuses(*verb, status=INVALID, says=["managed save", "managedsave-remove m"])
    kho("start", "m")
    kho("snapshot-delete", "m", "s1")
    kho("destroy", "m")
    m.check()


def cancel(kho, point, *args):
    """Ctrl-C at a point of a step."""
    child = layers.stop_at(kho, point, *args)
    assert child, f"it does not come to {point}"
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGCONT)
    child.wait(timeout=harness.HANG_GUARD_S)
    assert child.returncode == CANCELLED, child.communicate()


def test_cancelled(kho):
    m = layers.Machine(kho)
    kho("start", "m")
    kho("snapshot-create-as", "m", "s1")
    m.check()
    old = m.state()
    cancel(kho, "snapshot-create:save-memory:before", "snapshot-create-as", "m", "s2")
    assert m.state() == old and kho("domstate", "m").out == "running\n"
    m.check()
    cancel(kho, "snapshot-revert:make-overlays:before", "snapshot-revert", "m", "s1")
    assert m.state() == old and kho("domstate", "m").out == "running\n"
    m.check()
    cancel(kho, "snapshot-delete:merge:before", "snapshot-delete", "m", "s1")
    kho("snapshot-list", "m")
    assert layers.without_marks(m.state()) in (old, layers.without_marks({**old, "snapshots": {
        "s1": {**old["snapshots"]["s1"], "deleting": True}}}))
    kho("snapshot-delete", "m", "s1")
    kho("destroy", "m")
    m.check()
    cancelled = m.now()
    kho("snapshot-create-as", "m", "s1")
    cancel(kho, "snapshot-delete:merge:before", "snapshot-delete", "m", "s1")
    assert m.now() == cancelled and not m.snapshots()[0]["deleting"]
    m.check()


def test_its_memory_is_not_restored_by_hand(kho):
    """Its guest would write the files that the snapshot closed."""
    m = layers.Machine(kho)
    kho("start", "m")
    kho("snapshot-create-as", "m", "s1")
    file, copied = kho.json("snapshot-info", "m", "s1")["memory-file"], kho.base / "copied.mem"
    harness.run(["cp", file, copied])
    kho("destroy", "m")
    old = m.state()
    for path in [file, copied]:
        for more in [[], ["--force"]]:
            kho.refuses("restore", path, *more, status=INVALID, says=[str(path), "snapshot 's1'", "kho snapshot-revert m s1"])
    assert m.state() == old and kho("domstate", "m").out == "shut off\n"
    kho("snapshot-delete", "m", "s1")
    kho.refuses("restore", copied, "--force", status=INVALID, says=[str(copied), "machine 'm' has no more"])


# --- who lets it go --------------------------------------------------------------------------------------------------------

def reason(kho):
    return kho("domstate", "m", "--reason").out.strip()


@pytest.mark.parametrize("point", ["save-memory:before", "save-memory:after", "switch:before", "switch:after"])
def test_resume_waits_for_the_disks(kho, point):
    m = layers.Machine(kho)
    kho("start", "m", "--paused")
    before = reason(kho)
    child = steps.stopped(kho, f"snapshot-create:{point}", "snapshot-create-as", "m", "s1")
    kho.refuses("resume", "m", status=BUSY, says=["machine 'm'", "snapshot-create of 's1'", f"pid {child.pid}"])
    steps.go_on(child)
    assert reason(kho) == before
    kho("resume", "m")
    m.check()
    kho("destroy", "m")


def test_a_pause_that_is_the_users_stays(kho):
    m = layers.Machine(kho)
    kho("start", "m")
    child = steps.stopped(kho, "snapshot-create:save-memory:before", "snapshot-create-as", "m", "s1")
    kho("suspend", "m")
    steps.go_on(child)
    assert reason(kho) == "paused (user)"
    kho("resume", "m")
    child = steps.stopped(kho, "snapshot-create:switch:before", "snapshot-create-as", "m", "s2")
    assert reason(kho) == "paused (creating snapshot)"
    kho.refuses("resume", "m", status=BUSY, says="snapshot-create of 's2'")
    kho("suspend", "m")
    steps.go_on(child)
    assert reason(kho) == "paused (user)"
    kho("destroy", "m")
    m.check()


@pytest.mark.parametrize("first", ["running", "paused"])
def test_a_delete_holds_the_guest_until_its_file_is_named(kho, first):
    m = layers.Machine(kho, formats=("qcow2",))
    m.write("vda", 1, 0, 2048)
    kho("start", "m", *(["--paused"] if first == "paused" else []))
    kho("snapshot-create-as", "m", "s1", "--disk-only")
    child = steps.stopped(kho, "snapshot-delete:merge:before", "snapshot-delete", "m", "s1")
    if first == "paused":  # while it copies, the guest is its owner's
        kho("resume", "m")
        kho("suspend", "m")
    steps.kill(child)
    kho("recover", "m")
    child = steps.stopped(kho, "snapshot-delete:rewire:before", "snapshot-delete", "m", "s1")
    assert reason(kho) == {"running": "paused (creating snapshot)", "paused": "paused (held: user)"}[first]
    kho.refuses("resume", "m", status=BUSY, says="snapshot-delete of 's1'")
    if first == "running":
        kho("suspend", "m")
    steps.go_on(child)
    assert reason(kho) == "paused (user)"
    kho("resume", "m")
    kho("destroy", "m")
    m.check()


@pytest.mark.parametrize("more", [[], ["stop"]])
def test_let_go_behind_our_back(kho, more):
    """Somebody else's QMP: the memory no longer fits, and goes."""
    m = layers.Machine(kho)
    kho("start", "m")
    old = m.state()
    child = steps.stopped(kho, "snapshot-create:switch:before", "snapshot-create-as", "m", "s1")
    with machine.qmp(kho, "m") as client:
        for command in ["cont", *more]:
            client.ask(command)
    assert "was let go, or reset, when its memory had been written" in steps.go_on(child, status=BUSY)
    assert m.state() == old and reason(kho).split()[0] == ("paused" if more else "running")
    m.check()
    kho("destroy", "m")
