"""Encrypted images, both ways: what QEMU 7.2 writes kho reads, byte for byte, and tells of in the same words."""

import itertools
import json
import random

import pytest

import harness
from interop.engine import KhoIo, qemu_img, qemu_json, sha256_of
from interop.luks import (SIZE, assert_checks_alike, assert_reads_alike, assert_tells_alike, options, qemu_change, qemu_make,
                          scribble, secret, source)

CIPHERS = ("aes-128", "aes-192", "aes-256", "cast5-128", "serpent-128", "serpent-192", "serpent-256", "twofish-128",
           "twofish-192", "twofish-256")
MODES = ("xts", "cbc", "ecb", "ctr")
IVS = ("plain64", "plain", "essiv")
HASHES = ("sha256", "sha1", "sha224", "sha384", "sha512", "ripemd160")


def can_be(cipher, mode, iv):
    """What QEMU 7.2 makes: it aborts on keys of 24 bytes, has no xts for blocks of 8, and no essiv for cast5."""
    if cipher.endswith("-192") and mode != "xts":
        return False
    return not cipher.startswith("cast5") or (mode != "xts" and iv != "essiv")


EVERY = [(*kind, HASHES[number % len(HASHES)]) for number, kind in
         enumerate(kind for kind in itertools.product(CIPHERS, MODES, IVS) if can_be(*kind))]


def kinds():
    """Every cipher, mode, generator and hash (QEMU takes seconds to make one); in the soak, all that go together."""
    if harness.SOAK:
        return EVERY
    rows = []
    for number, cipher in enumerate(CIPHERS):
        good = [kind for kind in EVERY if kind[0] == cipher]
        wanted = (MODES[number % 4], IVS[number % 3])  # what comes next to it, where the cipher cannot be so
        best = max(good, key=lambda kind: (kind[1] == wanted[0]) * 2 + (kind[2] == wanted[1]))
        rows.append((*best[:3], HASHES[number % len(HASHES)]))
    return rows


@pytest.mark.parametrize("kind", kinds(), ids="-".join)
def test_qemus_images(kho, kind):
    rng = random.Random("-".join(kind))
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp)
    qemu_make(path, options(kind), str(SIZE), key=key)
    qemu_change(path, scribble(rng), key)
    assert_reads_alike(kho, path, key)
    assert_tells_alike(kho, path)
    assert_checks_alike(kho, path, key)


def test_every_kind_is_met():
    """Rule: each cipher, mode, generator and hash is in some row."""
    seen = kinds()
    assert {k[0] for k in seen} == set(CIPHERS) and {k[1] for k in seen} == set(MODES)
    assert {k[2] for k in seen} == set(IVS) and {k[3] for k in seen} == set(HASHES)


@pytest.mark.parametrize("shape", ["cluster_size=512", "cluster_size=2M", "cluster_size=4k,compat=0.10"])
def test_shapes(kho, shape):
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp)
    qemu_make(path, f"{shape}," + options(("aes-256", "xts", "plain64", "sha256")), str(SIZE), key=key)
    qemu_change(path, scribble(random.Random(shape)), key)
    assert_reads_alike(kho, path, key)
    assert_tells_alike(kho, path)
    assert_checks_alike(kho, path, key)


def test_old_aes_is_read(kho):
    """Rule: QEMU's old encryption is read, and never written."""
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp, "longer than sixteen bytes")
    qemu_make(path, "encrypt.format=aes,encrypt.key-secret=sec", str(SIZE), key=key)
    qemu_change(path, scribble(random.Random(1)), key)
    before = sha256_of(path)
    assert_reads_alike(kho, path, key)
    assert_tells_alike(kho, path)
    assert_checks_alike(kho, path, key)
    ran = kho("img", "resize", "--secret", key, path, "+1M", status=None)
    assert ran.status != 0 and "old AES encryption, which is only read" in ran.err
    assert sha256_of(path) == before


