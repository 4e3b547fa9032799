"""A volume that a machine needs is not deleted, nor cut where others build on it; the message names who needs it."""

import pytest

import harness
import machine

BUSY = 8
MIB = 1 << 20


@pytest.fixture
def pool(kho):
    folder = kho.base / "pool"
    kho("pool-define-as", "pool", "dir", "--target", folder)
    kho("pool-start", "--build", "pool")
    return folder


def overlay(path, backing):
    path.parent.mkdir(exist_ok=True)
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", path])


def keeps(kho, path, *says, verb=("vol-delete",)):
    before = path.read_bytes()
    kho.refuses(*verb, "--pool", "pool", path.name, status=BUSY, says=[str(path), *says])
    assert path.read_bytes() == before


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_disk_of_a_defined_machine(kho, pool, format):
    """By whatever path the machine names it; resized it may be, in both directions."""
    path = pool / "v"
    kho("vol-create-as", "pool", "v", "8M", "--format", format)
    (kho.base / "link").symlink_to(pool)
    for named in (path, kho.base / "link" / "v"):
        machine.define(kho, "web1", machine.disk(named, target="vdb", format=format))
        keeps(kho, path, "disk vdb", "machine 'web1'", "kho edit web1", "kho undefine web1")
        kho("vol-resize", "--pool", "pool", "v", "9M")
        kho("vol-resize", "--pool", "pool", "v", "8M", "--shrink")
        kho("undefine", "web1")
    kho("vol-delete", "--pool", "pool", "v")


def test_drive_and_kernel(kho, pool):
    for name in ("cd.iso", "vmlinuz"):
        kho("vol-create-as", "pool", name, "1M")
    machine.define(kho, "web1", machine.disk(pool / "cd.iso", target="hda", format="raw", device="cdrom"),
                   os_more=f"<kernel>{pool}/vmlinuz</kernel>")
    keeps(kho, pool / "cd.iso", "disk hda", "machine 'web1'")
    keeps(kho, pool / "vmlinuz", "the kernel", "machine 'web1'")


def test_below_a_disk_outside_pools(kho, pool):
    """The chain of a disk that lies in no pool leads into one."""
    base, outside = pool / "base", kho.base / "outside"
    kho("vol-create-as", "pool", "base", "8M", "--format", "qcow2")
    overlay(outside / "1", base)
    overlay(outside / "2", outside / "1")
    machine.define(kho, "web1", machine.disk(outside / "2"))
    keeps(kho, base, "backing file of disk vda", str(outside / "2"), "machine 'web1'")
    keeps(kho, base, "machine 'web1'", verb=("vol-resize", "--capacity", "4M", "--shrink"))
    kho("vol-resize", "--pool", "pool", "base", "9M")
    kho("undefine", "web1")
    kho("vol-delete", "--pool", "pool", "base")


def test_data_of_a_disk_outside_pools(kho, pool):
    """What holds the bytes of an image in the disk's chain is needed as the image is."""
    data, outside = pool / "data", kho.base / "outside"
    outside.mkdir()
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={data}", outside / "1", "8M"])
    overlay(outside / "2", outside / "1")
    for named in ("1", "2"):
        machine.define(kho, "web1", machine.disk(outside / named))
        keeps(kho, data, "the data file of disk vda", str(outside / named), "machine 'web1'")
        keeps(kho, data, "machine 'web1'", verb=("vol-resize", "--capacity", "4M", "--shrink"))
        kho("undefine", "web1")
    kho("vol-delete", "--pool", "pool", "data")


def test_raw_disks_have_no_chain(kho, pool):
    """What a guest writes into its raw disk keeps nobody's volume."""
    kho("vol-create-as", "pool", "base", "8M", "--format", "qcow2")
    overlay(kho.base / "disk", pool / "base")
    machine.define(kho, "web1", machine.disk(kho.base / "disk", format="raw"))
    kho("vol-delete", "--pool", "pool", "base")


def test_inactive_pool(kho, pool):
    """An overlay is found in a pool that is not active, too; a folder that is not there holds none."""
    kho("pool-define-as", "second", "dir", "--target", kho.base / "second")
    kho("pool-define-as", "nowhere", "dir", "--target", kho.base / "nowhere")
    kho("pool-start", "--build", "second")
    kho("vol-create-as", "pool", "base", "8M", "--format", "qcow2")
    kho("vol-create-as", "second", "over", "8M", "--format", "qcow2", "--backing-vol", pool / "base", "--backing-vol-format", "qcow2")
    kho("pool-destroy", "second")
    keeps(kho, pool / "base", "volume over in pool second")
    (kho.base / "second/over").unlink()
    kho("vol-delete", "--pool", "pool", "base")


