"""Disks plugged in and taken out: in the machine that runs, in its definition, in both at once, or nowhere."""

import os
import signal
import subprocess
import types

import booted
import harness
import layers
import machine
import pytest
import steps as steps_of


def make(kho, name, size="16M", format="qcow2", *more):
    path = kho.tmp / name
    kho("img", "create", "-f", format, path, size, *more)
    return path


BUSY = 8

ACPI = "<features><acpi/></features>"


def targets(kho, name, inactive=False):
    return [row["target"] for row in kho.json("domblklist", name, *(["--inactive"] if inactive else []))]


def test_a_guest_uses_a_plugged_disk(kho):
    make(kho, "base.qcow2")
    kho("img", "create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", kho.tmp / "data.qcow2")
    booted.define(kho, "guest")
    kho("start", "guest")
    with booted.line(kho, "guest") as line:
        line.wait_ready()
        assert kho("attach-disk", "guest", kho.tmp / "data.qcow2", "vdb", "--live", "--config", "--serial",
                   "S1").out == "Disk attached successfully\n"
        assert targets(kho, "guest") == targets(kho, "guest", inactive=True) == ["vdb"]
        line.run("until [ -b /dev/vda ]; do usleep 10000; done", timeout=30)
        assert line.run("cat /sys/block/vda/serial").strip() == "S1"
        line.run("mkfs.ext4 -q -F /dev/vda && mkdir -p /mnt/a && mount /dev/vda /mnt/a && echo hello >/mnt/a/file && sync")
        held = kho.refuses("attach-disk", "guest", kho.tmp / "data.qcow2", "vdc", "--live")
        assert "guest" in held.err
        said = line.run("umount /mnt/a; sha256sum </dev/vda").split()[0]
        assert kho("detach-disk", "guest", "vdb", "--live", "--config").out == "Disk detached successfully\n"
        line.run("until [ ! -b /dev/vda ]; do usleep 10000; done", timeout=30)
    assert targets(kho, "guest") == targets(kho, "guest", inactive=True) == []
    # nothing holds the image any more, and it holds what the guest wrote
    kho("img", "convert", "-O", "raw", kho.tmp / "data.qcow2", kho.tmp / "data.raw")
    assert subprocess.check_output(["sha256sum", kho.tmp / "data.raw"], text=True).split()[0] == said
    kho("destroy", "guest")


def test_either_place_alone(kho):
    one, two = make(kho, "one.qcow2"), make(kho, "two.img", "1M", "raw")
    machine.define(kho, "web1", more=ACPI)
    kho("attach-disk", "web1", one, "vda", "--config")
    assert targets(kho, "web1", inactive=True) == ["vda"]
    kho("start", "web1")
    kho("attach-disk", "web1", two, "vdb", "--live")
    assert targets(kho, "web1") == ["vda", "vdb"] and targets(kho, "web1", inactive=True) == ["vda"]
    row = kho.json("domblklist", "web1", "--details")[1]
    assert row["source"] == str(two) and row["format"] == "raw"
    kho("detach-disk", "web1", "vda", "--config")
    assert targets(kho, "web1") == ["vda", "vdb"] and targets(kho, "web1", inactive=True) == []
    kho("destroy", "web1")
    assert targets(kho, "web1") == []
    kho("attach-disk", "web1", one, "vda", "--persistent")
    assert targets(kho, "web1") == ["vda"]


