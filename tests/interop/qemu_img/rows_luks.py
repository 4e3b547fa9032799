"""Encrypted images, by each verb that opens one or makes one."""

from interop.qemu_img.matrix import row

SECRET = "--object secret,id=s0,data=abc"
OPENED = "--image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2"
WRONG = "--object secret,id=s0,data=word " + OPENED
JSON = """'json:{"driver":"qcow2","encrypt":{"key-secret":"s0"},"file":{"driver":"file","filename":"luks.qcow2"}}'"""
LUKS = "encrypt.format=luks,encrypt.key-secret=s0"
ENCRYPTED = "-o encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10"


# What luks_keys has, and one more.
KEYS = SECRET + " --object secret,id=s1,data=ZGVm,format=base64 --object secret,id=s2,data=ghi"


def encrypt(wish):
    return ",".join(f"encrypt.{word}" for word in wish.split(","))


def apart(name):
    return f"{SECRET} --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename={name}.qcow2"


# An overlay and its backing file, of different passphrases.
BOTH = SECRET + " --object secret,id=s1,data=def"
OVER = f"{BOTH} --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=over.qcow2,backing.encrypt.key-secret=s1"
ABOVE = f"{SECRET} --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=plain.qcow2"


ROWS = [
    row(f"commit {ABOVE}", "luks_chain", "plain.qcow2", "base.qcow2", readable=False, stat=False),
    row(f"commit {OVER}", "luks_chain", "over.qcow2", "locked.qcow2", readable=False, stat=False),
    row(f"commit {OVER}x", "luks_chain"),
    row(f"convert {OVER} x", "luks_chain", "x:raw"),
    row(f"convert {OVER}x x", "luks_chain"),
    row(f"convert {OVER},backing.unheard=1 x", "luks_chain", err=False),
    *(row(f"convert {OVER},backing.backing.encrypt.key-secret=s{n} x", "luks_chain", err=False) for n in (1, 9)),
    row(f"convert {ABOVE},backing.driver=raw,backing.file.filename=other.raw x", "luks_chain", "x:raw"),
    row(f"rebase -b '' {OVER}", "luks_chain", "over.qcow2", key="abc", stat=False),
    row(f"compare {OVER} driver=raw,file.filename=other.raw", "luks_chain"),
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
    row(f"resize {apart('alone')} 1500k", "luks_data", "alone.qcow2", key="abc", readable=False, stat=False),
    row(f"amend -o lazy_refcounts=on {apart('apart')}", "luks_data", "apart.qcow2", key="abc"),
    *(row(f"amend {KEYS} {OPENED} -o {encrypt(wish)}", "luks_keys", "luks.qcow2", key="abc") for wish in (
        "state=active,new-secret=s2,iter-time=10", "state=active,new-secret=s2,keyslot=7,iter-time=10", "new-secret=s2", "keyslot=3",
        "state=active", "state=unheard", "state=active,new-secret=nobody", "state=active,new-secret=s2,keyslot=8",
        "state=active,new-secret=s2,keyslot=-1", "state=active,new-secret=s2,keyslot=x", "state=active,new-secret=s2,keyslot=0",
        "state=active,new-secret=s2,old-secret=s0", "state=inactive", "state=inactive,keyslot=5", "state=inactive,keyslot=8",
        "state=inactive,keyslot=3,iter-time=5", "state=inactive,keyslot=3,old-secret=s0", "state=inactive,keyslot=3,old-secret=s1",
        "state=inactive,keyslot=3", "state=inactive,old-secret=s1", "state=inactive,old-secret=s1,new-secret=s2",
        "state=inactive,old-secret=s2", "state=inactive,old-secret=nobody", "format=luks", "cipher-alg=aes-128", "key-secret=s0",
        "unheard=1")),
    *(row(f"amend {KEYS} {OPENED} -o {wish}", "luks_keys", "luks.qcow2", key="abc") for wish in (
        "lazy_refcounts=on,encrypt.state=active,encrypt.new-secret=s2,encrypt.iter-time=10",
        "refcount_bits=8,encrypt.state=active,encrypt.new-secret=s2,encrypt.keyslot=0", "size=2M,encrypt.state=inactive,encrypt.keyslot=3",
        "compat=unheard,encrypt.state=inactive,encrypt.keyslot=3", "encryption=on", "size=2M,lazy_refcounts=on")),
    row(f"amend {KEYS} {OPENED} -o size=100,encrypt.state=inactive,encrypt.keyslot=3", "luks_keys"),  # QEMU's has lost its key then
    *(row(f"amend {more} {KEYS} {OPENED} -o {encrypt(wish)}", "luks_keys", "luks.qcow2", key="abc") for more, wish in (
        ("-p", "state=active,new-secret=s2,iter-time=10"), ("-p", "state=active,new-secret=s2,keyslot=0"), ("-p", "unheard=1"),
        ("-q", "state=inactive,keyslot=3"), ("--force", "state=inactive,keyslot=5"),
        ("--force", "state=active,new-secret=s0,keyslot=3,iter-time=10"))),
    *(row(f"amend {more} {KEYS} {OPENED} -o {encrypt(wish)}", "luks", "luks.qcow2", readable=False) for more, wish in (
        ("", "state=inactive,keyslot=0"), ("", "state=inactive,old-secret=s0"), ("--force", "state=inactive,keyslot=0"),
        ("--force", "state=inactive,old-secret=s0"), ("--force", "state=active,new-secret=s1,keyslot=0,iter-time=10"))),
    *(row(f"amend {KEYS} --image-opts driver=qcow2,encrypt.key-secret={name},file.filename=luks.qcow2 -o "
          "encrypt.state=inactive,encrypt.keyslot=0", "luks_keys", "luks.qcow2", key="def") for name in ("s1", "s2")),
    row(f"amend {KEYS} -o encrypt.state=inactive,encrypt.keyslot=0 luks.qcow2", "luks_keys"),
    row(f"amend {KEYS} -o encrypt.state=inactive,encrypt.keyslot=0 a.qcow2", "images"),
    row(f"amend {KEYS} -o encrypt.keyslot=0 a.qcow2", "images"),
    row("amend -f qcow2 -o help"),
    row("amend -o help"),
    *(row(f"amend -f {fmt} -o help a.qcow2", "images") for fmt in ("raw", "vmdk", "unheard")),
]
