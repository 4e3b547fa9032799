"""Snapshots of machines that run: all disks at one moment, whatever the guest writes and whoever is killed."""

import os

import booted
import harness
import layers
import machine
import pytest
import steps

INVALID, UNSUPPORTED = 5, 6

def test_all_disks_stop_at_one_moment(kho):
    m = layers.Machine(kho, define=booted.define)
    kho("start", "m")
    with booted.line(kho, "m") as line:
        line.wait_ready()
        line.run(layers.LOG)
        for name, records in [("s1", 10), ("s2", 20)]:
            line.run(f"while ! dd if=/dev/vdb bs=512 skip={records} count=1 2>/dev/null | grep -q {records}; do :; done")
            assert kho("snapshot-create-as", "m", name, "--disk-only").out == f"Domain snapshot {name} created\n"
        line.run("while ! dd if=/dev/vdb bs=512 skip=30 count=1 2>/dev/null | grep -q 30; do :; done")
        assert kho.json("snapshot-info", "m", "s1")["state"] == "disk-snapshot"
        m.check()
    kho("destroy", "m")
    m.check()
    first, second = layers.agreed(layers.closed(m, "s1")), layers.agreed(layers.closed(m, "s2"))
    assert 0 < first < second < layers.agreed(m.disks())
    state = m.state()
    assert kho("snapshot-revert", "m", "s1").out == "Domain snapshot s1 reverted\n"
    assert kho("domstate", "m").out == "shut off\n"
    m.check()
    assert layers.agreed(m.disks()) == first and m.now() == state["snapshots"]["s1"]["disks"]
    kho("snapshot-revert", "m", "s2", "--running")
    with booted.line(kho, "m") as line:
        line.wait_ready()
        assert line.run(f"dd if=/dev/vda bs=512 skip={second} count=1 2>/dev/null") == str(second)
        # a machine that runs is ended, and what it wrote since is gone
        line.run("dd if=/dev/zero of=/dev/vda bs=1M count=1 conv=fsync 2>/dev/null")
        kho("snapshot-revert", "m", "s2", "--paused")
    assert kho("domstate", "m").out == "paused\n"
    assert layers.agreed(m.disks()) == second
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


# --- deleting ---------------------------------------------------------------------------------------------------------------

def test_deleted_while_the_guest_writes(kho):
    m = layers.Machine(kho, define=booted.define)
    kho("start", "m")
    wanted = {}
    with booted.line(kho, "m") as line:
        line.wait_ready()
        line.run(layers.LOG)
        for n in range(1, 5):
            line.run(f"while ! dd if=/dev/vdb bs=512 skip={5 * n} count=1 2>/dev/null | grep -q {5 * n}; do :; done")
            if n == 2:  # so that the shares differ
                line.run("dd if=/dev/urandom of=/dev/vda bs=64k seek=24 count=24 conv=fsync,notrunc 2>/dev/null")
            kho("snapshot-create-as", "m", f"s{n}", "--disk-only")
            wanted[f"s{n}"] = m.state()["snapshots"][f"s{n}"]["disks"]
        for name in ["s2", "s4", "s1", "s3"]:
            assert kho("snapshot-delete", "m", name).out == f"Domain snapshot {name} deleted\n"
            del wanted[name]
            m.check()
            assert {s: one["disks"] for s, one in m.state()["snapshots"].items()} == wanted
            assert kho("domstate", "m", "--reason").out.split()[0] == "running"
        line.run("while ! dd if=/dev/vdb bs=512 skip=40 count=1 2>/dev/null | grep -q 40; do :; done")
    kho("destroy", "m")
    m.check()
    assert len(list(m.folder.iterdir())) == 2
    path, format = m.disks()["vdb"]
    assert layers.last_record(path, format) >= 40


def test_deleted_while_paused(kho):
    m = layers.Machine(kho)
    for n in range(1, 4):
        m.write("vda", n, 64 * n, 256)
        m.write("vdb", n, 64 * n, 64)
        kho("snapshot-create-as", "m", f"s{n}")
    m.write("vda", 9, 0, 64)
    old = m.state()
    kho("start", "m", "--paused")
    for name in ["s2", "s3", "s1"]:
        kho("snapshot-delete", "m", name)
        m.check()
        assert kho("domstate", "m").out == "paused\n" and m.now() == old["now"]
    kho("destroy", "m")
    m.check()
    assert m.now() == old["now"]


# --- kills ---------------------------------------------------------------------------------------------------------------

