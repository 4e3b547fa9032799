"""qemu-img create."""

import itertools

import harness
from interop.qemu_img.matrix import row

SIZES = ("0", "1000", "64M", "1.5M", "1k", "1K", "1b", "0x100", "010", "' 1M'", "1.", "8E", "10E", "1x", "1e3", "1Mb", "''",
         ".5M", "1.5", "99999999999999999999", "1.1k")
OPTIONS = ("cluster_size=512", "cluster_size=4k", "cluster_size=2M", "cluster_size=3", "cluster_size=100", "cluster_size=4M",
           "cluster_size", "cluster_size=1x", "cluster_size=-1", "compat=0.10", "compat=1.1", "compat=v2", "compat=v3", "compat=9",
           "refcount_bits=1", "refcount_bits=64", "refcount_bits=3", "refcount_bits=128", "refcount_bits=abc", "refcount_bits=0",
           "refcount_bits=8,compat=0.10", "lazy_refcounts=on", "lazy_refcounts", "nolazy_refcounts", "lazy_refcounts=maybe",
           "lazy_refcounts=on,compat=v2", "compression_type=zlib", "compression_type=zstd", "compression_type=lzo",
           "compression_type=zstd,compat=v2", "preallocation=off", "preallocation=metadata", "preallocation=falloc",
           "preallocation=full", "preallocation=some", "unheard=1", "nocow", "nocow=off", "data_file_raw=off", "extended_l2=off",
           "extended_l2=on", "extended_l2", "extended_l2=on,cluster_size=16k", "extended_l2=on,cluster_size=2M,preallocation=metadata",
           "extended_l2=on,preallocation=falloc", "extended_l2=on,preallocation=full", "extended_l2=on,cluster_size=8k",
           "extended_l2=on,compat=0.10", "extended_l2=maybe", "extended_l2=on,compat=v2,cluster_size=3", "data_file_raw=on",
           "backing_fmt=raw,refcount_bits=3", "extent_size_hint=0", "extent_size_hint=1M", "extent_size_hint=5G", "extent_size_hint=x",
           "encryption=off", "size=2M", "backing_fmt=qcow2", "cluster_size=1M -o refcount_bits=8", "''", ",", "cluster_size=4k,")

ROWS = [
    *(row(f"create -f qcow2 x -- {size}", "empty", "x:qcow2") for size in SIZES if size not in ("8E", "10E")),
    *(row(f"create x -- {size}", "empty", "x:raw") for size in SIZES),
    *(row(f"create -f qcow2 -o {options} x 3M", "empty", "x:qcow2") for options in OPTIONS),
    *(row(f"create -f raw -o {options} x 3M", "empty", "x:raw") for options in (
        "preallocation=off", "preallocation=falloc", "preallocation=full", "preallocation=metadata", "size=1M", "unheard=1",
        "nocow=off", "extent_size_hint=0", "extent_size_hint=1M", "extent_size_hint=5G", "extent_size_hint=x", "cluster_size=64k")),
    row("create"),
    row("create -f qcow2"),
    row("create -f"),
    row("create -f qcow2 x"),
    row("create -q -f qcow2 x 64M", "empty", "x:qcow2"),
    row("create -f qcow2 x 64M more"),
    row("create -f unheard x 1M"),
    row("create -6 x"),
    row("create -o help"),
    row("create -f qcow2 -o help"),
    row("create -f qcow2 -o '?' x"),
    row("create -f raw -o help x"),
    row("create -f raw -o size=1M,help x"),
    row("create -f unheard -o help"),
    row("create -f qcow2 -o size=1M x", "empty", "x:qcow2"),
    row("create -f qcow2 -o size=1M,size=3M x", "empty", "x:qcow2"),
    row("create -f qcow2 nowhere/x 1M"),
    row("create -f raw nowhere/x 1M"),
    row("create -f qcow2 . 1M"),
    row("create -f qcow2 -o cluster_size=512 x 1P"),
    row("create -f qcow2 \"it's\" 1M", "empty", "it's:qcow2"),
    row("create --object secret,id=s0,data=abc -f qcow2 x 1M", "empty", "x:qcow2"),
    row("create -f qcow2 a.qcow2 1M", "images", "a.qcow2"),
    row("create -f raw a.qcow2 1M", "images", "a.qcow2:raw"),
    row("create -f qcow2 -b a.qcow2 -F qcow2 x", "images", "x:qcow2"),
    row("create -f qcow2 -b a.qcow2 -F qcow2 x 1T", "images", "x:qcow2"),
    row("create -f qcow2 -b a.qcow2 -F qcow2 x 0", "images", "x:qcow2"),
    row("create -f qcow2 -b a.raw -F raw x", "images", "x:qcow2"),
    row("create -f qcow2 -b a.raw -F qcow2 x", "images"),
    row("create -f qcow2 -b a.raw x", "images"),
    row("create -f qcow2 -b a.qcow2 x", "images"),
    row("create -f qcow2 -o backing_file=a.qcow2,backing_fmt=qcow2 x", "images", "x:qcow2"),
    row("create -f qcow2 -o backing_file=a.qcow2 x", "images"),
    row("create -f qcow2 -o backing_file=a,,b,backing_fmt=raw x 1M", "images"),
    row("create -f qcow2 -b a.raw -o backing_file=b,backing_fmt=raw x", "images", "x:qcow2"),
    row("create -f qcow2 -b a.qcow2 -F unheard x 1M", "images"),
    row("create -f qcow2 -b nowhere -F qcow2 x", "images"),
    row("create -f qcow2 -b nowhere -F qcow2 x 1M", "images"),
    row("create -f qcow2 -b '' -F qcow2 x 1M", "images"),
    row("create -f qcow2 -b x -F qcow2 x", "images"),
    row("create -f qcow2 -F qcow2 x 1M", "images"),
    row("create -f qcow2 -o preallocation=full -b a.qcow2 -F qcow2 x 1M", "images"),
    row("create -f raw -b a.raw -F raw x 1M", "images"),
    row("create -f raw -F raw x 1M", "images"),
    row("create -u -f qcow2 -b nowhere -F qcow2 x 1M", "images", "x:qcow2", readable=False),
    row("create -u -f qcow2 -b nowhere -F qcow2 x", "images"),
    row("create -u -f qcow2 -b nowhere x 1M", "images"),
    row("create -u -f qcow2 -b nowhere -F unheard x 1M", "images"),
    row("create -f qcow2 -b lost.qcow2 -F qcow2 x", "chain"),
    row("create -f qcow2 -b above.qcow2 -F qcow2 x", "chain"),
    row("create -f qcow2 -b top.qcow2 -F qcow2 sub/x", "chain"),
    row("create -f qcow2 -b ../top.qcow2 -F qcow2 sub/x", "chain", "sub/x:qcow2"),
]

