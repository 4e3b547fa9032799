"""Rebase: an image lies on another backing file and reads as before, by kho as by qemu-img; only what differs is copied."""

import os
import random
import shutil
import signal
import subprocess

import pytest

import harness
from interop import images
from interop.engine import Moments, assert_clean, qemu_img, qemu_io, qemu_json, sha256_of
from interop.test_commit import own_bytes
from interop.test_merge import Chain, lock_as_writer

ROUNDS = 80 if harness.SOAK else 12


def other_chain(chain, folder):
    """Images that lie beside the chain: a copy of its base with changes, a layer over a file that is the chain's own, one
    with nothing in common. [(name, format)]"""
    rng, made = chain.rng, []
    copied = folder / f"copy.{chain.formats[0]}"
    shutil.copy(chain.layers[0], copied)
    size = qemu_json("info", "-f", chain.formats[0], copied)["virtual-size"]
    qemu_io(copied, [f"write -P 77 {rng.randrange(size - 5000)} 5000"], chain.formats[0])
    made.append((copied.name, chain.formats[0]))
    for name, below in (("branch.qcow2", chain.layers[0]), ("far.qcow2", None)):
        words = ["-b", below.name, "-F", chain.formats[0]] if below else []
        cluster = rng.choice((512, 4096, 65536))
        length = max(65536, size + rng.choice((-1, 0, 1)) * rng.randint(1, 100) * 512)
        qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", *words, folder / name, str(length))
        qemu_io(folder / name, images.scribble(rng, length, cluster))
        made.append((name, "qcow2"))
    return made


@pytest.mark.parametrize("number", range(ROUNDS))
def test_reads_as_before(kho, rng, number):
    """The top of a random chain goes from place to place: down its own chain, to another one, to none."""
    chain = Chain(random.Random(rng.random()), kho.tmp)
    places = other_chain(chain, kho.tmp) + [("", None)]
    places += [(path.name, fmt) for path, fmt in zip(chain.layers[:-1], chain.formats)]
    top, before = chain.layers[-1], chain.content()
    for _ in range(3):
        name, fmt = chain.rng.choice(places)
        others = {path: sha256_of(path) for path in kho.tmp.iterdir() if path.is_file() and path not in (top, kho.tmp / "content.raw")}
        kho("img", "rebase", "-b", name, *(["-F", fmt] if name else []), top)
        info = qemu_json("info", top)
        assert (info.get("backing-filename", ""), info.get("backing-filename-format")) == (name, fmt)
        assert chain.content() == before
        assert {path: sha256_of(path) for path in others} == others
        assert_clean(top)


