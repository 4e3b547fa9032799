"""Backups of machines that run: all disks at one point, whatever the guest writes meanwhile, whoever is killed, and nothing
left in QEMU."""

import contextlib
import os
import shutil
import signal
import threading
import time

import pytest

import backups
import booted
import harness
import machine
import steps
from guest import serial


class Watcher:
    """Notes how far the guest's log has come, ten times a second: (wall clock before asking, count)."""

    def __init__(self, line):
        self.line, self.seen, self.end = line, [], threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.end.is_set():
            self.seen.append((time.time() * 1000, int(self.line.run("cat /run/n")), time.time() * 1000))
            self.end.wait(0.05)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()

    def bounds(self, when_ms):
        """Counts that were there for sure before, and not there yet after, that time."""
        before = max((count for _, count, after in self.seen if after < when_ms), default=0)
        later = min((count for asked, count, _ in self.seen if asked > when_ms), default=None)
        return before, later


@pytest.mark.parametrize("compression", ["zstd", "zlib", "none"] if harness.SOAK else ["zstd"])
def test_the_log_ends_at_the_point(kho, compression):
    """A guest that writes to two disks: the backup, restored and booted, has the log up to the point, on both, and the rest of
    the disks; while the machine itself goes on."""
    disks, store = backups.make_guest(kho), backups.store(kho)
    wanted = backups.bulk(disks["vdb"])
    kho("start", "web1")
    before = kho("dumpxml", "web1").out
    with booted.line(kho, "web1") as line:
        line.wait_ready()
        line.run(backups.LOG)
        line.run("while [ ! -e /run/n ]; do usleep 10000; done")
        with Watcher(line) as watcher:
            harness.wait_for("the log to be written", lambda: watcher.seen and watcher.seen[-1][1] > 5)
            told = kho.json("backup", "web1", "--to", store, "--point", "one", "--compress", compression)
            done = watcher.seen[-1][1]
            harness.wait_for("the log to go on", lambda: watcher.seen[-1][1] > done + 5)
        early, late = watcher.bounds(told["when-ms"])
        assert backups.in_qemu(kho, "web1") == [] and kho("dumpxml", "web1").out == before
        point = store / "web1" / "one"
        backups.check_whole(point, {t: backups.contents(point / f"{t}.qcow2", "qcow2") for t in disks})
        end = backups.agreed(backups.files_of(point))
        assert early <= end <= late + 1, f"the log has {end} records; {early} were there before the point, {late} after it"
        assert [d["compression"] for d in told["disks"]] == [compression] * 2
        assert told["state"] == "running" and told["qemu-version"]
        assert all(d["capacity-bytes"] == 28 << 20 for d in told["disks"])
        kho("restore-backup", store, "web1", "--name", "web2", "--start")
        with booted.line(kho, "web2") as other:
            other.wait_ready()
            for target in disks:
                assert other.run(f"dd if=/dev/{target} bs=512 skip={end - 1} count=1 2>/dev/null") == str(end - 1)
                assert other.run(f"dd if=/dev/{target} bs=512 skip={end + 1} count=1 2>/dev/null | tr -d '\\0'") == ""
        kho("destroy", "web2")
        assert {backups.bulk(path) for path in backups.disks_of(kho, "web2").values()} == {wanted}
        assert int(line.run("cat /run/n")) > end
    kho("destroy", "web1")
    assert backups.agreed(disks) > end and backups.bulk(disks["vdb"]) == wanted
    for path in (disks["vda"], *backups.files_of(point).values()):
        harness.run(["qemu-img", "check", "-q", path])


def test_a_paused_machine(kho):
    """Its disks are copied, it stays paused, and QEMU lets go of the files at once."""
    disks, store = backups.make_guest(kho, bulk_mib=4), backups.store(kho)
    kho("start", "web1", "--paused")
    told = kho.json("backup", "web1", "--to", store, "--point", "one")
    assert told["state"] == "paused" and kho("domstate", "web1").out == "paused\n"
    harness.run(["qemu-io", "-f", "qcow2", "-c", "read 0 64k", store / "web1/one/vda.qcow2"])  # takes a writer's locks
    kho("restore-backup", store, "web1", "--name", "web2")
    kho("resume", "web1")
    assert backups.in_qemu(kho, "web1") == []
    kho("destroy", "web1")
    assert backups.hashes(backups.disks_of(kho, "web2")) == backups.hashes(disks)


