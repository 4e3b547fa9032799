"""What --plan says, on small disks that are ever less full: where it fits, the verb succeeds and takes no more than was said, and
not much less; where it does not, the verb refuses it with the same figures, and all is as it was. A plan changes nothing."""

import json
import os
import random
import shutil

import pytest

import harness
from interop.engine import assert_clean, assert_same, qemu_img, qemu_io, sha256_of

NO_SPACE = 10
LEVELS = 10
MIB = 1 << 20
# What a plan may say beyond what is used: file systems' own tables, and tables that might have been wanted.
SLACK_BYTES, SLACK_SHARE = 3 * MIB, 1.02


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """6 MiB of noise, and as much of zeros that are written: nobody sees from the map that these take no space."""
    path = tmp_path_factory.mktemp("plan") / "source.raw"
    path.write_bytes(random.Random(5).randbytes(6 * MIB) + bytes(6 * MIB))
    return path


def state(fs):
    names = sorted(set(os.listdir(fs.path)) - {".ballast", "lost+found"})
    return {name: sha256_of(fs.path / name) for name in names}


def overlay_on(folder, source, fmt="qcow2"):
    """A base and an overlay with 3 MiB of data, 1 MiB of it new to the base, and zeros that are written."""
    base, top = folder / "base", folder / "top.qcow2"
    qemu_img("convert", "-f", "raw", "-O", fmt, source, base)
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", fmt, top, "40M")
    qemu_io(top, ["write -P 7 1M 2M", "write -P 8 20M 4M", "write -P 0 30M 2M"])
    return top


def prepare(verb, folder, source):
    if verb in ("commit", "rebase"):
        overlay_on(folder, source)
    elif verb == "resize":
        qemu_img("create", "-q", "-f", "qcow2", folder / "disk.qcow2", "1M")


def words(verb, folder, source):
    return {
        "convert": ["convert", "-f", "raw", "-O", "qcow2", source, folder / "new"],
        "convert raw": ["convert", "-f", "raw", "-O", "raw", source, folder / "new"],
        "dd": ["dd", "-f", "raw", "-O", "qcow2", "--length", "8M", source, folder / "new"],
        "create": ["create", "-f", "qcow2", "-o", "preallocation=falloc", folder / "new", "8M"],
        "resize": ["resize", "--preallocation", "falloc", folder / "disk.qcow2", "9M"],
        "commit": ["commit", "-d", folder / "top.qcow2"],
        "rebase": ["rebase", "-b", "", folder / "top.qcow2"],
    }[verb]


def plan_of(kho, argv):
    ran = kho("--json", "img", argv[0], "--plan", *argv[1:], status=None)
    assert ran.status in (0, NO_SPACE), str(ran)
    plan = json.loads(ran.out)
    assert (plan["fits"] == "no") == (ran.status == NO_SPACE), str(ran)
    return plan, ran


@pytest.mark.parametrize("verb,kind,size", [
    *((verb, "ext4", 64) for verb in ("convert", "convert raw", "dd", "create", "resize", "commit", "rebase")),
    *((verb, "xfs", 310) for verb in ("convert", "convert raw", "create", "resize"))])
