"""qemu-img bitmap, and bitmaps in convert, measure, info, resize and snapshot."""

from interop import bitmaps
from interop.qemu_img.matrix import row


def has(*wanted, name="bits.qcow2"):
    """The image has these bitmaps, in this order, with so many bits: (name, auto, granularity, bits)."""
    def look(folder):
        found = [(name, auto, granularity, len(bits))
                 for name, (_, auto, granularity, bits) in bitmaps.read(folder / name).items()]
        assert found == list(wanted), found
    return look


FINE, COARSE, OFF = ("fine", True, 512, 130), ("coarse", True, 1 << 20, 2), ("off", False, 65536, 0)


def changed(line, *wanted):
    return row(f"bitmap {line}", "bits", "bits.qcow2", stat=False, holds=has(*wanted))


ROWS = [
    changed("--add bits.qcow2 new", FINE, COARSE, OFF, ("new", True, 65536, 0)),
    changed("-f qcow2 -g 4k --add bits.qcow2 new", FINE, COARSE, OFF, ("new", True, 4096, 0)),
    changed("--add --disable bits.qcow2 new", FINE, COARSE, OFF, ("new", False, 65536, 0)),
    changed("--add --merge fine -g 1M bits.qcow2 new", FINE, COARSE, OFF, ("new", True, 1 << 20, 2)),
    changed("-g 0 --add bits.qcow2 new", FINE, COARSE, OFF, ("new", True, 65536, 0)),
    changed("--add --remove bits.qcow2 new", FINE, COARSE, OFF),
    changed("--remove bits.qcow2 coarse", FINE, OFF),
    changed("--clear bits.qcow2 fine", ("fine", True, 512, 0), COARSE, OFF),
    changed("--clear --merge coarse bits.qcow2 fine", ("fine", True, 512, 4096), COARSE, OFF),
    changed("--merge coarse --clear bits.qcow2 fine", ("fine", True, 512, 0), COARSE, OFF),
    changed("--disable bits.qcow2 fine", ("fine", False, 512, 130), COARSE, OFF),
    changed("--enable --merge fine bits.qcow2 off", FINE, COARSE, ("off", True, 65536, 3)),
    changed("--disable --enable bits.qcow2 fine", FINE, COARSE, OFF),
    changed("--merge from -b more.qcow2 bits.qcow2 off", FINE, COARSE, ("off", False, 65536, 16)),
    changed("--merge from -b more.qcow2 -F qcow2 bits.qcow2 fine", ("fine", True, 512, 2178), COARSE, OFF),
    changed("--clear --image-opts driver=qcow2,file.filename=bits.qcow2 fine", ("fine", True, 512, 0), COARSE, OFF),
    changed("--object secret,id=s0,data=abc --clear bits.qcow2 fine", ("fine", True, 512, 0), COARSE, OFF),
    row("bitmap --remove broken.qcow2 fine", "bits", "broken.qcow2", stat=False),
    *[row(f"bitmap {line}", "bits", "bits.qcow2", stat=False, holds=has(FINE, COARSE, OFF)) for line in (
        "bits.qcow2 fine", "--add bits.qcow2", "--clear", "--add bits.qcow2 new more", "--add bits.qcow2 fine",
        "--remove bits.qcow2 no", "--clear bits.qcow2 no", "--enable bits.qcow2 no", "--disable bits.qcow2 no",
        "--merge no bits.qcow2 fine", "--merge fine bits.qcow2 no", "--add -g 1000 bits.qcow2 new",
        "--add -g 256 bits.qcow2 new", "--add -g 4G bits.qcow2 new", "--add -g x bits.qcow2 new",
        "--add -g -5 bits.qcow2 new", "--clear -g 64k bits.qcow2 fine", "--clear -b more.qcow2 bits.qcow2 fine",
        "--clear -F qcow2 bits.qcow2 fine", "--merge from -b nowhere bits.qcow2 fine", "--add nowhere new",
        "--add bits.qcow2 ''", "--merge from -b longer.qcow2 bits.qcow2 fine", "--merge no -b more.qcow2 bits.qcow2 fine",
        "--bogus bits.qcow2 fine", "--merge", "--clear -f nofmt bits.qcow2 fine",
        "--merge fine -b broken.qcow2 bits.qcow2 fine")],
    *[row(f"bitmap {line} broken.qcow2 fine", "bits", "broken.qcow2")
      for line in ("--clear", "--enable", "--disable", "--merge off", "--add")],
    row("bitmap --merge fine broken.qcow2 off", "bits", "broken.qcow2"),
    row("bitmap --add -f raw plain.raw new", "bits", says="Operation add on bitmap new failed: "),
    row("bitmap --add old.qcow2 new", "bits", says="Operation add on bitmap new failed: "),
    row("convert --bitmaps -O qcow2 bits.qcow2 new.qcow2", "bits", "new.qcow2", stat=False,
        holds=has(FINE, COARSE, OFF, name="new.qcow2")),
    row("convert --bitmaps -n -O qcow2 bits.qcow2 room.qcow2", "bits", "room.qcow2", stat=False,
        holds=has(FINE, COARSE, OFF, name="room.qcow2")),
    row("convert -O qcow2 bits.qcow2 new.qcow2", "bits", "new.qcow2", holds=has(name="new.qcow2")),
    row("convert --bitmaps --skip-broken-bitmaps -O qcow2 broken.qcow2 new.qcow2", "bits", "new.qcow2", stat=False),
    *[row(f"convert {line}", "bits") for line in (
        "--bitmaps -O qcow2 broken.qcow2 new.qcow2", "--skip-broken-bitmaps -O qcow2 bits.qcow2 new.qcow2",
        "--bitmaps -O raw bits.qcow2 new.raw", "--bitmaps -O qcow2 -o compat=0.10 bits.qcow2 new.qcow2",
        "--bitmaps -O qcow2 plain.raw new.qcow2", "--bitmaps -O qcow2 bits.qcow2 more.qcow2 new.qcow2")],
    *[row(f"measure {line} bits.qcow2", "bits") for line in (
        "-O qcow2", "-O qcow2 -o cluster_size=512", "-O qcow2 --output=json", "-O raw", "-O qcow2 -o compat=0.10")],
    row("measure -O qcow2 broken.qcow2", "bits"),
    row("info bits.qcow2", "bits"),
    row("info --output=json broken.qcow2", "bits"),
    row("check bits.qcow2", "bits"),
    row("resize bits.qcow2 20M", "bits", "bits.qcow2", stat=False, holds=has(FINE, COARSE, OFF)),
    row("resize --shrink bits.qcow2 1536k", "bits", "bits.qcow2", stat=False,
        holds=has(("fine", True, 512, 128), ("coarse", True, 1 << 20, 1), OFF)),
    row("resize broken.qcow2 20M", "bits", "broken.qcow2"),
    row("snapshot -c s bits.qcow2", "bits", "bits.qcow2", stat=False, holds=has(FINE, COARSE, OFF)),
    row("snapshot -a first more.qcow2", "bits", "more.qcow2", stat=False),
]