def test_a_machine_without_disks_and_one_without_definition(kho):
    store = backups.store(kho)
    machine.define(kho, "web1")
    kho("start", "web1")
    assert kho.json("backup", "web1", "--to", store)["disks"] == []
    backups.make(kho, "web2")
    kho("start", "web2")
    kho("undefine", "web2")
    told = kho.json("backup", "web2", "--to", store)
    assert [d["target"] for d in told["disks"]] == ["vda", "vdb"]
    assert [left["target"] for left in told["left-out"]] == ["vdc", "hdc"]
    for name in ("web1", "web2"):
        kho("destroy", name)
    kho("restore-backup", store, "web2")
    assert backups.hashes(backups.disks_of(kho, "web2")).keys() == {"vda", "vdb"}
    assert "alias" not in kho("dumpxml", "web2").out


def test_after_a_snapshot_the_chain_is_one_file(kho):
    """A machine whose disks got layers while it ran."""
    disks, store = backups.make_guest(kho, bulk_mib=2), backups.store(kho)
    harness.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disks["vdb"], f"{disks['vdb']}.qcow2"])
    kho("define", "-", input=kho("dumpxml", "web1").out.replace("type='raw'", "type='qcow2'").replace(
        f"'{disks['vdb']}'", f"'{disks['vdb']}.qcow2'"))
    kho("start", "web1")
    kho("snapshot-create-as", "web1", "s1", "--disk-only")
    with booted.line(kho, "web1") as line:
        line.wait_ready()
        line.run("for d in vda vdb; do printf '%-511d\\n' 1 | dd of=/dev/$d bs=512 seek=1 conv=fsync,notrunc 2>/dev/null; done")
    kho("backup", "web1", "--to", store, "--point", "one")
    kho("destroy", "web1")
    assert backups.agreed(backups.files_of(store / "web1/one")) == 1
    kho("restore-backup", store, "web1", "--name", "web2")
    assert backups.agreed(backups.disks_of(kho, "web2")) == 1


@pytest.fixture
def slow(kho):
    """A machine that runs, with enough data that its backup does not end at once; and its store."""
    kho.disks, kho.store = backups.make_guest(kho, bulk_mib=96), backups.store(kho)
    kho("start", "web1")
    yield kho
    kho("destroy", "web1", status=None)


SLOW = 4 << 20  # bytes a second


def copying(kho, point="one", *more, speed=SLOW):
    """A backup whose copy has begun, and goes on slowly until go_fast(): however fast the machine is, it does not end before
    the test has done what it came for."""
    child = kho.spawn("backup", "web1", "--to", kho.store, "--point", point, *more, env={"KHO_BACKUP_SPEED": str(speed)})
    harness.wait_for("the copy to begin", lambda: child.poll() is not None or running_jobs(kho) == len(kho.disks))
    assert child.poll() is None, child.communicate()
    return child


def running_jobs(kho):
    with machine.qmp(kho, "web1") as qmp:
        return sum(job["status"] == "running" for job in qmp.ask("query-jobs"))


def reached(kho, child):
    """A client of the machine, as soon as there is a kho-vm that answers; the backup sees to it that there is one."""
    def reach():
        assert child.poll() is None, child.communicate()
        # one that dies takes the connection along, before an answer or after; a new one is about to listen
        with contextlib.suppress(OSError, AssertionError):
            return machine.qmp(kho, "web1")
    return harness.wait_for("kho-vm to answer", reach)


def go_fast(kho, child):
    with reached(kho, child) as qmp:
        for job in qmp.ask("query-block-jobs"):
            qmp.ask("block-job-set-speed", device=job["device"], speed=0)


def assert_nothing_left(kho, running=True):
    assert steps.entries(kho) == [] and list(kho.store.iterdir()) == []
    if running:
        assert backups.in_qemu(kho, "web1") == [] and kho("domstate", "web1").out == "running\n"


def test_cancel(slow):
    child = copying(slow)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == 130 and len(err.splitlines()) == 1, err
    assert time.monotonic() - began < 20
    assert_nothing_left(slow)
    slow("backup", "web1", "--to", slow.store)


