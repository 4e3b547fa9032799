"""qemu-img dd."""

from interop.engine import sha256_of
from interop.qemu_img.matrix import row


def middle(folder):
    """qemu-img 7.2 counts from the start what it should count from where it skips to, and copies less."""
    assert (folder / "x").read_bytes() == (folder / "a.raw").read_bytes()[1 << 20:2 << 20]


def same(folder):
    assert sha256_of(folder / "a.raw") == sha256_of(folder / "x")


ROWS = [
    *(row(f"dd if={name} of=x bs=64k", state, "x:raw") for name, state in (
        ("a.raw", "images"), ("a.qcow2", "images"), ("packed.qcow2", "images"), ("odd", "images"), ("top.qcow2", "chain"),
        ("snap.qcow2", "snapshots"))),
    *(row(f"dd -O qcow2 if={name} of=x bs=64k", state, "x:qcow2") for name, state in (
        ("a.raw", "images"), ("a.qcow2", "images"), ("empty.qcow2", "images"), ("top.qcow2", "chain"))),
    *(row(f"dd if=a.raw of=x {operands}", "images", "x:raw") for operands in (
        "bs=1M count=1", "bs=1M skip=1", "bs=1M skip=10", "bs=512 count=3", "bs=4k skip=3", "bs=64k count=0", "bs=1M skip=3",
        "bs=1M count=1000000", "bs=0", "bs=3G", "bs=1x", "bs=-1", "count=x", "skip=x", "unheard=1", "unheard", "seek=1")),
    row("dd if=a.raw of=x bs=1M count=1 skip=1", "images", holds=middle),
    row("dd if=a.raw of=x", "images", "x:raw", holds=same),
    row("dd if=a.raw if=a.qcow2 of=x bs=1M", "images", "x:raw"),
    row("dd if=a.raw of=a.qcow2 bs=1M", "images", "a.qcow2:raw"),
    row("dd -f raw -O raw if=a.qcow2 of=x bs=1M", "images", "x:raw"),
    row("dd -U if=a.raw of=x bs=1M", "images", "x:raw"),
    row("dd --force-share if=a.raw of=x bs=1M", "images", "x:raw"),
    row("dd --object secret,id=s0,data=abc if=a.raw of=x bs=1M", "images", "x:raw"),
    row("dd --image-opts if=driver=raw,file.filename=a.raw of=x bs=1M", "images", "x:raw"),
    row("dd"),
    row("dd if=a.raw", "images"),
    row("dd of=x"),
    row("dd -n if=a.raw of=x", "images"),
    row("dd if=nowhere of=x"),
    row("dd if= of=x"),
    row("dd if=lost.qcow2 of=x", "chain"),
    row("dd if=a.raw of=nowhere/x", "images"),
    row("dd -f unheard if=a.raw of=x", "images"),
    row("dd -O unheard if=a.raw of=x", "images"),
]