def test_levels(kho, tmp, small_fs, source, verb, kind, size):
    seen, excess = [], []
    prepare(verb, tmp, source)
    kept = [path for path in tmp.iterdir() if path.is_file()]
    for level in range(LEVELS):
        fs = small_fs(kind, size)  # one that is new: XFS gives back what was removed when it likes
        argv = words(verb, fs.path, source)
        for path in kept:
            harness.run(["cp", "--sparse=always", path, fs.path])
        os.sync()
        fs.fill(14 * MIB * level // (LEVELS - 1) + 256 * 1024)
        before, free = state(fs), fs.free_bytes()
        plan, planned = plan_of(kho, argv)
        assert state(fs) == before
        assert abs(plan["free-bytes"] - free) <= MIB
        ran = kho("img", *argv, status=None)
        os.sync()
        taken = free - fs.free_bytes()
        if plan["fits"] == "no":
            assert ran.status == NO_SPACE and state(fs) == before, f"{plan} {ran}"
            assert ran.err == planned.err or "needs" in ran.err
            assert len(ran.err.splitlines()) == 1
        elif plan["fits"] == "yes":
            assert ran.status == 0, f"{plan} {ran}"
            assert taken <= plan["space-bytes"] + 64 * 1024, f"{plan} took {taken}"
            excess.append(plan["space-bytes"] - taken * SLACK_SHARE - SLACK_BYTES)
            assert excess[-1] <= 6 * MIB, f"{plan} took {taken}"  # where there is space for all, zeros are not looked for
        else:  # the last of the tables may or may not be needed
            assert plan["space-bytes"] - plan["free-bytes"] <= 1.5 * MIB + fs.kept_bytes()
            assert ran.status == 0 or (ran.status == NO_SPACE and state(fs) == before), f"{plan} {ran}"
        seen.append(plan["fits"])
    assert seen[0] == "no" and seen[-1] == "yes", seen
    assert seen.count("perhaps") <= 2 and min(excess) <= 0, (seen, excess)


@pytest.mark.parametrize("verb", ("convert", "convert raw", "commit", "rebase"))
def test_shared_blocks_take_no_space(kho, small_fs, source, verb):
    fs = small_fs("xfs", 310)
    inner = fs.path / "source.raw"
    shutil.copy(source, inner)
    prepare(verb, fs.path, inner)
    os.sync()
    fs.fill(3 * MIB)
    argv = words(verb, fs.path, inner)
    before, free = state(fs), fs.free_bytes()
    plan, _ = plan_of(kho, argv)
    assert state(fs) == before
    assert plan["space-bytes"] < 3 * MIB and plan["fits"] == "yes", plan
    kho("img", *argv)
    os.sync()
    assert free - fs.free_bytes() <= plan["space-bytes"]
    target = fs.path / ("top.qcow2" if verb in ("commit", "rebase") else "new")
    if verb in ("convert", "convert raw"):
        assert_same(target, "raw" if verb == "convert raw" else "qcow2", source, "raw")
    else:
        assert_clean(target)


def test_rebase_compares(kho, small_fs, tmp):
    """What reads the same on the other backing file is not copied: where space is short, that is looked at."""
    (tmp / "source").write_bytes(random.Random(6).randbytes(12 * MIB))
    overlay_on(tmp, tmp / "source", "raw")
    fs = small_fs("ext4", 64)
    for name in ("base", "top.qcow2"):
        shutil.copy(tmp / name, fs.path / name)
    shutil.copy(tmp / "base", fs.path / "other")
    qemu_io(fs.path / "other", ["write -P 3 5M 64k"], "raw")
    fs.fill(2 * MIB)
    argv = ["rebase", "-b", "other", "-F", "raw", fs.path / "top.qcow2"]
    plan, _ = plan_of(kho, argv)
    assert plan["fits"] == "yes" and plan["write-bytes"] == 65536 and plan["space-bytes"] < 2 * MIB, plan
    kho("img", *argv)
    assert_same(fs.path / "top.qcow2", "qcow2", tmp / "top.qcow2", "qcow2")


def test_compressed_is_not_known_before(kho, small_fs, tmp):
    fs = small_fs("ext4", 64)
    (tmp / "text").write_bytes(b"again and again " * (12 * MIB // 16))
    fs.fill(4 * MIB)
    argv = ["convert", "-c", "-f", "raw", "-O", "qcow2", tmp / "text", fs.path / "new"]
    plan, _ = plan_of(kho, argv)
    assert plan["fits"] == "perhaps" and not (fs.path / "new").exists()
    kho("img", *argv)
    assert_same(fs.path / "new", "qcow2", tmp / "text", "raw")


def test_snapshots_count(kho, tmp):
    """What neighbours share counts once; each state's own data, and all of it is what the copy takes at most."""
    qemu_img("create", "-q", "-f", "qcow2", tmp / "a", "64M")
    qemu_io(tmp / "a", ["write -P 1 0 8M"])
    qemu_img("snapshot", "-c", "one", tmp / "a")
    qemu_io(tmp / "a", ["write -P 2 2M 1M", "write -P 3 30M 1M"])
    qemu_img("snapshot", "-c", "two", tmp / "a")
    before = sha256_of(tmp / "a")
    plan, _ = plan_of(kho, ["convert", "--with-snapshots", "-O", "qcow2", tmp / "a", tmp / "b"])
    assert plan["write-bytes"] == 10 * MIB and 10 * MIB < plan["space-bytes"] < 15 * MIB
    assert sha256_of(tmp / "a") == before and not (tmp / "b").exists()
    kho("img", "convert", "--with-snapshots", "-O", "qcow2", tmp / "a", tmp / "b")
    assert (tmp / "b").stat().st_blocks * 512 <= plan["space-bytes"]


@pytest.mark.parametrize("leave,fits", [(8, "no"), (14, "perhaps"), (24, "yes")])
def test_snapshots_on_a_full_disk(kho, tmp, small_fs, leave, fits):
    """The disk as it is now is surely wanted, and of the states before what they do not share."""
    source = tmp / "a"
    qemu_img("create", "-q", "-f", "qcow2", source, "64M")
    qemu_io(source, ["write -P 1 0 4M", "write -P 2 20M 8M"])
    qemu_img("snapshot", "-c", "one", source)
    qemu_io(source, ["write -P 3 0 4M"])
    qemu_img("snapshot", "-c", "two", source)
    fs = small_fs("ext4", 64)
    fs.fill(leave * MIB)
    argv = ["convert", "--with-snapshots", "-O", "qcow2", source, fs.path / "new"]
    plan, planned = plan_of(kho, argv)
    ran = kho("img", *argv, status=None)
    assert plan["fits"] == fits, plan
    assert ran.status == (0 if fits == "yes" else NO_SPACE), str(ran)
    assert (fs.path / "new").exists() == (fits == "yes") and set(state(fs)) <= {"new"}
    assert "needs" in ran.err if fits == "no" else True
    assert planned.err == ran.err or fits != "no"


def test_luks_volume(kho, tmp):
    """It has a head, and all of its zeros are written: as ciphertext."""
    (tmp / "pass").write_bytes(b"word")
    qemu_img("create", "-q", "-f", "raw", tmp / "a", "6M")
    argv = ["convert", "-O", "luks", "--secret", f"id=k,file={tmp / 'pass'}", "-o", "key-secret=k", tmp / "a", tmp / "b"]
    plan, _ = plan_of(kho, argv)
    kho("img", *argv)
    taken = (tmp / "b").stat().st_blocks * 512
    assert 6 * MIB < taken <= plan["space-bytes"] <= taken + SLACK_BYTES and plan["write-bytes"] == 6 * MIB


def test_losses(kho, tmp):
    qemu_img("create", "-q", "-f", "qcow2", tmp / "a", "8M")
    qemu_img("snapshot", "-c", "one", tmp / "a")
    qemu_img("bitmap", "--add", tmp / "a", "b0")
    before = {name: sha256_of(tmp / name) for name in os.listdir(tmp)}
    plan, _ = plan_of(kho, ["convert", "-O", "raw", tmp / "a", tmp / "b"])
    assert [line.split(" of ")[0] for line in plan["lost"]] == ["1 internal snapshot(s)", "1 persistent bitmap(s)"]
    plan, _ = plan_of(kho, ["convert", "--bitmaps", "-O", "qcow2", tmp / "a", tmp / "b"])
    assert len(plan["lost"]) == 1
    plan, _ = plan_of(kho, ["convert", "--bitmaps", "--with-snapshots", "-O", "qcow2", tmp / "a", tmp / "b"])
    assert plan["lost"] == []
    plan, _ = plan_of(kho, ["create", "--force", "-f", "raw", tmp / "a", "1M"])
    assert plan["lost"] == [f"the file that stands at {tmp / 'a'}"]
    qemu_img("create", "-q", "-f", "raw", tmp / "c", "8M")
    plan, _ = plan_of(kho, ["resize", "-f", "raw", "--shrink", tmp / "c", "1M"])
    assert plan["lost"] == ["the last 7340032 bytes of the disk"]
    assert {name: sha256_of(tmp / name) for name in before} == before


def test_refusals(kho, tmp):
    """What the verb refuses, its plan does, in the same words."""
    qemu_img("create", "-q", "-f", "qcow2", tmp / "a", "8M")
    for argv in (["convert", "-O", "qcow2", tmp / "none", tmp / "b"], ["convert", "-O", "qcow2", tmp / "a", tmp / "a"],
                 ["create", "-f", "raw", tmp / "a", "1M"], ["resize", tmp / "a", "1M"], ["commit", tmp / "a"],
                 ["convert", "-O", "raw", tmp / "a", tmp / "nowhere" / "b"]):
        plan = kho.refuses("img", argv[0], "--plan", *argv[1:])
        ran = kho.refuses("img", *argv)
        assert (plan.status, plan.err, plan.out) == (ran.status, ran.err, "")
    for argv in (["create", "-f", "qcow2", "-b", "none", "-F", "qcow2", tmp / "b"], ["create", "-f", "qcow2", "-o", "cluster_size=3000", tmp / "b", "1M"],
                 ["create", "-f", "qcow2", "-o", "cluster_size=512", tmp / "b", "7E"], ["create", "-f", "raw", tmp / "b", "7E"],
                 ["create", "-f", "qcow2", "-o", f"data_file={tmp / 'a'}", tmp / "b", "1M"], ["create", "-f", "raw", "", "1M"],
                 ["convert", "-O", "qcow2", "-B", "none", "-F", "qcow2", tmp / "a", tmp / "b"],
                 ["convert", "-O", "qcow2", "-o", "cluster_size=3000", tmp / "a", tmp / "b"],
                 ["convert", "-O", "raw", tmp / "a", f"{tmp}/"], ["create", "-f", "raw", f"{tmp}/", "1M"]):
        plan = kho.refuses("img", argv[0], "--plan", *argv[1:])
        ran = kho.refuses("img", *argv)
        assert (plan.status, plan.err, plan.out) == (ran.status, ran.err, "")
    kho.refuses("--json", "img", "create", "-f", "raw", tmp / "x", "1M", says="--json goes with --plan")
    kho.refuses("img", "rebase", "-u", "--plan", "-b", "", tmp / "a", says="--unsafe")
    assert os.listdir(tmp) == ["a"]