@pytest.mark.parametrize("how", ["destroy", "poweroff", "qemu killed"])
def test_the_machine_ends_meanwhile(slow, how):
    """It ends at once, the backup says why it failed, and nothing is left."""
    with booted.line(slow, "web1") as line:
        if how == "poweroff":
            line.wait_ready()
        child = copying(slow)
        if how == "destroy":
            slow("destroy", "web1")
        elif how == "poweroff":
            line.send("poweroff -f")
        else:
            machine.kill(machine.qemu_pid(slow, "web1"))
        _, err = child.communicate(timeout=harness.HANG_GUARD_S)
        assert child.returncode == 5 and b"'web1' ended while it was backed up" in err and len(err.splitlines()) == 1, err
    harness.wait_for("the machine to be off", lambda: slow("domstate", "web1").out == "shut off\n")
    assert_nothing_left(slow, running=False)


def test_verbs_that_do_not_wait(slow):
    """suspend, resume and reads go on; what changes the machine is told who is at it."""
    child = copying(slow)
    slow("suspend", "web1")
    slow("resume", "web1")
    assert "backup of point 'one'" in slow("undefine", "web1", status=8).err
    assert "backup of point 'one'" in slow("backup", "web1", "--to", slow.store, status=8).err
    assert child.poll() is None
    go_fast(slow, child)
    _, err = child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == 0, err
    assert slow.json("backup-verify", slow.store)[0]["good"] and backups.in_qemu(slow, "web1") == []


def test_kho_vm_killed_while_copying(slow):
    """QEMU goes on copying; a new kho-vm finds the jobs."""
    child = copying(slow)
    for _ in range(2):
        with reached(slow, child):
            machine.kill(machine.supervisor_pid(slow, "web1"))
    go_fast(slow, child)
    _, err = child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == 0, err
    assert slow.json("backup-verify", slow.store)[0]["good"] and backups.in_qemu(slow, "web1") == []


def test_kho_killed_while_copying(slow):
    """The next command ends the jobs and removes what there is."""
    for words in (["recover"], ["suspend", "web1"], ["backup", "web1", "--to", slow.store, "--point", "after"]):
        steps.kill(copying(slow))
        assert backups.parts(slow.store) == [".one.part"] and backups.in_qemu(slow, "web1") != []
        slow(*words)
        if words[0] == "suspend":
            slow("resume", "web1")
        if words[0] == "backup":
            assert backups.points(slow.store) == ["after"] and slow.json("backup-verify", slow.store)[0]["good"]
            shutil.rmtree(slow.store / "web1")
        assert_nothing_left(slow)


MET = "paused (I/O error)"


def test_store_full_while_copying(kho, small_fs):
    """What would not fit is refused before. Where somebody else fills the store meanwhile, the backup fails, and the guest,
    whose writes cannot be copied before, goes on."""
    fs = small_fs("ext4", 96)
    kho.disks, kho.store = backups.make_guest(kho, bulk_mib=24), fs.path / "store"
    kho.store.mkdir()
    kho("start", "web1")
    fs.fill(16 << 20)
    for how in ("none", "zstd"):
        kho.refuses("backup", "web1", "--to", kho.store, "--compress", how, status=10, says=["web1", "MiB", "free"])
    with booted.line(kho, "web1") as line:
        line.wait_ready()
        line.run("(n=0; while :; do n=$((n + 1)); for d in vda vdb; do dd if=/dev/zero of=/dev/$d bs=4k count=1 "
                 "seek=$((1024 + RANDOM % 6000)) conv=fsync,notrunc 2>/dev/null; done; echo $n >/run/n.new; mv /run/n.new /run/n; "
                 "done) </dev/null >/dev/null 2>&1 &")
        line.run("until [ -s /run/n ]; do usleep 10000; done")
        log = kho.root / "log/qemu/web1.log"
        for attempt in range(60):  # until the guest has met a block that could not be copied before it wrote it
            if attempt >= 3 and MET in log.read_text():
                break
            fs.fill(70 << 20)
            child = steps.stopped(kho, "backup:copy:before", "backup", "web1", "--to", kho.store)
            fs.fill(4 << 20)
            child.send_signal(signal.SIGCONT)
            _, err = child.communicate(timeout=harness.HANG_GUARD_S)
            assert child.returncode == 10 and b"'web1'" in err and b"No space left" in err and len(err.splitlines()) == 1, err
            assert_nothing_left(kho)
            line.run("a=$(cat /run/n); while [ $(cat /run/n) -lt $((a + 3)) ]; do usleep 10000; done")
    assert MET in log.read_text(), "the guest met no block that could not be copied"
    kho("destroy", "web1")


