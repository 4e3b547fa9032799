"""Images whose data lies in a file of its own (data_file), also one that reads like the disk (data_file_raw): kho and QEMU
read and write the same."""

import json
import os
import pytest

import harness
from interop import images
from interop.engine import KhoIo, assert_clean, assert_same, qemu_img, qemu_io, qemu_json, sha256_of

KINDS = ["data_file=d.raw", "data_file=d.raw,data_file_raw=on", "data_file=d.raw,extended_l2=on",
         "data_file=d.raw,data_file_raw=on,extended_l2=on,cluster_size=16k", "data_file=d.raw,cluster_size=4k,lazy_refcounts=on"]


def is_raw(options):
    return "data_file_raw" in options


def assert_raw_alike(folder, image, raw):
    """Rule: a raw data file alone reads like the disk."""
    with open(folder / raw, "rb") as file:
        alone = file.read()
    whole = folder / "whole.raw"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image, whole, cwd=folder)
    disk = whole.read_bytes()
    assert alone[:len(disk)].ljust(len(disk), b"\0") == disk
    whole.unlink()


@pytest.mark.parametrize("options", KINDS)
def test_qemus_images(kho, rng, options):
    path = kho.tmp / "a.qcow2"
    size = (3 << 20) + 1536
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, "a.qcow2", str(size), cwd=kho.tmp)
    commands = images.scribble(rng, size, 65536, compressed=False, unit=2048)
    qemu_io("a.qcow2", commands, cwd=kho.tmp)
    images.settle(kho.tmp)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", "a.qcow2", "theirs.raw", cwd=kho.tmp)
    kho("img", "convert", "-f", "qcow2", "-O", "raw", path, "ours.raw")
    assert sha256_of(kho.tmp / "theirs.raw") == sha256_of(kho.tmp / "ours.raw")
    for verb in ("map", "info", "check"):
        ours = json.loads(kho("img", verb, "--output=json", "a.qcow2").out)
        theirs = qemu_json(verb, "a.qcow2", cwd=kho.tmp)
        assert theirs == (ours if verb != "check" else {key: ours[key] for key in theirs}), verb
    assert kho("img", "info", "a.qcow2").out == qemu_img("info", "a.qcow2", cwd=kho.tmp).out
    assert kho("img", "map", "a.qcow2").out == qemu_img("map", "a.qcow2", cwd=kho.tmp).out


# Each kind with one preallocation, which take turns; in the soak, all.
PREALLOCATIONS = ("off", "metadata", "falloc", "full")
MADE = [(kind, how) for number, kind in enumerate(KINDS) for turn, how in enumerate(PREALLOCATIONS)
        if harness.SOAK or turn in (number % 4, (number + 2) % 4)]


@pytest.mark.parametrize("options,preallocation", MADE)
def test_made_by_kho(kho, rng, options, preallocation):
    """Rule: what kho makes, converts and resizes, QEMU finds clean and reads as it was put in."""
    size = (2 << 20) + 5120
    more = f"{options},preallocation={preallocation}"
    with open(kho.tmp / "put-in.raw", "wb") as file:
        file.truncate(size)
        for _ in range(6):
            file.seek(rng.randrange(size - 70_000))
            file.write(rng.randbytes(rng.randint(1, 70_000)))
    kho("img", "create", "-f", "qcow2", "-o", more, "empty.qcow2", str(size))
    data = kho.tmp / "d.raw"
    assert data.stat().st_size == size
    if preallocation in ("falloc", "full"):
        assert data.stat().st_blocks * 512 >= size
    told = qemu_json("info", "empty.qcow2", cwd=kho.tmp)["format-specific"]["data"]
    assert told["data-file"] == "d.raw" and told["data-file-raw"] == is_raw(options)
    assert told["extended-l2"] == ("extended_l2" in options)
    assert_clean(kho.tmp / "empty.qcow2", cwd=kho.tmp)
    if preallocation != "off" or is_raw(options):
        assert all(entry["data"] for entry in qemu_json("map", "empty.qcow2", cwd=kho.tmp))
    for name in ("empty.qcow2", "d.raw"):
        (kho.tmp / name).unlink()

    kho("img", "convert", "-f", "raw", "-O", "qcow2", "-o", more, "put-in.raw", "a.qcow2")
    for step in (None, size + 300_032, size - 100_352):
        if step:
            kho("img", "resize", "-f", "qcow2", "--shrink", "a.qcow2", str(step))
            qemu_img("resize", "-q", "-f", "raw", "--shrink", "put-in.raw", str(step), cwd=kho.tmp)
        assert_clean(kho.tmp / "a.qcow2", cwd=kho.tmp)
        assert_same("a.qcow2", "qcow2", "put-in.raw", "raw", cwd=kho.tmp)
        assert data.stat().st_size >= (step or size)
        if is_raw(options):
            assert_raw_alike(kho.tmp, "a.qcow2", "d.raw")
    assert kho.json("img", "check", "a.qcow2")["check-errors"] == 0