def test_damaged_definition(kho, pool):
    """What a definition that cannot be read needs is told by its text."""
    kho("vol-create-as", "pool", "v", "1M")
    kho("vol-create-as", "pool", "other", "1M")
    definition = kho.root / "etc/qemu/web1.xml"
    definition.write_text(f"<domain><disk><source file='{pool}/v'/>")
    keeps(kho, pool / "v", "damaged definition", "machine 'web1'")
    kho("vol-delete", "--pool", "pool", "other")
    definition.unlink()
    kho("vol-delete", "--pool", "pool", "v")


def test_machine_as_it_runs(kho, pool):
    """A drive that was changed while the machine runs stands in the live definition alone."""
    kho("vol-create-as", "pool", "v", "1M")
    run = kho.root / "run/qemu/web1"
    run.mkdir()
    (run / "live.xml").write_text(machine.xml("web1", machine.disk(pool / "v", format="raw")))
    keeps(kho, pool / "v", "disk vda", "machine 'web1'", "kho shutdown web1")
    (run / "live.xml").unlink()
    run.rmdir()
    kho("vol-delete", "--pool", "pool", "v")


def test_snapshots(kho, pool):
    """The file that a snapshot closed is needed also by a machine that went back to before it."""
    kho("vol-create-as", "pool", "v", "8M", "--format", "qcow2")
    machine.define(kho, "web1", machine.disk(pool / "v"))
    kho("snapshot-create-as", "web1", "s1")
    kho("snapshot-create-as", "web1", "s2")
    closed = sorted(path for path in pool.iterdir() if path.name != "v")[0]
    kho("snapshot-revert", "web1", "s1")
    for over in pool.iterdir():  # of the branch that the machine left
        if over not in (pool / "v", closed) and str(over) not in kho("dumpxml", "web1").out:
            over.unlink()
    keeps(kho, closed, "snapshot s2", "machine 'web1'", "snapshot-delete web1 s2")


def test_a_damaged_snapshot_hides_no_other(kho, pool):
    """The sound ones still keep their files; and as long as one cannot be read nobody knows what it needs."""
    kho("vol-create-as", "pool", "v", "8M", "--format", "qcow2")
    machine.define(kho, "web1", machine.disk(pool / "v"))
    kho("snapshot-create-as", "web1", "s1")
    kho("snapshot-create-as", "web1", "s2")
    closed = pool / "v.1.qcow2"
    kho("snapshot-revert", "web1", "s1")
    kho("snapshot-create-as", "web1", "s3")
    damaged = kho.root / "lib/qemu/snapshot/web1/s3.xml"
    text = damaged.read_text()
    damaged.write_text("x")
    keeps(kho, closed, "snapshot s2's disk vda", "machine 'web1'")
    kho("vol-create-as", "pool", "other", "1M")
    keeps(kho, pool / "other", "cannot be told", str(damaged), "snapshot-delete --metadata web1 s3")
    damaged.write_text(text)
    kho("vol-delete", "--pool", "pool", "other")


def test_a_disk_that_cannot_be_looked_at(kho, pool):
    """It might lie on the volume: its machine says so no more, or it is put back, first."""
    kho("vol-create-as", "pool", "base", "8M", "--format", "qcow2")
    kho("vol-create-as", "pool", "other", "1M")
    top = kho.base / "outside/top"
    overlay(top, pool / "base")
    machine.define(kho, "web1", machine.disk(top))
    machine.define(kho, "web2", machine.disk(kho.base / "nix", format="raw"))  # that one lies on nothing
    top.rename(kho.base / "away")
    keeps(kho, pool / "base", "cannot be told", str(top), "machine 'web1'", "kho edit web1")
    keeps(kho, pool / "base", "cannot be told", verb=("vol-resize", "--capacity", "4M", "--shrink"))
    (kho.base / "away").rename(top)
    keeps(kho, pool / "base", "backing file of disk vda")
    kho("vol-delete", "--pool", "pool", "other")
    kho("undefine", "web1")
    kho("vol-delete", "--pool", "pool", "base")
