"""Encrypted images, by each verb that opens one or makes one."""

from interop.qemu_img.matrix import row

SECRET = "--object secret,id=s0,data=abc"
OPENED = "--image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2"
WRONG = "--object secret,id=s0,data=word " + OPENED
JSON = """'json:{"driver":"qcow2","encrypt":{"key-secret":"s0"},"file":{"driver":"file","filename":"luks.qcow2"}}'"""
LUKS = "encrypt.format=luks,encrypt.key-secret=s0"
ENCRYPTED = "-o encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10"


def apart(name):
    return f"{SECRET} --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename={name}.qcow2"


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
    row(f"create -f qcow2 {SECRET} {ENCRYPTED} x 1M", "empty", "x:qcow2", key="abc"),
    row(f"convert {SECRET} {OPENED} -O qcow2 {ENCRYPTED} x", "luks", "x:qcow2", key="abc"),
    row(f"create -f qcow2 {SECRET} {ENCRYPTED},data_file=y x 1M", "empty", "x:qcow2", key="abc"),
    row(f"create -f qcow2 {SECRET} {ENCRYPTED},data_file=y,extended_l2=on,preallocation=metadata x 1M", "empty", "x:qcow2", key="abc",
        readable=False),  # kho writes zeros into what is mapped; of QEMU's it reads as noise
    row(f"create -f qcow2 {SECRET} {ENCRYPTED},data_file=y,data_file_raw=on x 1M", "empty", "x:qcow2", key="abc", readable=False),
    row(f"convert {SECRET} {OPENED} -O qcow2 {ENCRYPTED},data_file=y x", "luks", "x:qcow2", key="abc"),
    *(row(f"info {more}{name}.qcow2", "luks_data") for name in ("apart", "alone") for more in ("", "--output=json ")),
    *(row(f"{verb} {more}{apart(name)}", "luks_data") for name in ("apart", "alone") for verb, more in (
        ("check", ""), ("map", "--output=json "), ("map", ""), ("measure", "-O qcow2 "))),
    row("check apart.qcow2", "luks_data"),
    row(f"convert {apart('apart')} x", "luks_data", "x:raw"),
    row(f"convert {apart('alone')} x", "luks_data"),
    row(f"convert {apart('apart')} -O qcow2 {ENCRYPTED} x", "luks_data", "x:qcow2", key="abc"),
    row(f"resize {apart('apart')} 1500k", "luks_data", "apart.qcow2", key="abc"),
    row(f"resize --shrink {apart('apart')} 150k", "luks_data", "apart.qcow2", key="abc"),
    row(f"resize {apart('alone')} 1500k", "luks_data", "alone.qcow2", key="abc", readable=False),
    row(f"amend -o lazy_refcounts=on {apart('apart')}", "luks_data", "apart.qcow2", key="abc"),
]