@pytest.mark.parametrize("number", range(ROUNDS // 2))
def test_same_as_qemu_img(kho, rng, number):
    """One step, by both: equal contents, and kho's image holds no more than QEMU's."""
    mine = kho.tmp / "mine"
    mine.mkdir()
    chain = Chain(random.Random(rng.random()), mine)
    places = other_chain(chain, mine)
    name, fmt = chain.rng.choice(places + [("", None)])
    words = ["-b", name] + (["-F", fmt] if name else [])
    top, before = chain.layers[-1], chain.content()
    shutil.copytree(mine, kho.tmp / "theirs")
    kho("img", "rebase", *words, top)
    qemu_img("rebase", *words, kho.tmp / "theirs" / top.name)
    assert chain.content() == before
    qemu_img("compare", "-f", "qcow2", "-F", "qcow2", top, kho.tmp / "theirs" / top.name)
    assert_clean(top)


def test_only_what_differs(kho):
    """Of 8 MiB that lie below in both places, 3 clusters differ: these are copied."""
    old, new, over = kho.tmp / "old.qcow2", kho.tmp / "new.qcow2", kho.tmp / "over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", old, "64M")
    qemu_io(old, ["write -P 1 0 8M"])
    shutil.copy(old, new)
    qemu_io(new, ["write -P 2 1M 64k", "write -P 2 3M 65k", "write -P 3 60M 64k"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "old.qcow2", "-F", "qcow2", over)
    qemu_img("convert", "-O", "raw", over, kho.tmp / "before.raw")
    kho("img", "rebase", "-b", "new.qcow2", "-F", "qcow2", over)
    assert own_bytes(over) == 4 << 16
    qemu_img("compare", "-f", "raw", "-F", "qcow2", kho.tmp / "before.raw", over)


def test_unsafe(kho):
    """The name alone changes, also where neither file is there."""
    over = kho.tmp / "over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "gone.qcow2", "-F", "qcow2", over, "1M")
    kho.refuses("img", "rebase", "-b", "", over, says=["gone.qcow2"])
    kho("img", "rebase", "-u", "-b", "elsewhere.raw", "-F", "raw", over)
    assert qemu_json("info", over)["backing-filename"] == "elsewhere.raw"
    kho("img", "rebase", "-u", "-b", "", over)
    assert "backing-filename" not in qemu_json("info", over)


def test_refused(kho):
    """On itself, on what lies on it, without a format, on what is not there, raw, too long a name: nothing is changed."""
    base, over, top, raw = (kho.tmp / name for name in ("base.qcow2", "over.qcow2", "top.qcow2", "disk.raw"))
    qemu_img("create", "-q", "-f", "raw", raw, "1M")
    qemu_img("create", "-q", "-f", "qcow2", base, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", over)
    qemu_img("create", "-q", "-f", "qcow2", "-b", "over.qcow2", "-F", "qcow2", top)
    qemu_io(base, ["write -P 1 0 64k"])
    before = {path: sha256_of(path) for path in (base, over, top, raw)}
    kho.refuses("img", "rebase", "-b", "over.qcow2", "-F", "qcow2", over, says=["over.qcow2", "lies on it, or is it"])
    kho.refuses("img", "rebase", "-b", "top.qcow2", "-F", "qcow2", over, says=["top.qcow2", "lies on it"])
    kho.refuses("img", "rebase", "-b", "top.qcow2", "-F", "qcow2", base, says=["top.qcow2", "lies on it"])
    kho.refuses("img", "rebase", "-b", "disk.raw", over, says=["disk.raw", "-F"])
    kho.refuses("img", "rebase", "-b", "none.raw", "-F", "raw", over, says=["none.raw", "No such file"])
    kho.refuses("img", "rebase", "-b", "base.qcow2", "-F", "qcow2", raw, says=["disk.raw", "cannot have a backing file"])
    kho.refuses("img", "rebase", "-u", "-b", "x" * 1024, "-F", "qcow2", over, says=["1024 bytes"])
    with open(over, "r+b") as file:
        lock_as_writer(file)
        kho.refuses("img", "rebase", "-b", "", over, says=["over.qcow2", str(os.getpid())])
    assert {path: sha256_of(path) for path in before} == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed(kho, rng, number):
    """At random moments: all reads as before, QEMU finds no corruption, and the next rebase ends it."""
    old, new, over = (kho.tmp / name for name in ("old.qcow2", "new.qcow2", "over.qcow2"))
    for path, shift in ((old, 0), (new, 3)):
        qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "160M")
        qemu_io(path, [f"write -P {number + 1 + shift} {number * 16 + shift}M 10M" for number in range(10)])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "old.qcow2", "-F", "qcow2", "-o", "cluster_size=4k", over)
    qemu_img("convert", "-O", "raw", over, kho.tmp / "before.raw")
    moments = Moments(rng, 0.25)
    for turn in range(10):
        target = ["new.qcow2", "old.qcow2"][turn % 2]
        child = subprocess.Popen([str(kho.program), "img", "rebase", "-b", target, "-F", "qcow2", str(over)],
                                 env=kho.env(), cwd=kho.tmp, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        moments.stop(child, number)
        qemu_img("compare", "-f", "raw", "-F", "qcow2", kho.tmp / "before.raw", over)
        found = qemu_json("check", "-f", "qcow2", over, status=None)
        assert not found.get("corruptions") and not found["check-errors"], found
    assert moments.hit > 0
    kho("img", "rebase", "-b", "", over)
    old.unlink(), new.unlink()
    qemu_img("compare", "-f", "raw", "-F", "qcow2", kho.tmp / "before.raw", over)
