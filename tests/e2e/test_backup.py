"""Backups of machines that are shut off: what they hold, how they are listed and verified, where a restore puts them."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

import backups
import harness
import machine
import steps

CORRUPT = 7


def test_a_point_holds_what_the_disks_hold(kho):
    disks, store = backups.make(kho), backups.store(kho)
    wanted, before = backups.hashes(disks), {path: backups.sha256(path) for path in disks.values()}
    began = time.time() * 1000
    ran = kho("backup", "web1", "--to", store, "--point", "one")
    assert ran.out.splitlines()[0] == f"Domain 'web1' backed up to {store}/web1/one"
    assert "Left out: vdc" in ran.out and "Left out: hdc" in ran.out
    point = store / "web1" / "one"
    backups.check_whole(point, wanted)
    told = backups.manifest(point)
    assert told["version"] == 1 and told["state"] == "shut off" and began <= told["when-ms"] <= time.time() * 1000
    assert told["machine"] == {"name": "web1", "uuid": kho("domuuid", "web1").out.strip()}
    assert told["kho-version"] and re.match(r"\d+\.\d+", told["qemu-version"])
    assert [(d["target"], d["format"], d["capacity-bytes"]) for d in told["disks"]] == \
        [("vda", "qcow2", 8 << 20), ("vdb", "qcow2", (3 << 20) + 512)]
    assert [(left["what"], left["target"]) for left in told["left-out"]] == [("disk", "vdc"), ("cdrom", "hdc")]
    assert (point / "domain.xml").read_text() == kho("dumpxml", "web1").out
    for path in [point, *point.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert {path: backups.sha256(path) for path in disks.values()} == before
    assert steps.entries(kho) == [] and backups.parts(store) == []


@pytest.mark.parametrize("compression", ["zstd", "zlib", "none"])
def test_by_hand(kho, compression):
    """The files are of use with nothing but cp and QEMU."""
    disks, store = backups.make(kho), backups.store(kho)
    kho("backup", "web1", "--to", store, "--point", "one", "--compress", compression)
    elsewhere = kho.base / "elsewhere"
    harness.run(["cp", "-r", store / "web1" / "one", elsewhere])
    harness.run(["qemu-img", "convert", "-O", "raw", elsewhere / "vda.qcow2", elsewhere / "vda.raw"])
    assert backups.sha256(elsewhere / "vda.raw") == backups.contents(disks["vda"], "qcow2")
    told = json.loads(harness.run(["qemu-img", "info", "--output=json", elsewhere / "vda.qcow2"]).out)
    assert "backing-filename" not in told and told["format"] == "qcow2"
    packed = json.loads(harness.run(["qemu-img", "check", "--output=json", elsewhere / "vda.qcow2"]).out)
    assert bool(packed.get("compressed-clusters")) == (compression != "none")
    assert told["format-specific"]["data"]["compression-type"] == ("zstd" if compression == "zstd" else "zlib")
    assert {d["compression"] for d in backups.manifest(elsewhere)["disks"]} == {compression}


def test_points_are_named_by_their_time(kho):
    backups.make(kho)
    store = backups.store(kho)
    for _ in range(3):  # in one second, perhaps
        kho("backup", "web1", "--to", store)
    names = backups.points(store)
    assert len(names) == 3 and all(re.match(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d)?$", name) for name in names), names
    told = kho.json("backup", "web1", "--to", store)
    assert told["path"] == str(store / "web1" / told["point"]) and told["problem"] is None


def test_relative_store_and_odd_names(kho):
    store = backups.store(kho)
    machine.define(kho, "a b 'ö'")
    kho("backup", "a b 'ö'", "--to", "store", "--point", "v 1.0", cwd=kho.base)
    assert (store / "a b 'ö'" / "v 1.0" / "manifest.json").exists()
    assert backups.manifest(store / "a b 'ö'" / "v 1.0")["disks"] == []
    kho("undefine", "a b 'ö'")
    kho("restore-backup", "store", "a b 'ö'", cwd=kho.base)
    assert kho("domstate", "a b 'ö'").out == "shut off\n"


def test_a_disk_whose_name_is_as_long_as_can_be(kho):
    disk = kho.base / ("d" * 249 + ".qcow2")
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"])
    harness.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", disk])
    machine.define(kho, "web1", machine.disk(disk))
    store, before = backups.store(kho), backups.contents(disk)
    kho("backup", "web1", "--to", store)
    kho("undefine", "web1")
    disk.unlink()
    kho("restore-backup", store, "web1")
    assert backups.contents(disk) == before
    assert [path.name for path in kho.base.iterdir() if path.name.endswith(".kho-tmp")] == []


def test_a_machine_that_is_named_like_a_folder_of_file_systems(kho):
    machine.define(kho, "lost+found")
    store = backups.store(kho)
    kho("backup", "lost+found", "--to", store, "--point", "one")
    assert [(p["machine"], p["point"]) for p in kho.json("backup-list", store)] == [("lost+found", "one")]
    assert f"{store}/lost+found/one/manifest.json: ok" in kho("backup-verify", store).out


def test_a_store_whose_path_is_no_text(kho):
    """What cannot be written into the journal is refused; it would be another folder otherwise."""
    machine.define(kho, "web1")
    store = os.fsdecode(os.fsencode(kho.base) + b"/s\xff")
    os.mkdir(store)
    kho.refuses("backup", "web1", "--to", store, says="no UTF-8")
    kho.refuses("backup-list", store, says="no UTF-8")


def test_list(kho):
    for name in ("web1", "web2"):
        backups.make(kho, name)
    store = backups.store(kho)
    assert kho.json("backup-list", store) == []
    for name, point in (("web2", "b"), ("web1", "z"), ("web1", "a")):
        kho("backup", name, "--to", store, "--point", point)
    (store / "lost+found").mkdir()
    (store / "web1" / "notes").mkdir()
    (store / "web1" / ".x.part").mkdir()
    (store / "file").write_text("not a machine")
    shutil.copytree(store / "web1" / "a", store / "web1" / "broken")
    (store / "web1" / "broken" / "manifest.json").unlink()
    shutil.copytree(store / "web1" / "a", store / "web1" / "newer")
    backups.write_manifest(store / "web1" / "newer", backups.manifest(store / "web1" / "newer") | {"version": 2})
    told = kho.json("backup-list", store)
    assert [(p["machine"], p["point"], p["unfinished"], p["problem"] is None) for p in told] == [
        ("web1", "z", False, True), ("web1", "a", False, True), ("web1", "broken", False, False),
        ("web1", "newer", False, False), ("web1", "x", True, False), ("web2", "b", False, True)]
    assert "has no manifest.json" in told[2]["problem"] and "use a newer kho" in told[3]["problem"]
    assert told[0]["capacity-bytes"] == (11 << 20) + 512 and 0 < told[0]["size-bytes"] < 11 << 20
    ran = kho("backup-list", store, "web1")
    rows = [line.split() for line in ran.out.splitlines()[2:] if line]
    assert [row[1] for row in rows] == ["z", "a", "broken", "newer", "x"]
    assert [row[3] for row in rows[2:]] == ["unusable", "unusable", "unfinished"] and len(ran.err.splitlines()) == 3
    assert "not whole" in ran.err


def test_verify_finds_a_flipped_bit_in_each_file(kho, rng):
    backups.make(kho)
    store = backups.store(kho)
    for point in ("one", "two"):
        kho("backup", "web1", "--to", store, "--point", point)
    good = kho("backup-verify", store)
    assert len(good.out.splitlines()) == 8 and all(line.endswith(": ok") for line in good.out.splitlines())
    files = sorted((store / "web1" / "two").iterdir())
    assert [path.name for path in files] == ["domain.xml", "manifest.json", "vda.qcow2", "vdb.qcow2"]
    for path in files:
        for _ in range(4):
            whole = path.read_bytes()
            at, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1:])
            ran = kho("backup-verify", store, status=None)
            where = f"{path.name}: bit {bit} of byte {at}"
            assert ran.status == CORRUPT and len(ran.err.splitlines()) == 1, where
            assert str(path) in ran.err and "1 of 2 backups" in ran.err, f"{where}: {ran}"
            if path.name != "manifest.json":
                assert backups.sha256(path) in ran.err and hashlib.sha256(whole).hexdigest() in ran.err
            assert kho("backup-verify", store, "web1", "one").status == 0
            kho.refuses("restore-backup", store, "web1", "--point", "two", "--name", "copy", status=CORRUPT, says=path.name)
            path.write_bytes(whole)
    assert kho("list", "--all", "--name").out.split() == ["web1"]
    assert list((kho.root / "lib/images").iterdir()) == []


def test_verify_finds_what_is_missing_and_what_is_short(kho):
    backups.make(kho)
    store = backups.store(kho)
    kho("backup", "web1", "--to", store, "--point", "one")
    path = store / "web1/one/vdb.qcow2"
    whole = path.read_bytes()
    os.truncate(path, len(whole) - 1)
    told = json.loads(kho("backup-verify", store, "web1", "one", "--json", status=CORRUPT).out)
    assert [f["file"] for f in told[0]["files"] if f["problem"]] == ["vdb.qcow2"] and told[0]["good"] is False
    path.unlink()
    ran = kho("backup-verify", store, status=CORRUPT)
    assert "vdb.qcow2" in ran.err and "No such file" in ran.err
    path.write_bytes(whole)
    assert kho.json("backup-verify", store)[0]["good"] is True


def test_restore_to_where_it_was(kho):
    """The same name, uuid, MACs and paths, when all of them are free."""
    disks, store = backups.make(kho), backups.store(kho)
    wanted, xml = backups.hashes(disks), kho("dumpxml", "web1").out
    kho("backup", "web1", "--to", store)
    kho("undefine", "web1")
    for path in disks.values():
        path.unlink()
    ran = kho("restore-backup", store, "web1")
    assert ran.out.startswith("Domain 'web1' restored from ") and ran.err == ""
    assert kho("dumpxml", "web1").out == xml
    assert backups.disks_of(kho, "web1") == disks and backups.hashes(disks) == wanted
    assert json.loads(harness.run(["qemu-img", "info", "--output=json", disks["vdb"]]).out)["format"] == "raw"
    assert disks["vdb"].stat().st_blocks * 512 < 2 << 20, "zeros are holes"


def test_restore_beside_what_is_left(kho):
    """The definition is gone and its disks are not: they stay, and the machine gets disks among kho's images."""
    disks, store = backups.make(kho), backups.store(kho)
    wanted = backups.hashes(disks)
    kho("backup", "web1", "--to", store)
    kho("undefine", "web1")
    before = {path: backups.sha256(path) for path in disks.values()}
    kho("restore-backup", store, "web1")
    images = kho.root / "lib/images"
    assert backups.disks_of(kho, "web1") == {"vda": images / "web1-vda.qcow2", "vdb": images / "web1-vdb.raw"}
    assert backups.hashes(backups.disks_of(kho, "web1")) == wanted
    assert {path: backups.sha256(path) for path in disks.values()} == before
    kho("undefine", "web1")
    kho.refuses("restore-backup", store, "web1", status=4, says="web1-vda.qcow2")
    assert kho("list", "--all", "--name").out.split() == []


