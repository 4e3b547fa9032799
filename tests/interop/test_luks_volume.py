"""LUKS volumes (the format luks), both ways: kho and QEMU read and write the same, and change each other's keys."""

import json
import random

import pytest

import harness
from interop.engine import KhoIo, qemu_img, qemu_json, sha256_of
from interop.luks import SIZE, scribble, secret

KINDS = ["", "cipher-alg=serpent-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,", "cipher-alg=twofish-128,hash-alg=sha512,",
         "cipher-alg=cast5-128,cipher-mode=ctr,ivgen-alg=plain,"]
MADE = "key-secret=sec,iter-time=1"


def source(path, name="sec"):
    return ["--image-opts", f"driver=luks,key-secret={name},file.filename={path}"]


def qemu_change(path, commands, key):
    ran = harness.run(["qemu-io", "--object", f"secret,{key}", *(word for one in commands for word in ("-c", one)), *source(path)])
    for word in ("failed", "rror", "invalid", "mismatch"):
        assert word not in ran.out + ran.err, f"qemu-io complains: {ran}"


def qemu_reads(kho, path, key, name="sec"):
    qemu_img("convert", "--object", f"secret,{key}", "-O", "raw", *source(path, name), kho.tmp / "qemu.raw")
    return (kho.tmp / "qemu.raw").read_bytes()


def assert_alike(kho, path, key):
    """In what they read and say."""
    kho("img", "convert", "--force", "--secret", key, "-f", "luks", "-O", "raw", path, kho.tmp / "kho.raw")
    assert (kho.tmp / "kho.raw").read_bytes() == qemu_reads(kho, path, key)
    assert json.loads(kho("img", "info", "--output=json", path).out) == qemu_json("info", path)
    assert kho("img", "info", path).out == qemu_img("info", path).out


@pytest.mark.parametrize("kind", KINDS)
def test_qemus_volumes(kho, kind):
    path, key = kho.tmp / "vol.luks", secret(kho.tmp)
    qemu_img("create", "-q", "-f", "luks", "--object", f"secret,{key}", "-o", f"{kind}key-secret=sec,iter-time=10", path, str(SIZE))
    qemu_change(path, scribble(random.Random(kind)), key)
    assert_alike(kho, path, key)


