"""A power failure at the end of every fsync of a backup and of a restore: a point is whole or is none; a machine is there
with all its disks, or nothing of it."""

import shutil

import backups
import harness
import machine
from power.replay import replayed


def small(kho):
    """Disks and store lie in the tree, which is what the recording sees."""
    emulator = kho.base / "qemu"  # asked for its version alone; the real one is no program to be preloaded into
    emulator.write_text("#!/bin/sh\necho QEMU emulator version 7.2.0\n")
    emulator.chmod(0o755)
    folder = kho.root / "disks"
    folder.mkdir()
    disks = {"vda": folder / "web1.qcow2", "vdb": folder / "web1.raw"}
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", disks["vda"], "1M"])
    harness.run(["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 100k", disks["vda"]])
    disks["vdb"].write_bytes(bytes(65536) + b"x" * 65536)
    machine.define(kho, "web1", f"<emulator>{emulator}</emulator>", machine.disk(disks["vda"], "vda"),
                   machine.disk(disks["vdb"], "vdb", "raw"))
    store = kho.root / "store"
    store.mkdir()
    return disks, store


def test_backup(kho, build, rng):
    disks, store = small(kho)
    wanted, files = backups.hashes(disks), {path: backups.sha256(path) for path in disks.values()}
    point, seen = store / "web1" / "one", []
    for what in replayed(kho, build, rng, "backup", "web1", "--to", store, "--point", "one"):
        kho("recover")
        assert {path: backups.sha256(path) for path in files} == files, what
        assert backups.parts(store) == [], what
        seen.append(point.exists())
        if point.exists():
            backups.check_whole(point)
        elif seen.count(False) % 10 == 1:  # nothing is in the way of the next one
            kho("backup", "web1", "--to", store, "--point", "one")
            backups.check_whole(point)
    assert set(seen) == {True, False}
    backups.check_whole(point, wanted)


def test_restore(kho, build, rng):
    disks, store = small(kho)
    wanted, seen = backups.hashes(disks), []
    kho("backup", "web1", "--to", store, "--point", "one")
    shutil.rmtree(kho.root / "disks")
    kho("undefine", "web1")
    for what in replayed(kho, build, rng, "restore-backup", store, "web1", "--name", "web2"):
        kho("recover")
        there = "web2" in kho("list", "--all", "--name").out.split()
        images = sorted(path.name for path in (kho.root / "lib/images").iterdir())
        assert images == (["web2-vda.qcow2", "web2-vdb.raw"] if there else []), what
        if there and seen.count(True) % 10 == 0:
            assert backups.hashes(backups.disks_of(kho, "web2")) == wanted, what
        seen.append(there)
    assert set(seen) == {True, False}
    assert backups.hashes(backups.disks_of(kho, "web2")) == wanted
