"""Snapshots of machines that run: all disks at one moment, whatever the guest writes and whoever is killed."""

import copy
import os
import subprocess
import tempfile

import booted
import harness
import layers
import machine
import pytest

INVALID, UNSUPPORTED = 5, 6

# Sector n of vda, then sector n of vdb, hold n: what is on both agrees up to one record.
LOG = ("(n=0; while :; do n=$((n+1)); for d in vda vdb; do printf '%-511d\\n' $n | "
       "dd of=/dev/$d bs=512 seek=$n conv=fsync,notrunc 2>/dev/null; done; done) </dev/null >/dev/null 2>&1 &")


def last_record(path, format):
    """How far the log goes on a disk; what is before must be whole."""
    with tempfile.NamedTemporaryFile(prefix="kho-content-") as out:
        harness.run(["qemu-img", "convert", "-U", "-f", format, "-O", "raw", path, out.name])
        data = out.read()
    n = 1
    while data[n * 512:(n + 1) * 512] == b"%-511d\n" % n:
        n += 1
    assert not data[n * 512:].strip(b"\0"), f"{path} holds something after record {n - 1}"
    return n - 1


def agreed(disks):
    """The log's end in {target: (path, format)}."""
    vda, vdb = last_record(*disks["vda"]), last_record(*disks["vdb"])
    assert vdb <= vda <= vdb + 1, f"vda has {vda} records, vdb {vdb}"
    return vda


def closed(m, name):
    one = next(s for s in m.snapshots() if s["name"] == name)
    return {d["target"]: (d["file"], d["format"]) for d in one["disks"]}


def test_all_disks_stop_at_one_moment(kho):
    m = layers.Machine(kho, define=booted.define)
    kho("start", "m")
    with booted.line(kho, "m") as line:
        line.wait_ready()
        line.run(LOG)
        for name, records in [("s1", 10), ("s2", 20)]:
            line.run(f"while ! dd if=/dev/vdb bs=512 skip={records} count=1 2>/dev/null | grep -q {records}; do :; done")
            assert kho("snapshot-create-as", "m", name, "--disk-only").out == f"Domain snapshot {name} created\n"
        line.run("while ! dd if=/dev/vdb bs=512 skip=30 count=1 2>/dev/null | grep -q 30; do :; done")
        assert kho.json("snapshot-info", "m", "s1")["state"] == "disk-snapshot"
        m.check()
    kho("destroy", "m")
    m.check()
    first, second = agreed(closed(m, "s1")), agreed(closed(m, "s2"))
    assert 0 < first < second < agreed(m.disks())
    state = m.state()
    assert kho("snapshot-revert", "m", "s1").out == "Domain snapshot s1 reverted\n"
    assert kho("domstate", "m").out == "shut off\n"
    m.check()
    assert agreed(m.disks()) == first and m.now() == state["snapshots"]["s1"]["disks"]
    kho("snapshot-revert", "m", "s2", "--running")
    with booted.line(kho, "m") as line:
        line.wait_ready()
        assert line.run(f"dd if=/dev/vda bs=512 skip={second} count=1 2>/dev/null") == str(second)
        # a machine that runs is ended, and what it wrote since is gone
        line.run("dd if=/dev/zero of=/dev/vda bs=1M count=1 conv=fsync 2>/dev/null")
        kho("snapshot-revert", "m", "s2", "--paused")
    assert kho("domstate", "m").out == "paused\n"
    assert agreed(m.disks()) == second
    kho("destroy", "m")
    m.check()
    assert m.state()["snapshots"] == state["snapshots"]


def test_states_and_refusals(kho):
    m = layers.Machine(kho)
    kho("start", "m", "--paused")
    kho("snapshot-create-as", "m", "s1", "--disk-only")
    assert kho("domstate", "m").out == "paused\n"
    kho.refuses("snapshot-create-as", "m", "s2", "--disk-only", "--quiesce", status=UNSUPPORTED,
                says=["no guest agent", "org.qemu.guest_agent.0"])
    kho.refuses("snapshot-create-as", "m", "s2", "--disk-only", "--memspec", "file=x", status=INVALID, says="without memory")
    m.check()
    # the definition was given another disk for the next start: it keeps that
    other = kho.tmp / "other.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", other, "1M"])
    text = kho("dumpxml", "m", "--inactive").out
    kho("define", "-", input=text.replace(m.disks()["vda"][0], str(other)))
    kho("snapshot-create-as", "m", "s2", "--disk-only")
    inactive = {d["target"]: d["source"] for d in kho.json("domblklist", "m", "--inactive")}
    assert inactive == {"vda": str(other), "vdb": m.disks()["vdb"][0]}
    kho("destroy", "m")
    second = m.state()["snapshots"]["s2"]["disks"]
    kho("snapshot-revert", "m", "s2")  # what ran is what the snapshot holds
    assert m.now() == second


