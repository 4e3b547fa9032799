"""What --plan says of changes that move no data: snapshots inside an image, amend, resize. And what it says of files that have room
within them, or lack it: free clusters, space that is reserved, holes and shared blocks where clusters are in use."""

import json
import os
import shutil

import pytest

import harness
from interop.engine import assert_clean, assert_same, qemu_img, qemu_io, sha256_of

NO_SPACE = 10
MIB = 1 << 20
# What the file system takes itself for a file that grows.
TABLES = 64 * 1024


def plan_of(kho, argv):
    ran = kho("--json", "img", argv[0], "--plan", *argv[1:], status=None)
    assert ran.status in (0, NO_SPACE), str(ran)
    plan = json.loads(ran.out)
    assert (plan["fits"] == "no") == (ran.status == NO_SPACE), str(ran)
    return plan


def used(path):
    os.sync()
    return path.stat().st_blocks * 512


def worked_image(path, cluster=65536, compressed=True):
    """A disk with states that share a part of it, and compressed clusters."""
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", path, "48M")
    qemu_io(path, ["write -P 1 0 6M"])
    qemu_img("snapshot", "-c", "one", path)
    qemu_io(path, ["write -P 2 2M 1M", "write -P 3 30M 512k"])
    if compressed:
        qemu_io(path, [f"write -c -P 9 40M {max(cluster, 65536)}"])
    qemu_img("snapshot", "-c", "two", path)
    qemu_io(path, ["write -P 4 2M 1536k"])


CHANGES = {
    "create": ["snapshot", "-c", "three"],
    "apply": ["snapshot", "-a", "one"],
    "delete": ["snapshot", "-d", "two"],
    "refcounts": ["amend", "-o", "refcount_bits=64"],
    "version 2": ["amend", "-o", "compat=0.10"],
    "resize": ["resize", "--format", "qcow2", "SIZE"],
    "amended size": ["amend", "-o", "size=SIZE"],
}


def words(verb, path, cluster=65536):
    size = "100G" if cluster == 512 else "1000G"
    argv = [word.replace("SIZE", size) for word in CHANGES[verb]]
    return [*argv[:-1], path, argv[-1]] if argv[0] == "resize" else [*argv, path]


@pytest.mark.parametrize("cluster", (65536, 4096, 2 * MIB))
@pytest.mark.parametrize("verb", CHANGES)
def test_taken_and_freed(kho, tmp, verb, cluster):
    """The figures are those of the file's blocks before and after, within what tables may round up to; a plan changes nothing."""
    path = tmp / "a"
    worked_image(path, cluster)
    argv = words(verb, path, cluster)
    before, was = sha256_of(path), used(path)
    plan = plan_of(kho, argv)
    assert sha256_of(path) == before and used(path) == was
    assert plan["fits"] == "yes"
    kho("img", *argv)
    more = used(path) - was
    assert more <= plan["space-bytes"] + TABLES, plan
    slack = TABLES + 4 * cluster
    assert more + plan["freed-bytes"] >= -slack and plan["space-bytes"] - plan["freed-bytes"] - more <= slack, (more, plan)
    assert_clean(path)


def test_what_is_lost(kho, tmp):
    path = tmp / "a"
    worked_image(path, compressed=False)
    plan = plan_of(kho, words("apply", path))
    assert plan["lost"] == ["the disk as it is now, of which no snapshot has 1.5 MiB"]
    assert 0 <= plan["freed-bytes"] - 1536 * 1024 <= 3 * 65536
    plan = plan_of(kho, words("delete", path))
    assert plan["lost"] == ["the snapshot 'two', of which no other state of the disk has 1 MiB"]
    plan = plan_of(kho, words("create", path))
    assert plan["lost"] == [] and plan["freed-bytes"] == 0
    kho("img", *words("create", path))
    plan = plan_of(kho, ["snapshot", "-d", "three", path])
    assert plan["lost"] == ["the snapshot 'three', of which no other state of the disk has 0 B"]
    kho("img", "snapshot", "-d", "three", path)
    qemu_img("amend", "-o", "lazy_refcounts=on", path)
    qemu_io(path, ["write -z 0 1M"])
    plan = plan_of(kho, words("version 2", path))
    assert plan["lost"] == ["lazy refcounts", "the marks of 1 MiB as zeros: they become holes"]
    plan = plan_of(kho, ["amend", "--shrink", "-o", "size=8M", path])
    assert plan["lost"] == [f"the last {40 * MIB} bytes of the disk"]
    qemu_img("resize", "-q", path, "50M")
    plan = plan_of(kho, words("apply", path))
    assert plan["lost"][1:] == [f"its size of {50 * MIB} bytes: in 'one' it has {48 * MIB}"]


