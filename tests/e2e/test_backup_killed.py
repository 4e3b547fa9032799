"""kho killed before, after and in every step of a backup and of a restore: the next command leaves the old state or the new
one, whole, and nothing else. The list of steps comes from kho."""

import os
import signal
import subprocess
import time

import pytest

import backups
import harness
import machine
import steps

NEXT = [("recover",), ("start", "web1"), ("backup", "web1"), ("undefine", "web1"), ("domstate", "web1")]


def matrix(soak, build, kind):
    """Every moment of every step; without soak each step once, the moments in turn."""
    every = steps.all_steps(build, kind)
    if soak:
        return every
    names = list(dict.fromkeys(step for _, step, _ in every))
    return [row for i, row in enumerate(every) if row[2] == "undo" or row[2] == steps.MOMENTS[names.index(row[1]) % 3]]


def next_command(kho, count, store, name="web1"):
    """What a person does next; it must work, and leave nothing half done."""
    verb = NEXT[count % len(NEXT)]
    if verb[0] == "backup":
        verb = ("backup", name, "--to", store, "--point", f"after{count}")
    elif len(verb) > 1:
        verb = (verb[0], name)
    return verb


def failing(kho, disks):
    """Makes the copy of a disk fail past the point where it is looked at: its compressed data cannot be inflated."""
    packed = disks["vda"].with_suffix(".packed")
    harness.run(["qemu-img", "convert", "-c", "-O", "qcow2", disks["vda"], packed])
    with open(packed, "r+b") as file:
        file.seek(0x50000)  # header, two of refcounts, L1 and L2 take a cluster each
        file.write(bytes([0xff]) * (packed.stat().st_size - 0x50000))
    packed.rename(disks["vda"])


def test_backup_killed_at_every_step(kho, build, soak):
    disks, store = backups.make(kho), backups.store(kho)
    wanted, hit = backups.hashes(disks), set()
    for count, (kind, step, moment) in enumerate(matrix(soak, build, "backup")):
        where, point = f"{kind}:{step}:{moment}", f"p{count}"
        stop = where if moment != "undo" else f"backup:publish:before,{where}"
        child = steps.stopped(kho, stop, "backup", "web1", "--to", store, "--point", point)
        if moment == "undo":  # something else takes the point's name: publishing fails, and all is taken back
            (store / "web1" / point).mkdir()
            os.kill(child.pid, signal.SIGCONT)
            steps.wait_stopped(child, where)
            (store / "web1" / point).rmdir()
        steps.kill(child)
        hit.add(step)
        assert len(steps.entries(kho)) == 1, where
        words = next_command(kho, count, store)
        kho(*words)
        if words[0] == "start":
            kho("destroy", "web1")
        if words[0] == "undefine":
            kho("define", "-", input=machine_xml)
        machine_xml = kho("dumpxml", "web1").out
        assert steps.entries(kho) == [] and backups.parts(store) == [], where
        assert backups.hashes(disks) == wanted, where
        if (store / "web1" / point).exists():
            assert (step, moment) in (("publish", "after"), ("publish", "marked")), where
            backups.check_whole(store / "web1" / point, wanted)
        else:
            assert (step, moment) not in (("publish", "after"), ("publish", "marked")), where
            kho("backup", "web1", "--to", store, "--point", point)
        backups.check_whole(store / "web1" / point, wanted)
    assert hit == {step for _, step, _ in steps.all_steps(build, "backup")}


def test_restore_killed_at_every_step(kho, build, soak):
    disks, store = backups.make(kho), backups.store(kho)
    wanted, hit = backups.hashes(disks), set()
    kho("backup", "web1", "--to", store, "--point", "one")
    images = kho.root / "lib/images"
    for count, (kind, step, moment) in enumerate(matrix(soak, build, "restore-backup")):
        where = f"{kind}:{step}:{moment}"
        stop = where if moment != "undo" else f"restore-backup:define:before,{where}"
        child = steps.stopped(kho, stop, "restore-backup", store, "web1", "--name", "web2")
        foreign = kho.root / "etc/qemu/web2.xml"
        if moment == "undo":  # a definition comes by another way: defining fails, and all is taken back
            foreign.write_text(kho("dumpxml", "web1").out.replace("web1<", "web2<"))
            os.kill(child.pid, signal.SIGCONT)
            steps.wait_stopped(child, where)
            foreign.unlink()
        steps.kill(child)
        hit.add(step)
        assert len(steps.entries(kho)) == 1, where
        verb = [("recover",), ("domstate", "web2"), ("start", "web2"), ("list", "--all")][count % 4]
        ran = kho(*verb, status=None)
        if verb[0] == "start" and ran.status == 0:
            kho("destroy", "web2")
        if verb[0] == "list":
            kho("recover")
        assert steps.entries(kho) == [], f"{where}: {ran}"
        if "web2" in kho("list", "--all", "--name").out.split():
            assert (step, moment) in (("define", "after"), ("define", "marked")), where
            assert backups.hashes(backups.disks_of(kho, "web2")) == wanted, where
            kho("undefine", "web2")
            assert sorted(path.name for path in images.iterdir()) == ["web2-vda.qcow2", "web2-vdb.raw"]
            for path in images.iterdir():
                path.unlink()
        else:
            assert (step, moment) not in (("define", "after"), ("define", "marked")), where
        assert list(images.iterdir()) == [], where
    assert hit == {step for _, step, _ in steps.all_steps(build, "restore-backup")}
    assert backups.hashes(disks) == wanted


