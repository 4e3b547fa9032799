"""qemu-img measure."""

from interop.qemu_img.matrix import row

IMAGES = (("a.raw", "images"), ("a.qcow2", "images"), ("old.qcow2", "images"), ("packed.qcow2", "images"), ("empty.qcow2", "images"),
          ("odd", "images"), ("top.qcow2", "chain"), ("sub/side.qcow2", "chain"), ("snap.qcow2", "snapshots"))
OPTIONS = ("cluster_size=512", "cluster_size=4k", "cluster_size=2M", "cluster_size=3", "cluster_size=abc", "compat=0.10",
           "refcount_bits=1", "refcount_bits=64", "refcount_bits=3", "preallocation=metadata", "preallocation=falloc",
           "preallocation=full", "backing_file=x,backing_fmt=raw", "size=10M", "unheard=1", "lazy_refcounts=on",
           "extended_l2=on", "extended_l2=on,cluster_size=16k", "extended_l2=on,cluster_size=2M,preallocation=full",
           "extended_l2=on,cluster_size=8k", "extended_l2=on,compat=0.10", "data_file=x", "data_file_raw=on", "compat=v3", "compat=x",
           "refcount_bits=8,compat=0.10", "compression_type=x", "preallocation=x", "backing_fmt=raw", "nocow=on", "encryption=on",
           "extent_size_hint=5G", "encrypt.format=luks", "encrypt.format=luks,encrypt.key-secret=s", "encrypt.format=x")
SIZES = ("0", "1", "12345", "1M", "1G", "513M", "1T", "64T", "8E", "1x", "-1")

ROWS = [
    *(row(f"measure -O {fmt} {name}", state) for name, state in IMAGES for fmt in ("raw", "qcow2")),
    *(row(f"measure -O qcow2 -o {options} --size 3G") for options in OPTIONS),
    *(row(f"measure -O qcow2 -o {options} a.qcow2", "images") for options in OPTIONS),
    *(row(f"measure -O qcow2 --size {size}") for size in SIZES),
    *(row(f"measure --size {size}") for size in SIZES),
    *(row(f"measure -O qcow2 {name}", "layouts") for name in ("data.qcow2", "alone.qcow2", "fine.qcow2", "over.qcow2", "gone.qcow2")),
    *(row(f"measure --object secret,id=s,data=abc -O qcow2 --size 3G -o encrypt.format=luks,encrypt.key-secret=s{more}")
      for more in ("", ",cluster_size=512", ",cluster_size=2M", ",encrypt.cipher-alg=aes-128", ",encrypt.cipher-alg=x",
                   ",encrypt.cipher-mode=cbc,encrypt.hash-alg=sha512", ",extended_l2=on")),
    row("measure --object secret,id=s,data=abc -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s a.qcow2", "images"),
    row("measure -O raw -o preallocation=x --size 1M"),
    row("measure -O qcow2 --size 1P -o cluster_size=512"),
    row("measure"),
    row("measure a.raw a.qcow2", "images"),
    row("measure --size 1M a.raw", "images"),
    row("measure -f qcow2 --size 1M"),
    row("measure -l first --size 1M"),
    row("measure --image-opts --size 1M"),
    row("measure -O unheard --size 1M"),
    row("measure -o unheard=1 --size 1M"),
    row("measure -o '' --size 1M"),
    row("measure nowhere"),
    row("measure lost.qcow2", "chain"),
    row("measure -f raw -O qcow2 a.qcow2", "images"),
    row("measure --output=json a.raw", "images"),
    row("measure -O qcow2 --output=json a.qcow2", "images"),
    row("measure -O qcow2 --output=json --size 1G"),
    row("measure --output=xml --size 1G"),
    row("measure -O qcow2 -l first snap.qcow2", "snapshots"),
    row("measure -O qcow2 -l snapshot.id=2 snap.qcow2", "snapshots"),
    row("measure -O qcow2 -l nothing snap.qcow2", "snapshots"),
    row("measure -l first a.raw", "images"),
    row("measure -U -O qcow2 a.raw", "images"),
    row("measure --force-share a.raw", "images"),
    row("measure --object secret,id=s0,data=abc --size 1M"),
    row("measure --image-opts driver=qcow2,file.filename=a.qcow2", "images"),
]
