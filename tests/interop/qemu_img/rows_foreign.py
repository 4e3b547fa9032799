"""The formats that QEMU itself reads and writes for kho."""

from interop.qemu_img.matrix import row

MADE = ("vmdk", "vdi", "vhdx", "vpc", "qed", "parallels", "qcow")
OPTIONS = {"vmdk": ("subformat=monolithicSparse", "adapter_type=lsilogic", "hwversion=7", "zeroed_grain=on", "compat6=off"),
           "vdi": ("static=on", "static=off"), "vhdx": ("subformat=fixed", "log_size=2M,block_size=2M", "block_state_zero=off"),
           "vpc": ("subformat=fixed", "force_size=on"), "qed": ("cluster_size=4k,table_size=2",), "parallels": ("cluster_size=64k",),
           "qcow": ("encryption=off",)}

ROWS = [
    *(row(f"create -f {fmt} x 5M", "empty", f"x:{fmt}", stat=False) for fmt in MADE),
    *(row(f"create -f {fmt} -o {options} x 5M", "empty", f"x:{fmt}", stat=False) for fmt in MADE for options in OPTIONS[fmt]),
    *(row(f"create -f {fmt} -o {options} x 5M") for fmt, options in (
        ("vmdk", "unheard=1"), ("vmdk", "zeroed_grain=maybe"), ("vdi", "static=maybe"), ("vdi", "backing_file=x"), ("qed", "cluster_size=x"))),
    *(row(f"create -f {fmt} -o {options} x 5M", says=says) for fmt, options, says in (
        ("vmdk", "subformat=unheard", "vmdk images are made as"), ("vhdx", "subformat=unheard", "unheard"), ("qed", "cluster_size=3", "QED"),
        ("vmdk", "adapter_type=unheard", "unheard"))),
    *(row(f"{verb} -o help") for fmt in (*MADE, "bochs") for verb in (f"create -f {fmt}", f"convert -O {fmt}")),
    *(row(f"create -f {fmt} -o help x") for fmt in MADE),
    *(row(f"create -f {fmt} x 1M") for fmt in ("bochs", "cloop", "dmg", "vvfat")),
    *(row(f"convert -O {fmt} a.qcow2 x", "images", f"x:{fmt}", stat=False) for fmt in MADE),
    row("convert -O bochs a.qcow2 x", "images"),
    row("convert -c -O vdi a.raw x", "images"),
    row("convert -O vdi -o static=on a.qcow2 x", "images", "x:vdi", stat=False),
    row("dd -O vdi if=a.raw of=x", "images", "x:vdi", stat=False),
    row("measure -O vmdk --size 1M"),
    row("measure -O vdi a.raw", "images"),
    *(row(f"{verb} a.{fmt}", "foreign", **({"out": False} if verb == "info" and fmt in ("vmdk", "vhdx", "qed") else {}))
      for fmt in MADE for verb in ("info", "check", "check --output=json")),
    *(row(f"info --output=json a.{fmt}", "foreign") for fmt in ("vdi", "vpc", "qcow")),
    *(row(f"resize {fmt} 8M", "foreign") for fmt in ("a.vdi", "a.vpc", "a.qcow")),
    *(row(f"convert -O qcow2 a.{fmt} x", "foreign", "x:qcow2", stat=False) for fmt in MADE),
    *(row(f"convert -n -O {fmt} b.raw a.{fmt}", "foreign", f"a.{fmt}", stat=False) for fmt in MADE if fmt != "qcow"),
    *(row(f"compare a.{fmt} b.raw", "foreign") for fmt in MADE),
    row("compare a.vmdk a.qed", "foreign"),
]