@pytest.mark.parametrize("options", KINDS)
def test_engines_take_turns(kho, rng, options):
    """Rule: whatever one engine writes, zeroes and grows, the other reads and goes on with."""
    io = KhoIo(kho)
    size = 1 << 20
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, "a.qcow2", str(size), cwd=kho.tmp)
    model = bytearray(size)
    for turn in range(40 if harness.SOAK else 8):
        io("open", "qcow2", "a.qcow2") if turn % 2 else None
        batch = []
        for _ in range(6):
            off = rng.randrange(len(model))
            length = min(len(model) - off, rng.choice((1, 700, 2048, 65536, 200_000)))
            if rng.random() < 0.5:
                off, length = off // 2048 * 2048, max(length // 2048, 1) * 2048
                length = min(length, len(model) - off)
            byte = rng.choice((0, rng.randint(1, 255)))
            if turn % 2:
                io("zero", off, length) if byte == 0 else io("write", off, length, byte)
            else:
                batch.append(f"write -z {rng.choice(('', '-u '))}{off} {length}" if byte == 0
                             else f"write -P {byte} {off} {length}")
            model[off:off + length] = bytes([byte]) * length
        if turn % 2:
            if turn == 5:
                io("resize", len(model) + 70_144)
                model.extend(bytes(70_144))
            io("close")
        else:
            qemu_io("a.qcow2", batch, cwd=kho.tmp)
        (kho.tmp / "model.raw").write_bytes(model)
        assert_same("a.qcow2", "qcow2", "model.raw", "raw", cwd=kho.tmp)
        assert_clean(kho.tmp / "a.qcow2", cwd=kho.tmp)
        if is_raw(options):
            assert_raw_alike(kho.tmp, "a.qcow2", "d.raw")
    io.end()


def test_named_from_the_images_folder(kho):
    """Rule: a relative name leads from the folder of the image, as a backing file's does."""
    (kho.tmp / "sub").mkdir()
    kho("img", "create", "-f", "qcow2", "-o", "data_file=d.raw", "sub/a.qcow2", "1M")
    assert (kho.tmp / "sub/d.raw").exists()
    kho("img", "convert", "sub/a.qcow2", "flat.raw")
    assert (kho.tmp / "flat.raw").stat().st_size == 1 << 20


def test_overlays_and_merges(kho, rng):
    """Rule: a data file serves an overlay and a base like any image's own file."""
    io = KhoIo(kho)
    size = 1 << 20
    kho("img", "create", "-f", "qcow2", "-o", "data_file=base.d", "base.qcow2", str(size))
    kho("img", "create", "-f", "qcow2", "-o", "data_file=over.d,extended_l2=on", "-b", "base.qcow2", "-F", "qcow2",
        "over.qcow2")
    io("open", "qcow2", "base.qcow2")
    io("write", 0, 300_000, 1)
    io("close")
    io("open", "qcow2", "over.qcow2")
    io("write", 100_000, 50_000, 2)
    io("zero", 200_000, 65536)
    io("close")
    qemu_img("convert", "-O", "raw", "over.qcow2", "before.raw", cwd=kho.tmp)
    io("mergedown", "over.qcow2", "base.qcow2", "qcow2")
    assert_same("base.qcow2", "qcow2", "before.raw", "raw", cwd=kho.tmp)
    io("mergeup", "over.qcow2", "base.qcow2", "qcow2")
    for name in ("base.qcow2", "base.d"):
        (kho.tmp / name).unlink()
    assert_same("over.qcow2", "qcow2", "before.raw", "raw", cwd=kho.tmp)
    assert_clean(kho.tmp / "over.qcow2", cwd=kho.tmp)
    io.end()


INVALID, NOT_FOUND, EXISTS, UNSUPPORTED, BUSY = 5, 3, 4, 6, 8


