"""A power failure at the end of every fsync of a verb: the next kho sees the old state or the new one."""

import subprocess

import machine
from power.replay import replayed


def test_define(kho, build, rng):
    machine.define(kho, "web1", memory_mib=32)
    old = kho("dumpxml", "web1").out
    uuid = kho("domuuid", "web1").out.strip()
    seen = set()
    for what in replayed(kho, build, rng, "define", "-", input=machine.xml("web1", memory_mib=64, uuid=uuid)):
        now = kho("dumpxml", "web1").out
        assert now == old or now == old.replace("32768", "65536"), what
        seen.add(now == old)
    assert seen == {True, False}


def test_undefine(kho, build, rng):
    machine.define(kho, "web1")
    kho("autostart", "web1")
    seen = set()
    for what in replayed(kho, build, rng, "undefine", "web1"):
        listed = kho("list", "--all", "--name").out
        assert listed in ("web1\n", ""), what
        seen.add(listed)
        if not listed:  # a new machine of that name does not inherit the mark
            machine.define(kho, "web1")
            assert "Autostart:      disable" in kho("dominfo", "web1").out, what
    assert len(seen) == 2


def test_volumes(kho, build, rng):
    pool = kho.root / "pool"
    kho("pool-define-as", "p", "dir", "--target", pool)
    kho("pool-start", "p", "--build")
    kho("vol-create-as", "p", "base.qcow2", "1M", "--format", "qcow2")
    for words in [("vol-create-as", "p", "new.qcow2", "2M", "--format", "qcow2"),
                  ("vol-resize", "base.qcow2", "2M", "--pool", "p"),
                  ("vol-clone", "base.qcow2", "new2.qcow2", "--pool", "p")]:
        sizes = set()
        kho("pool-start", "p", status=None)  # active it was until the last failure of power
        for what in replayed(kho, build, rng, *words):
            files = sorted(path.name for path in pool.iterdir())
            assert not [name for name in files if name.startswith(".")], f"{words[0]}: {what}: {files}"
            for name in files:
                subprocess.run(["qemu-img", "check", "-q", pool / name], check=True)
            sizes.add((len(files), kho.json("img", "info", pool / "base.qcow2")["virtual-size"]))
        assert len(sizes) == 2, f"{words[0]}: {sizes}"
