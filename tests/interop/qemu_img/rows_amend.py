"""qemu-img amend."""

from interop.qemu_img.matrix import row

ROWS = [
    row("amend -o help a.qcow2", "images"),
    *(row(f"amend -o {wish} a.qcow2", "images", "a.qcow2", stat=False) for wish in (
        "compat=0.10", "compat=v3", "compat=0.9", "lazy_refcounts=on", "lazy_refcounts=maybe", "refcount_bits=8", "refcount_bits=64",
        "refcount_bits=3", "refcount_bits=0", "size=8M", "size=1M", "size=1000", "size=x", "compat=0.10,refcount_bits=8",
        "compat=0.10,lazy_refcounts=on", "refcount_bits=32,lazy_refcounts=on,size=5M", "backing_file=a.raw", "backing_fmt=raw",
        "data_file=x", "data_file_raw=on", "cluster_size=4k", "preallocation=off", "compression_type=zstd", "extended_l2=on", "unheard=1")),
    *(row(f"amend -o {wish} old.qcow2", "images", "old.qcow2", stat=False) for wish in (
        "compat=1.1", "compat=1.1,lazy_refcounts=on,refcount_bits=1", "lazy_refcounts=on", "refcount_bits=8")),
    *(row(f"amend -o {wish} data.qcow2", "layouts", readable=False) for wish in (
        "data_file=e", "data_file=d.raw", "data_file=", "data_file=e,lazy_refcounts=on", "data_file_raw=on", "data_file_raw=off")),
    row("amend -o data_file=d.raw data.qcow2", "layouts", "data.qcow2", stat=False),
    row("amend -o data_file=e a.raw", "images"),
    row("amend -o refcount_bits=1 snap.qcow2", "snapshots", "snap.qcow2", says="users"),
    row("amend -o compat=0.10 snap.qcow2", "snapshots", "snap.qcow2", stat=False),
    row("amend -o compat=0.10 zstd.qcow2", "images", "zstd.qcow2"),
    row("amend -o backing_file=mid.qcow2,backing_fmt=qcow2 top.qcow2", "chain", "top.qcow2"),
    row("amend -o compat=0.10 mid.qcow2", "chain", "mid.qcow2", stat=False),
    row("amend -q -f qcow2 -t none --force -o size=8M a.qcow2", "images", "a.qcow2", stat=False),
    row("amend -p -o size=8M a.qcow2", "images", "a.qcow2", out=False, stat=False),
    row("amend --image-opts -o size=8M driver=qcow2,file.filename=a.qcow2", "images", "a.qcow2", stat=False),
    row("amend --object secret,id=s0,data=abc -o size=8M a.qcow2", "images", "a.qcow2", stat=False),
    row("amend -o size=8M a.raw", "images"),
    row("amend -f unheard -o size=8M a.qcow2", "images"),
    row("amend a.qcow2", "images"),
    row("amend -o size=8M"),
    row("amend -o size=8M nowhere"),
]
