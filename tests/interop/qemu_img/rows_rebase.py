"""qemu-img rebase."""

from interop.qemu_img.matrix import row

ROWS = [
    row("rebase -b base.raw -F raw top.qcow2", "chain", "top.qcow2", stat=False),
    row("rebase -b '' top.qcow2", "chain", "top.qcow2", stat=False),
    row("rebase -b mid.qcow2 -F qcow2 top.qcow2", "chain", "top.qcow2"),
    row("rebase -f qcow2 -b base.raw -F raw -t none -T none -q top.qcow2", "chain", "top.qcow2", stat=False),
    row("rebase -b ../base.raw -F raw sub/side.qcow2", "chain", "sub/side.qcow2", stat=False),
    row("rebase -p -b base.raw -F raw mid.qcow2", "chain", "mid.qcow2", out=False),
    row("rebase -u -b base.raw -F raw top.qcow2", "chain", "top.qcow2"),
    row("rebase -u -b nowhere -F raw top.qcow2", "chain", "top.qcow2", readable=False),
    row("rebase -u top.qcow2", "chain", "top.qcow2"),
    row("rebase -u -b base.raw -F raw lost.qcow2", "chain", "lost.qcow2"),
    row("rebase -u -b base.raw top.qcow2", "chain", "top.qcow2"),
    row("rebase -b base.raw top.qcow2", "chain", "top.qcow2", stat=False),
    row("rebase -b nowhere -F raw top.qcow2", "chain", "top.qcow2"),
    row("rebase -b base.raw -F unheard top.qcow2", "chain", "top.qcow2"),
    row("rebase -b '' lost.qcow2", "chain"),
    row("rebase -b a.raw -F raw empty.qcow2", "images", "empty.qcow2", stat=False),
    row("rebase -b a.qcow2 -F qcow2 a.raw", "images"),
    row("rebase --image-opts -b '' driver=qcow2,file.filename=top.qcow2", "chain", "top.qcow2", stat=False),
    row("rebase --object secret,id=s0,data=abc -b '' mid.qcow2", "chain", "mid.qcow2", stat=False),
    row("rebase top.qcow2", "chain"),
    row("rebase"),
    row("rebase -b a b c", "images"),
    row("rebase -t fast -b '' top.qcow2", "chain"),
    row("rebase -T fast -b '' top.qcow2", "chain"),
    row("rebase -b '' nowhere"),
    row("rebase -U -b '' mid.qcow2", "chain", "mid.qcow2"),
    row("rebase --force-share -u -b '' mid.qcow2", "chain", "mid.qcow2"),
]