def test_a_chain_with_two_keys(kho):
    """Each encrypted image of a chain is opened by whichever secret fits."""
    base, top = kho.tmp / "base.qcow2", kho.tmp / "top.qcow2"
    one, two = secret(kho.tmp, "one", "one"), secret(kho.tmp, "two", "two")
    qemu_make(base, options(("serpent-256", "cbc", "plain64", "sha1")).replace("=sec", "=one"), str(SIZE), key=one)
    harness.run(["qemu-io", "--object", f"secret,{one}", "-c", "write -P 7 0 1M", *source(base, "one")])
    qemu_make(top, options(("aes-128", "cbc", "essiv", "sha512")).replace("=sec", "=two"), str(SIZE), key=two,
              more=["-u", "-b", base, "-F", "qcow2"])
    keys = ["--secret", one, "--secret", two]
    kho("img", "convert", *keys, "-O", "raw", top, kho.tmp / "kho.raw")
    expected = bytes([7]) * (1 << 20) + bytes(SIZE - (1 << 20))
    assert (kho.tmp / "kho.raw").read_bytes() == expected
    ran = kho("img", "convert", "--secret", two, "-O", "raw", top, kho.tmp / "none.raw", status=None)
    assert ran.status != 0 and "base.qcow2" in ran.err and not (kho.tmp / "none.raw").exists()


def test_without_the_passphrase(kho):
    """Rule: without it nothing is read, headers and maps all the same; the wrong one opens nothing; no message holds one."""
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp)
    wrong = secret(kho.tmp, "wrong battery", "wrong")
    qemu_make(path, options(("aes-256", "xts", "plain64", "sha256")), str(SIZE), key=key)
    qemu_change(path, ["write -P 5 0 64k"], key)
    out = kho.tmp / "out.raw"
    ran = kho("img", "convert", "-O", "raw", path, out, status=None)
    assert ran.status != 0 and "passphrase is needed" in ran.err and not out.exists()
    ran = kho("img", "convert", "--secret", wrong, "-O", "raw", path, out, status=None)
    assert ran.status != 0 and "Invalid password, cannot unlock any keyslot" in ran.err and not out.exists()
    assert "battery" not in ran.err + ran.out
    ran = kho("img", "convert", "--secret", "id=x,data=battery", "-O", "raw", path, out, status=None)
    assert ran.status != 0 and "give it in a file" in ran.err and "battery" not in ran.err
    data = [e for e in json.loads(kho("img", "map", "--output=json", path).out) if e["data"]]
    assert data == [{"start": 0, "length": 65536, "depth": 0, "present": True, "zero": False, "data": True}]


def test_internal_snapshots(kho):
    """A snapshot of an encrypted disk is read with the disk's key."""
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp)
    qemu_make(path, options(("twofish-256", "xts", "plain64", "sha256")), str(SIZE), key=key)
    qemu_change(path, ["write -P 5 0 1M"], key)
    qemu_img("snapshot", "--object", f"secret,{key}", "-c", "one", *source(path))
    qemu_change(path, ["write -P 6 512k 1M"], key)
    assert_reads_alike(kho, path, key)
    assert_checks_alike(kho, path, key)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_khos_images(kho, cipher):
    """What kho makes, QEMU reads, writes and finds sound, and kho reads it again: in the soak, every kind."""
    key, plain, rng = secret(kho.tmp), kho.tmp / "plain.raw", random.Random(cipher)
    plain.write_bytes(rng.randbytes(1 << 20) + bytes(1 << 19) + rng.randbytes((1 << 20) + 512))
    every = [kind for kind in EVERY if kind[0] == cipher]
    turn = CIPHERS.index(cipher)
    for number, kind in enumerate(every if harness.SOAK else {every[turn % len(every)], every[(turn * 5 + 4) % len(every)]}):
        path = kho.tmp / f"{number}.qcow2"
        kho("img", "convert", "--secret", key, "-f", "raw", "-O", "qcow2", "-o", options(kind, 1), plain, path)
        ran = qemu_img("compare", "--object", f"secret,{key}", "--image-opts", f"driver=raw,file.filename={plain}",
                       source(path)[1], status=None)
        assert ran.status == 0, f"{kind}: {ran}"
        qemu_change(path, scribble(rng, 2 << 20), key)
        assert_reads_alike(kho, path, key)
        assert_tells_alike(kho, path)
        assert_checks_alike(kho, path, key)
        path.unlink()


