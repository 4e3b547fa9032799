"""Encrypted images in tests: made, written and opened by QEMU, and compared with what kho makes of them."""

import json

import harness
from interop.engine import qemu_img, qemu_json, sha256_of

PASSPHRASE = "correct horse"
SIZE = 3 << 20


def options(kind, iter_ms=10):
    cipher, mode, iv, digest = kind
    text = (f"encrypt.format=luks,encrypt.key-secret=sec,encrypt.cipher-alg={cipher},encrypt.cipher-mode={mode},"
            f"encrypt.ivgen-alg={iv},encrypt.hash-alg={digest},encrypt.iter-time={iter_ms}")
    return text + (",encrypt.ivgen-hash-alg=sha256" if iv == "essiv" else "")


def secret(folder, passphrase=PASSPHRASE, name="sec"):
    path = folder / f"{name}.key"
    path.write_text(passphrase)
    return f"id={name},file={path}"


def source(path, name="sec"):
    """As QEMU is told of an encrypted image."""
    return ["--image-opts", f"driver=qcow2,encrypt.key-secret={name},file.filename={path}"]


def qemu_make(path, how, *size, key, more=()):
    qemu_img("create", "-q", "-f", "qcow2", "--object", f"secret,{key}", "-o", how, *more, path, *size)


def qemu_change(path, commands, key):
    argv = ["qemu-io", "--object", f"secret,{key}"]
    for command in commands:
        argv += ["-c", command]
    ran = harness.run([*argv, *source(path)])
    for word in ("failed", "rror", "invalid", "mismatch"):
        assert word not in ran.out + ran.err, f"qemu-io complains: {ran}"


def scribble(rng, size=SIZE):
    commands = []
    for _ in range(6):
        length = rng.choice((1, 511, 512, 4096, 65536, 200000))
        commands.append(f"write -P {rng.randint(1, 255)} {rng.randrange(size - length)} {length}")
    return commands + [f"write -z {rng.randrange(size // 65536) * 65536} 65536"]


def assert_reads_alike(kho, path, key):
    qemu_img("convert", "--object", f"secret,{key}", "-O", "raw", *source(path), kho.tmp / "qemu.raw")
    kho("img", "convert", "--force", "--secret", key, "-f", "qcow2", "-O", "raw", path, kho.tmp / "kho.raw")
    assert sha256_of(kho.tmp / "qemu.raw") == sha256_of(kho.tmp / "kho.raw")


def assert_tells_alike(kho, path):
    assert json.loads(kho("img", "info", "--output=json", path).out) == qemu_json("info", path)
    assert kho("img", "info", path).out == qemu_img("info", path).out


def assert_checks_alike(kho, path, key):
    """kho needs no passphrase for that."""
    ours = json.loads(kho("img", "check", "-f", "qcow2", "--output=json", path).out)
    theirs = qemu_json("check", "--object", f"secret,{key}", *source(path))
    for name, value in theirs.items():
        assert name == "filename" or ours[name] == value, (name, ours)
