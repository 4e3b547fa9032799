"""qemu-img commit."""

from interop.qemu_img.matrix import row

CHAIN = ("base.raw", "mid.qcow2", "top.qcow2")

ROWS = [
    row("commit top.qcow2", "chain", *CHAIN, stat=False),
    row("commit -q mid.qcow2", "chain", "base.raw", "mid.qcow2", stat=False),
    row("commit -d top.qcow2", "chain", *CHAIN, stat=False),
    row("commit -b base.raw top.qcow2", "chain", "base.raw", "top.qcow2", stat=False),
    row("commit -b mid.qcow2 -f qcow2 top.qcow2", "chain", *CHAIN, stat=False),
    row("commit -r 1G -t none top.qcow2", "chain", *CHAIN, stat=False),
    row("commit -p -q mid.qcow2", "chain", "base.raw", "mid.qcow2", out=False, stat=False),
    row("commit -b nowhere top.qcow2", "chain", "top.qcow2"),
    row("commit -r fast top.qcow2", "chain"),
    row("commit -t fast top.qcow2", "chain"),
    row("commit --image-opts driver=qcow2,file.filename=mid.qcow2", "chain", "base.raw", "mid.qcow2", stat=False),
    row("commit --object secret,id=s0,data=abc mid.qcow2", "chain", "base.raw", "mid.qcow2", stat=False),
    row("commit a.qcow2", "images", "a.qcow2"),
    row("commit a.raw", "images"),
    row("commit lost.qcow2", "chain"),
    row("commit nowhere"),
    row("commit"),
    row("commit a b", "images"),
    row("commit -z a", "images"),
]