DATA_FILES = ("data_file=q", "data_file=q,data_file_raw=on", "data_file=q,data_file_raw=on,preallocation=falloc",
              "data_file=q,preallocation=metadata", "data_file=q,preallocation=full", "data_file=q,extended_l2=on",
              "data_file=q,cluster_size=4k,lazy_refcounts=on", "data_file=q,compression_type=zstd")
FAULTS = ("data_file=q,compat=v2", "data_file=q,compat=v2,refcount_bits=8", "data_file=nowhere/q", "data_file=.",
          "compat=v2,compression_type=zstd,data_file=q", "data_file=q,cluster_size=3", "data_file=q,data_file_raw=maybe")
ROWS += [
    *(row(f"create -f qcow2 -o {options} x 3M", "empty", "x:qcow2", "q:raw") for options in DATA_FILES),
    *(row(f"create -f qcow2 -o {options} x 3M") for options in FAULTS),
    row("create -f qcow2 -o data_file=x x 3M", says="x cannot be its own data file"),
    row("create -f qcow2 -o data_file=a.raw x 1M", "images", "x:qcow2", "a.raw"),
    row("create -f qcow2 -o data_file=q -b a.qcow2 -F qcow2 x", "images", "x:qcow2", "q:raw"),
    row("create -f qcow2 -o data_file=q,data_file_raw=on -b a.qcow2 -F qcow2 x", "images"),
    row("create -f qcow2 -o extended_l2=on -b a.qcow2 -F qcow2 x", "images", "x:qcow2"),
    row("create -f qcow2 -o extended_l2=on -b fine.qcow2 -F qcow2 x", "layouts", "x:qcow2"),
    row("create -f qcow2 -b data.qcow2 -F qcow2 x", "layouts", "x:qcow2", readable=False),
    row("create -f qcow2 -b gone.qcow2 -F qcow2 x", "layouts"),
    row("create -f qcow2 data.qcow2 1M", "layouts", "data.qcow2", "d.raw"),
]

if harness.SOAK:
    ROWS += [row(f"create -f qcow2 -o cluster_size={1 << bits},{more},preallocation={mode} x {size}", "empty", "x:qcow2", stat=False)
             for bits, more, mode, size in itertools.product(
                 range(9, 22), ("compat=0.10", "refcount_bits=1", "refcount_bits=64", "lazy_refcounts=on"),
                 ("off", "metadata", "falloc"), ("1", "3M", "700M"))]
