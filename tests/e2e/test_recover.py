"""What a dead kho left half done: who finds it, what is told, what is refused meanwhile."""

import fcntl
import json
import os
import re
import signal
import struct

import pytest

import backups
import counter
import harness
import layers
import machine
import steps

CORRUPT = 7

F_OFD_SETLK = 37


def entry(kho, name, change="no-such-change", version=1):
    """Writes an entry as a kho would that knows more than this one."""
    uuid = kho("domuuid", name).out.strip()
    path = kho.root / "lib/journal" / f"qemu-{uuid}.jsonl"
    head = {"version": version, "kind": "qemu", "uuid": uuid, "name": name, "change": change, "what": f"{change} of 's1'",
            "since-ms": 1700000000000, "driver": {"pid": os.getpid(), "command": "kho test"}, "plan": {}}
    path.write_text(json.dumps(head) + "\n")
    return path


def test_nothing_to_recover(kho):
    machine.define(kho, "web1")
    assert kho("recover").out == "Nothing to recover\n"
    assert kho("recover", "web1").out == "Nothing to recover\n"
    assert kho.json("recover") == []
    assert "no machine has the name" in kho("recover", "web2", status=3).err


def test_what_is_not_known_stays_and_is_told(kho):
    machine.define(kho, "web1")
    path = entry(kho, "web1")
    for verb in [("recover",), ("recover", "web1"), ("start", "web1"), ("undefine", "web1"), ("autostart", "web1")]:
        ran = kho(*verb, status=None)
        assert ran.status != 0 and "the journal holds a no-such-change" in ran.err, str(ran)
    assert path.exists()
    assert kho("domstate", "web1").out == "shut off\n"


@pytest.mark.parametrize("text", ["x", "x\n", "{}\n", ""])
def test_a_damaged_entry_is_told_with_what_can_be_done(kho, text):
    """It keeps the machine from being changed: what recovers must not call that nothing."""
    machine.define(kho, "web1")
    machine.define(kho, "web2")
    path = entry(kho, "web1")
    path.write_text(text)
    for verb in [("recover",), ("recover", "web1"), ("start", "web1")]:
        ran = kho.refuses(*verb, status=CORRUPT, says=["damaged", "move it away"])
        assert ran.err.count(str(path)) == 1, str(ran)
    assert "machine 'web1'" in kho.refuses("recover").err
    assert json.loads(kho("recover", "--json", status=CORRUPT).out)[0]["name"] == "web1"
    assert kho("recover", "web2").out == "Nothing to recover\n"
    path.rename(path.with_suffix(".away"))
    assert kho("recover").out == "Nothing to recover\n"
    kho("undefine", "web1")


