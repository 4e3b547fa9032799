"""Images with subclusters, and with their data in a file of its own, by each verb that opens one."""

from interop.qemu_img.matrix import row

NAMES = ("data.qcow2", "alone.qcow2", "fine.qcow2", "over.qcow2", "gone.qcow2")
FINE = "extended_l2=on"
OPTIONS = ("data_file=q", "data_file=q,data_file_raw=on", FINE, f"data_file=q,{FINE}", f"data_file=q,preallocation=metadata,{FINE}")

ROWS = [
    *(row(f"{verb} {name}", "layouts") for name in NAMES
      for verb in ("info", "info --output=json", "info --backing-chain", "map", "map --output=json", "check", "snapshot -l")),
    *(row(f"convert -O raw {name} x", "layouts", *(() if name == "gone.qcow2" else ("x:raw",))) for name in NAMES),
    *(row(f"convert -O qcow2 -o {options} {name} x", "layouts", "x:qcow2", *(("q:raw",) if "q" in options else ()), stat=False)
      for options in OPTIONS for name in ("fine.qcow2", "over.qcow2", "r.raw")),
    row("convert -c -O qcow2 -o data_file=q r.raw x", "layouts", says="compressed clusters cannot lie in a data file"),
    row(f"convert -c -O qcow2 -o {FINE} r.raw x", "layouts", "x:qcow2", stat=False),
    row("convert -O qcow2 -o data_file=r.raw r.raw x", "layouts", err=False),
    row("convert -O qcow2 -o data_file=d.raw data.qcow2 x", "layouts", err=False),
    row("convert -O raw data.qcow2 d.raw", "layouts", err=False),
    row("convert -n -O qcow2 r.raw data.qcow2", "layouts", "data.qcow2", stat=False),
    row("convert -n -O qcow2 r.raw fine.qcow2", "layouts", "fine.qcow2", stat=False),
    *(row(f"compare {one} {other}", "layouts") for one, other in (
        ("data.qcow2", "alone.qcow2"), ("fine.qcow2", "data.qcow2"), ("r.raw", "alone.qcow2"), ("over.qcow2", "data.qcow2"),
        ("gone.qcow2", "data.qcow2"))),
    *(row(f"resize {name} 5M", "layouts", name, stat=name != "alone.qcow2") for name in NAMES[:4]),
    *(row(f"resize --shrink {name} 2M", "layouts", name, stat=False) for name in NAMES[:3]),
    row("resize --preallocation=metadata data.qcow2 5M", "layouts", "data.qcow2", stat=False),
    row("resize --preallocation=falloc fine.qcow2 5M", "layouts", "fine.qcow2", stat=False),
    row("resize gone.qcow2 5M", "layouts"),
    row("dd if=data.qcow2 of=x bs=64k", "layouts", "x:raw"),
    row("dd if=r.raw of=x -O qcow2", "layouts", "x:qcow2", stat=False),
    row("commit over.qcow2", "layouts", "data.qcow2", "over.qcow2", stat=False),
    row("rebase -b '' over.qcow2", "layouts", "over.qcow2", stat=False),
    *(row(f"snapshot -c one {name}", "layouts", name, stat=False) for name in ("fine.qcow2", "over.qcow2")),
    *(row(f"snapshot -c one {name}", "layouts", err=False) for name in ("data.qcow2", "alone.qcow2")),
]
