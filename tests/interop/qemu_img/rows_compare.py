"""qemu-img compare."""

from interop.qemu_img.matrix import row

PAIRS = (("a.raw", "a.raw"), ("a.raw", "b.raw"), ("b.raw", "a.raw"), ("a.raw", "a2.qcow2"), ("a2.qcow2", "b.raw"),
         ("a.raw", "long.raw"), ("long.raw", "short.raw"), ("short.raw", "long.raw"), ("tail.raw", "short.raw"),
         ("short.raw", "tail.raw"), ("a2.qcow2", "packed2.qcow2"), ("empty.qcow2", "long.raw"), ("a.raw", "odd"))

ROWS = [
    *(row(f"compare {a} {b}", "pairs") for a, b in PAIRS),
    *(row(f"compare -s {a} {b}", "pairs") for a, b in PAIRS),
    row("compare mid.qcow2 sub/side.qcow2", "chain"),
    row("compare top.qcow2 mid.qcow2", "chain"),
    row("compare base.raw mid.qcow2", "chain"),
    row("compare top.qcow2 lost.qcow2", "chain"),
    row("compare lost.qcow2 top.qcow2", "chain"),
    row("compare -p a.raw a2.qcow2", "pairs", out=False),
    row("compare -q a.raw b.raw", "pairs"),
    row("compare -q -p a.raw b.raw", "pairs"),
    row("compare -q a.raw a.raw", "pairs"),
    row("compare -f raw -F qcow2 a.raw a2.qcow2", "pairs"),
    row("compare -f raw a2.qcow2 a2.qcow2", "pairs"),
    row("compare -F raw a2.qcow2 a2.qcow2", "pairs"),
    row("compare -f unheard a.raw b.raw", "pairs"),
    row("compare -F qcow2 a.raw b.raw", "pairs"),
    row("compare -T none a.raw a2.qcow2", "pairs"),
    row("compare -T unheard a.raw b.raw", "pairs"),
    row("compare -U a.raw a2.qcow2", "pairs"),
    row("compare --force-share a.raw a2.qcow2", "pairs"),
    row("compare --object secret,id=s0,data=abc a.raw a.raw", "pairs"),
    row("compare --image-opts driver=raw,file.filename=a.raw driver=qcow2,file.filename=a2.qcow2", "pairs"),
    row("compare --image-opts -f raw driver=raw,file.filename=a.raw driver=raw,file.filename=a.raw", "pairs"),
    row("compare a.qcow2 spoilt.qcow2", "damaged", err=False),
    row("compare"),
    row("compare a.raw", "pairs"),
    row("compare a.raw a.raw a.raw", "pairs"),
    row("compare nowhere a.raw", "pairs"),
    row("compare a.raw nowhere", "pairs"),
    row("compare -z a.raw a.raw", "pairs"),
]
