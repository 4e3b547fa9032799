"""Encrypted images, by each verb that opens one or makes one."""

from interop.engine import qemu_img
from interop.qemu_img.matrix import row

SECRET = "--object secret,id=s0,data=abc"
OPENED = "--image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2"
WRONG = "--object secret,id=s0,data=word " + OPENED
JSON = """'json:{"driver":"qcow2","encrypt":{"key-secret":"s0"},"file":{"driver":"file","filename":"luks.qcow2"}}'"""
LUKS = "encrypt.format=luks,encrypt.key-secret=s0"
ENCRYPTED = "-o encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10"


def opens(folder):
    """The real qemu-img reads what kho has made, by the passphrase."""
    qemu_img("convert", *SECRET.split(), "--image-opts", "-O", "raw", f"driver=qcow2,encrypt.key-secret=s0,file.filename={folder}/x",
             folder / "plain")
    assert (folder / "plain").stat().st_size == 1 << 20
    if (folder / "luks.qcow2").exists():
        assert (folder / "plain").read_bytes()[64 << 10:192 << 10] == b"\7" * (128 << 10)


ROWS = [
    row("info luks.qcow2", "luks"),
    row("info --output=json luks.qcow2", "luks"),
    *(row(f"{verb} luks.qcow2{end}", "luks") for verb, end in (
        ("convert", " x"), ("map", ""), ("check", ""), ("resize", " 2M"), ("compare luks.qcow2", ""), ("measure -O qcow2", ""))),
    row("dd if=luks.qcow2 of=x", "luks"),
    row(f"convert {SECRET} luks.qcow2 x", "luks"),
    row(f"convert {SECRET} {OPENED} x", "luks", "x:raw"),
    row(f"convert {OPENED} x", "luks"),
    row(f"convert --object secret,id=s0,data=abd {OPENED} x", "luks"),
    row(f"map {SECRET} {OPENED}", "luks"),
    row(f"map {SECRET} --output=json {OPENED}", "luks"),
    row(f"check {SECRET} {OPENED}", "luks"),
    row("check --object secret,id=s0,file=key --image-opts driver=qcow2,encrypt.format=luks,encrypt.key-secret=s0,"
        "file.filename=luks.qcow2", "luks"),
    row(f"check --object secret,id=s0,data=YWJj,format=base64 {OPENED}", "luks"),
    row(f"check --output=json {SECRET} {OPENED}", "luks"),
    row(f"check {SECRET} {JSON}", "luks"),
    row(f"check {WRONG}", "luks"),
    row(f"check {OPENED}", "luks"),
    row(f"measure -O qcow2 {SECRET} {OPENED}", "luks"),
    row("measure -O raw luks.qcow2", "luks"),
    row(f"convert -O qcow2 {SECRET} {OPENED} x", "luks", "x:qcow2", stat=False),
    row(f"resize {SECRET} {OPENED} 2M", "luks", "luks.qcow2", readable=False, stat=False),
    row(f"compare {SECRET} {OPENED} driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2", "luks"),
    row("create -f qcow2 -o encrypt.format=luks x 1M"),
    row("create -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s1 x 1M"),
    row("create -f qcow2 -o encrypt.format=unheard,encrypt.key-secret=s1 x 1M"),
    row("create -f qcow2 -o encrypt.key-secret=s1 x 1M"),
    row(f"convert {SECRET} {OPENED} -O qcow2 -o encrypt.format=luks x", "luks"),
    row(f"create -f qcow2 {SECRET} -o encrypt.format=luks x 1M"),
    row(f"create -f qcow2 {SECRET} -o {LUKS},encryption=on x 1M"),
    *(row(f"create -f qcow2 {SECRET} -o {LUKS},encrypt.{name}=unheard x 1M")
      for name in ("cipher-alg", "cipher-mode", "ivgen-alg", "ivgen-hash-alg", "hash-alg", "iter-time")),
    row("create -f qcow2 --object secret,id=s0 -o encrypt.format=luks x 1M"),
    row("create -f qcow2 --object secret,id=s0,data=a,file=key -o encrypt.format=luks x 1M"),
    row("create -f qcow2 --object secret,data=a -o encrypt.format=luks x 1M"),
    row("create -f qcow2 --object secret,id=s0,data=a,keyid=m,iv=AAAA -o encrypt.format=luks x 1M"),
]
MADE = [(f"create -f qcow2 {SECRET} {ENCRYPTED} x 1M", "empty"), (f"convert {SECRET} {OPENED} -O qcow2 {ENCRYPTED} x", "luks")]