def test_refusals_change_nothing(kho):
    one, two = make(kho, "one.qcow2"), make(kho, "two.qcow2")
    (kho.tmp / "text.qcow2").write_text("no image")
    os.mkfifo(kho.tmp / "pipe")
    machine.define(kho, "web1", machine.disk(one), more=ACPI)
    kho("start", "web1")
    live, definition = kho("dumpxml", "web1").out, kho("dumpxml", "web1", "--inactive").out
    both = ("--live", "--config")
    kho.refuses("attach-disk", "web1", two, "vda", *both, says=["has a disk vda already", "one.qcow2"])
    kho.refuses("attach-disk", "web1", one, "vdb", *both, says="web1")
    link = kho.tmp / "link.qcow2"
    os.link(one, link)
    for same in (one, link):  # which a start would refuse
        kho.refuses("attach-disk", "web1", same, "vdb", "--config", status=4, says=["is disk vda", "a file of its own"])
        kho.refuses("attach-disk", "web1", same, "vdb", "--config", "--mode", "readonly", status=4, says="is disk vda")
    link.unlink()
    kho.refuses("attach-disk", "web1", kho.tmp / "none.qcow2", "vdb", *both, says="none.qcow2", status=3)
    kho.refuses("attach-disk", "web1", kho.tmp / "text.qcow2", "vdb", *both, "--subdriver", "qcow2", says="text.qcow2")
    kho.refuses("attach-disk", "web1", kho.tmp / "pipe", "vdb", *both, "--subdriver", "raw", says="pipe")
    kho.refuses("attach-disk", "web1", kho.tmp, "vdb", *both, "--subdriver", "raw")
    kho.refuses("attach-disk", "web1", two, "nonsense", *both, says="nonsense")
    kho.refuses("attach-disk", "web1", two, "sdb", *both, says="scsi")
    kho.refuses("attach-disk", "web1", two, "hdb", "--live")
    kho.refuses("attach-disk", "web1", two, "vdb", "--current", "--live", says="--current")
    kho.refuses("attach-disk", "web2", two, "vdb", says="web2", status=3)
    kho.refuses("detach-disk", "web1", "vdz", *both, says=["no disk 'vdz'", "domblklist"], status=3)
    os.rename(two, kho.tmp / "unclear.img")
    kho.refuses("attach-disk", "web1", kho.tmp / "unclear.img", "vdb", says="--subdriver")
    assert (kho("dumpxml", "web1").out, kho("dumpxml", "web1", "--inactive").out) == (live, definition)
    kho("destroy", "web1")
    kho.refuses("attach-disk", "web1", kho.tmp / "unclear.img", "vdb", "--subdriver", "qcow2", "--live",
                says=["not running", "--config"])


def test_a_machine_without_acpi(kho):
    machine.define(kho, "web1")
    kho("start", "web1")
    kho.refuses("attach-disk", "web1", make(kho, "one.qcow2"), "vdb", "--live", "--config", says=["<acpi/>", "--config"])
    assert targets(kho, "web1", inactive=True) == []
    kho("destroy", "web1")


def test_a_guest_that_keeps_its_disk(kho):
    """The firmware never lets go: all stays as it was, and the definition with it."""
    one = make(kho, "one.qcow2")
    machine.define(kho, "web1", machine.disk(one), more=ACPI)
    kho("start", "web1")
    definition = kho("dumpxml", "web1", "--inactive").out
    refused = kho.refuses("detach-disk", "web1", "vda", "--live", "--config", says=["did not let go", "unmounted"])
    assert refused.seconds < 20
    assert kho("dumpxml", "web1", "--inactive").out == definition
    assert targets(kho, "web1") == ["vda"]
    kho("destroy", "web1")


def steps(kho, change):
    lines = harness.run([kho.program, "--steps"]).out.splitlines()
    return [line.split()[1] for line in lines if line.split()[0] == change]


def moments(kho, change):
    return [(step, moment) for step in steps(kho, change) for moment in ("before", "after", "marked")]


def killed(kho, change, step, moment, victim, *words):
    """Runs a verb until it stops at that moment, and kills the victim there; whoever still lives goes on to its end."""
    child = kho.spawn(*words, env={"KHO_STOP_AT": f"{change}:{step}:{moment}"})
    harness.wait_for(f"{words[0]} to stop {moment} {step}", lambda: machine.is_stopped(child.pid))
    machine.kill({"kho": lambda: child.pid, "kho-vm": lambda: machine.supervisor_pid(kho, "web1"),
                  "qemu": lambda: machine.qemu_pid(kho, "web1")}[victim]())
    if victim != "kho":
        child.send_signal(signal.SIGCONT)
    child.communicate(timeout=60)


