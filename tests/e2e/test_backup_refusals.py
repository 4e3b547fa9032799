"""Bad input to the verbs on backups: a status that is not 0, one line that names the object, and nothing changed. Stores
that are full, read-only or gone; cancels."""

import os
import random
import shutil
import signal
import time

import pytest

import backups
import harness
import machine
import steps
from snapshot import snapshot

NOT_FOUND, EXISTS, INVALID, UNSUPPORTED, CORRUPT, BUSY, DENIED, NO_SPACE = 3, 4, 5, 6, 7, 8, 9, 10
MIB = 1 << 20


@pytest.fixture
def world(kho):
    """A machine with a backup `one`, and a refusal that checks that nothing changed."""
    kho.disks, kho.store = backups.make(kho), backups.store(kho)
    kho("backup", "web1", "--to", kho.store, "--point", "one")

    def refuses(*words, status, says, **keywords):
        before = snapshot(kho.root, kho.store, kho.base / "disks")
        ran = kho.refuses(*words, status=status, says=says, **keywords)
        assert snapshot(kho.root, kho.store, kho.base / "disks") == before
        return ran
    kho.nothing_changes = refuses
    return kho


def test_unknown(world):
    store, no = world.store, world.nothing_changes
    no("backup", "nosuch", "--to", store, status=NOT_FOUND, says="nosuch")
    no("backup", "web1", "--to", "", status=INVALID, says="empty")
    no("backup", "web1", "--to", world.base / "nosuch", status=NOT_FOUND, says=["nosuch", "make that folder first"])
    no("backup", "web1", "--to", world.disks["vda"], status=INVALID, says="web1.qcow2 is no folder")
    for verb in (["backup-list"], ["backup-verify"], ["restore-backup"]):
        more = ["web1"] if verb[0] == "restore-backup" else []
        no(*verb, world.base / "nosuch", *more, status=NOT_FOUND, says="nosuch")
        no(*verb, store, "nosuch", status=NOT_FOUND, says=["nosuch", "backup-list"])
        no(*verb, store, "../disks", status=INVALID, says="../disks")
    no("backup-verify", store, "web1", "nosuch", status=NOT_FOUND, says=["'nosuch'", "'web1'"])
    no("restore-backup", store, "web1", "--point", "nosuch", status=NOT_FOUND, says=["'nosuch'", "'web1'"])
    for name in ("..", "a/b", "", ".hidden", "-x", "x" * 201):
        no("backup", "web1", "--to", store, f"--point={name}", status=INVALID, says="point")
        no("restore-backup", store, "web1", f"--point={name}", status=INVALID, says="point")
        no("restore-backup", store, "web1", f"--name={name}", status=INVALID, says="machine")


def test_taken(world):
    store, no = world.store, world.nothing_changes
    no("backup", "web1", "--to", store, "--point", "one", status=EXISTS, says=["'one'", "'web1'"])
    no("restore-backup", store, "web1", status=EXISTS, says=["'web1'", "--name"])
    no("restore-backup", store, "web1", "--name", "web1", status=EXISTS, says=["'web1'", "--name"])
    machine.define(world, "web2")
    no("restore-backup", store, "web1", "--name", "web2", status=EXISTS, says=["'web2'", "--name"])
    uuid = world("domuuid", "web1").out.strip()
    world("undefine", "web1")
    machine.define(world, "renamed", uuid=uuid)
    no("restore-backup", store, "web1", status=EXISTS, says=[uuid, "'renamed'", "--name"])
    (world.root / "lib/images/web3-vdb.raw").symlink_to("/nowhere")
    no("restore-backup", store, "web1", "--name", "web3", status=EXISTS, says="web3-vdb.raw")


def test_a_machine_that_runs_without_a_definition_keeps_its_name(world):
    machine.define(world, "web2")
    world("start", "web2")
    world("undefine", "web2")
    ran = world("restore-backup", world.store, "web1", "--name", "web2", status=EXISTS)
    assert "'web2'" in ran.err
    world("destroy", "web2")


