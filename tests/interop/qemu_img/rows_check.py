"""qemu-img check. Findings are told in kho's own words: the counts and the verdict are the same."""

from interop.qemu_img.matrix import row

WHOLE = (("a.qcow2", "images"), ("old.qcow2", "images"), ("zstd.qcow2", "images"), ("packed.qcow2", "images"),
         ("empty.qcow2", "images"), ("a.raw", "images"), ("notes", "images"), ("top.qcow2", "chain"), ("lost.qcow2", "chain"),
         ("snap.qcow2", "snapshots"), ("dirty.qcow2", "damaged"))

ROWS = [
    *(row(f"check {name}", state) for name, state in WHOLE),
    *(row(f"check --output=json {name}", state) for name, state in WHOLE),
    row("check leaky.qcow2", "damaged"),
    row("check --output=json leaky.qcow2", "damaged"),
    row("check -q leaky.qcow2", "damaged"),
    row("check broken.qcow2", "damaged", err=False),
    row("check --output=json broken.qcow2", "damaged", err=False),
    row("check -r leaks leaky.qcow2", "damaged", "leaky.qcow2"),
    row("check -r all leaky.qcow2", "damaged", "leaky.qcow2"),
    row("check -q -r all leaky.qcow2", "damaged", "leaky.qcow2"),
    row("check --repair=leaks --output=json leaky.qcow2", "damaged", "leaky.qcow2"),
    row("check --repair all dirty.qcow2", "damaged", "dirty.qcow2", out=False, stat=False),  # kho counts anew
    row("check -r leaks a.qcow2", "images", "a.qcow2"),
    row("check -r all a.raw", "images"),
    row("check -r all -f raw a.raw", "images"),
    row("check -r some a.raw", "images"),
    row("check -r"),
    row("check"),
    row("check nowhere"),
    row("check a.qcow2 a.raw", "images"),
    row("check -f qcow2 a.raw", "images"),
    row("check --format=unheard a.raw", "images"),
    row("check -T none a.qcow2", "images"),
    row("check -T unheard a.qcow2", "images"),
    row("check -U a.qcow2", "images"),
    row("check --force-share -r all a.qcow2", "images"),
    row("check --quiet a.qcow2", "images"),
    row("check -p a.qcow2", "images"),
    row("check --output=xml a.qcow2", "images"),
    row("check --image-opts driver=qcow2,file.filename=a.qcow2", "images"),
    row("check --image-opts driver=qcow2,file.filename=a.qcow2 --output=json", "images"),
    row("check --object secret,id=s0,data=abc a.qcow2", "images"),
]
