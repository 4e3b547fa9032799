"""Persistent bitmaps: kho and QEMU in turns on one image, a model of every bit in the test."""

import json
import os
import shutil
import signal

import pytest

import harness
from interop import bitmaps
from interop.engine import KhoIo, assert_clean, qemu_img, qemu_io, qemu_json, sha256_of

NOT_FOUND, EXISTS, INVALID, UNSUPPORTED, CORRUPT = 3, 4, 5, 6, 7
ROUNDS = 60 if harness.SOAK else 6
SHAPES = ("cluster_size=512", "cluster_size=4k,lazy_refcounts=on", "cluster_size=64k",
          "cluster_size=16k,extended_l2=on", "cluster_size=64k,data_file=guest.raw", "cluster_size=2M,refcount_bits=1")
MIB = 1 << 20


class Model:
    """What there should be: {name: [auto, granularity, bits]}."""

    def __init__(self, size):
        self.size, self.bitmaps = size, {}

    def mark(self, at, length):
        for auto, granularity, bits in self.bitmaps.values():
            if auto and length:
                bits.update(range(at // granularity, (at + length - 1) // granularity + 1))

    def resize(self, size):
        self.size = size
        for _, granularity, bits in self.bitmaps.values():
            bits -= {bit for bit in bits if bit * granularity >= size}

    def merge(self, source, target):
        fine, coarse = self.bitmaps[source][1], self.bitmaps[target][1]
        for bit in self.bitmaps[source][2]:
            end = min((bit + 1) * fine, self.size)
            self.bitmaps[target][2].update(range(bit * fine // coarse, (end - 1) // coarse + 1))

    def check(self, path):
        assert bitmaps.read(path) == {name: (False, *rest) for name, rest in self.bitmaps.items()}


def change(rng, model, path, tool):
    """One of the verbs on bitmaps, by either program."""
    names = sorted(model.bitmaps)
    verb = rng.choice(("add", "remove", "clear", "enable", "disable", "merge"))
    if verb == "add" or not names:
        name, granularity = f"b{rng.randrange(1000)}", 1 << rng.randint(9, 20)
        if name in model.bitmaps:
            return
        more = ["--disable"] if rng.random() < 0.3 else []
        tool("bitmap", "--add", *more, "-g", str(granularity), path, name)
        model.bitmaps[name] = [not more, granularity, set()]
        return
    name = rng.choice(names)
    if verb == "merge":
        source = rng.choice(names)
        tool("bitmap", "--merge", source, path, name)
        model.merge(source, name)
        return
    tool("bitmap", f"--{verb}", path, name)
    if verb == "remove":
        del model.bitmaps[name]
    elif verb == "clear":
        model.bitmaps[name][2].clear()
    else:
        model.bitmaps[name][0] = verb == "enable"


def write(kho, rng, model, path):
    """A session of writes, by either program."""
    by_kho, words = rng.random() < 0.5, []
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(model.size // 512) * 512
        length = min(rng.randint(1, 300) * 512, model.size - at)
        words.append((rng.choice(("write", "zero", "discard")), at, length))
        model.mark(at, length)
    if not by_kho:
        qemu = {"write": "write -P 7", "zero": "write -z", "discard": "discard"}
        qemu_io(path, [f"{qemu[verb]} {at} {length}" for verb, at, length in words], cwd=path.parent)
        return
    io = KhoIo(kho)
    io("open", "qcow2", path)
    for verb, at, length in words:
        io(*(("write", at, length, 7) if verb == "write" else ("zero", at, length)))
        if rng.random() < 0.3:
            io("flush")
    io("close")
    io.end()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_in_turns(kho, rng, number):
    """Rule: what either program writes both find in every bitmap that is enabled, to the bit, and nothing else."""
    path, model = kho.tmp / "disk.qcow2", Model(5 * MIB)
    shape = SHAPES[number % len(SHAPES)]
    qemu_img("create", "-q", "-f", "qcow2", "-o", shape, path, "5M", cwd=kho.tmp)
    for _ in range(16):
        tool = rng.choice((lambda *words: kho("img", *words), lambda *words: qemu_img(*words, cwd=kho.tmp)))
        deed = rng.random()
        if deed < 0.45:
            write(kho, rng, model, path)
        elif deed < 0.85:
            change(rng, model, path, tool)
        elif deed < 0.93:
            size = rng.randint(1000, 20000) * 512
            tool("resize", "--shrink", path, str(size))
            model.resize(size)
        elif "data_file" not in shape and "refcount_bits=1" not in shape:
            tool("snapshot", "-c", "s", path)
            tool("snapshot", "-d", "s", path)
        model.check(path)
        assert_clean(path, cwd=kho.tmp)
        kho("img", "check", path)
    for name, (_, granularity, bits) in model.bitmaps.items():
        assert bitmaps.by_qemu(kho, path, name) == bitmaps.ranges(bits, granularity, model.size)


def test_info(kho):
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "5M")
    assert "bitmaps" not in kho("img", "info", path).out
    for more in (["first"], ["-g", "1M", "--disable", "second one"]):
        kho("img", "bitmap", "--add", *more[:-1], path, more[-1])
    assert kho("img", "info", path).out == qemu_img("info", path).out
    mine, theirs = (one["format-specific"]["data"]["bitmaps"]
                    for one in (kho.json("img", "info", path), qemu_json("info", path)))
    assert mine == theirs and mine[0] == {"flags": ["auto"], "name": "first", "granularity": 65536}


def killed_while_writing(kho, path):
    """kho dies with a bitmap that lacks what it has just written."""
    io = KhoIo(kho)
    io("open", "qcow2", path)
    io("write", 0, 65536, 9)
    io("flush")
    kho.children.remove(io.child)
    os.kill(io.child.pid, signal.SIGKILL)
    io.child.wait(timeout=harness.HANG_GUARD_S)


def test_list(kho):
    """Without a name: what qemu-img info tells of them."""
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "8M")
    assert kho("img", "bitmap", path).out == "" and kho.json("img", "bitmap", path) == []
    qemu_img("bitmap", "--add", "-g", "4k", path, "one")
    kho("img", "bitmap", "--add", "--disable", path, "two")
    assert kho.json("img", "bitmap", path) == qemu_json("info", path)["format-specific"]["data"]["bitmaps"]
    lines = kho("img", "bitmap", path).out.splitlines()
    assert [line.split() for line in lines[1:]] == [["one", "4096", "auto"], ["two", "65536"]]
    kho.refuses("img", "bitmap", "--add", path, says="which bitmap")


def test_killed(kho):
    """Rule: after a kill a bitmap that may lack something is inconsistent for both programs, and can only be removed; one
    that is disabled is what it was."""
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "5M")
    kho("img", "bitmap", "--add", path, "on")
    kho("img", "bitmap", "--add", "--disable", path, "off")
    killed_while_writing(kho, path)
    assert bitmaps.read(path) == {"on": (True, True, 65536, set()), "off": (False, False, 65536, set())}
    assert kho.json("img", "info", path)["format-specific"]["data"]["bitmaps"][0]["flags"] == ["in-use", "auto"]
    kho("img", "check", path)
    before = sha256_of(path)
    for how in (["--clear"], ["--enable"], ["--merge", "off"]):
        kho.refuses("img", "bitmap", *how, path, "on", status=CORRUPT, says=["'on'", "inconsistent", "removed"])
    kho.refuses("img", "bitmap", "--merge", "on", path, "off", status=CORRUPT, says=["'on'", "inconsistent"])
    kho.refuses("img", "resize", path, "+1M", status=UNSUPPORTED, says=["'on'", "inconsistent", "img bitmap --remove"])
    kho.refuses("img", "convert", "--bitmaps", "-O", "qcow2", path, "copy", status=CORRUPT, says=["'on'", "skip-broken"])
    assert sha256_of(path) == before and not (kho.tmp / "copy").exists()
    ran = kho("img", "convert", "--bitmaps", "--skip-broken-bitmaps", "-O", "qcow2", path, "copy")
    assert "'on'" in ran.err and set(bitmaps.read(kho.tmp / "copy")) == {"off"}
    qemu_io(path, ["write 1M 64k"])  # nobody believes it, and nobody keeps it
    kho("img", "bitmap", "--remove", path, "on")
    kho("img", "resize", path, "+1M")
    assert set(bitmaps.read(path)) == {"off"}
    kho("img", "check", "-r", "all", path)
    assert_clean(path)


def test_convert(kho):
    """Rule: a copy has the bitmaps where that is asked for, and where it is not, it is said."""
    path, copy = kho.tmp / "disk.qcow2", kho.tmp / "copy.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "5M")
    for name, granularity in (("fine", "512"), ("coarse", "1M")):
        qemu_img("bitmap", "--add", "-g", granularity, path, name)
    qemu_io(path, ["write 1234k 77k", "write -z 3M 1k"])
    qemu_img("bitmap", "--disable", path, "coarse")
    for more in ([], ["-o", "cluster_size=512"], ["-o", "cluster_size=2M"], ["-c"], ["-o", "preallocation=metadata"]):
        ran = kho("img", "convert", "--force", "--bitmaps", *more, "-O", "qcow2", path, copy)
        assert not ran.err and bitmaps.read(copy) == bitmaps.read(path)
        assert_clean(copy)
    qemu_img("convert", "--bitmaps", "-O", "qcow2", path, kho.tmp / "theirs.qcow2")
    assert bitmaps.read(kho.tmp / "theirs.qcow2") == bitmaps.read(path)
    ran = kho("img", "convert", "--force", "-O", "qcow2", path, copy)
    assert "2 persistent bitmaps" in ran.err and not bitmaps.read(copy)
    kho.refuses("img", "convert", "--bitmaps", "-O", "raw", path, "raw", status=UNSUPPORTED, says="-O qcow2")
    kho.refuses("img", "convert", "--bitmaps", "-O", "qcow2", "-o", "compat=0.10", path, "v2", status=UNSUPPORTED)
    (kho.tmp / "plain.raw").write_bytes(bytes(MIB))
    kho.refuses("img", "convert", "--bitmaps", "-f", "raw", "-O", "qcow2", "plain.raw", "new", status=UNSUPPORTED,
                says="has no bitmaps")
    assert sorted(os.listdir(kho.tmp))[:3] == ["copy.qcow2", "disk.qcow2", "plain.raw"]


def test_merge_from_another_image(kho):
    """Rule: as qemu-img does, whatever granularity and clusters both have."""
    source, target = kho.tmp / "source.qcow2", kho.tmp / "target.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", source, "33M")
    qemu_img("create", "-q", "-f", "qcow2", target, "33M")
    for granularity in ("512", "8k", "2M"):
        qemu_img("bitmap", "--add", "-g", granularity, source, "from" + granularity)
        qemu_img("bitmap", "--add", "-g", granularity, target, "to" + granularity)
    qemu_io(source, ["write 100k 1k", "write 9M 700k", f"write {33 * MIB - 512} 512"])
    theirs = kho.tmp / "theirs.qcow2"
    shutil.copy(target, theirs)
    for one in ("512", "8k", "2M"):
        for other in ("512", "8k", "2M"):
            kho("img", "bitmap", "--merge", "from" + one, "-b", source, "-F", "qcow2", target, "to" + other)
            qemu_img("bitmap", "--merge", "from" + one, "-b", source, "-F", "qcow2", theirs, "to" + other)
            assert bitmaps.read(target) == bitmaps.read(theirs)
    assert_clean(target)
    qemu_img("resize", "-q", source, "+1M")
    kho.refuses("img", "bitmap", "--merge", "from8k", "-b", source, target, "to8k", status=INVALID,
                says=["source.qcow2", "35651584", "34603008"])


def test_what_is_refused(kho):
    """Rule: a refusal says why, and nothing was written."""
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "5M")
    kho("img", "snapshot", "-c", "s", path)
    kho("img", "bitmap", "--add", path, "b0")
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", kho.tmp / "v2.qcow2", "5M")
    (kho.tmp / "plain.raw").write_bytes(bytes(MIB))
    before = sha256_of(path)
    for status, says, *words in (
            (EXISTS, ["'b0'", "exists"], "--add", path, "b0"),
            (NOT_FOUND, ["'no'"], "--remove", path, "no"),
            (NOT_FOUND, ["'no'"], "--merge", "no", path, "b0"),
            (NOT_FOUND, ["'no'"], "--merge", "b0", path, "no"),
            (INVALID, ["granularity"], "--add", "-g", "1000", path, "b1"),
            (INVALID, ["granularity"], "--add", "-g", "256", path, "b1"),
            (INVALID, ["granularity"], "--add", "-g", "4G", path, "b1"),
            (INVALID, ["1 to 1023 bytes"], "--add", path, "x" * 1024),
            (INVALID, ["--add"], "--clear", "-g", "64k", path, "b0"),
            (INVALID, ["--merge"], "--clear", "-b", path, path, "b0"),
            (INVALID, ["not both"], "--enable", "--disable", path, "b0"),
            (INVALID, ["is wanted"], path, "b0"),
            (UNSUPPORTED, ["version 2"], "--add", "v2.qcow2", "b0"),
            (UNSUPPORTED, ["raw"], "--add", "-f", "raw", "plain.raw", "b0")):
        kho.refuses("img", "bitmap", *words, status=status, says=says)
    kho.refuses("img", "snapshot", "-a", "s", path, status=UNSUPPORTED, says=["'b0'", "img bitmap --remove"])
    kho.refuses("img", "amend", "-o", "compat=0.10", path, status=UNSUPPORTED, says="bitmaps")
    assert sha256_of(path) == before
    kho("img", "bitmap", "--add", path, "x" * 1023)
    assert len(qemu_json("info", path)["format-specific"]["data"]["bitmaps"]) == 2
    assert_clean(path)