@pytest.mark.parametrize("shape", ["cluster_size=512", "cluster_size=2M", "cluster_size=4k,compat=0.10", "refcount_bits=1",
                                   "lazy_refcounts=on", "preallocation=metadata", "preallocation=falloc", "preallocation=full"])
def test_khos_shapes(kho, shape):
    """What is new reads as zeros, also where its space was made ready; the header lies where QEMU lays it."""
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp)
    how = options(("aes-256", "xts", "plain64", "sha256"), 1)
    kho("img", "create", "--secret", key, "-f", "qcow2", "-o", f"{shape},{how}", path, str(SIZE))
    kho("img", "convert", "--secret", key, "-O", "raw", path, kho.tmp / "zeros.raw")
    assert (kho.tmp / "zeros.raw").read_bytes() == bytes(SIZE)
    qemu_change(path, ["read -P 0 0 3M", *scribble(random.Random(shape))], key)
    assert_reads_alike(kho, path, key)
    assert_checks_alike(kho, path, key)


def test_the_layout_is_qemus(kho):
    """The same places and lengths as in QEMU's image, but for what is random."""
    key, how = secret(kho.tmp), "cluster_size=64k," + options(("aes-256", "xts", "plain64", "sha256"))
    theirs, ours = kho.tmp / "theirs.qcow2", kho.tmp / "ours.qcow2"
    qemu_make(theirs, how, "10M", key=key)
    kho("img", "create", "--secret", key, "-f", "qcow2", "-o", how, ours, "10M")
    a, b = theirs.read_bytes(), ours.read_bytes()
    assert len(a) == len(b) and a[:4 << 16] == b[:4 << 16]
    luks = 4 << 16
    assert a[luks:luks + 112] == b[luks:luks + 112]
    for slot in range(1, 8):
        at = luks + 208 + 48 * slot
        assert a[at:at + 48] == b[at:at + 48]


def test_turns(kho):
    """Both engines write into one image in turn; the model is a plain file."""
    rng, key = random.Random(11), secret(kho.tmp)
    path, model = kho.tmp / "disk.qcow2", bytearray(SIZE)
    kho("img", "create", "--secret", key, "-f", "qcow2", "-o",
        "cluster_size=4k," + options(("twofish-192", "xts", "plain64", "sha1"), 1), path, str(SIZE))
    for _ in range(4):
        io, commands = KhoIo(kho), []
        io("secret", key)
        io("open", "qcow2", path)
        for turn in range(12):
            length = rng.choice((1, 511, 512, 513, 4096, 70000))
            off, byte = rng.randrange(SIZE - length), rng.randint(1, 255)
            model[off:off + length] = bytes([byte]) * length
            if turn < 6:
                io("write", off, length, byte)
            else:
                commands.append(f"write -P {byte} {off} {length}")
        off = rng.randrange(SIZE - 100000)
        model[off:off + 100000] = bytes(100000)
        commands.append(f"write -z {off} 100000")
        assert io("read", 0, SIZE)  # what it holds now is compared below
        io("close")
        io.end()
        qemu_change(path, commands, key)
        kho("img", "convert", "--force", "--secret", key, "-O", "raw", path, kho.tmp / "out.raw")
        assert (kho.tmp / "out.raw").read_bytes() == model
    assert_reads_alike(kho, path, key)
    assert_checks_alike(kho, path, key)


