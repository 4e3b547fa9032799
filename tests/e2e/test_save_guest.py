"""A real guest, saved and brought back: its processes, its open files, its file systems and its disks go on."""

import booted
import harness
import machine
import pytest


@pytest.fixture
def guest(kho):
    """Runs, with a file system on vda that is in use and a process that holds a file without a name."""
    disks = [kho.tmp / "vda.qcow2", kho.tmp / "vdb.qcow2"]
    for disk in disks:
        harness.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"])
    booted.define(kho, "web1", machine.disk(disks[0], "vda"), machine.disk(disks[1], "vdb"),
                  "<interface type='user'><model type='virtio'/></interface>")
    kho("start", "web1")
    with booted.line(kho, "web1") as line:
        line.wait_ready()
        line.run("/sbin/mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt && "
                 "dd if=/dev/urandom of=/mnt/file bs=1M count=8 2>/dev/null && "
                 "dd if=/dev/urandom of=/tmp/memory bs=1M count=4 2>/dev/null")
        line.run("(exec 9>/mnt/open; rm /mnt/open; n=0; while :; do n=$((n+1)); echo $n >&9; echo $n >/run/lines; "
                 "usleep 50000; done) </dev/null >/dev/null 2>&1 & echo $! >/run/writer")
        line.run("count start")
        sums = line.run("cat /mnt/file /tmp/memory | sha256sum")
    return sums


def look(kho, sums, beyond):
    """How far the counters are; everything must be as it was, and they must go on."""
    with booted.line(kho, "web1") as line:
        line.wait_ready()
        assert line.run("cat /mnt/file /tmp/memory | sha256sum") == sums
        line.run("sync; echo 3 >/proc/sys/vm/drop_caches")
        assert line.run("cat /mnt/file /tmp/memory | sha256sum") == sums  # now from the disk
        line.run(f"while [ $(count) -le {beyond + 5} ]; do usleep 50000; done")
        now = int(line.run("count"))
        # the process with the open file is the same one, and its file holds every line that it wrote
        line.run("p=$(cat /run/writer) && kill -STOP $p && n=$(cat /run/lines) && "
                 "[ $(tail -n 1 /proc/$p/fd/9) -ge $n ] && [ $(wc -l </proc/$p/fd/9) = $(tail -n 1 /proc/$p/fd/9) ] && "
                 "kill -CONT $p")
        assert "error" not in line.run("dmesg | grep -i -e error -e 'call trace' | grep -v -i -e firmware -e acpi -e ras || true").lower()
        return now


def test_a_guest_goes_on(kho, guest):
    """By hand; then as a managed save, with a disk plugged in and one taken out meanwhile: what is left keeps its place. What
    the definition says by now counts when it boots."""
    uptime = look(kho, guest, 0)
    kho("save", "web1", "web1.save")
    for disk in kho.tmp.glob("*.qcow2"):
        harness.run(["qemu-img", "check", "-q", disk])
    kho("restore", "web1.save")
    uptime = look(kho, guest, uptime)

    added = kho.tmp / "vdc.qcow2"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", added, "16M"])
    kho("attach-disk", "web1", added, "vdc", "--live", "--subdriver", "qcow2")
    kho("detach-disk", "web1", "vdb", "--live")
    with booted.line(kho, "web1") as line:
        line.wait_ready()
        line.run("while [ ! -b /dev/vdc ]; do usleep 50000; done; echo plugged >/dev/vdc; sync")
    xml = kho("dumpxml", "web1", "--inactive").out
    kho("managedsave", "web1")
    kho("define", "-", input=xml.replace("<vcpu placement='static'>1</vcpu>", "<vcpu placement='static'>2</vcpu>"))
    kho("start", "web1")
    look(kho, guest, uptime)
    with booted.line(kho, "web1") as line:
        line.wait_ready()
        assert line.run("head -c 7 /dev/vdc") == "plugged" and line.run("nproc") == "1"
        assert line.run("ls /dev/vd?").split() == ["/dev/vda", "/dev/vdc"]
    kho("destroy", "web1")
