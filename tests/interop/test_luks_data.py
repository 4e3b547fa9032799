"""Encrypted images whose data lies in a file of its own: kho and QEMU read and write the same."""

import random

import pytest

from interop.engine import KhoIo, qemu_img, sha256_of
from interop.luks import (SIZE, assert_checks_alike, assert_reads_alike, assert_tells_alike, options, qemu_change, qemu_make,
                          scribble, secret, source)

KIND = ("aes-256", "xts", "plain64", "sha256")
SHAPES = ["", "extended_l2=on,", "cluster_size=4k,", "data_file_raw=on,"]


@pytest.mark.parametrize("shape", SHAPES)
def test_qemus_images(kho, shape):
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp)
    qemu_make(path, f"{shape}data_file={kho.tmp}/d.raw," + options(KIND), str(SIZE), key=key)
    qemu_change(path, scribble(random.Random(shape)), key)
    assert_reads_alike(kho, path, key)
    assert_tells_alike(kho, path)
    assert_checks_alike(kho, path, key)


def test_old_aes_is_read(kho):
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp)
    qemu_make(path, f"data_file={kho.tmp}/d.raw,encrypt.format=aes,encrypt.key-secret=sec", str(SIZE), key=key)
    qemu_change(path, scribble(random.Random(1)), key)
    assert_reads_alike(kho, path, key)
    assert_tells_alike(kho, path)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("preallocation", ["off", "metadata", "full"])
def test_khos_images(kho, shape, preallocation):
    """What is not written reads as zeros, whatever was made ready and however the disk grows; no byte lies in the open."""
    path, key, size = kho.tmp / "disk.qcow2", secret(kho.tmp), (1 << 20) + 5120
    how = f"{shape}preallocation={preallocation},data_file={kho.tmp}/d.raw," + options(KIND, 1)
    text, model = b"what nobody shall read. ", kho.tmp / "model.raw"
    model.write_bytes((text * 4096)[:70_144] + bytes(size - 140_288) + (text * 4096)[:70_144])
    kho("img", "convert", "--secret", key, "-f", "raw", "-O", "qcow2", "-o", how, model, path)
    assert (kho.tmp / "d.raw").stat().st_size == size and text not in (kho.tmp / "d.raw").read_bytes() + path.read_bytes()
    for step in (None, size + 3072, size + 400_384, size - 100_352):
        if step:
            kho("img", "resize", "--secret", key, "-f", "qcow2", "--shrink", path, str(step))
            qemu_img("resize", "-q", "-f", "raw", "--shrink", model, str(step))
        qemu_img("convert", "--object", f"secret,{key}", "-O", "raw", *source(path), kho.tmp / "qemu.raw")
        assert (kho.tmp / "qemu.raw").read_bytes() == model.read_bytes(), step
    assert_reads_alike(kho, path, key)
    assert_tells_alike(kho, path)
    assert_checks_alike(kho, path, key)


@pytest.mark.parametrize("shape", SHAPES)
def test_turns(kho, shape):
    """Both engines write, zero and grow one image in turn; the model is a plain file."""
    rng, key = random.Random(shape), secret(kho.tmp)
    path, model, io = kho.tmp / "disk.qcow2", bytearray(SIZE), KhoIo(kho)
    kho("img", "create", "--secret", key, "-f", "qcow2", "-o", f"{shape}data_file={kho.tmp}/d.raw," + options(KIND, 1), path,
        str(SIZE))
    io("secret", key)
    for turn in range(6):
        commands = []
        io("open", "qcow2", path) if turn % 2 == 0 else None
        for _ in range(8):
            length = rng.choice((1, 511, 512, 513, 4096, 70000))
            off, byte = rng.randrange(len(model) - length), rng.choice((0, rng.randint(1, 255)))
            model[off:off + length] = bytes([byte]) * length
            if turn % 2 == 0:
                io("zero", off, length) if byte == 0 else io("write", off, length, byte)
            else:
                commands.append(f"write -z {off} {length}" if byte == 0 else f"write -P {byte} {off} {length}")
        if turn % 2 == 0:
            io("resize", len(model) + 70_144)
            model.extend(bytes(70_144))
            io("close")
        else:
            qemu_change(path, commands, key)
        qemu_img("convert", "--object", f"secret,{key}", "-O", "raw", *source(path), kho.tmp / "qemu.raw")
        assert (kho.tmp / "qemu.raw").read_bytes() == model, turn
        assert_checks_alike(kho, path, key)
    io.end()


def test_without_the_passphrase(kho):
    """Rule: headers, maps and checks need none, and the data file need not be there for the first; keys come and go."""
    path, key, other = kho.tmp / "disk.qcow2", secret(kho.tmp), secret(kho.tmp, "another", "other")
    kho("img", "create", "--secret", key, "-f", "qcow2", "-o", f"data_file={kho.tmp}/d.raw," + options(KIND, 1), path, "1M")
    qemu_change(path, ["write -P 5 0 64k"], key)
    kho("img", "map", path)
    kho("img", "check", path)
    ran = kho("img", "convert", "-O", "raw", path, kho.tmp / "out.raw", status=None)
    assert ran.status != 0 and "passphrase is needed" in ran.err
    ran = kho("img", "convert", "--secret", other, "-O", "raw", path, kho.tmp / "out.raw", status=None)
    assert ran.status != 0 and "cannot unlock any keyslot" in ran.err and not (kho.tmp / "out.raw").exists()
    before = sha256_of(kho.tmp / "d.raw")
    kho("img", "key-add", "--iter-time", "1", "--secret", key, "--secret", other, "--new", "other", path)
    kho("img", "key-remove", "--secret", other, "--slot", "0", path)
    qemu_change(path, ["read -P 5 0 64k"], other.replace("id=other", "id=sec"))
    assert sha256_of(kho.tmp / "d.raw") == before
    (kho.tmp / "d.raw").unlink()
    assert_tells_alike(kho, path)
    kho.refuses("img", "convert", "--secret", other, path, "out.raw", status=3, says=["disk.qcow2", "data file", "d.raw"])