@pytest.mark.parametrize("preallocation", ["off", "metadata", "falloc", "full"])
def test_resize(kho, preallocation):
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp)
    how = options(("serpent-192", "xts", "plain64", "sha256"), 1)
    kho("img", "create", "--secret", key, "-f", "qcow2", "-o", how, path, "1536k")
    qemu_change(path, ["write -P 9 1000k 536k"], key)
    kho("img", "resize", "--secret", key, "--preallocation", preallocation, path, "4M")
    qemu_change(path, ["read -P 9 1000k 536k", "read -P 0 1536k 2560k", "write -P 8 3M 1M"], key)
    kho("img", "resize", "--secret", key, "--shrink", path, "1100k")
    kho("img", "resize", "--secret", key, path, "2M")
    qemu_change(path, ["read -P 9 1000k 100k", "read -P 0 1100k 948k"], key)
    assert_checks_alike(kho, path, key)


def test_merges(kho):
    """Up and down, where both layers are encrypted with keys of their own."""
    one, two = secret(kho.tmp, "one", "one"), secret(kho.tmp, "two", "two")
    base, top = kho.tmp / "base.qcow2", kho.tmp / "top.qcow2"
    for verb in ("mergeup", "mergedown"):
        kho("img", "create", "--force", "--secret", one, "-f", "qcow2", "-o",
            options(("aes-256", "xts", "plain64", "sha256"), 1).replace("=sec", "=one"), base, str(SIZE))
        kho("img", "create", "--force", "--secret", two, "-f", "qcow2", "-b", base, "-F", "qcow2", "-o",
            options(("cast5-128", "cbc", "plain64", "sha1"), 1).replace("=sec", "=two"), top)
        io = KhoIo(kho)
        for key in (one, two):
            io("secret", key)
        for path, byte, off in ((base, 3, 0), (top, 4, 1 << 20)):
            io("open", "qcow2", path)
            io("write", off, 3 << 19, byte)
            io("close")
        io(verb, top, base, "qcow2")
        io.end()
        merged, key, name = (top, two, "two") if verb == "mergeup" else (base, one, "one")
        expected = bytes([3]) * (1 << 20) + bytes([4]) * (3 << 19) + bytes(SIZE - (5 << 19))
        qemu_img("convert", "--object", f"secret,{key}", "-O", "raw", *source(merged, name), kho.tmp / "out.raw")
        assert (kho.tmp / "out.raw").read_bytes() == expected
    assert qemu_json("info", top).get("backing-filename") == str(base)  # a merge downwards leaves the overlay as it is


def test_refusals(kho):
    """Rule: what is not made is refused by name, and nothing is left."""
    key, path = secret(kho.tmp), kho.tmp / "disk.qcow2"
    good = "encrypt.format=luks,encrypt.key-secret=sec,encrypt.iter-time=1"
    for arguments, says in (
            (["-f", "qcow2", "-o", "encrypt.format=aes,encrypt.key-secret=sec"], "broken, and only read"),
            (["-f", "qcow2", "-o", "encrypt.format=luks"], "'encrypt.key-secret' is required"),
            (["-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=other"], "No secret with id 'other'"),
            (["-f", "raw", "-o", good], "raw image is not encrypted: use qcow2 or luks"),
            (["-f", "qcow2", "-o", good + ",encrypt.cipher-alg=des"], "'cipher-alg' does not accept value 'des'"),
            (["-f", "qcow2", "-o", good + ",encrypt.cipher-alg=cast5-128"], "mode xts"),
            (["-f", "qcow2", "-o", good + ",encrypt.cipher-alg=aes-192,encrypt.cipher-mode=cbc"], "QEMU cannot open"),
            (["-f", "qcow2", "-o", good + ",encrypt.iter-time=4000000000"], "too long"),
            (["-f", "qcow2", "-o", good + ",encrypt.foo=1"], "unknown option 'foo' of encryption")):
        ran = kho("img", "create", "--secret", key, *arguments, path, "1M", status=None)
        assert ran.status != 0 and says in ran.err, str(ran)
        assert not path.exists()
    (kho.tmp / "plain.raw").write_bytes(bytes(1 << 20))
    ran = kho("img", "convert", "--secret", key, "-c", "-O", "qcow2", "-o", good, kho.tmp / "plain.raw", path, status=None)
    assert ran.status != 0 and "Compression and encryption" in ran.err and not path.exists()