def test_restore_as_another_machine(kho):
    disks, store = backups.make(kho), backups.store(kho)
    wanted = backups.hashes(disks)
    kho("backup", "web1", "--to", store)
    kho("pool-define-as", "p", "dir", "--target", kho.base / "pool")
    kho("pool-start", "p", "--build")
    kho("restore-backup", store, "web1", "--name", "web2", "--pool", "p")
    new = {"vda": kho.base / "pool/web2-vda.qcow2", "vdb": kho.base / "pool/web2-vdb.raw"}
    assert backups.disks_of(kho, "web2") == new and backups.hashes(new) == wanted
    assert sorted(v["name"] for v in kho.json("vol-list", "p")) == ["web2-vda.qcow2", "web2-vdb.raw"]
    assert kho("domuuid", "web2").out != kho("domuuid", "web1").out
    assert backups.macs(kho, "web1") and not set(backups.macs(kho, "web2")) & set(backups.macs(kho, "web1"))
    kho("restore-backup", store, "web1", "--name", "web3", "--start")
    assert kho("domstate", "web3").out == "running\n"
    kho("destroy", "web3")
    kho.refuses("restore-backup", store, "web1", "--name", "web4", "--pool", "nosuch", status=3, says="nosuch")


def test_restore_takes_the_latest(kho):
    disks, store = backups.make(kho), backups.store(kho)
    wanted = {}
    for name in ("z", "y", "x"):
        harness.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {ord(name)} 6M 64k", disks["vda"]])
        wanted[name] = backups.hashes(disks)
        kho("backup", "web1", "--to", store, "--point", name)
    kho("restore-backup", store, "web1", "--name", "latest")
    assert backups.hashes(backups.disks_of(kho, "latest")) == wanted["x"]
    kho("restore-backup", store, "web1", "--name", "first", "--point", "z")
    assert backups.hashes(backups.disks_of(kho, "first")) == wanted["z"]
    (store / "web1/y/manifest.json").write_text("{}")
    kho.refuses("restore-backup", store, "web1", "--name", "n", status=CORRUPT, says=["cannot be told", "--point"])
    for name in ("x", "z"):
        (store / "web1" / name / "manifest.json").write_text("{}")
    ran = kho.refuses("restore-backup", store, "web1", "--name", "n", status=CORRUPT, says=["no point that can be used", "kho backup"])
    assert "--point" not in ran.err
    kho.refuses("backup-list", "/dev/null", status=5, says="/dev/null is no folder")
    kho.refuses("backup-list", kho.tmp / "none", status=3, says="make that folder first")


