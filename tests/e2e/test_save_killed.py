"""kho, kho-vm or QEMU killed at every step of saving a machine and of bringing it back: the next command finds the old state or
the new one, the guest's memory is not lost unless its QEMU was killed while it ran, and never comes back twice. The guest
(counter.py) notices when its memory and its disk are not of one moment."""

import signal
import struct

import counter
import harness
import machine
import pytest
import steps

POINTS = steps.all_steps(harness.build_dir(), "save", "resume")
VICTIMS = ["kho", "kho-vm", "qemu"]
# What leads to an undo: a cancel (Ctrl-C) that a step sees.
CANCELLED_AT = {"save-memory": "save:save-memory:before", "set-aside": "resume:start-paused:before",
                "start-paused": "resume:start-paused:before", "run": "resume:run:before"}


def cases(kind):
    """(step, moment, victim): every step before, after and in its undo with one victim each, in turn; with KHO_SOAK=1 each
    moment with all of them. While no QEMU is there only kho can be killed."""
    points = [(step, moment) for of, step, moment in POINTS if of == kind]
    for n, (step, moment) in enumerate(points):
        starting = kind == "resume" and (step == "set-aside" or (step, moment) == ("start-paused", "before")
                                         or (step == "start-paused" and moment == "undo"))
        ended = (kind, step) == ("save", "end-machine") and moment != "before"
        victims = ["kho"] if starting or ended else VICTIMS
        if harness.SOAK:
            yield from ((step, moment, victim) for victim in victims)
        elif moment != "marked":
            yield step, moment, victims[n % len(victims)]


def stop(kho, kind, step, moment, *words):
    """The verb, stopped there."""
    where = f"{kind}:{step}:{moment}"
    if moment != "undo":
        return steps.stopped(kho, where, *words)
    child = steps.stopped(kho, f"{CANCELLED_AT[step]},{where}", *words)
    child.send_signal(signal.SIGINT)
    steps.go_to(child, where)
    return child


def kill(kho, child, victim):
    """Kills it; a kho that lives goes on to its end, whatever that is."""
    if victim == "kho":
        steps.kill(child)
        return
    pid = machine.supervisor_pid(kho, "web1") if victim == "kho-vm" else machine.qemu_pid(kho, "web1")
    assert pid
    machine.kill(pid)
    child.send_signal(signal.SIGCONT)
    child.communicate(timeout=harness.HANG_GUARD_S)


def look_again(kho):
    """The next commands: nothing is left half done."""
    kho("domstate", "web1")
    recovered = kho("recover", "web1").out
    assert recovered == "Nothing to recover\n", recovered
    assert steps.entries(kho) == []
    assert not list(kho.base.rglob("*.kho-tmp")) and not list(kho.base.rglob("*.resuming"))
    return kho("domstate", "web1", "--reason").out.strip()


def is_used(file):
    return bool(struct.unpack_from(">I", file.read_bytes(), 12)[0] & 2)


@pytest.fixture
def disk(kho):
    path = kho.tmp / "web1.qcow2"
    counter.define(kho, "web1", path)
    kho("start", "web1")
    counter.wait_counting(kho, "web1", 1)
    return path


@pytest.mark.parametrize("step,moment,victim", cases("save"))
def test_save(kho, disk, step, moment, victim):
    file = kho.tmp / "web1.save"
    count, _ = counter.look(kho, "web1")
    kill(kho, stop(kho, "save", step, moment, "save", "web1", file), victim)
    state = look_again(kho)
    assert sorted(kho.tmp.iterdir()) in ([disk], [disk, file])
    if file.exists():
        assert state == "shut off (saved)" and not is_used(file)
        kho("restore", file)
    elif victim == "qemu":
        assert state.startswith("shut off") and step == "save-memory"
        kho("start", "web1")
    else:
        assert state.startswith("running")
    counter.wait_counting(kho, "web1", count + 1)
    kho("destroy", "web1")


@pytest.mark.parametrize("managed", [True, False] if harness.SOAK else [True])
@pytest.mark.parametrize("step,moment,victim", cases("resume"))
def test_resume(kho, disk, step, moment, victim, managed):
    file = kho.root / "lib/qemu/save/web1.save" if managed else kho.tmp / "web1.save"
    again = ("start", "web1") if managed else ("restore", file)
    kho(*(("managedsave", "web1") if managed else ("save", "web1", file)))
    count = counter.on_disk(disk)
    kill(kho, stop(kho, "resume", step, moment, *again), victim)
    state = look_again(kho)
    unused = file.exists() and not is_used(file)
    if unused:
        assert state.startswith("shut off") and counter.on_disk(disk) == count
        kho(*again)
    elif state.startswith("shut off"):
        # QEMU was killed when its guest ran, or may have run: nothing brings that memory back
        assert victim == "qemu" and step in ("run", "drop-file")
        assert file.exists() != managed
        kho("start", "web1")
        assert kho("domstate", "web1", "--reason").out == "running (booted)\n"
    else:
        assert state.startswith("running")
    counter.wait_counting(kho, "web1", count + 1)
    kho("destroy", "web1")


@pytest.mark.parametrize("managed", [True, False])
def test_memory_whose_guest_never_ran_is_kept(kho, disk, managed):
    """All three die just before the guest is let go."""
    file = kho.root / "lib/qemu/save/web1.save" if managed else kho.tmp / "web1.save"
    again = ("start", "web1") if managed else ("restore", file)
    kho(*(("managedsave", "web1") if managed else ("save", "web1", file)))
    count = counter.on_disk(disk)
    child = steps.stopped(kho, "resume:run:before", *again)
    qemu = machine.qemu_pid(kho, "web1")
    machine.kill(machine.supervisor_pid(kho, "web1"))
    machine.kill(qemu)
    steps.kill(child)
    assert ": took back " in kho("recover", "web1").out
    assert look_again(kho).startswith("shut off") and not is_used(file) and counter.on_disk(disk) == count
    kho(*again)
    assert kho("domstate", "web1", "--reason").out == "running (restored)\n"
    counter.wait_counting(kho, "web1", count + 1)
    kho("destroy", "web1")


def test_a_file_is_used_once_whoever_dies(kho, disk):
    """The same by hand, at the one moment that counts: the guest goes, and all three die."""
    file = kho.tmp / "web1.save"
    kho("save", "web1", file)
    count = counter.on_disk(disk)
    child = steps.stopped(kho, "resume:run:after", "restore", file)
    counter.wait_counting(kho, "web1", count + 1)
    qemu = machine.qemu_pid(kho, "web1")
    machine.kill(machine.supervisor_pid(kho, "web1"))
    machine.kill(qemu)
    steps.kill(child)
    assert look_again(kho).startswith("shut off") and is_used(file)
    kho.refuses("restore", file, says="restored from it already")
    kho("start", "web1")
    counter.wait_counting(kho, "web1")
    kho("destroy", "web1")