def test_unfinished_of_another_host(world):
    (world.store / "web1" / ".two.part").mkdir()
    world.nothing_changes("backup", "web1", "--to", world.store, "--point", "two", status=EXISTS, says=[".two.part", "remove it"])
    world.nothing_changes("restore-backup", world.store, "web1", "--name", "n", "--point", "two", status=INVALID, says="not whole")
    world.nothing_changes("backup-verify", world.store, "web1", "two", status=INVALID, says="not whole")


def test_what_cannot_be_backed_up(world):
    block = "<disk type='block' device='disk'><source dev='/dev/null'/><target dev='vda' bus='virtio'/></disk>"
    machine.define(world, "web2", block)
    world.nothing_changes("backup", "web2", "--to", world.store, status=UNSUPPORTED, says=["vda", "'web2'", "no file"])
    world.disks["vdb"].unlink()
    world.nothing_changes("backup", "web1", "--to", world.store, status=NOT_FOUND, says=["vdb", "web1.raw"])
    (world.base / "disks/web1.base").unlink()
    world.nothing_changes("backup", "web1", "--to", world.store, status=NOT_FOUND, says=["vda", "web1.base"])


def manifest_with(world, **members):
    point = world.store / "web1" / "one"
    backups.write_manifest(point, world.told | members)


def test_manifests_that_lie(world):
    """Manifests that hash rightly and hold what kho would not write: refused, by name."""
    world("undefine", "web1")
    point = world.store / "web1" / "one"
    world.told = told = backups.manifest(point)
    disk = told["disks"][0]
    restore = ["restore-backup", world.store, "web1", "--name", "n"]
    cases = [
        ({"version": 2}, UNSUPPORTED, ["version 2", "knows 1"]),
        ({"version": "1"}, CORRUPT, "version"),
        ({"disks": {}}, CORRUPT, "disks"),
        ({"disks": [disk | {"file": "x/../../y.qcow2"}]}, CORRUPT, "slash"),
        ({"disks": [disk | {"target": "x/../y"}]}, CORRUPT, "slash"),
        ({"disks": [disk, disk]}, CORRUPT, "twice"),
        ({"disks": [disk | {"format": "raw"}]}, CORRUPT, "raw"),
        ({"disks": [disk | {"sha256": disk["sha256"].upper()}]}, CORRUPT, "sha256"),
        ({"disks": [disk | {"size-bytes": -1}]}, CORRUPT, "size-bytes"),
        ({"disks": [disk | {"target": "vdz"}]}, CORRUPT, "vdz"),
        ({"disks": told["disks"][1:]}, CORRUPT, ["disk vda", str(world.disks["vda"])]),
        ({"disks": told["disks"][1:], "left-out": told["left-out"] + [{"what": "disk", "target": "vda"}]}, CORRUPT, "disk vda"),
        ({"left-out": []}, CORRUPT, "disk vdc"),
        ({"disks": [disk | {"capacity-bytes": disk["capacity-bytes"] + 512}, told["disks"][1]]}, CORRUPT, "8389120"),
        ({"machine": {"name": "other", "uuid": told["machine"]["uuid"]}}, CORRUPT, "domain.xml"),
        ({"machine": {"name": "a/b", "uuid": told["machine"]["uuid"]}}, CORRUPT, "a/b"),
        ({"definition": None}, CORRUPT, "size-bytes"),
    ]
    for members, status, says in cases:
        manifest_with(world, **members)
        world.nothing_changes(*restore, "--point", "one", status=status, says=says)
        world.nothing_changes("backup-verify", world.store, status=status, says=says)
    (point / "manifest.json").write_text("not JSON")
    world.nothing_changes(*restore, status=CORRUPT, says="manifest.json")
    (point / "manifest.json").write_bytes(bytes(10))
    world.nothing_changes(*restore, status=CORRUPT, says="manifest.json")


def test_an_image_with_a_backing_file_is_not_followed(world):
    """A file of a store may name any other: it is refused, whatever its hash says."""
    point = world.store / "web1" / "one"
    told, secret = backups.manifest(point), world.base / "secret"
    secret.write_bytes(b"secret" * 1000)
    (point / "vda.qcow2").unlink()
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", point / "vda.qcow2", "8M"])
    told["disks"][0] |= {"sha256": backups.sha256(point / "vda.qcow2")}
    backups.write_manifest(point, told)
    world.nothing_changes("restore-backup", world.store, "web1", "--name", "n", status=DENIED, says="secret")