@pytest.mark.parametrize("kind", KINDS)
def test_khos_volumes(kho, kind):
    """Zeros of the source are zeros of the volume, and no byte lies in the open; each engine goes on with the other's."""
    path, key, rng = kho.tmp / "vol.luks", secret(kho.tmp), random.Random(kind)
    text = b"what nobody shall read. " * 20_000
    model = bytearray(text + bytes(1 << 20) + text + bytes((1 << 20) - len(text) % 512 * 2 % 512))
    model = model[:len(model) // 512 * 512]
    (kho.tmp / "model.raw").write_bytes(model)
    kho("img", "convert", "--secret", key, "-f", "raw", "-O", "luks", "-o", kind + MADE, kho.tmp / "model.raw", path)
    assert b"what nobody" not in path.read_bytes()
    io = KhoIo(kho)
    io("secret", key)
    for turn in range(4):
        assert qemu_reads(kho, path, key) == model
        commands = []
        io("open", "luks", path) if turn % 2 else None
        for _ in range(6):
            length = rng.choice((1, 511, 512, 513, 4096, 70000))
            off, byte = rng.randrange(len(model) - length), rng.choice((0, rng.randint(1, 255)))
            model[off:off + length] = bytes([byte]) * length
            if turn % 2:
                io("zero", off, length) if byte == 0 else io("write", off, length, byte)
            else:
                commands.append(f"write -z {off} {length}" if byte == 0 else f"write -P {byte} {off} {length}")
        io("close") if turn % 2 else qemu_change(path, commands, key)
    io.end()
    assert qemu_reads(kho, path, key) == model
    assert_alike(kho, path, key)


def test_layout_and_preallocation(kho):
    """The header is QEMU's but for what is random; what is preallocated reads as zeros."""
    key, theirs, ours = secret(kho.tmp), kho.tmp / "theirs.luks", kho.tmp / "ours.luks"
    qemu_img("create", "-q", "-f", "luks", "--object", f"secret,{key}", "-o", "key-secret=sec,iter-time=10", theirs, "1M")
    kho("img", "create", "--secret", key, "-f", "luks", "-o", MADE, ours, "1M")
    a, b = theirs.read_bytes(), ours.read_bytes()
    assert len(a) == len(b) and a[:112] == b[:112] and a[256:592] == b[256:592]
    for how in ("falloc", "full"):
        kho("img", "create", "--force", "--secret", key, "-f", "luks", "-o", f"preallocation={how},{MADE}", ours, "1M")
        assert qemu_reads(kho, ours, key) == bytes(1 << 20) and ours.stat().st_blocks * 512 >= 1 << 20


def test_resize(kho):
    path, key = kho.tmp / "vol.luks", secret(kho.tmp)
    kho("img", "create", "--secret", key, "-f", "luks", "-o", "preallocation=full," + MADE, path, "1M")
    qemu_change(path, ["write -P 9 1000k 24k"], key)
    kho("img", "resize", "--secret", key, "--preallocation", "full", path, "2M")
    qemu_change(path, ["read -P 9 1000k 24k", "read -P 0 1M 1M"], key)
    kho("img", "resize", "--secret", key, "--shrink", path, "1010k")
    kho("img", "resize", "--secret", key, path, "3M")
    qemu_change(path, ["read -P 9 1000k 10k", "write -P 3 2M 1M"], key)
    assert_alike(kho, path, key)
    before = sha256_of(path)
    kho.refuses("img", "resize", "--secret", key, path, "1M", status=5, says=["vol.luks", "asked for"])
    assert sha256_of(path) == before


def test_commit_into_a_volume(kho):
    """Rule: what an overlay is longer by reads in its base as it read in the overlay, zeros among it."""
    base, over, key = kho.tmp / "base.luks", kho.tmp / "over.qcow2", secret(kho.tmp)
    (kho.tmp / "m.raw").write_bytes(b"\1" * (1 << 20))
    kho("img", "convert", "--secret", key, "-f", "raw", "-O", "luks", "-o", MADE, kho.tmp / "m.raw", base)
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", "luks", over, "2M")
    harness.run(["qemu-io", "--object", f"secret,{key}", "-c", "write -P 2 64k 64k", "-c", "write -P 3 1500k 4k",
                 "--image-opts", f"driver=qcow2,file.filename={over},backing.driver=luks,backing.key-secret=sec,"
                 f"backing.file.filename={base}"])
    io = KhoIo(kho)
    io("secret", key)
    io("mergedown", over, base, "luks")
    io.end()
    model = bytearray(b"\1" * (1 << 20) + bytes(1 << 20))
    model[64 << 10:128 << 10] = b"\2" * (64 << 10)
    model[1500 << 10:1504 << 10] = b"\3" * (4 << 10)
    assert qemu_reads(kho, base, key) == model


def test_keys_come_and_go(kho):
    path, one, two = kho.tmp / "vol.luks", secret(kho.tmp), secret(kho.tmp, "another", "two")
    (kho.tmp / "m.raw").write_bytes(b"\1" * (1 << 20))
    kho("img", "convert", "--secret", one, "-f", "raw", "-O", "luks", "-o", MADE, kho.tmp / "m.raw", path)
    kho("img", "key-add", "--iter-time", "1", "--secret", one, "--secret", two, "--new", "two", path)
    assert qemu_reads(kho, path, two, "two") == b"\1" * (1 << 20)
    before = sha256_of(path)
    kho.refuses("img", "key-remove", "--secret", two, "--old", "two", "--slot", "0", path, status=9, says="old password")
    assert sha256_of(path) == before
    kho("img", "key-remove", "--secret", one, "--old", "sec", path)
    ran = kho("img", "convert", "--secret", one, path, "none.raw", status=None)
    assert ran.status != 0 and "cannot unlock any keyslot" in ran.err
    kho.refuses("img", "key-remove", "--slot", "1", path, status=5, says="only active keyslot")
    assert qemu_reads(kho, path, two, "two") == b"\1" * (1 << 20)


def test_what_is_refused(kho):
    """Rule: in a line, and nothing is left or changed; a header that lies is told of."""
    path, key = kho.tmp / "vol.luks", secret(kho.tmp)
    for args, says in ((["-f", "luks"], "'key-secret' is required"), (["-f", "luks", "-o", "key-secret=other"], "No secret with id 'other'"),
                       (["-f", "luks", "-o", MADE + ",cluster_size=4k"], "unknown option 'cluster_size'"),
                       (["-f", "luks", "-o", MADE, "-b", "m.raw", "-F", "raw"], "cannot have a backing file")):
        ran = kho("img", "create", "--secret", key, *args, path, "1M", status=None)
        assert ran.status != 0 and says in ran.err and ran.err.count("\n") == 1 and not path.exists(), str(ran)
    kho("img", "create", "--secret", key, "-f", "luks", "-o", MADE, path, "1M")
    good = path.read_bytes()
    kho.refuses("img", "check", path, status=6, says="nothing to check")
    ran = kho("img", "convert", path, "out.raw", status=None)
    assert ran.status != 0 and "passphrase is needed" in ran.err and not (kho.tmp / "out.raw").exists()
    for off, put, says in ((104, (1 << 30).to_bytes(4, "big"), "past the end of the file"), (104, (8).to_bytes(4, "big"), "place of the key"),
                           (8, b"rot13\0", "rot13"), (208 + 44, b"\0\0\0\7", "stripes")):
        path.write_bytes(good[:off] + put + good[off + len(put):])
        ran = kho("img", "info", path, status=None)
        assert ran.status != 0 and says in ran.err and "vol.luks" in ran.err, str(ran)
    path.write_bytes(good)
    assert kho.json("img", "info", "-f", "raw", path)["virtual-size"] == len(good)


def test_a_machines_disk_that_looks_like_a_volume(kho):
    """Rule: a guest may encrypt its raw disk by itself, so that for pools and machines such a file is raw."""
    pool, key = kho.tmp / "pool", secret(kho.tmp)
    pool.mkdir()
    kho("img", "create", "--secret", key, "-f", "luks", "-o", MADE, pool / "disk.img", "1M")
    assert kho.json("img", "info", pool / "disk.img")["format"] == "luks"
    kho("pool-define-as", "p", "dir", "--target", pool)
    kho("pool-start", "p")
    told = kho("vol-dumpxml", "--pool", "p", "disk.img").out
    assert "<format type='raw'/>" in told and str((pool / "disk.img").stat().st_size) in told