def test_killed_at_every_step(kho):
    one, two = make(kho, "one.qcow2"), make(kho, "two.qcow2")
    machine.define(kho, "web1", machine.disk(one), more=ACPI)
    old = kho("dumpxml", "web1", "--inactive").out
    victims = ("kho", "kho-vm", "qemu")
    matrix = [(step, moment, victim) for i, (step, moment) in enumerate(moments(kho, "attach-disk"))
              for victim in (victims if harness.SOAK else [victims[i % 3]])]
    seen = set()
    for step, moment, victim in matrix:
        at = f"{victim} killed {moment} {step}"
        kho("start", "web1")
        killed(kho, "attach-disk", step, moment, victim, "attach-disk", "web1", two, "vdb", "--live", "--config")
        state = kho("domstate", "web1").out.strip()
        assert state == ("shut off" if victim == "qemu" else "running"), at
        assert kho("recover").out == "Nothing to recover\n", at
        inactive = targets(kho, "web1", inactive=True)
        assert inactive in (["vda"], ["vda", "vdb"]), at
        if state == "running":
            assert targets(kho, "web1") == inactive, at
            kho("destroy", "web1")
        seen.add(len(inactive))
        if inactive == ["vda"]:
            assert kho("dumpxml", "web1", "--inactive").out == old, at
        else:
            kho("detach-disk", "web1", "vdb", "--config")
        kho("img", "check", two)
        harness.wait_for("nothing to be left", lambda: not kho.leftovers())
    assert seen == {1, 2}


def nodes_and_sets(kho, name):
    with machine.qmp(kho, name) as client:
        return ({node["node-name"] for node in client.ask("query-named-block-nodes", flat=True)},
                {row["fdset-id"] for row in client.ask("query-fdsets")})


@pytest.fixture
def guest(kho):
    """A guest that obeys, with one disk; a file for another; and what QEMU has open for the first."""
    one, two = make(kho, "one.qcow2"), make(kho, "two.qcow2")
    booted.define(kho, "guest", machine.disk(one))
    kho("start", "guest")
    with booted.line(kho, "guest") as line:
        line.wait_ready()
        yield types.SimpleNamespace(line=line, two=two, before=nodes_and_sets(kho, "guest"))
    kho("destroy", "guest")


def test_a_guest_that_lets_go_late(kho, guest):
    """Paused it cannot let go in time: who asked is told so, and what is left to do is done when the guest has, though kho-vm
    was another one when that was asked. The definition is as it was; the next detach finishes it."""
    for dead in ("nobody", "kho-vm", "kho"):
        kho("attach-disk", "guest", guest.two, "vdb", "--live", "--config")
        guest.line.run("until [ -b /dev/vdb ]; do usleep 10000; done", timeout=30)
        kho("suspend", "guest")
        words = ("detach-disk", "guest", "vdb", "--live", "--config")
        if dead == "kho":
            steps_of.kill(steps_of.stopped(kho, "detach-disk:unplug:undo", *words))
            kho("recover")
        else:
            kho.refuses(*words, status=12, says="did not let go")
        if dead == "kho-vm":
            machine.kill(machine.supervisor_pid(kho, "guest"))
        kho("resume", "guest")
        harness.wait_for("the guest to let go", lambda: targets(kho, "guest") == ["vda"])
        assert targets(kho, "guest", inactive=True) == ["vda", "vdb"], dead
        assert nodes_and_sets(kho, "guest") == guest.before, dead
        assert kho("recover").out == "Nothing to recover\n"
        kho("img", "resize", guest.two, "+1M")  # nobody holds it
        kho(*words)
        assert targets(kho, "guest", inactive=True) == ["vda"], dead
        kho.refuses(*words, status=3, says="no disk 'vdb'")
    kho("snapshot-create-as", "guest", "s1", "--disk-only")


def test_a_disk_goes_with_what_lies_on_it_by_then(kho, guest):
    """A snapshot is taken between the asking and the letting go."""
    kho("attach-disk", "guest", guest.two, "vdb", "--live", "--config")
    kho("suspend", "guest")
    kho.refuses("detach-disk", "guest", "vdb", "--live", status=12, says="did not let go")
    kho("snapshot-create-as", "guest", "s1", "--disk-only")
    grown = nodes_and_sets(kho, "guest")
    assert grown != guest.before
    kho("resume", "guest")
    harness.wait_for("the guest to let go", lambda: targets(kho, "guest") == ["vda"])
    left = nodes_and_sets(kho, "guest")
    assert len(left[0]) == len(guest.before[0]) + 2 and len(left[1]) == len(guest.before[1]) + 1, left  # vda's overlay