def test_a_failing_copy_is_taken_back(kho):
    """A disk that cannot be read to its end: one line, and nothing stays."""
    disks, store = backups.make(kho), backups.store(kho)
    failing(kho, disks)
    ran = kho.refuses("backup", "web1", "--to", store, says=["vda", "web1"])
    assert list(store.iterdir()) == [] and steps.entries(kho) == [], str(ran)


@pytest.mark.parametrize("moment", ["place-disks:after", "name-disks:before", "define:before"])
def test_a_file_of_another_is_never_removed(kho, moment):
    """Somebody makes a file under a name that a restore wants: the restore fails or is killed, and that file stays."""
    disks, store = backups.make(kho), backups.store(kho)
    kho("backup", "web1", "--to", store)
    images = kho.root / "lib/images"
    for how in ("fails", "killed"):
        child = steps.stopped(kho, f"restore-backup:{moment}", "restore-backup", store, "web1", "--name", "web2")
        (images / "web2-vdb.raw").unlink(missing_ok=True)  # at define: ours is there
        (images / "web2-vdb.raw").write_text("another's")
        if how == "killed":
            steps.kill(child)
        elif moment == "define:before":
            (kho.root / "etc/qemu/web2.xml").write_text("not a machine")
            assert "exists already" in steps.go_on(child, 4)
            (kho.root / "etc/qemu/web2.xml").unlink()
        else:
            assert "web2-vdb.raw" in steps.go_on(child, 4)
        kho("recover")
        assert [path.name for path in images.iterdir()] == ["web2-vdb.raw"], how
        assert (images / "web2-vdb.raw").read_text() == "another's"
        (images / "web2-vdb.raw").unlink()
    assert backups.hashes(disks)


def test_a_part_folder_of_another_is_never_removed(kho):
    """Two hosts with one store: what one makes is not taken away by the other's failure."""
    backups.make(kho)
    store = backups.store(kho)
    child = steps.stopped(kho, "backup:make-folder:before", "backup", "web1", "--to", store, "--point", "one")
    part = store / "web1" / ".one.part"
    part.mkdir(parents=True)
    (part / "unfinished.json").write_text('{"id": "another"}\n')
    (part / "vda.qcow2").write_text("another's")
    assert ".one.part" in steps.go_on(child, 4)
    assert sorted(path.name for path in part.iterdir()) == ["unfinished.json", "vda.qcow2"]
    assert steps.entries(kho) == []


def test_killed_at_random_moments(kho, rng, soak):
    disks, store = backups.make(kho), backups.store(kho)
    wanted = backups.hashes(disks)
    began = time.monotonic()
    kho("backup", "web1", "--to", store, "--point", "first")
    longest = time.monotonic() - began
    killed = 0
    for count in range(200 if soak else 8):
        words = rng.choice([["backup", "web1", "--to", store, "--point", f"p{count}"],
                            ["restore-backup", store, "web1", "--point", "first", "--name", f"n{count}"]])
        child = kho.spawn(*words)
        try:
            child.communicate(timeout=rng.uniform(0, longest))
        except subprocess.TimeoutExpired:
            steps.kill(child)
            killed += 1
        kho("recover")
        assert steps.entries(kho) == [] and backups.parts(store) == []
        for point in backups.points(store):
            backups.check_whole(store / "web1" / point, wanted)
        if f"n{count}" in kho("list", "--all", "--name").out.split():
            assert backups.hashes(backups.disks_of(kho, f"n{count}")) == wanted
            kho("undefine", f"n{count}")
        else:
            assert list((kho.root / "lib/images").iterdir()) == []
        for path in (kho.root / "lib/images").iterdir():
            path.unlink()
    assert killed > 0
