"""qemu-img resize."""

from interop.qemu_img.matrix import row

SIZES = ("8M", "+1M", "-1M", "-2M", "4M", "+0", "1M", "-100M", "0", "+x", "x", "''", "1000E", "0x800000")

ROWS = [
    *(row(f"resize a.qcow2 {size}", "images", "a.qcow2") for size in SIZES),
    *(row(f"resize --shrink a.qcow2 {size}", "images", "a.qcow2") for size in ("-1M", "1M", "65536", "1000", "0", "8M")),
    *(row(f"resize a.qcow2 {size}", "images", "a.qcow2", stat=False) for size in ("4194305", "5000000", "1.5G")),
    *(row(f"resize -f raw a.raw {size}", "images", "a.raw") for size in SIZES),
    *(row(f"resize -f raw --shrink a.raw {size}", "images", "a.raw") for size in ("-1M", "1M", "512", "8M")),
    *(row(f"resize --preallocation={mode} a.qcow2 +2M", "images", "a.qcow2", stat=False)
      for mode in ("off", "metadata", "falloc", "full", "some")),
    *(row(f"resize -f raw --preallocation={mode} a.raw +2M", "images", "a.raw") for mode in ("off", "metadata", "falloc", "full")),
    row("resize --preallocation=full --shrink a.qcow2 -- -1M", "images", "a.qcow2"),
    row("resize a.raw 8M", "images", "a.raw"),
    row("resize odd 2k", "images", "odd:raw"),
    row("resize -q a.qcow2 +1M", "images", "a.qcow2"),
    row("resize --quiet a.qcow2 +1M", "images", "a.qcow2"),
    row("resize a.qcow2 +1M -q", "images"),
    row("resize a.qcow2 --shrink -1M", "images", "a.qcow2"),
    row("resize --shrink -1M a.qcow2", "images"),
    row("resize a.qcow2 1M 2M", "images"),
    row("resize"),
    row("resize a.qcow2", "images"),
    row("resize --help"),
    row("resize --help x y", out=False),
    row("resize nowhere +1M"),
    row("resize -f unheard a.raw +1M", "images"),
    row("resize -f qcow2 a.raw +1M", "images"),
    row("resize --image-opts driver=raw,file.filename=a.raw +1M", "images", "a.raw"),
    row("resize --object secret,id=s0,data=abc a.qcow2 +1M", "images", "a.qcow2"),
    row("resize old.qcow2 2M", "images", "old.qcow2"),
    row("resize --shrink old.qcow2 4k", "images", "old.qcow2"),
    row("resize zstd.qcow2 4M", "images", "zstd.qcow2"),
    row("resize --shrink packed.qcow2 1M", "images", "packed.qcow2", stat=False),
    row("resize empty.qcow2 1T", "images", "empty.qcow2"),
    row("resize top.qcow2 4M", "chain", "top.qcow2"),
    row("resize --shrink top.qcow2 1M", "chain", "top.qcow2", stat=False),
    row("resize mid.qcow2 4M", "chain", "mid.qcow2"),
    row("resize lost.qcow2 4M", "chain"),
    row("resize snap.qcow2 8M", "snapshots", "snap.qcow2", stat=False),
    row("resize --shrink snap.qcow2 1M", "snapshots", "snap.qcow2", stat=False),
]