def test_the_map_is_qemus(kho):
    path, key = kho.tmp / "disk.qcow2", secret(kho.tmp)
    qemu_make(path, options(("aes-256", "xts", "plain64", "sha256")), str(SIZE), key=key)
    qemu_change(path, scribble(random.Random(4)), key)
    theirs = json.loads(qemu_img("map", "--output=json", "--object", f"secret,{key}", *source(path)).out)
    assert json.loads(kho("img", "map", "--output=json", path).out) == theirs


# --- key slots ---

def active(path):
    return [n for n, slot in enumerate(qemu_json("info", path)["format-specific"]["data"]["encrypt"]["slots"]) if slot["active"]]


def opens(path, key):
    """Does QEMU read the image with this passphrase?"""
    name = key.split(",")[0][3:]
    ran = harness.run(["qemu-io", "--object", f"secret,{key}", "-r", "-c", "read -P 7 0 64k", *source(path, name)], status=None)
    assert "verification failed" not in ran.out + ran.err, str(ran)
    return ran.status == 0 and "read 65536" in ran.out


def qemu_amend(path, how, *keys, status=0):
    objects = [word for key in keys for word in ("--object", f"secret,{key}")]
    ran = qemu_img("amend", *objects, *source(path, keys[0].split(",")[0][3:]), "-o", how, status=None)
    assert (ran.status == 0) == (status == 0), str(ran)
    return ran


@pytest.fixture
def locked(kho):
    """An image that the secrets "one" and, by kho, "two" open."""
    path = kho.tmp / "disk.qcow2"
    keys = [secret(kho.tmp, f"passphrase {name}", name) for name in ("one", "two", "three")]
    kho("img", "create", "--secret", keys[0], "-f", "qcow2", "-o",
        options(("aes-256", "xts", "plain64", "sha256"), 1).replace("=sec", "=one"), path, str(SIZE))
    harness.run(["qemu-io", "--object", f"secret,{keys[0]}", "-c", "write -P 7 0 64k", *source(path, "one")])
    return path, keys


def test_keys_come_and_go(kho, locked):
    """Rule: what kho adds and removes QEMU sees, and the other way round."""
    path, (one, two, three) = locked
    kho("img", "key-add", "--iter-time", "1", "--secret", one, "--secret", two, "--new", "two", path)
    assert active(path) == [0, 1] and opens(path, one) and opens(path, two)
    kho("img", "key-add", "--iter-time", "1", "--secret", two, "--secret", three, "--new", "three", "--slot", "6", path)
    assert active(path) == [0, 1, 6] and opens(path, three)
    kho("img", "key-remove", "--secret", one, "--old", "one", path)
    assert active(path) == [1, 6] and not opens(path, one) and opens(path, two)
    kho("img", "key-remove", "--slot", "1", path)
    assert active(path) == [6] and not opens(path, two) and opens(path, three)
    qemu_amend(path, "encrypt.state=active,encrypt.new-secret=one,encrypt.iter-time=10", three, one)
    assert active(path) == [0, 6] and opens(path, one)
    kho("img", "convert", "--secret", one, "-O", "raw", path, kho.tmp / "out.raw")
    assert (kho.tmp / "out.raw").read_bytes()[:1 << 16] == bytes([7]) * (1 << 16)
    qemu_amend(path, "encrypt.state=inactive,encrypt.old-secret=three", one, three)
    ran = kho("img", "convert", "--force", "--secret", three, "-O", "raw", path, kho.tmp / "out.raw", status=None)
    assert ran.status != 0 and "cannot unlock any keyslot" in ran.err
    assert_checks_alike(kho, path, one.replace("id=one", "id=sec"))