def test_compressed_alone(kho, tmp):
    """Clusters that compressed pieces share count once all of these are gone."""
    path = tmp / "a"
    qemu_img("create", "-q", "-f", "qcow2", path, "8M")
    qemu_img("snapshot", "-c", "empty", path)
    (tmp / "text").write_bytes(b"".join(b"%08d" % i for i in range(MIB // 8)) * 8)
    packed = tmp / "packed"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", tmp / "text", packed)
    qemu_img("snapshot", "-c", "one", packed)
    qemu_io(packed, ["write -P 1 0 8M"])
    was = used(packed)
    plan = plan_of(kho, ["snapshot", "-d", "one", packed])
    kho("img", "snapshot", "-d", "one", packed)
    assert abs(was - used(packed) - plan["freed-bytes"]) <= TABLES and plan["freed-bytes"] > MIB
    assert "at least" in plan["lost"][0]


# --- on a full disk ---


def fill_to(fs, leave):
    os.sync()
    fs.fill(leave)


@pytest.mark.parametrize("verb,need", [("create", 64 * 1024), ("apply", 64 * 1024), ("refcounts", 2 * MIB), ("resize", 26 * MIB),
                                       ("amended size", 26 * MIB)])
def test_levels(kho, tmp, small_fs, verb, need):
    """What is refused changed nothing, what fits succeeds: with ever more space."""
    worked_image(tmp / "a", 512, compressed=False)
    seen = []
    for level in range(6):
        fs = small_fs("ext4", 80)
        path = fs.path / "a"
        harness.run(["cp", "--sparse=always", tmp / "a", path])
        fill_to(fs, need * level // 4)
        argv, before = words(verb, path, 512), sha256_of(path)
        plan = plan_of(kho, argv)
        assert sha256_of(path) == before
        ran = kho("img", *argv, status=None)
        if plan["fits"] == "no":
            assert ran.status == NO_SPACE and sha256_of(path) == before and len(ran.err.splitlines()) == 1, f"{plan} {ran}"
        elif plan["fits"] == "yes":
            assert ran.status == 0, f"{plan} {ran}"
        else:
            assert ran.status in (0, NO_SPACE), f"{plan} {ran}"
            if ran.status == NO_SPACE:
                assert_same(path, "qcow2", tmp / "a", "qcow2")
        if ran.status == NO_SPACE:
            assert used(path) <= used(tmp / "a") + MIB  # what was begun is given back
        assert_clean(path)
        seen.append(plan["fits"])
    assert seen[-1] == "yes" and (seen[0] != "yes" or verb == "apply"), seen
    if need > MIB:
        assert seen[0] == "no", seen


def hollow_base(folder):
    """A base with 8 MiB of clusters that nobody uses, and which have their blocks; and an overlay with 6 MiB that it has not."""
    base, top = folder / "base", folder / "top"
    qemu_img("create", "-q", "-f", "qcow2", base, "64M")
    qemu_io(base, ["write -P 1 0 8M"])
    qemu_img("snapshot", "-c", "one", base)
    qemu_io(base, ["write -P 2 0 8M"])
    qemu_img("snapshot", "-d", "one", base)
    with open(base, "r+b") as file:  # QEMU gave the blocks back; a guest's QEMU mostly does not
        os.posix_fallocate(file.fileno(), 0, base.stat().st_size)
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", top)
    qemu_io(top, ["write -P 5 20M 6M"])
    return base, top


def test_free_clusters_inside_serve(kho, small_fs):
    fs = small_fs("ext4", 64)
    base, top = hollow_base(fs.path)
    fill_to(fs, 512 * 1024)
    plan = plan_of(kho, ["commit", top])
    assert plan["fits"] == "perhaps" and plan["space-bytes"] > plan["free-bytes"]
    kho("img", "commit", top)
    assert_clean(base)
    qemu_io(base, ["read -P 5 20M 6M", "read -P 2 0 8M"])
    fill_to(fs, 512 * 1024)
    assert plan_of(kho, ["resize", "--preallocation", "falloc", base, "65M"])["fits"] == "perhaps"
    kho("img", "resize", "--preallocation", "falloc", base, "65M")
    assert_clean(base)


def test_free_clusters_serve_tables(kho, small_fs):
    fs = small_fs("ext4", 64)
    base, _ = hollow_base(fs.path)
    fill_to(fs, 0)
    assert plan_of(kho, ["snapshot", "-c", "new", base])["fits"] == "perhaps"
    kho("img", "snapshot", "-c", "new", base)
    assert_clean(base)


def test_reserved_space_serves(kho, small_fs):
    """A raw base whose space was reserved: data goes into it, however full the disk is; and what it has behind its end, too."""
    fs = small_fs("ext4", 64)
    base, top = fs.path / "base", fs.path / "top"
    with open(base, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 16 * MIB)
    harness.run(["fallocate", "--keep-size", "-o", "16MiB", "-l", "4MiB", base])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", top)
    qemu_io(top, ["write -P 5 1M 8M"])
    fill_to(fs, 256 * 1024)
    plan = plan_of(kho, ["commit", top])
    assert plan["fits"] == "yes" and plan["space-bytes"] == 0
    kho("img", "commit", top)
    qemu_io(base, ["read -P 5 1M 8M", "read -P 0 10M 6M"], "raw")
    fill_to(fs, 256 * 1024)
    assert plan_of(kho, ["resize", "-f", "raw", "--preallocation", "falloc", base, "20M"])["fits"] == "perhaps"
    kho("img", "resize", "-f", "raw", "--preallocation", "falloc", base, "20M")


def test_sparse_clusters_take_space(kho, small_fs):
    """Preallocated tables over a file of holes: a cluster in use, and yet it takes space to be written."""
    fs = small_fs("ext4", 64)
    base, top = fs.path / "base", fs.path / "top"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", base, "16M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", top)
    qemu_io(top, ["write -P 5 1M 8M"])
    assert plan_of(kho, ["commit", top])["space-bytes"] >= 8 * MIB
    fill_to(fs, 2 * MIB)
    before = sha256_of(base), sha256_of(top)
    assert plan_of(kho, ["commit", top])["fits"] == "no"
    kho("img", "commit", top, status=NO_SPACE)
    assert (sha256_of(base), sha256_of(top)) == before


def test_shared_blocks_are_not_ones_own(kho, small_fs):
    """What a reflink copy shares takes space when it is written over: data, and tables too."""
    fs = small_fs("xfs", 310)
    base, top, copy = fs.path / "base", fs.path / "top", fs.path / "copy"
    qemu_img("create", "-q", "-f", "raw", base, "16M")
    qemu_io(base, ["write -P 1 0 16M"], "raw")
    harness.run(["cp", "--reflink=always", base, copy])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", top)
    qemu_io(top, ["write -c -P 5 1M 8M"])
    os.sync()
    plan = plan_of(kho, ["commit", top])
    assert 8 * MIB <= plan["space-bytes"] <= 9 * MIB
    worked_image(fs.path / "a")
    harness.run(["cp", "--reflink=always", fs.path / "a", fs.path / "b"])
    os.sync()
    assert plan_of(kho, words("create", fs.path / "a"))["space-bytes"] >= 2 * 65536
    fill_to(fs, 2 * MIB)
    before = sha256_of(base), sha256_of(top)
    assert plan_of(kho, ["commit", top])["fits"] == "no"
    kho("img", "commit", top, status=NO_SPACE)
    assert (sha256_of(base), sha256_of(top)) == before


@pytest.mark.parametrize("fmt", ("raw", "qcow2"))
def test_exactly_enough(kho, small_fs, fmt):
    """A disk that is to be reserved is not refused while its data and the least of its tables fit."""
    fs = small_fs("ext4", 64)
    for slack in (0, 64, 256, 1024, 4096, 16384):
        fill_to(fs, 16 * MIB + slack * 1024)
        argv = ["create", "-f", fmt, "-o", "preallocation=falloc", *(["-o", "cluster_size=2M"] if fmt == "qcow2" else []),
                fs.path / "new", "16M"]
        plan = plan_of(kho, argv)
        ran = kho("img", *argv, status=None)
        assert ran.status in (0, NO_SPACE), str(ran)
        if plan["fits"] != "perhaps":
            assert (ran.status == 0) == (plan["fits"] == "yes"), f"{slack}: {plan} {ran}"
        assert (fs.path / "new").exists() == (ran.status == 0)
        (fs.path / "new").unlink(missing_ok=True)
    assert ran.status == 0


# --- a plan changes nothing ---


@pytest.mark.parametrize("verb", ("commit", "rebase", "create", "apply", "delete", "refcounts", "version 2", "resize"))
def test_damaged_images_stay(kho, tmp, verb):
    """Whoever comes upon a contradiction marks the image corrupt; but not a plan."""
    base, top = tmp / "base", tmp / "top"
    worked_image(base)
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", top)
    qemu_io(top, ["write -P 1 0 1M"])
    path = top if verb in ("commit", "rebase") else base
    entry = int(kho("img", "map", "--output", "json", path).out.split('"offset":')[1].split("}")[0].split(",")[0])
    assert entry % 65536 == 0
    with open(path, "r+b") as file:
        data = file.read()
        at = data.index(entry.to_bytes(8, "big")[1:]) - 1
        file.seek(at)
        file.write(b"\x80")
        file.seek(at + 6)
        file.write(b"\x02\x00")  # not at a cluster's beginning
    before = {name: sha256_of(tmp / name) for name in os.listdir(tmp)}
    argv = {"commit": ["commit", top], "rebase": ["rebase", "-b", "", top]}.get(verb) or words(verb, path)
    ran = kho("img", argv[0], "--plan", *argv[1:], status=None)
    assert {name: sha256_of(tmp / name) for name in os.listdir(tmp)} == before, str(ran)
    if verb in ("commit", "rebase"):
        assert ran.status != 0 and "corrupt" in ran.err


def test_what_is_refused_is_not_planned(kho, tmp):
    worked_image(tmp / "a")
    qemu_img("create", "-q", "-f", "qcow2", "-o", "refcount_bits=1", tmp / "one", "8M")
    shutil.copy(tmp / "a", tmp / "b")
    qemu_img("bitmap", "--add", tmp / "b", "b0")
    qemu_img("create", "-q", "-f", "raw", tmp / "raw", "8M")
    for argv in (["snapshot", "-c", "one", tmp / "a"], ["snapshot", "-a", "none", tmp / "a"], ["snapshot", "-d", "none", tmp / "a"],
                 ["snapshot", "-c", "x", tmp / "one"], ["snapshot", "-a", "one", tmp / "b"], ["snapshot", "-c", "x", tmp / "raw"],
                 ["snapshot", "-c", "", tmp / "a"], ["snapshot", "-c", "x", tmp / "none"], ["amend", "-o", "compat=0.10", tmp / "b"],
                 ["amend", "-o", "refcount_bits=1", tmp / "a"], ["amend", "-o", "size=1M", tmp / "a"],
                 ["amend", "-o", "compat=1.1", tmp / "raw"], ["resize", tmp / "a", "100000T"], ["resize", tmp / "a", "8000000T"]):
        before = {name: sha256_of(tmp / name) for name in os.listdir(tmp)}
        plan = kho.refuses("img", argv[0], "--plan", *argv[1:])
        assert {name: sha256_of(tmp / name) for name in os.listdir(tmp)} == before
        ran = kho.refuses("img", *argv)
        assert (plan.status, plan.err) == (ran.status, ran.err)
        assert {name: sha256_of(tmp / name) for name in os.listdir(tmp)} == before
    kho.refuses("img", "snapshot", "--plan", tmp / "a", says="--plan is for")
    kho.refuses("--json", "img", "snapshot", "-c", "x", tmp / "a", says="--json goes with --plan")
    kho.refuses("--json", "img", "amend", "-o", "compat=1.1", tmp / "a", says="--json goes with --plan")
