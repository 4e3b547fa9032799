"""What is told of a machine while it starts, at moments at which kho-vm is held: it has a run folder and no live XML yet."""

import os
import signal

import pytest

import harness
import machine

INVALID, BUSY = 5, 8


def is_held(pid):
    try:
        return machine.is_stopped(pid)
    except OSError:
        return False


def held_at(kho, step):
    """A start whose kho-vm has stopped at @step; returns the kho and the pid of its kho-vm."""
    child = kho.spawn("start", "web1", env={"KHO_VM_STOP_AT": step})

    def stopped():
        assert child.poll() is None, child.communicate()
        return next((pid for pid, command in kho.processes().items() if "kho-vm --start" in command and is_held(pid)), None)
    return child, harness.wait_for(f"kho-vm to stop at {step}", stopped)


def reads(kho):
    assert "<name>web1</name>" in kho("dumpxml", "web1").out
    assert "disk.qcow2" in kho("domblklist", "web1").out
    assert kho.json("dominfo", "web1")["max-memory-kib"] == 32 << 10
    kho("list", "--all")


@pytest.mark.parametrize("step", ["start-locked", "start-greeted"])
def test_the_definition_is_told_until_there_is_a_live_xml(kho, tmp, step):
    machine.define(kho, "web1", machine.disk(machine.make_image(tmp / "disk.qcow2")))
    child, supervisor = held_at(kho, step)
    reads(kho)
    kho.refuses("console", "web1", status=BUSY, says="machine 'web1' is starting")
    child.kill()
    child.communicate()
    reads(kho)
    # the change lock is free: what needs the machine itself says why it cannot have it
    for verb in (["save", "web1", tmp / "memory"], ["detach-disk", "web1", "vda", "--live"], ["snapshot-create-as", "web1", "s1"]):
        kho.refuses(*verb, status=BUSY, says="machine 'web1' is starting")
    os.kill(supervisor, signal.SIGCONT)
    harness.wait_for("the start to be given up", lambda: not kho.leftovers())
    kho.refuses("console", "web1", status=INVALID, says="machine 'web1' is not running")
    reads(kho)


@pytest.mark.parametrize("step", ["start-detached", "start-planned", "start-locked", "start-forked", "start-described"])
def test_why_a_killed_start_ended_is_told(kho, step):
    machine.define(kho, "web1")
    child, supervisor = held_at(kho, step)
    machine.kill(supervisor)
    _, err = child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == 1 and b"kho-vm ended without an answer" in err, err
    harness.wait_for("nothing to be left", lambda: not kho.leftovers())
    assert kho("domstate", "web1", "--reason").out == "shut off (failed)\n"