def lets_go_late(kho, guest, where, *words):
    """A verb, stopped; while it is, the guest lets go of vdb, which it was asked for before."""
    kho("attach-disk", "guest", guest.two, "vdb", "--live", "--config")
    guest.line.run("until [ -b /dev/vdb ]; do usleep 10000; done", timeout=30)
    if words[0] == "snapshot-delete":
        kho("snapshot-create-as", "guest", words[2], "--disk-only")
        guest.line.run("for d in vda vdb; do echo $d | dd of=/dev/$d conv=fsync; done", timeout=30)
    kho("suspend", "guest")
    kho.refuses("detach-disk", "guest", "vdb", "--live", status=12, says="did not let go")
    child = steps_of.stopped(kho, where, *words)
    with machine.qmp(kho, "guest") as client:
        client.ask("cont")
    harness.wait_for("the guest to let go", lambda: targets(kho, "guest") == ["vda"])
    return child


def contents(kho):
    return {row["target"]: layers.content(row["source"], "qcow2") for row in kho.json("domblklist", "guest", "--inactive")}


def test_a_disk_goes_while_a_snapshot_is_taken(kho, guest):
    """Nothing of it is kept; where no disk is left that tells how far it had come, it is finished: nothing is lost by that."""
    take = ("snapshot-create-as", "guest", "s1", "--disk-only")
    child = lets_go_late(kho, guest, "snapshot-create:make-overlays:marked", *take)
    assert "let go of disk vdb" in steps_of.go_on(child, status=BUSY)
    assert steps_of.entries(kho) == [] and kho.json("snapshot-list", "guest") == []
    assert nodes_and_sets(kho, "guest") == guest.before
    kho("detach-disk", "guest", "vdb", "--config")
    for moment in ("before", "after"):
        child = lets_go_late(kho, guest, f"snapshot-create:switch:{moment}", *take[:2], moment, "--disk-only",
                             "--diskspec", "vda,snapshot=no")
        steps_of.kill(child)
        assert f"finished snapshot-create of '{moment}'" in kho("recover", "guest").out
        one, = [row for row in kho.json("snapshot-list", "guest") if row["name"] == moment]
        top = next(row["source"] for row in kho.json("domblklist", "guest", "--inactive") if row["target"] == "vdb")
        assert layers.chain(top)[1] == one["disks"][0]["file"]
        assert targets(kho, "guest") == ["vda"] and nodes_and_sets(kho, "guest") == guest.before
        guest.two = top
        kho("detach-disk", "guest", "vdb", "--config")
    kho("snapshot-create-as", "guest", "last", "--disk-only")


def test_a_disk_goes_while_a_snapshot_is_deleted(kho, guest):
    """Of that disk the files stay two; the next delete makes them one."""
    child = lets_go_late(kho, guest, "snapshot-delete:merge:before", "snapshot-delete", "guest", "s1")
    assert "let go of disk vdb" in steps_of.go_on(child, status=BUSY)
    assert steps_of.entries(kho) == [] and [row["name"] for row in kho.json("snapshot-list", "guest")] == ["s1"]
    kho("snapshot-create-as", "guest", "s2", "--disk-only")  # nothing is held up
    kho("snapshot-delete", "guest", "s2")
    before = contents(kho)
    kho("snapshot-delete", "guest", "s1")
    layers.seen.clear()
    assert contents(kho) == before and kho.json("snapshot-list", "guest") == []


def test_a_disk_that_a_job_uses_goes_when_that_is_over(kho, guest):
    kho("attach-disk", "guest", guest.two, "vdb", "--live")
    with machine.qmp(kho, "guest") as client:
        client.ask("blockdev-add", **{"driver": "null-co", "node-name": "t", "size": 16 << 20})
        client.ask("blockdev-backup", **{"job-id": "j", "device": "virtio-disk1-0", "target": "t", "sync": "full", "speed": 1})
    kho("suspend", "guest")
    kho.refuses("detach-disk", "guest", "vdb", "--live", status=12, says="did not let go")
    kho("resume", "guest")
    log = kho.root / "log/qemu/guest.log"
    harness.wait_for("the guest to let go", lambda: "let go of disk virtio-disk1, whose files stay open" in log.read_text())
    assert targets(kho, "guest") == ["vda", "vdb"]  # its name is not free yet
    with machine.qmp(kho, "guest") as client:
        client.ask("block-job-cancel", device="j", force=True)
        harness.wait_for("the disk to go", lambda: targets(kho, "guest") == ["vda"])
        client.ask("blockdev-del", **{"node-name": "t"})
    assert nodes_and_sets(kho, "guest") == guest.before