def test_a_passphrase_is_replaced(kho, locked):
    path, (one, two, _) = locked
    ran = kho("img", "key-add", "--iter-time", "1", "--secret", one, "--secret", two, "--new", "two", "--slot", "0", path, status=None)
    assert ran.status != 0 and "Refusing to overwrite active keyslot 0" in ran.err and opens(path, one)
    kho("img", "key-add", "--iter-time", "1", "--secret", one, "--secret", two, "--new", "two", "--slot", "0", "--force", path)
    assert active(path) == [0] and opens(path, two) and not opens(path, one)


def test_the_last_key_stays(kho, locked):
    """Rule: nobody locks himself out without saying so; QEMU refuses the same in the same words, and nothing is written."""
    path, keys = locked
    one, _, three = keys
    before = sha256_of(path)
    everything = [word for key in keys for word in ("--secret", key)]
    for ours, theirs in (
            (["key-remove", "--slot", "0"], "encrypt.state=inactive,encrypt.keyslot=0"),
            (["key-remove", "--old", "one"], "encrypt.state=inactive,encrypt.old-secret=one"),
            (["key-remove", "--slot", "1"], "encrypt.state=inactive,encrypt.keyslot=1"),
            (["key-remove", "--slot", "8"], "encrypt.state=inactive,encrypt.keyslot=8"),
            (["key-remove", "--old", "three"], "encrypt.state=inactive,encrypt.old-secret=three"),
            (["key-remove", "--old", "three", "--slot", "0"], "encrypt.state=inactive,encrypt.old-secret=three,encrypt.keyslot=0"),
            (["key-remove"], "encrypt.state=inactive"),
            (["key-add", "--new", "nobody"], "encrypt.state=active,encrypt.new-secret=nobody"),
            (["key-add", "--new", "two", "--slot", "9"], "encrypt.state=active,encrypt.new-secret=two,encrypt.keyslot=9"),
            (["key-add", "--new", "two", "--slot", "0"], "encrypt.state=active,encrypt.new-secret=two,encrypt.keyslot=0")):
        ran = kho("img", ours[0], *everything, *ours[1:], path, status=None)
        said = qemu_amend(path, theirs, *keys, status=1).err.removeprefix("qemu-img: ").strip()
        assert ran.status != 0 and said in ran.err, (ran, said)
        assert sha256_of(path) == before
    ran = kho("img", "key-add", "--secret", three, "--new", "three", path, status=None)
    assert ran.status != 0 and "cannot unlock any keyslot" in ran.err and sha256_of(path) == before
    kho("img", "key-remove", "--slot", "0", "--force", path)
    assert active(path) == [] and not opens(path, one)


def test_all_slots_are_used(kho, locked):
    path, (one, two, _) = locked
    add = ("img", "key-add", "--iter-time", "1", "--secret", one, "--secret", two, "--new", "two", path)
    for count in range(2, 9):
        kho(*add)
        assert len(active(path)) == count
    ran = kho(*add, status=None)
    assert ran.status != 0 and "all keyslots are in use" in ran.err
    kho("img", "key-remove", "--secret", two, "--old", "two", path)
    assert active(path) == [0] and opens(path, one) and not opens(path, two)


def test_what_has_no_keys(kho):
    path, key = kho.tmp / "plain.qcow2", secret(kho.tmp)
    kho("img", "create", "-f", "qcow2", path, "1M")
    ran = kho("img", "key-add", "--secret", key, "--new", "sec", path, status=None)
    assert ran.status != 0 and "not encrypted" in ran.err
