"""LUKS volumes (the format luks), by each verb."""

from interop.qemu_img.matrix import row

SECRET = "--object secret,id=s0,data=abc"
KEYS = SECRET + " --object secret,id=s1,data=ZGVm,format=base64 --object secret,id=s2,file=key"


def opened(name="vol", key="s0"):
    return f"--image-opts driver=luks,key-secret={key},file.filename={name}.luks"


def amend(wish, name="two", more="", key="s0", **how):
    return row(f"amend {more} {KEYS} {opened(name, key)} -o {wish}", "volumes", f"{name}.luks", **{"key": "abc", **how})


MADE = "-o key-secret=s0,iter-time=10"
NOISE = {"key": "abc", "readable": False}  # what was never written differs with the key

ROWS = [
    row("create -f luks -o help"),
    row("create -f luks -o help x"),
    row("create -f luks x 1M"),
    row("create -f luks -o key-secret=s0 x 1M"),
    row(f"create -f luks {SECRET} {MADE} x", ),
    row(f"create -f luks {SECRET} {MADE} x 1M", "empty", "x:luks", **NOISE),
    row(f"create -f luks {SECRET} {MADE},size=3M x", "empty", "x:luks", **NOISE),
    row(f"create -q -f luks {SECRET} {MADE} vol.luks 2M", "volumes", "vol.luks", **NOISE),
    *(row(f"create -f luks {SECRET} {MADE},preallocation={how} x 1M", "empty", "x:luks", **NOISE)
      for how in ("off", "metadata", "falloc", "full", "unheard")),
    *(row(f"create -f luks {SECRET} {MADE},{how} x 1M", "empty", "x:luks", **NOISE) for how in (
        "cipher-alg=serpent-256", "cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256", "hash-alg=sha512",
        "cipher-alg=unheard", "cipher-mode=unheard", "ivgen-alg=unheard", "ivgen-hash-alg=unheard", "hash-alg=unheard", "iter-time=0",
        "iter-time=unheard", "encrypt.format=luks", "cluster_size=4k", "nocow=off", "extent_size_hint=0")),
    row(f"create -f luks {SECRET} {MADE} -b vol.luks -F luks x 1M", "volumes"),
    row("info vol.luks", "volumes"),
    row("info -f luks two.luks", "volumes"),
    row("info --output=json two.luks", "volumes"),
    row("info -f raw vol.luks", "volumes"),
    *(row(f"info {name}.luks", "volumes", out=False, err=False) for name in ("cut", "wrong")),
    row("info later.luks", "volumes"),
    *(row(f"{line}", "volumes") for line in (
        "convert vol.luks x", f"convert {SECRET} vol.luks x", f"convert -f luks {SECRET} vol.luks x", "map vol.luks", "check vol.luks",
        "resize vol.luks 2M", "compare vol.luks vol.luks", "measure -O qcow2 vol.luks", "dd if=vol.luks of=x", "snapshot -l vol.luks",
        "snapshot -c a vol.luks", "bitmap --add vol.luks b", "rebase -u -b q -F raw vol.luks", "commit vol.luks",
        "amend -o state=inactive vol.luks")),
    row(f"convert {SECRET} {opened()} x", "volumes", "x:raw"),
    row(f"convert {SECRET} {opened()} -O qcow2 x", "volumes", "x:qcow2"),
    row(f"convert {SECRET} {opened()} -O luks {MADE} x", "volumes", "x:luks", key="abc"),
    row(f"convert {KEYS} {opened('two', 's1')} x", "volumes"),
    row(f"convert {KEYS} {opened('two', 's2')} x", "volumes", "x:raw"),
    row(f"convert {KEYS} {opened('vol', 's1')} x", "volumes"),
    row(f"convert {opened()} x", "volumes"),
    row(f"convert {SECRET} --image-opts driver=luks,file.filename=vol.luks x", "volumes"),
    row(f"convert {SECRET} " + """'json:{"driver":"luks","key-secret":"s0","file":{"driver":"file","filename":"vol.luks"}}' x""",
        "volumes", "x:raw"),
    row(f"convert -O luks {SECRET} {MADE} a.raw x", "volumes", "x:luks", key="abc"),
    row(f"convert -O luks {SECRET} {MADE},preallocation=falloc a.raw x", "volumes", "x:luks", key="abc"),
    row(f"convert -c -O luks {SECRET} {MADE} a.raw x", "volumes"),
    row(f"convert -O luks {MADE} a.raw x", "volumes"),
    row("convert -O luks a.raw x", "volumes"),
    row(f"convert -n {SECRET} -f raw --target-image-opts a.raw driver=luks,key-secret=s0,file.filename=vol.luks", "volumes"),
    row(f"dd {SECRET} -O luks if=a.raw of=x", "volumes"),
    row(f"dd {SECRET} --image-opts if=driver=luks,key-secret=s0,file.filename=vol.luks of=x bs=64k", "volumes", "x:raw"),
    *(row(f"{verb} {SECRET} {opened()}{end}", "volumes") for verb, end in (
        ("check", ""), ("check -r all", ""), ("check --output=json", ""), ("map", ""), ("map --output=json", ""), ("measure -O qcow2", ""),
        ("measure -O raw", ""), ("snapshot -l", ""), ("snapshot -c a", ""), ("rebase -u -b q -F raw", ""), ("commit", ""),
        ("compare", " driver=luks,key-secret=s0,file.filename=two.luks"))),
    row(f"measure -O luks {SECRET} {opened()} -o key-secret=s0", "volumes"),
    *(row(f"measure -O luks {SECRET} {how} --size 5000000", "volumes") for how in (
        "", "-o key-secret=s0", "-o key-secret=s1", "-o key-secret=s0,cipher-alg=aes-128", "--output=json -o key-secret=s0")),
    row(f"resize {SECRET} {opened()} 2M", "volumes", "vol.luks", **NOISE),
    row(f"resize {SECRET} {opened()} +1000", "volumes", "vol.luks", stat=False, **NOISE),  # kho's files are whole sectors
    row(f"resize {SECRET} {opened()} 500k", "volumes", "vol.luks", **NOISE),
    row(f"resize --shrink {SECRET} {opened()} 150k", "volumes", "vol.luks", **NOISE),
    *(row(f"resize --preallocation={how} {SECRET} {opened()} 2M", "volumes", "vol.luks", **NOISE)
      for how in ("metadata", "falloc", "full")),
    *(amend(wish) for wish in (
        "state=active,new-secret=s2,iter-time=10", "state=active,new-secret=s2,keyslot=7,iter-time=10", "new-secret=s2", "state=active",
        "state=unheard", "state=active,new-secret=nobody", "state=active,new-secret=s2,keyslot=8", "state=active,new-secret=s2,keyslot=0",
        "state=active,new-secret=s2,old-secret=s0", "state=inactive", "state=inactive,keyslot=5", "state=inactive,keyslot=3",
        "state=inactive,keyslot=3,iter-time=5", "state=inactive,keyslot=3,old-secret=s0", "state=inactive,old-secret=s1", "size=2M",
        "key-secret=s0", "cipher-alg=aes-128", "preallocation=off", "encrypt.state=active")),
    amend("state=active,new-secret=s2,iter-time=10", more="-p"),
    amend("state=inactive,keyslot=0", key="s1", readable=False),
    *(amend(wish, name="vol", more=more, readable=False) for more in ("", "--force") for wish in (
        "state=inactive,keyslot=0", "state=inactive,old-secret=s0", "state=active,new-secret=s1,keyslot=0,iter-time=10")),
    row("create -f qcow2 -b vol.luks -F luks x", "volumes", "x:qcow2", readable=False),
    row(f"create -f qcow2 {SECRET} -b over.qcow2 -F qcow2 x", "volumes", "x:qcow2", readable=False),
    *(row(f"{verb} {name}.qcow2", "volumes") for name in ("over", "top") for verb in (
        "info", "info --backing-chain", "map", "check", "commit", "measure -O qcow2")),
    row("convert top.qcow2 x", "volumes"),
    row("rebase -u -b a.raw -F raw over.qcow2", "volumes", "over.qcow2"),
    row("amend -f luks -o help"),
    row("amend -o help vol.luks", "volumes"),
    row(f"amend {SECRET} -o help {opened()}", "volumes"),
]
