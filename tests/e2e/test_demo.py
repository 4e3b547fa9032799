"""`make demo` as a person sees it, on the build under test."""

import re

from harness import REPO, run


def test_demo(kho):
    ran = run([REPO / "tools/demo", "--build", kho.build, "--root", kho.root], env=kho.env(), timeout=250)
    assert "the host reads the bytes that the guest wrote: holds" in ran.out
    assert "the logs end at the point and agree: holds" in ran.out
    assert f"export KHO_ROOT={kho.root}" in ran.out.split("Go on by hand")[1]
    for verb in ("pool-define-as vmdisks", "pool-start vmdisks --build", "pool-autostart", "pool-info", "vol-create-as",
                 "vol-info", "define", "start demo", "console demo", "shutdown", "img check", "attach-disk", "snapshot-create-as",
                 "snapshot-revert", "snapshot-delete", "backup demo", "save demo", "restore", "destroy", "undefine", "restore-backup"):
        assert re.search(rf"^\$ \S*kho {verb}\b", ran.out, re.M), f"{verb} is not shown:\n{ran}"
    assert len(list((kho.root / "vmdisks").iterdir())) == 3, "the restored machine keeps its disks"
