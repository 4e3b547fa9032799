"""qemu-img bench: how long it takes is nobody's to compare."""

from interop.qemu_img.matrix import row

ROWS = [
    row("bench -c 10 a.qcow2", "images", out=False),
    row("bench -c 10 -w -q a.qcow2", "images", "a.qcow2", out=False),
    row("bench -c 10 -w --flush-interval=5 -d 2 a.qcow2", "images", "a.qcow2", out=False),
    row("bench -c 10 -w --flush-interval=5 --no-drain -d 2 --pattern=7 a.qcow2", "images", "a.qcow2", out=False),
    row("bench -c 5 -s 1k -S 3k -o 1M -t none -i threads a.qcow2", "images", out=False),
    row("bench -U -f raw -c 5 a.raw", "images", out=False),
    row("bench --force-share -n -t none -c 5 a.qcow2", "images", out=False),
    row("bench --image-opts -c 5 driver=raw,file.filename=a.raw", "images", out=False),
    row("bench -c 10 --flush-interval=5 -d 2 a.qcow2", "images"),
    row("bench -c 10 -w --flush-interval=1 -d 2 a.qcow2", "images"),
    row("bench -c x a.qcow2", "images"),
    row("bench -d x a.qcow2", "images"),
    row("bench -s 1x a.qcow2", "images"),
    row("bench -s 3000000000 a.qcow2", "images"),
    row("bench -S -1 a.qcow2", "images"),
    row("bench -o 1x a.qcow2", "images"),
    row("bench --pattern=300 a.qcow2", "images"),
    row("bench --flush-interval=x a.qcow2", "images"),
    row("bench -i fast a.qcow2", "images"),
    row("bench -t fast a.qcow2", "images"),
    row("bench -c 1 -o 1G a.qcow2", "images"),
    row("bench -n -c 1 a.qcow2", "images"),
    row("bench nowhere"),
    row("bench"),
    row("bench a b", "images"),
]