@pytest.mark.parametrize("verb", ["commit", "rebase"])
def test_layers(kho, verb):
    """Rule: an image that is written into marks what changes; one that reads as before may keep its bitmaps as they are."""
    lower, base, over = (kho.tmp / name for name in ("lower.qcow2", "base.qcow2", "over.qcow2"))
    qemu_img("create", "-q", "-f", "qcow2", lower, "4M")
    qemu_io(lower, ["write -P 1 0 4M"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "lower.qcow2", "-F", "qcow2", base, "4M", cwd=kho.tmp)
    qemu_io(base, ["write -P 2 1M 300k"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", over, "5M", cwd=kho.tmp)
    qemu_io(over, ["write -P 3 100k 64k", "write -P 4 2M 200k", "write -z 3M 64k", "write -P 5 4500k 64k"])
    for image in (base, over):
        kho("img", "bitmap", "--add", image, "b")
    theirs = kho.tmp / "theirs"
    theirs.mkdir()
    for image in (lower, base, over):
        shutil.copy(image, theirs)
    before = {image: bitmaps.read(image) for image in (base, over)}
    if verb == "commit":
        kho("img", "commit", over)
        qemu_img("commit", "-q", "over.qcow2", cwd=theirs)
    else:
        kho("img", "rebase", "-b", "lower.qcow2", "-F", "qcow2", over)
        qemu_img("rebase", "-b", "lower.qcow2", "-F", "qcow2", "over.qcow2", cwd=theirs)
    for image in (base, over):
        mine, qemus = bitmaps.read(image)["b"], bitmaps.read(theirs / image.name)["b"]
        assert mine[:3] == (False, True, 65536) == qemus[:3]
        if verb == "commit" and image == base:
            assert {bit * 65536 for bit in qemus[3]} <= {bit * 65536 for bit in mine[3]}
            assert {1, 2, 32, 33, 34, 35, 48, 70, 71} <= mine[3]
        if verb == "rebase" and image == base:
            assert bitmaps.read(image) == before[image]
        qemu_img("compare", image, theirs / image.name)
        assert_clean(image)


def test_backing_name_beside_bitmaps(kho):
    """Rule: the header that takes the extension in, or lets it go, keeps the backing file's name, and the reverse."""
    name = "base-" + "n" * 200 + ".qcow2"
    qemu_img("create", "-q", "-f", "qcow2", kho.tmp / name, "1M")
    for size in ("512", "64k"):
        path = kho.tmp / f"over-{size}.qcow2"
        kho("img", "create", "-f", "qcow2", "-o", f"cluster_size={size}", "-b", name, "-F", "qcow2", path)
        for turn in range(3):
            kho("img", "bitmap", "--add", path, f"b{turn}")
            info = qemu_json("info", path)
            assert info["backing-filename"] == name and info["backing-filename-format"] == "qcow2"
            assert len(info["format-specific"]["data"]["bitmaps"]) == turn + 1
        kho("img", "rebase", "-u", "-b", "", path) if size == "64k" else None
        for turn in range(3):
            kho("img", "bitmap", "--remove", path, f"b{turn}")
        assert qemu_json("info", path).get("backing-filename") == (None if size == "64k" else name)
        assert_clean(path)


def test_stale(kho):
    """Rule: bitmaps that the last writer did not know of are nobody's: their space is a leak, and they are in nobody's way."""
    path = kho.tmp / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "5M")
    qemu_img("bitmap", "--add", path, "old")
    qemu_io(path, ["write 1M 64k"])
    with open(path, "r+b") as file:
        file.seek(88)
        file.write(bytes(8))
    assert "bitmaps" not in kho("img", "info", path).out
    kho("img", "resize", path, "6M")
    qemu_img("check", "-r", "leaks", path)
    kho("img", "bitmap", "--add", path, "new")
    assert set(bitmaps.read(path)) == {"new"}
    assert_clean(path)
    kho("img", "bitmap", "--remove", path, "new")
    kho("img", "amend", "-o", "compat=0.10", path)
    assert qemu_json("info", path)["format-specific"]["data"]["compat"] == "0.10"
    assert_clean(path)