def test_random_manifests(world, rng, soak):
    """Whatever stands in the manifest, the verbs end with one line."""
    point = world.store / "web1" / "one"
    whole = (point / "manifest.json").read_bytes()
    for _ in range(200 if soak else 12):
        text = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text))
            text[at:at + rng.randrange(20)] = rng.randbytes(rng.randrange(20))
        (point / "manifest.json").write_bytes(text)
        world("backup-list", world.store)
        if text != whole:
            world.refuses("restore-backup", world.store, "web1", "--name", "n", says="manifest.json")
            world.refuses("backup-verify", world.store, says="manifest.json")


# --- no room, no rights ---------------------------------------------------------------------------------------------------
def test_full_store_is_told_before_with_the_figure(kho, small_fs):
    fs = small_fs("ext4", 24)
    disks = backups.make(kho)
    with open(disks["vdb"], "r+b") as file:
        file.truncate(20 * MIB)
        file.write(random.Random(1).randbytes(20 * MIB))
    fs.fill(10 * MIB)
    before = snapshot(fs.path)
    ran = kho.refuses("backup", "web1", "--to", fs.path, "--compress", "none", status=NO_SPACE, says=["web1", "MiB", "free"])
    assert "21.5 MiB" in ran.err or "22" in ran.err, ran.err
    assert snapshot(fs.path) == before
    fs.fill(0)
    kho.refuses("backup", "web1", "--to", fs.path, status=NO_SPACE)
    assert [path.name for path in fs.path.iterdir() if path.name not in (".ballast", "lost+found")] == []
    assert steps.entries(kho) == []