VERBS = {"snapshot-create": {"disks alone": ("snapshot-create-as", "m", "s4", "--disk-only"),
                             "with memory": ("snapshot-create-as", "m", "s4")},
         "snapshot-revert": {"boot": ("snapshot-revert", "m", "s1", "--running"),
                             "to memory": ("snapshot-revert", "m", "s3")},
         "snapshot-delete": {"active": ("snapshot-delete", "m", "s3"),  # the file that the guest writes
                             "middle": ("snapshot-delete", "m", "s1")}}
VICTIMS = [(), ("kho-vm",), ("qemu",), ("kho-vm", "qemu")]  # beside kho


@pytest.fixture
def scene(kho, kind):
    """(machine, saved tree, {words: (state before, state after)}). Deletes go down with vda, up with vdb."""
    m = layers.Machine(kho)
    kho("snapshot-create-as", "m", "s0")  # below which are files that kho did not make
    m.write("vda", 1, 0, 2048)
    m.write("vdb", 1, 0, 4)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 256)
    m.write("vdb", 2, 64, 1024)
    kho("snapshot-create-as", "m", "s2")
    m.write("vda", 3, 32, 64)
    kho("start", "m")
    kho("snapshot-create-as", "m", "s3")
    kho("destroy", "m")
    m.write("vdb", 3, 64, 2048)
    saved, found = layers.Saved(m), {}
    for words in VERBS[kind].values():
        saved.restore()
        old = m.state()
        kho("start", "m")
        kho(*words)
        m.check()
        found[words] = (old, m.state())
        kho("destroy", "m")
    return m, saved, found


def end(kho, victims):
    pids = {"qemu": machine.qemu_pid(kho, "m") if "qemu" in victims else None,
            "kho-vm": machine.supervisor_pid(kho, "m") if "kho-vm" in victims else None}
    for victim in victims:
        if pids[victim]:
            machine.kill(pids[victim])


def die(scene, kind, words, step, moment, victims, then):
    """One death: at a step, of kho and whoever else; what the next command makes of it."""
    m, saved, states = scene
    kho = m.kho
    saved.restore()
    kho("start", "m")
    child = layers.stop_at(kho, f"{kind}:{step}:{moment}", *words)
    assert child, f"{words} does not come to {step}:{moment}"
    end(kho, victims)
    layers.kill(child)
    kho(*then)
    was_old = m.state() == states[words][0]
    runs = kho.json("domstate", "m")["state"]
    if kind != "snapshot-revert" or was_old:
        wanted = "shut off" if "qemu" in victims else "running"
        assert runs == wanted, f"{words} {step} {moment} {victims}: the guest is {runs}"
    became = layers.judge(m, *states[words], deleted=words[2] if kind == "snapshot-delete" else None)
    print(words, step, moment, victims, "new" if became else "old")
    if kho.json("domstate", "m")["state"] != "shut off":
        kho("destroy", "m")
    m.check()


@pytest.mark.parametrize("kind", VERBS)
def test_killed_at_every_step(kho, scene, kind, soak):
    """Rule: whoever is killed at a step, the next command leaves the old state or the new one, and the guest runs on unless
    its QEMU was killed or ended for the revert."""
    moments, nexts = ["before", "after", "marked"], [("recover",), ("domblklist", "m"), ("autostart", "m")]
    turn = 0
    for _, step, _ in layers.steps(kho, kind):
        for words in VERBS[kind].values():
            cases = [(moment, victims) for moment in moments for victims in VICTIMS]
            for moment, victims in cases if soak else [(moments[turn % 3], VICTIMS[turn % 4])]:
                die(scene, kind, words, step, moment, victims, nexts[turn % 3])
            turn += 1


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


@pytest.mark.parametrize("who", ["destroyed", "crashed"])
def test_a_delete_whose_machine_ends_says_by_whom_and_what_to_do(kho, who):
    m = layers.Machine(kho, formats=("qcow2",))
    kho("start", "m")
    for name in ("s1", "s2"):
        kho("snapshot-create-as", "m", name, "--disk-only")
    child = steps.stopped(kho, "snapshot-delete:merge:before", "snapshot-delete", "m", "s1")
    if who == "destroyed":
        kho("destroy", "m")
    else:
        machine.kill(machine.qemu_pid(kho, "m"))
    said = steps.go_on(child, status=11)
    assert f"machine 'm' is shut off ({who}): `kho snapshot-delete m s1` again goes on" in said and said.count("\n") == 1
    kho("snapshot-delete", "m", "s1")
    m.check()
