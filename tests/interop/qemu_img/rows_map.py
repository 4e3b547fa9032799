"""qemu-img map."""

from interop.qemu_img.matrix import row

IMAGES = (("a.raw", "images"), ("a.qcow2", "images"), ("old.qcow2", "images"), ("zstd.qcow2", "images"), ("packed.qcow2", "images"),
          ("empty.qcow2", "images"), ("odd", "images"), ("notes", "images"), ("base.raw", "chain"), ("mid.qcow2", "chain"),
          ("top.qcow2", "chain"), ("sub/side.qcow2", "chain"), ("lost.qcow2", "chain"), ("snap.qcow2", "snapshots"),
          ("leaky.qcow2", "damaged"))

ROWS = [
    *(row(f"map {name}", state) for name, state in IMAGES),
    *(row(f"map --output=json {name}", state) for name, state in IMAGES),
    *(row(f"map --output=json -s {start} -l {length} top.qcow2", "chain") for start, length in (
        ("0", "1"), ("64k", "64k"), ("100", "1M"), ("1M", "8M"), ("3M", "1"), ("5M", "1"), ("0", "0"))),
    row("map --start-offset=64k --max-length=64k a.qcow2", "images"),
    row("map -s 5M a.qcow2", "images"),
    row("map -s 1x a.qcow2", "images"),
    row("map -s -1 a.qcow2", "images"),
    row("map -s 9E a.qcow2", "images"),
    row("map -l many a.qcow2", "images"),
    row("map -s"),
    row("map"),
    row("map nowhere"),
    row("map a.raw a.qcow2", "images"),
    row("map -f raw a.qcow2", "images"),
    row("map --format=unheard a.raw", "images"),
    row("map -U a.raw", "images"),
    row("map --force-share a.raw", "images"),
    row("map --output=xml a.raw", "images"),
    row("map --image-opts driver=qcow2,file.filename=a.qcow2", "images"),
    row("map --object secret,id=s0,data=abc a.raw", "images"),
    row("map --output=json -f qcow2 packed.qcow2 --unheard", "images"),
]