def test_store_full_at_any_moment(kho, small_fs):
    """At each of 12 levels: a whole point, or one line and nothing."""
    fs = small_fs("ext4", 24)
    disks = backups.make(kho)
    with open(disks["vdb"], "r+b") as file:
        file.write(random.Random(1).randbytes(3 * MIB))
    wanted, statuses = backups.hashes(disks), []
    for level in range(12):
        fs.fill(level * 700 * 1024 // 2)
        ran = kho("backup", "web1", "--to", fs.path, "--point", f"p{level}", status=None)
        statuses.append(ran.status)
        assert backups.parts(fs.path) == [] and steps.entries(kho) == [], f"level {level}: {ran}"
        if ran.status == 0:
            backups_point = fs.path / "web1" / f"p{level}"
            assert kho.json("backup-verify", fs.path, "web1", f"p{level}")[0]["good"]
            shutil.rmtree(backups_point)
        else:
            assert ran.status == NO_SPACE and len(ran.err.splitlines()) == 1, str(ran)
            assert not (fs.path / "web1").exists() or backups.points(fs.path) == []
    fs.fill(16 * MIB)
    kho("backup", "web1", "--to", fs.path, "--point", "last")
    backups.check_whole(fs.path / "web1" / "last", wanted)
    assert NO_SPACE in statuses and statuses[0] == NO_SPACE


def test_no_room_for_a_restore(kho, small_fs):
    """Told before with the figure; and whatever else takes the room meanwhile, nothing half stays."""
    fs = small_fs("ext4", 24)
    backups.make(kho)
    store = backups.store(kho)
    kho("backup", "web1", "--to", store)
    kho("pool-define-as", "p", "dir", "--target", fs.path / "pool")
    kho("pool-start", "p", "--build")
    fs.fill(2 * MIB)
    kho.refuses("restore-backup", store, "web1", "--name", "n", "--pool", "p", status=NO_SPACE, says=["'n'", "MiB", "free"])
    assert list((fs.path / "pool").iterdir()) == [] and kho("list", "--all", "--name").out.split() == ["web1"]
    fs.fill(16 * MIB)
    child = steps.stopped(kho, "restore-backup:place-disks:before", "restore-backup", store, "web1", "--name", "n", "--pool", "p")
    fs.fill(MIB)
    err = steps.go_on(child, NO_SPACE)
    assert "disk vda" in err and "MiB free" in err
    assert list((fs.path / "pool").iterdir()) == [] and kho("list", "--all", "--name").out.split() == ["web1"]
    assert steps.entries(kho) == []


def test_tree_full_at_the_definition(kho, small_fs):
    """No room for the definition itself: the disks go again."""
    fs = small_fs("ext4", 24)
    # larger than what is left of a file system that is full
    disks = backups.make(kho, more=f"  <description>{'long ' * 4000}</description>\n")
    store = backups.store(kho)
    kho("backup", "web1", "--to", store)
    other = ["--root", fs.path / "root"]
    kho(*other, "pool-define-as", "p", "dir", "--target", kho.base / "pool")
    kho(*other, "pool-start", "p", "--build")
    words = [*other, "restore-backup", store, "web1", "--pool", "p"]
    kho("undefine", "web1")
    child = steps.stopped(kho, "restore-backup:define:before", *words)
    fs.fill(0)
    err = steps.go_on(child, NO_SPACE)
    assert len(err.splitlines()) == 1
    fs.fill(MIB)
    kho(*other, "recover", status=None)
    assert list((kho.base / "pool").iterdir()) == [] and kho(*other, "list", "--all", "--name").out.split() == []
    kho(*words)
    assert backups.hashes({t: kho.base / "pool" / f"web1-{t}.{'raw' if t == 'vdb' else 'qcow2'}" for t in disks}) == \
        backups.hashes(disks)


def test_tree_full_at_any_moment(kho, small_fs):
    """kho's own tree is full: its journal, its images, its definitions. At each of 12 levels: done, or one line and nothing."""
    fs = small_fs("ext4", 24)
    disks, store = backups.make(kho), backups.store(kho)
    wanted, statuses = backups.hashes(disks), {"backup": set(), "restore-backup": set()}
    kho("backup", "web1", "--to", store, "--point", "one")
    xml = kho("dumpxml", "web1").out
    root = ["--root", fs.path / "root"]
    kho(*root, "define", "-", input=xml)
    images = fs.path / "root/lib/images"
    for level in range(12):
        fs.fill((0, 2048, 4096, 6144, 8192, 16384, 65536)[level] if level < 7 else (level - 6) * MIB)
        for words in (["backup", "web1", "--to", store, "--point", "two"], ["restore-backup", store, "web1", "--name", "web2"]):
            ran = kho(*root, *words, status=None)
            statuses[words[0]].add(ran.status)
            assert ran.status in (0, NO_SPACE) and len(ran.err.splitlines()) == (ran.status != 0), f"level {level}: {ran}"
            assert not list((fs.path / "root").rglob("*.kho-tmp")), f"level {level}: {ran}"
            assert not list((fs.path / "root/lib/journal").glob("*.jsonl")) and backups.parts(store) == [], f"level {level}: {ran}"
            assert (store / "web1/two").exists() == (words[0] == "backup" and ran.status == 0)
            shutil.rmtree(store / "web1/two", ignore_errors=True)
            there = "web2" in kho(*root, "list", "--all", "--name").out.split()
            assert there == (words[0] == "restore-backup" and ran.status == 0), f"level {level}: {ran}"
            if there:
                assert backups.hashes({"vda": images / "web2-vda.qcow2", "vdb": images / "web2-vdb.raw"}) == wanted
                kho(*root, "undefine", "web2")
                for path in images.iterdir():
                    path.unlink()
            assert list(images.iterdir()) == [], f"level {level}: {ran}"
    assert statuses == {"backup": {0, NO_SPACE}, "restore-backup": {0, NO_SPACE}}


def test_store_that_is_read_only(kho, small_fs):
    fs = small_fs("ext4", 16)
    disks = backups.make(kho)
    kho("backup", "web1", "--to", fs.path, "--point", "one")
    harness.run(["mount", "-o", "remount,ro", fs.path])
    kho.refuses("backup", "web1", "--to", fs.path, status=DENIED, says=[str(fs.path), "Read-only"])
    assert steps.entries(kho) == []
    assert kho.json("backup-verify", fs.path)[0]["good"] and len(kho.json("backup-list", fs.path)) == 1
    kho("restore-backup", fs.path, "web1", "--name", "web2")
    assert backups.hashes(backups.disks_of(kho, "web2")) == backups.hashes(disks)


def test_store_that_goes_meanwhile(kho, small_fs):
    """A killed backup to a disk that was unplugged does not hold its machine up, and what it left is told and can go."""
    fs = small_fs("ext4", 24)
    backups.make(kho)
    for remains in ("read-only", "gone"):
        (fs.path / "store").mkdir(exist_ok=True)
        child = steps.stopped(kho, "backup:copy:after", "backup", "web1", "--to", fs.path / "store", "--point", remains)
        steps.kill(child)
        if remains == "read-only":
            harness.run(["mount", "-o", "remount,ro", fs.path])
        else:
            (fs.path / "store").rename(fs.path / "elsewhere")
        assert len(steps.entries(kho)) == 1
        kho("start", "web1")
        kho("destroy", "web1")
        assert steps.entries(kho) == []
        harness.run(["mount", "-o", "remount,rw", fs.path])
        if remains == "gone":
            (fs.path / "elsewhere").rename(fs.path / "store")
        told = {p["point"]: p for p in kho.json("backup-list", fs.path / "store")}
        assert told[remains]["unfinished"] and "interrupted" in told[remains]["problem"]
        shutil.rmtree(fs.path / "store/web1" / f".{remains}.part")


def test_ordinary_user_is_refused_by_name(kho):
    """A store that others cannot write to: said before anything is done. Runs kho without root's rights."""
    backups.make(kho)
    store = backups.store(kho)
    assert os.geteuid() == 0
    os.chmod(kho.base, 0o755)
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    ran = harness.run([*drop, kho.program, "--root", "/proc/self/nosuch", "backup-list", store], status=None, env=kho.env())
    assert ran.status == 0, str(ran)
    kho("backup", "web1", "--to", store)
    ran = harness.run([*drop, kho.program, "backup-verify", store], status=None, env=kho.env())
    assert ran.status == DENIED and str(store / "web1") in ran.err and len(ran.err.splitlines()) == 1, str(ran)


# --- cancels --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb, number", [("backup", signal.SIGINT), ("backup", signal.SIGTERM),
                                          ("restore-backup", signal.SIGINT), ("backup-verify", signal.SIGTERM)])
