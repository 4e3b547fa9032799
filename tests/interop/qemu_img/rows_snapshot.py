"""qemu-img snapshot."""

from interop.qemu_img.matrix import row

ROWS = [
    row("snapshot -l snap.qcow2", "snapshots"),
    row("snapshot snap.qcow2", "snapshots"),
    row("snapshot -U -l snap.qcow2", "snapshots"),
    row("snapshot --force-share -c new snap.qcow2", "snapshots", "snap.qcow2"),
    row("snapshot -l a.qcow2", "images"),
    row("snapshot -l a.raw", "images"),
    row("snapshot -c new a.qcow2", "images", "a.qcow2", stat=False),
    row("snapshot -q -c first snap.qcow2", "snapshots", "snap.qcow2", stat=False),
    row("snapshot -a first snap.qcow2", "snapshots", "snap.qcow2", stat=False),
    row("snapshot -a 2 snap.qcow2", "snapshots", "snap.qcow2", stat=False),
    row("snapshot -a 1 snap.qcow2", "snapshots", "snap.qcow2", stat=False),
    row("snapshot -d first snap.qcow2", "snapshots", "snap.qcow2", stat=False),
    row("snapshot -d 2 snap.qcow2", "snapshots", "snap.qcow2", stat=False),
    row("snapshot -d 1 snap.qcow2", "snapshots", "snap.qcow2"),
    row("snapshot -a nowhere snap.qcow2", "snapshots", "snap.qcow2"),
    row("snapshot -d nowhere snap.qcow2", "snapshots", "snap.qcow2"),
    row("snapshot -c new zstd.qcow2", "images", "zstd.qcow2", stat=False),
    row("snapshot -c new a.raw", "images"),
    row("snapshot -d new a.raw", "images"),
    row("snapshot -c a -d b snap.qcow2", "snapshots"),
    row("snapshot -l -c a snap.qcow2", "snapshots"),
    row("snapshot --image-opts -d first driver=qcow2,file.filename=snap.qcow2", "snapshots", "snap.qcow2", stat=False),
    row("snapshot --object secret,id=s0,data=abc -l snap.qcow2", "snapshots"),
    row("snapshot -l nowhere"),
    row("snapshot -c x"),
    row("snapshot -c x a b", "images"),
]
