"""Snapshots inside an image: kho's and qemu-img's in turns on one image, a model of the contents in the test."""

import json
import os
import shutil

import pytest

import harness
from interop.engine import assert_clean, qemu_img, qemu_io, qemu_json, sha256_of
from interop.test_merge import lock_as_writer

ROUNDS = 40 if harness.SOAK else 6
SHAPES = ("cluster_size=512", "cluster_size=4k,refcount_bits=64", "cluster_size=64k", "cluster_size=64k,lazy_refcounts=on",
          "cluster_size=4k,refcount_bits=2", "cluster_size=4k,compat=0.10")


def content(path, folder=None):
    raw = (folder or path.parent) / "content.raw"
    qemu_img("convert", "-O", "raw", path, raw)
    return raw.stat().st_size, sha256_of(raw)


def listed(path):
    return {one["name"]: (one["id"], one["vm-state-size"], one["date-sec"]) for one in qemu_json("info", path).get("snapshots", [])}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_in_turns(kho, rng, number):
    """Taken, applied and deleted by either program, with writes and changes of size between."""
    shape = SHAPES[number % len(SHAPES)]
    path, taken = kho.tmp / "disk.qcow2", {}
    qemu_img("create", "-q", "-f", "qcow2", "-o", shape, path, "3M")
    for turn in range(14):
        tool = rng.choice((lambda *words: kho("img", *words), qemu_img))
        size = qemu_json("info", path)["virtual-size"]
        at = rng.randrange(size - 70000)
        qemu_io(path, [f"write -P {turn + 1} {at} {rng.randint(1, 70000)}"])
        if rng.random() < 0.3 and "compat" not in shape:
            kho("img", "resize", "--shrink", path, str(rng.randint(2000, 8000) * 512))
        deed = rng.random()
        if deed < 0.4 and len(taken) < (1 if "bits=2" in shape else 9):
            name = f"s{turn}"
            taken[name] = content(path)
            tool("snapshot", "-c", name, path)
        elif deed < 0.7 and taken:
            name = rng.choice(sorted(taken))
            tool("snapshot", "-a", name, path)
            assert content(path) == taken[name]
        elif taken:
            name = rng.choice(sorted(taken))
            now, left = content(path), listed(path)
            tool("snapshot", "-d", name, path)
            del taken[name], left[name]
            assert content(path) == now and listed(path) == left
        assert_clean(path)
        assert sorted(listed(path)) == sorted(taken)
    for name, held in taken.items():
        copy = kho.tmp / "copy.qcow2"
        shutil.copy(path, copy)
        kho("img", "snapshot", "-a", name, copy)
        assert content(copy) == held


def test_vm_state_is_kept(kho):
    """A snapshot of a machine, taken by QEMU with its state: what others do leaves its id, its state and its disk, and the
    state can be loaded."""
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")

    def monitor(*commands):
        words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-m", "32", "-display", "none", "-nodefaults", "-S", "-drive",
                 f"file={path},if=virtio,format=qcow2", "-monitor", "stdio"]
        return harness.run(words, input="".join(f"{command}\n" for command in (*commands, "quit"))).out
    monitor("savevm machine")
    before = listed(path)
    assert before["machine"][1] > 0
    qemu_io(path, ["write -P 1 0 1M"])
    kho("img", "snapshot", "-c", "disk", path)
    qemu_io(path, ["write -P 2 0 2M"])
    kho("img", "snapshot", "-a", "machine", path)
    qemu_io(path, ["read -P 0 0 2M"])
    kho("img", "snapshot", "-d", "disk", path)
    assert listed(path) == before
    assert_clean(path)
    assert "Error" not in monitor("loadvm machine")
    kho("img", "snapshot", "-d", "machine", path)
    assert_clean(path)
    assert path.stat().st_blocks * 512 < 1 << 20


def test_names_and_ids(kho):
    """By name, or else by id; two of one name are told apart; the list is qemu-img's."""
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    assert kho("img", "snapshot", path).out == ""
    kho("img", "snapshot", "-c", "one", path)
    kho.refuses("img", "snapshot", "-c", "one", path, says=["one", "already"])
    qemu_img("snapshot", "-c", "one", path)
    kho.refuses("img", "snapshot", "-a", "one", path, says=["2 snapshots", "id"])
    kho("img", "snapshot", "-d", "1", path)
    assert list(listed(path)) == ["one"] and listed(path)["one"][0] == "2"
    assert kho("img", "snapshot", path).out == qemu_img("snapshot", "-l", path).out
    assert kho.json("img", "snapshot", path) == qemu_json("info", path)["snapshots"]
    kho("img", "snapshot", "-d", "one", path)
    for words in (["-a", "none"], ["-d", "none"]):
        kho.refuses("img", "snapshot", *words, path, says=["none", "disk.qcow2"])
    kho.refuses("img", "snapshot", "-c", "x" * 256, path, says=["256 bytes"])
    kho.refuses("img", "snapshot", "-c", "", path, says=["name"])
    kho.refuses("img", "snapshot", "-c", "a", "-d", "b", path, says=["one of"])


def test_refused(kho):
    """In use, raw, without room for counts: nothing is changed."""
    raw, one, path = kho.tmp / "disk.raw", kho.tmp / "one.qcow2", kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "raw", raw, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-o", "refcount_bits=1", one, "1M")
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("snapshot", "-c", "s", path)
    before = {file: sha256_of(file) for file in (raw, one, path)}
    kho.refuses("img", "snapshot", "-c", "s", raw, says=["raw", "snapshots"])
    kho.refuses("img", "snapshot", "-c", "s", one, says=["1 bit"])
    with open(path, "r+b") as file:
        lock_as_writer(file)
        for words in (["-c", "t"], ["-a", "s"], ["-d", "s"]):
            kho.refuses("img", "snapshot", *words, path, says=["disk.qcow2", str(os.getpid())])
        assert "s" in kho("img", "snapshot", path).out
    assert {file: sha256_of(file) for file in before} == before


def test_full_disk(kho, small_fs):
    """No room for the copies of tables: it is said, and the image is as it was, without leaks."""
    fs = small_fs("ext4", 32)
    path = fs.path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512,refcount_bits=64", path, "400M")
    qemu_io(path, ["write -P 1 0 12M"])
    before = content(path, kho.tmp)
    fs.fill(0)
    ran = kho("img", "snapshot", "-c", "s", path, status=None)
    assert ran.status and "disk.qcow2" in ran.err, str(ran)
    fs.fill(4 << 20)
    assert listed(path) == {}
    qemu_io(path, ["read -P 1 0 12M"])
    assert before == content(path, kho.tmp)
    found = qemu_json("check", path, status=None)
    assert not found.get("corruptions") and not found["check-errors"], found