def test_cancelled(kho, verb, number):
    """Ctrl-C in the middle ends it with nothing left."""
    disks, store = backups.make(kho, size_mib=512), backups.store(kho)
    harness.run(["qemu-io", "-f", "qcow2", "-c", "write -P 9 0 250M", disks["vda"]])
    if verb != "backup":
        kho("backup", "web1", "--to", store, "--compress", "none")
    words = {"backup": ["web1", "--to", store], "restore-backup": [store, "web1", "--name", "n"], "backup-verify": [store]}[verb]
    before = snapshot(kho.root, store) if verb != "backup" else None
    where = {"backup": "backup:copy:before", "restore-backup": "restore-backup:place-disks:before"}.get(verb)
    child = steps.stopped(kho, where, verb, *words) if where else kho.spawn(verb, *words)
    if where:
        os.kill(child.pid, signal.SIGCONT)
    reading = str(disks["vda"] if verb == "backup" else store)
    harness.wait_for("its work to begin", lambda: child.poll() is not None or reading in opened(child.pid))
    child.send_signal(number)
    began = time.monotonic()
    _, err = child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == 130 and len(err.splitlines()) == 1, err
    meaning = {"backup": "cancelled: no backup was made", "restore-backup": "cancelled: nothing was restored"}
    assert meaning.get(verb, "cancelled") in err.decode() and "unchanged" not in err.decode()
    assert time.monotonic() - began < 20
    assert steps.entries(kho) == [] and backups.parts(store) == []
    if verb == "backup":
        assert list(store.iterdir()) == []
    else:
        after = snapshot(kho.root, store)
        assert {p: v for p, v in after.items() if "journal" not in p} == {p: v for p, v in before.items() if "journal" not in p}


def opened(pid):
    """Paths that a process has open, in one text."""
    paths = []
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            paths.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    except OSError:
        pass
    return "\n".join(paths)