def test_what_is_plugged_in_takes_part(kho):
    m = layers.Machine(kho, formats=("qcow2",), define=booted.define)
    extra = m.folder / "extra.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", extra, "1M"])
    kho("start", "m")
    with booted.line(kho, "m") as line:
        line.wait_ready()
    kho("attach-disk", "m", extra, "vdb", "--subdriver", "qcow2", "--live", "--config")
    kho("snapshot-create-as", "m", "s1", "--disk-only")
    assert os.path.basename(m.disks()["vdb"][0]) == "extra.2.qcow2"
    m.check()
    kho("snapshot-create-as", "m", "s2", "--disk-only")
    kho("detach-disk", "m", "vdb", "--live", "--config")
    kho("destroy", "m")
    kho("snapshot-revert", "m", "s1")
    assert set(m.disks()) == {"vda", "vdb"}


# --- kills ---------------------------------------------------------------------------------------------------------------

VERBS = {"snapshot-create": ("snapshot-create-as", "m", "s2", "--disk-only"),
         "snapshot-revert": ("snapshot-revert", "m", "s1", "--running")}
VICTIMS = [(), ("kho-vm",), ("qemu",), ("kho-vm", "qemu")]  # beside kho


@pytest.fixture
def scene(kho):
    """(machine, saved tree, {kind: (state before, state after)})"""
    m = layers.Machine(kho)
    m.write("vda", 1, 0, 64)
    kho("snapshot-create-as", "m", "s1")
    m.write("vdb", 2, 0, 64)
    saved, found = layers.Saved(m), {}
    for kind in VERBS:
        saved.restore()
        old = m.state()
        kho("start", "m")
        kho(*VERBS[kind])
        m.check()
        found[kind] = (old, m.state())
        kho("destroy", "m")
    return m, saved, found


def end(kho, victims):
    pids = {"qemu": machine.qemu_pid(kho, "m") if "qemu" in victims else None,
            "kho-vm": machine.supervisor_pid(kho, "m") if "kho-vm" in victims else None}
    for victim in victims:
        if pids[victim]:
            machine.kill(pids[victim])


def test_killed_at_every_step(kho, scene, soak):
    """Rule: whoever is killed at a step, the next command leaves the old state or the new one, and the guest runs on unless
    its QEMU was killed or ended for the revert."""
    m, saved, states = scene
    moments = ["before", "after", "marked"]
    for n, (kind, step, _) in enumerate(layers.steps(kho, *VERBS)):
        cases = [(moment, victims) for moment in moments for victims in VICTIMS]
        for moment, victims in cases if soak else [(moments[n % 3], VICTIMS[n % 4])]:
            saved.restore()
            kho("start", "m")
            child = layers.stop_at(kho, f"{kind}:{step}:{moment}", *VERBS[kind])
            assert child, f"{kind} does not come to {step}:{moment}"
            ran = kho.json("domstate", "m")["state"]
            end(kho, victims)
            layers.kill(child)
            kho(*[("recover",), ("domblklist", "m"), ("autostart", "m")][n % 3])
            state, (old, new) = m.state(), copy.deepcopy(states[kind])
            print(kind, step, moment, victims, "new" if state == new else "old")
            assert state in (old, new), f"{kind} {step} {moment} {victims}: {state}\nis neither\n{old}\nnor\n{new}"
            m.check()
            runs = kho.json("domstate", "m")["state"]
            if kind == "snapshot-create":
                assert runs == ("shut off" if "qemu" in victims else "running")
            elif ran == "running" and state == old:
                assert runs == ("shut off" if "qemu" in victims else "running")
            if runs != "shut off":
                kho("destroy", "m")


def test_qemu_goes_on_where_a_snapshot_fails(kho, small_fs):
    """A full disk: nothing of the snapshot is left, and the guest writes on where it wrote."""
    disk = small_fs("ext4", 16)
    m = layers.Machine(kho, folder=disk.path / "d")
    kho("start", "m")
    old = m.state()
    disk.fill(100 << 10)
    kho.refuses("snapshot-create-as", "m", "s1", "--disk-only", says="space")
    disk.fill(8 << 20)
    m.check()
    assert m.state() == old and kho("domstate", "m").out == "running\n"
    kho("snapshot-create-as", "m", "s1", "--disk-only")
    kho("destroy", "m")
    m.check()
