"""What a store shares with other hosts, and what a restored machine shares with a pool."""

import json
import os

import backups
import booted
import harness
import machine
import steps

EXISTS, DENIED, NO_SPACE = 4, 9, 10
MIB = 1 << 20


def other_root(kho):
    """Another tree with the same machine: another host's, as far as the store is concerned."""
    root = ["--root", kho.base / "other"]
    kho(*root, "define", "-", input=kho("dumpxml", "web1").out)
    return root


def small(kho):
    """A machine with a small disk."""
    disk = kho.base / "web1.raw"
    disk.write_bytes(os.urandom(64 << 10))
    machine.define(kho, "web1", machine.disk(disk, "vda", "raw"))
    return {"vda": disk}


def test_two_hosts_choose_one_name(kho):
    """The second takes the next name, where none was given."""
    disks, store = small(kho), backups.store(kho)
    root, wanted = other_root(kho), backups.hashes(disks)
    child = steps.stopped(kho, "backup:make-folder:before", "backup", "web1", "--to", store)
    entry, = kho.root.rglob("journal/*.jsonl")
    name = json.loads(entry.read_text().splitlines()[0])["plan"]["point"]
    kho(*root, "backup", "web1", "--to", store, "--point", name)
    steps.go_to(child, "backup:make-folder:before")  # of its second try
    steps.go_on(child)
    points = backups.points(store)
    assert len(points) == 2 and name in points
    for point in points:
        backups.check_whole(store / "web1" / point, wanted)
    assert steps.entries(kho) == []


def test_the_loser_takes_nothing_with_it(kho):
    """Whatever moment the winner is at: who comes second with a name that was given says so, and removes nothing."""
    disks, store = small(kho), backups.store(kho)
    root, wanted = other_root(kho), backups.hashes(disks)
    for name, moment in [("one", "make-folder:after"), ("two", "copy:before"), ("three", "publish:before")]:
        loser = steps.stopped(kho, "backup:make-folder:before", "backup", "web1", "--to", store, "--point", name)
        winner = steps.stopped(kho, f"backup:{moment}", *root, "backup", "web1", "--to", store, "--point", name)
        assert f"point '{name}'" in steps.go_on(loser, status=EXISTS)
        steps.go_on(winner)
        backups.check_whole(store / "web1" / name, wanted)
    assert backups.points(store) == ["one", "three", "two"] and steps.entries(kho) == []
    assert [path.name for path in (store / "web1").iterdir() if path.name.startswith(".")] == []


def test_a_folder_without_a_mark_is_nobodys(kho):
    """A part folder that holds something and tells no id is not this backup's."""
    small(kho)
    store = backups.store(kho)
    loser = steps.stopped(kho, "backup:make-folder:before", "backup", "web1", "--to", store, "--point", "one")
    part = store / "web1" / ".one.part"
    part.mkdir(parents=True)
    (part / "vda.qcow2").write_bytes(b"another's")
    (part / "unfinished.json").write_bytes(b"")
    steps.go_on(loser, status=EXISTS)
    assert sorted(path.name for path in part.iterdir()) == ["unfinished.json", "vda.qcow2"]


def test_no_room_is_told_with_figures(kho, small_fs):
    """Before anything is written, where not even well compressed data has room; with what there was, where it runs full."""
    fs = small_fs("ext4", 32)
    disk = kho.base / "web1.raw"
    disk.write_bytes(os.urandom(48 * MIB))
    machine.define(kho, "web1", machine.disk(disk, "vda", "raw"))
    fs.fill(1 * MIB)
    kho.refuses("backup", "web1", "--to", fs.path, status=NO_SPACE, says=["48 MiB of data", "estimate", "needs", "free"])
    assert not (fs.path / "web1").exists()
    fs.fill(8 * MIB)
    kho.refuses("backup", "web1", "--to", fs.path, status=NO_SPACE, says=["needs more than the", "MiB that the store", "another store"])
    assert not (fs.path / "web1").exists() and steps.entries(kho) == []


def test_a_managed_save_is_told_of(kho):
    """Its memory is no part of a backup: said, and written down."""
    store = backups.store(kho)
    disk = kho.base / "web1.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"])
    booted.define(kho, "web1", machine.disk(disk, "vda"))
    kho("start", "web1", "--paused")
    kho("managedsave", "web1")
    ran = kho("backup", "web1", "--to", store, "--point", "one")
    assert "Left out: memory " in ran.out and "web1.save" in ran.out and "mid-run" in ran.out
    left, = [left for left in backups.manifest(store / "web1" / "one")["left-out"] if left["what"] == "memory"]
    assert left["source"].endswith("web1.save")
    assert kho.json("backup", "web1", "--to", store, "--point", "two")["left-out"][-1]["what"] == "memory"
    kho("restore-backup", store, "web1", "--point", "one", "--name", "web2")


def test_restored_disks_are_what_they_were_restored_as(kho):
    """A guest writes every byte of its raw disk, also the header of another format."""
    disks, store, folder = backups.make(kho), backups.store(kho), kho.base / "pool"
    kho("pool-define-as", "p2", "dir", "--target", folder)
    kho("pool-build", "p2")
    kho("pool-start", "p2")
    kho("backup", "web1", "--to", store)
    kho("restore-backup", store, "web1", "--name", "h", "--pool", "p2")
    forged = kho.base / "forged"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disks["vdb"], "-F", "raw", forged])
    with open(folder / "h-vdb.raw", "r+b") as file:
        file.write(forged.read_bytes()[:65536])
    assert kho.json("vol-info", "h-vdb.raw", "--pool", "p2")["format"] == "raw"
    assert kho.json("vol-info", "h-vda.qcow2", "--pool", "p2")["format"] == "qcow2"


def test_pool_that_cannot_be_written(kho, small_fs):
    """Said before anything is begun; where it becomes so on the way, the name is not held up by what was never made."""
    fs = small_fs("ext4", 32)
    backups.make(kho)
    store = backups.store(kho)
    kho("backup", "web1", "--to", store)
    kho("pool-define-as", "p2", "dir", "--target", fs.path)
    kho("pool-start", "p2")
    words = ["restore-backup", store, "web1", "--name", "web2", "--pool", "p2"]
    child = steps.stopped(kho, "restore-backup:place-disks:before", *words)
    harness.run(["mount", "-o", "remount,ro", fs.path])
    assert "Read-only file system" in steps.go_on(child, status=DENIED)
    assert steps.entries(kho) == []
    kho.refuses(*words, status=DENIED, says=[str(fs.path), "Read-only file system"])
    assert steps.entries(kho) == []
    kho("restore-backup", store, "web1", "--name", "web2")
