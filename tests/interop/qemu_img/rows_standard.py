"""What comes before a verb."""

from interop.qemu_img.matrix import row

ROWS = [
    row(""),
    row("unheard"),
    row("--unheard"),
    row("-q"),
    row("-T"),
    row("--"),
    row("-- info a.raw", "images"),
    row("--help", out=False),
    row("-h", out=False),
    row("--version", out=False),
    row("-V", out=False),
    row("info --help", out=False),
    row("info -h a.raw", "images", out=False),
]