def test_the_guest_does_not_wait_for_a_copy_that_fails(kho, small_fs):
    """Its write that cannot be copied before ends the backup, and not when the copy, which goes on for half an hour, comes to
    its end; it sees no error."""
    fs = small_fs("ext4", 96)
    kho.disks, kho.store = backups.make_guest(kho, bulk_mib=24), fs.path / "store"
    kho.store.mkdir()
    kho("start", "web1")
    with booted.line(kho, "web1") as line:
        line.wait_ready()
        child = copying(kho, speed=16 << 10)
        fs.fill(64 << 10)
        line.run("dd if=/dev/zero of=/dev/vda bs=1M seek=8 count=8 conv=fsync,notrunc 2>/dev/null")
        _, err = child.communicate(timeout=harness.HANG_GUARD_S)
        assert child.returncode == 10 and b"'web1'" in err and b"No space left" in err and len(err.splitlines()) == 1, err
        assert_nothing_left(kho)
        line.run("dd if=/dev/zero of=/dev/vdb bs=1M seek=8 count=8 conv=fsync,notrunc 2>/dev/null")
    kho("destroy", "web1")


VICTIMS = ("kho", "kho-vm", "qemu")


def matrix(build, soak):
    """(step, moment, victim): each step once, victims in turn; with soak all."""
    every = steps.all_steps(build, "backup")
    if soak:
        return [(step, moment, victim) for _, step, moment in every for victim in VICTIMS]
    names = list(dict.fromkeys(step for _, step, _ in every))
    once = [row for row in every if row[2] == "undo" or row[2] == steps.MOMENTS[names.index(row[1]) % 3]]
    return [(step, moment, VICTIMS[i % 3]) for i, (_, step, moment) in enumerate(once)]


def test_killed_at_every_step(kho, build, soak):
    """kho, kho-vm or QEMU killed while kho stands at a step: then kho goes on, or the next command recovers. The point is whole
    or not there, the guest's disks are as they were, and QEMU, where it lives, has nothing of the backup."""
    disks, store = backups.make(kho), backups.store(kho)
    wanted, hit = backups.hashes(disks), set()
    for count, (step, moment, victim) in enumerate(matrix(build, soak)):
        where = f"backup:{step}:{moment}, {victim}"
        if kho("domstate", "web1").out == "shut off\n":
            kho("start", "web1")
        stop = f"backup:{step}:{moment}"
        child = steps.stopped(kho, stop if moment != "undo" else f"backup:publish:before,{stop}", "backup", "web1", "--to", store,
                              "--point", f"p{count}")
        if moment == "undo":  # another takes the point's name
            (store / "web1" / f"p{count}").mkdir()
            os.kill(child.pid, signal.SIGCONT)
            steps.wait_stopped(child, where)
            (store / "web1" / f"p{count}").rmdir()
        hit.add(step)
        if victim == "kho":
            steps.kill(child)
            kho(*[("recover",), ("domstate", "web1"), ("backup", "web1", "--to", store, "--point", f"after{count}")][count % 3])
        else:
            machine.kill(machine.qemu_pid(kho, "web1") if victim == "qemu" else machine.supervisor_pid(kho, "web1"))
            os.kill(child.pid, signal.SIGCONT)
            _, err = child.communicate(timeout=harness.HANG_GUARD_S)
            assert len(err.splitlines()) == (child.returncode != 0), f"{where}: {err}"
            assert child.returncode == 0 or victim == "qemu" or moment == "undo", f"{where}: {err}"
        state = kho("domstate", "web1").out
        assert state == ("shut off\n" if victim == "qemu" else "running\n"), where
        assert steps.entries(kho) == [] and backups.parts(store) == [], where
        if state == "running\n":
            assert backups.in_qemu(kho, "web1") == [], where
        for point in backups.points(store):
            backups.check_whole(store / "web1" / point, wanted)
        if victim == "kho":
            assert (f"p{count}" in backups.points(store)) == (step == "publish" and moment in ("after", "marked")), where
        else:
            assert (f"p{count}" in backups.points(store)) == (child.returncode == 0), where
        shutil.rmtree(store)
        store.mkdir()
    assert hit == {step for _, step, _ in steps.all_steps(build, "backup")}
    kho("destroy", "web1", status=None)
    assert backups.hashes(disks) == wanted