def test_what_was_left_out_is_told_where_it_is_not_there(kho):
    disks, store = backups.make(kho), backups.store(kho)
    kho("backup", "web1", "--to", store)
    (kho.base / "disks/web1.iso").unlink()
    ran = kho("restore-backup", store, "web1", "--name", "web2")
    assert len(ran.err.splitlines()) == 1 and "cdrom" in ran.err and "web1.iso" in ran.err
    ran = kho("restore-backup", store, "web1", "--name", "web3", "--start", status=3)
    assert "restored, and not started" in ran.err and kho("domstate", "web3").out == "shut off\n"


def test_busy_while_a_backup_is_made(kho):
    """Reads go on, changes are told who is at it, and the part folder is told as being made."""
    backups.make(kho)
    store = backups.store(kho)
    child = steps.stopped(kho, "backup:copy:after", "backup", "web1", "--to", store, "--point", "one")
    for verb in (["start", "web1"], ["undefine", "web1"], ["backup", "web1", "--to", store]):
        ran = kho(*verb, status=8)
        assert "backup of point 'one' by pid" in ran.err and str(child.pid) in ran.err
    assert kho("domstate", "web1").out == "shut off\n"
    told = kho.json("backup-list", store)
    assert [(p["point"], p["unfinished"]) for p in told] == [("one", True)] and "just now" in told[0]["problem"]
    kho.refuses("backup-verify", store, "web1", "one", says="just now")
    kho.refuses("restore-backup", store, "web1", "--name", "n", "--point", "one", says="not whole")
    kho.refuses("restore-backup", store, "web1", "--name", "n", says="no whole point")
    steps.go_on(child)
    assert kho.json("backup-verify", store)[0]["good"] is True