def test_who_drives_is_told_and_reads_go_on(kho):
    machine.define(kho, "web1")
    path = entry(kho, "web1")
    with open(path, "r+") as held:
        fcntl.fcntl(held, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
        for verb in [("start", "web1"), ("undefine", "web1"), ("recover", "web1")]:
            ran = kho(*verb, status=None)
            assert ran.status != 0
            assert "busy: no-such-change of 's1' by pid" in ran.err and f"pid {os.getpid()} (kho test)" in ran.err
        assert kho("domstate", "web1").out == "shut off\n"
        assert "web1" in kho("list", "--all").out
    path.unlink()
    kho("undefine", "web1")


def test_a_read_does_not_wait_for_a_kho_vm_that_is_stopped(kho):
    """An abandoned entry stays for a verb that needs it, which says who does not answer and what to do."""
    store, disk = backups.store(kho), kho.base / "web1.raw"
    disk.write_bytes(bytes(1 << 20))
    machine.define(kho, "web1", machine.disk(disk, "vda", "raw"))
    kho("start", "web1", "--paused")
    steps.kill(steps.stopped(kho, "backup:copy:before", "backup", "web1", "--to", store))
    entry, = kho.root.rglob("journal/*.jsonl")
    before = entry.read_bytes().rstrip(b"\0")  # what is reserved may change
    pid = machine.supervisor_pid(kho, "web1")
    os.kill(pid, signal.SIGSTOP)
    harness.wait_for("kho-vm to stop", lambda: machine.is_stopped(pid))
    for words in (["domstate", "web1"], ["snapshot-list", "web1"], ["dominfo", "web1"]):
        assert kho(*words).seconds < 2, words
        assert entry.read_bytes().rstrip(b"\0") == before
    kho.refuses("snapshot-create-as", "web1", "s1", says=["no answer in time", f"kill -CONT {pid}", f"kill -KILL {pid}"])
    assert entry.read_bytes().rstrip(b"\0") == before
    os.kill(pid, signal.SIGCONT)
    kho("domstate", "web1")
    assert steps.entries(kho) == []
    kho("destroy", "web1")


def test_a_read_does_not_wait_for_a_qemu_that_is_stopped(kho):
    machine.define(kho, "web1")
    kho("start", "web1")
    pid = machine.qemu_pid(kho, "web1")
    save = steps.stopped(kho, "save:save-memory:marked", "save", "web1", kho.tmp / "web1.save")
    os.kill(pid, signal.SIGSTOP)
    harness.wait_for("QEMU to stop", lambda: machine.is_stopped(pid))
    harness.wait_for("kho-vm to notice", lambda: "does not answer" in (kho.root / "log/qemu/web1.log").read_text())
    steps.kill(save)
    for words in (["domstate", "web1"], ["snapshot-list", "web1"], ["dominfo", "web1"]):
        assert kho(*words).seconds < 2, words
    assert len(steps.entries(kho)) == 1
    os.kill(pid, signal.SIGCONT)
    kho("recover", "web1")
    assert steps.entries(kho) == []
    kho("destroy", "web1")


def test_the_table_of_steps_is_that_of_the_program(kho):
    said = {}
    for kind, step, *more in (line.split() for line in kho("--steps").out.splitlines()):
        said.setdefault(kind, []).append(step + ("!" if "no-return" in more else ""))
    text = (harness.REPO / "ARCHITECTURE.md").read_text().partition("| change | steps ")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([a-z-]+)[^|]* \| ([a-z-]+!?(?:, [a-z-]+!?)*) \|$", text, re.MULTILINE)
    assert {kind: steps.split(", ") for kind, steps in rows} == said


def beside_a_small_disk(kho, fs):
    """A machine that writes onto @fs since its snapshot s1, which closed what lies elsewhere."""
    m = layers.Machine(kho, formats=["qcow2"])
    kho("snapshot-create-as", "m", "s1", "--diskspec", f"vda,file={fs.path}/top.qcow2")
    m.write("vda", 2, 0, 64)
    return m


def test_what_a_revert_cannot_judge_holds_nobody_up(kho):
    """A machine whose definition cannot be read might need the files that are given up: they stay."""
    m = layers.Machine(kho, formats=["qcow2"])
    kho("start", "m")
    kho("snapshot-create-as", "m", "s1", "--disk-only")
    (old, _), = m.disks().values()
    damaged = kho.root / "etc/qemu/other.xml"
    damaged.write_text("<domain")
    ran = kho("snapshot-revert", "m", "s1", "--running")
    assert "warning: left behind: " in ran.err and old in ran.err and "other.xml" in ran.err and len(ran.err.splitlines()) == 1
    assert steps.entries(kho) == [] and kho("domstate", "m").out == "running\n" and os.path.exists(old)
    kho("destroy", "m")
    damaged.unlink()
    os.unlink(old)
    m.check()


@pytest.mark.parametrize("dies", [False, True])
def test_what_a_revert_cannot_remove_holds_nobody_up(kho, small_fs, dies):
    fs = small_fs("ext4", 8)
    m = beside_a_small_disk(kho, fs)
    (old, _), = m.disks().values()
    child = steps.stopped(kho, "snapshot-revert:drop-old:before", "snapshot-revert", "m", "s1")
    harness.run(["mount", "-o", "remount,ro", fs.path])
    if dies:
        steps.kill(child)
        said = kho("recover", "m").out
    else:
        said = steps.go_on(child)
    assert "left behind: " in said and old in said and steps.entries(kho) == []
    assert m.now() == {"vda": layers.content(*layers.closed(m, "s1")["vda"])}
    kho("start", "m")
    kho("destroy", "m")


def test_what_a_revert_made_and_cannot_take_back_holds_nobody_up(kho, small_fs):
    fs = small_fs("ext4", 8)
    m = layers.Machine(kho, formats=["qcow2"], folder=fs.path)
    kho("snapshot-create-as", "m", "s1", "--diskspec", f"vda,file={kho.base}/top.qcow2")
    before = m.state()
    steps.kill(steps.stopped(kho, "snapshot-revert:make-overlays:marked", "snapshot-revert", "m", "s1"))
    harness.run(["mount", "-o", "remount,ro", fs.path])
    said = kho("recover", "m").out
    assert "took back" in said and f"left behind: cannot remove {fs.path}/vda" in said and steps.entries(kho) == []
    assert m.state() == before
    kho("start", "m")
    kho("destroy", "m")


def test_what_a_delete_cannot_remove_holds_nobody_up(kho, small_fs):
    fs = small_fs("ext4", 8)
    m = beside_a_small_disk(kho, fs)
    kho("snapshot-create-as", "m", "s2", "--diskspec", f"vda,file={kho.base}/disks/end.qcow2")
    m.write("vda", 3, 0, 4)
    before = m.now()
    harness.run(["mount", "-o", "remount,ro", fs.path])
    ran = kho("snapshot-delete", "m", "s2")
    assert "warning: left behind: " in ran.err and f"cannot remove {fs.path}/top.qcow2" in ran.err and steps.entries(kho) == []
    assert m.now() == before and [s["name"] for s in m.snapshots()] == ["s1"]
    kho("start", "m")
    kho("destroy", "m")


@pytest.mark.parametrize("words,point", [(("save", "c"), "save:save-memory:after"),
                                         (("snapshot-create-as", "c", "s"), "snapshot-create:save-memory:after")])
def test_what_cannot_be_removed_holds_nobody_up(kho, small_fs, words, point):
    """kho dies in a save, and the file system that it wrote to is read-only since: the machine is free, and it is said what stays."""
    fs = small_fs("ext4", 200)
    counter.define(kho, "c", kho.tmp / "c.qcow2")
    for verb in (("recover", "c"), ("snapshot-create-as", "c", "other", "--disk-only")):
        kho("start", "c")
        counter.wait_counting(kho, "c")
        file = fs.path / "c.mem"
        place = (file,) if words[0] == "save" else ("--memspec", f"file={file}")
        steps.kill(steps.stopped(kho, point, *words, *place))
        harness.run(["mount", "-o", "remount,ro", fs.path])
        left = [path for path in fs.path.iterdir() if path.name != "lost+found"]
        ran = kho(*verb)
        assert len(left) == 1 and str(left[0]) in ran.out + ran.err and "left behind" in ran.out + ran.err
        assert (verb[0] == "recover") == ("warning: " not in ran.err) and (ran.out + ran.err).count("left behind") == 1
        assert steps.entries(kho) == []
        kho("resume", "c", status=None)
        counter.wait_counting(kho, "c")
        kho("destroy", "c")
        harness.run(["mount", "-o", "remount,rw", fs.path])
        left[0].unlink()
