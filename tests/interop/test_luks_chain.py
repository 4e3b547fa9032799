"""A chain of encrypted images of different passphrases, by each verb that reads or writes what is in them."""

import pytest

import harness
from interop.engine import qemu_img
from interop.luks import PASSPHRASE, SIZE, options, qemu_make, secret

KIND = ("aes-256", "xts", "plain64", "sha256")

MAPS_ALONE = ("plan", "map", "measure")  # need no passphrase
VERBS = {
    "commit": ["commit", "over.qcow2"],
    "plan": ["commit", "--plan", "over.qcow2"],
    "rebase": ["rebase", "-b", "", "over.qcow2"],
    "compare": ["compare", "over.qcow2", "want.raw"],
    "map": ["map", "over.qcow2"],
    "dd": ["dd", "over.qcow2", "part.raw"],
    "measure": ["measure", "-O", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=sec", "over.qcow2"],
    "bench": ["bench", "-c", "8", "over.qcow2"],
    "convert": ["convert", "-O", "raw", "over.qcow2", "out.raw"],
}


@pytest.fixture
def chain(kho):
    """over.qcow2 over base.qcow2; want.raw is what it reads as. The --secret options for both."""
    keys = [secret(kho.tmp), secret(kho.tmp, "battery staple", "low")]
    qemu_make(kho.tmp / "base.qcow2", options(KIND).replace("=sec,", "=low,"), str(SIZE), key=keys[1])
    qemu_make(kho.tmp / "over.qcow2", options(KIND), str(SIZE), key=keys[0],
              more=["--object", f"secret,{keys[1]}", "-b", str(kho.tmp / "base.qcow2"), "-F", "qcow2"])
    (kho.tmp / "want.raw").write_bytes((PASSPHRASE.encode() * (SIZE // len(PASSPHRASE) + 1))[:SIZE])
    for name, more in (("base", "low"), ("over", "sec")):
        image = f"driver=qcow2,encrypt.key-secret={more},file.filename={kho.tmp / name}.qcow2"
        if name == "over":
            image += ",backing.encrypt.key-secret=low"
        part = kho.tmp / f"{name}.part"
        part.write_bytes((kho.tmp / "want.raw").read_bytes() if name == "base" else b"o" * 65536)
        harness.run(["qemu-io", *(word for one in keys for word in ("--object", f"secret,{one}")), "--image-opts", image,
                     "-c", f"write -s {part} 0 {part.stat().st_size}"])
    with open(kho.tmp / "want.raw", "r+b") as file:
        file.write(b"o" * 65536)
    return [word for key in keys for word in ("--secret", key)]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb(kho, chain, verb):
    words = ["img", VERBS[verb][0], *chain, *VERBS[verb][1:]]
    if verb not in MAPS_ALONE:
        kho.refuses("img", *VERBS[verb], says="passphrase")
    kho(*words)
    if verb == "commit":  # all of it is in the base alone now
        kho("img", "compare", "--secret", chain[3], "base.qcow2", "want.raw")
    kho("img", "compare", *chain, "over.qcow2", "want.raw")
    if verb in ("dd", "convert"):
        made = kho.tmp / VERBS[verb][-1]
        assert made.read_bytes() == (kho.tmp / "want.raw").read_bytes()
    assert qemu_img("check", "-q", "--object", f"secret,{chain[1]}", "--object", f"secret,{chain[3]}", "--image-opts",
                    f"driver=qcow2,encrypt.key-secret=sec,file.filename={kho.tmp}/over.qcow2"
                    + ("" if verb == "rebase" else ",backing.encrypt.key-secret=low")).status == 0