def test_images_are_held(kho):
    """While they are copied nobody else writes to the disks, and disks that somebody writes are not copied."""
    disks, store = backups.make(kho), backups.store(kho)
    with subprocess.Popen(["qemu-io", "-f", "raw", disks["vdb"]], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE) as holder:
        holder.stdin.write(b"write -P 9 0 512\n")
        holder.stdin.flush()
        holder.stdout.readline()
        kho.refuses("backup", "web1", "--to", store, status=8, says=["vdb", "qemu-io", str(holder.pid)])
        holder.stdin.close()
    assert backups.points(store) == [] and backups.parts(store) == []


def keys_of(value):
    """All keys in a JSON value, however deep."""
    found = set()
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else []:
        found |= keys_of(item)
    return found | (set(value) if isinstance(value, dict) else set())


def test_json_is_documented(kho):
    backups.make(kho)
    store = backups.store(kho)
    docs = (harness.REPO / "docs/json.md").read_text().partition("## Backups")[2].partition("\n## ")[0]
    told = [kho.json("backup", "web1", "--to", store, "--point", "one"), kho.json("backup-list", store),
            kho.json("backup-verify", store), backups.manifest(store / "web1/one")]
    for key in keys_of(told):
        assert f"`{key}`" in docs, f"docs/json.md does not tell of {key}"


def test_progress_on_a_terminal(kho):
    """One line that goes from the beginning to the end, over copying and hashing; then the message."""
    backups.make(kho)
    store, began = backups.store(kho), time.monotonic()
    child = kho.terminal("backup", "web1", "--to", store, env={"KHO_STOP_AT": "backup:copy:before"})
    harness.wait_for("the copy", lambda: machine.is_stopped(child.pid))
    harness.wait_for("work of a second, which shows progress", lambda: time.monotonic() > began + 1.5)
    child.kill(signal.SIGCONT)
    child.expect_exact("backed up to")
    shown = [int(percent) for percent in re.findall(r"\] +(\d+) %", child.before)]
    assert shown == sorted(shown) and 50 in shown and 100 in shown, shown
