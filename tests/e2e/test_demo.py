"""`make demo` as a person sees it, on the build under test: without any right of root's, which is the most that it may need."""

import os
import re
import shutil

import pytest

import harness
from harness import REPO, run

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture
def checkout(kho):
    """What the demo needs of a checkout, with the build under test, as an ordinary user would have it."""
    path = kho.base / "kho"
    for part in ("tools", "tests/guest", ".cache/guest"):
        shutil.copytree(REPO / part, path / part, ignore=shutil.ignore_patterns("debs", "__pycache__"))
    (path / "build").mkdir()
    for program in ("kho", "kho-vm"):
        shutil.copy(kho.build / program, path / "build")
    os.chmod(kho.base, 0o755)
    run(["chown", "-R", "65534:65534", path, kho.root])
    return path


def test_demo(kho, checkout):
    ran = run([*NOBODY, checkout / "tools/demo", "--root", kho.root], env=kho.env(), cwd=checkout, timeout=250)
    for fact in ("the host reads the bytes that the guest wrote", "the counter is that of the snapshot",
                 "the checksums hold after the merge", "the logs end at the point and agree"):
        assert f"{fact}: holds" in ran.out
    assert f"export KHO_ROOT={kho.root}" in ran.out.split("Go on by hand")[1]
    for verb in ("pool-define-as vmdisks", "pool-start vmdisks --build", "pool-autostart", "pool-info", "vol-create-as",
                 "vol-info", "define", "start demo", "console demo", "shutdown", "img check", "attach-disk", "snapshot-create-as",
                 "snapshot-revert", "snapshot-delete", "backup demo", "save demo", "restore", "destroy", "undefine", "restore-backup"):
        assert re.search(rf"^\$ \S*kho {verb}\b", ran.out, re.M), f"{verb} is not shown:\n{ran}"
    assert len(list((kho.root / "vmdisks").iterdir())) == 3, "the restored machine keeps its disks"


# What kho does here is not what it says: the demo must notice.
LIES = {
    "snapshot-revert": "snapshots are not gone back to",
    "snapshot-delete": "snapshots are not deleted",
    "attach-disk": "disks are not plugged in",
    "backup": "nothing is backed up",
    "restore-backup": "nothing is restored",
}


@pytest.mark.parametrize("verb", LIES if harness.SOAK else ["snapshot-revert"])
def test_a_damaged_step_fails_it(kho, checkout, verb):
    liar = checkout / "build/kho"
    liar.rename(checkout / "build/kho.real")
    liar.write_text(f'#!/bin/sh\n[ "$1" != {verb} ] || exit 0\nexec {checkout}/build/kho.real "$@"\n')
    liar.chmod(0o755)
    ran = run([*NOBODY, checkout / "tools/demo", "--root", kho.root], env=kho.env(), cwd=checkout, timeout=250, status=1)
    assert "The demo failed: " in ran.out
