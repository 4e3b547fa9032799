"""What is told of a machine while it starts, at moments at which kho-vm is held: it has a run folder and no live XML yet."""

import os
import signal

import pytest

import harness
import machine

INVALID, BUSY = 5, 8


def held_at(kho, step):
    """A start whose kho-vm has stopped at @step; returns the kho and the pid of its kho-vm."""
    child = kho.spawn("start", "web1", env={"KHO_VM_STOP_AT": step})

    def stopped():
        assert child.poll() is None, child.communicate()
        pid = machine.supervisor_pid(kho, "web1")
        return pid if pid and machine.is_stopped(pid) else None
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