@pytest.mark.parametrize("status,says,args", [
    (UNSUPPORTED, "compressed", ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "data_file=d.raw", "in.raw", "a.qcow2"]),
    (INVALID, "data_file_raw", ["create", "-f", "qcow2", "-o", "data_file_raw=on", "a.qcow2", "1M"]),
    (INVALID, "backing", ["create", "-f", "qcow2", "-o", "data_file=d.raw,data_file_raw=on", "-b", "in.raw", "-F", "raw", "a.qcow2"]),
    (INVALID, "version 2", ["create", "-f", "qcow2", "-o", "data_file=d.raw,compat=0.10", "a.qcow2", "1M"]),
    (INVALID, "raw", ["create", "-f", "raw", "-o", "data_file=d.raw", "a.raw", "1M"]),
    (INVALID, "own data file", ["create", "-f", "qcow2", "-o", "data_file=./a.qcow2", "a.qcow2", "1M"]),
    (EXISTS, "in.raw", ["create", "-f", "qcow2", "-o", "data_file=in.raw", "a.qcow2", "1M"]),
    (INVALID, "in.raw", ["convert", "--force", "-f", "raw", "-O", "qcow2", "-o", "data_file=in.raw", "in.raw", "a.qcow2"]),
    (INVALID, "16384", ["create", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=8k", "a.qcow2", "1M"]),
    (INVALID, "version 2", ["create", "-f", "qcow2", "-o", "extended_l2=on,compat=0.10", "a.qcow2", "1M"]),
])
def test_refused(kho, status, says, args):
    """Rule: refused in a line, and nothing is left or changed."""
    (kho.tmp / "in.raw").write_bytes(b"x" * 70_144)
    kho.refuses("img", *args, status=status, says=says)
    assert [path.name for path in kho.tmp.iterdir() if path.is_file()] == ["in.raw"]
    assert (kho.tmp / "in.raw").read_bytes() == b"x" * 70_144


def test_files_that_cannot_be_data_files(kho):
    """Rule: a data file that is missing, is the image itself, or serves elsewhere in the chain is refused by name."""
    kho("img", "create", "-f", "qcow2", "-o", "data_file=d.raw", "a.qcow2", "1M")
    kho("img", "create", "-f", "qcow2", "-o", "data_file=e.raw", "-b", "a.qcow2", "-F", "qcow2", "over.qcow2")
    (kho.tmp / "d.raw").rename(kho.tmp / "kept.raw")
    kho.refuses("img", "convert", "a.qcow2", "out.raw", status=NOT_FOUND, says=["a.qcow2", "data file", "d.raw"])
    kho.refuses("img", "convert", "over.qcow2", "out.raw", status=NOT_FOUND, says=["a.qcow2", "data file", "d.raw"])
    kho("img", "check", "a.qcow2")
    assert kho.json("img", "info", "a.qcow2")["format-specific"]["data"]["data-file"] == "d.raw"
    os.link(kho.tmp / "a.qcow2", kho.tmp / "d.raw")
    kho.refuses("img", "convert", "a.qcow2", "out.raw", status=INVALID, says=["a.qcow2", "d.raw"])
    (kho.tmp / "d.raw").unlink()
    os.link(kho.tmp / "e.raw", kho.tmp / "d.raw")
    kho.refuses("img", "convert", "over.qcow2", "out.raw", status=INVALID, says=["a.qcow2", "d.raw"])
    assert not (kho.tmp / "out.raw").exists()


def test_locks(kho):
    """Rule: a data file has the locks of its image: whoever writes it elsewhere is in the way, and kho in theirs."""
    kho("img", "create", "-f", "qcow2", "-o", "data_file=d.raw", "a.qcow2", "1M")
    io = KhoIo(kho)
    io("open", "qcow2", "a.qcow2")
    ran = qemu_img("resize", "-f", "raw", "d.raw", "2M", status=1, cwd=kho.tmp)
    assert "lock" in ran.err
    io("close")
    io("open", "raw", "d.raw")
    (kho.tmp / "b.qcow2").write_bytes((kho.tmp / "a.qcow2").read_bytes())
    kho.refuses("img", "resize", "-f", "qcow2", "b.qcow2", "2M", status=BUSY, says="d.raw")
    io("close")
    io.end()


def test_no_internal_snapshots(kho):
    """What QEMU refuses, and why kho's engine does: see also the unit tests."""
    kho("img", "create", "-f", "qcow2", "-o", "data_file=d.raw", "a.qcow2", "1M")
    assert "not supported" in qemu_img("snapshot", "-c", "s", "a.qcow2", status=1, cwd=kho.tmp).err


def test_an_image_is_not_replaced_together_with_its_data_file(kho):
    """Rule: two files are not replaced as one, so that the old image never reads new data: --force is about the image."""
    kho("img", "create", "-f", "qcow2", "-o", "data_file=d.dat", "a.qcow2", "1M")
    qemu_io(kho.tmp / "a.qcow2", ["write -P 1 0 1M"], cwd=kho.tmp)
    (kho.tmp / "x.raw").write_bytes(b"\2" * (1 << 20))
    for words in ["convert", "--force", "-f", "raw", "-O", "qcow2", "-o", "data_file=d.dat", "x.raw", "a.qcow2"], \
                 ["create", "--force", "-f", "qcow2", "-o", "data_file=d.dat", "a.qcow2", "1M"]:
        kho.refuses("img", *words, status=4, says=["data file", "d.dat exists already: remove it first, or name another"])
        qemu_io(kho.tmp / "a.qcow2", ["read -P 1 0 1M"], cwd=kho.tmp)
    kho("img", "convert", "--force", "-f", "raw", "-O", "qcow2", "-o", "data_file=e.dat", "x.raw", "a.qcow2")
    qemu_io(kho.tmp / "a.qcow2", ["read -P 2 0 1M"], cwd=kho.tmp)
    kho.refuses("img", "snapshot", "-c", "s", "a.qcow2", status=6, says=["a.qcow2", "keeps its data in another file"])
