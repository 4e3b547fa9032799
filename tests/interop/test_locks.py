"""QEMU's locks: an image that somebody uses is refused, naming machine, pid and command; and QEMU respects kho's."""

import subprocess

import pytest

import harness
from interop.engine import KhoIo, qemu_img, qemu_io

BUSY = 8
READS = [["map", "disk.qcow2"], ["check", "disk.qcow2"], ["convert", "disk.qcow2", "copy.raw"]]
WRITES = [["resize", "disk.qcow2", "+1M"], ["check", "-r", "all", "disk.qcow2"], ["create", "--force", "disk.qcow2", "1M"],
          ["convert", "--force", "other.raw", "disk.qcow2"]]


@pytest.fixture
def disk(kho):
    qemu_img("create", "-q", "-f", "qcow2", kho.tmp / "disk.qcow2", "4M")
    (kho.tmp / "other.raw").write_bytes(b"o" * 4096)
    return kho.tmp / "disk.qcow2"


def hold(kho, argv, until):
    """Starts a program that holds the image, and returns it once it has said @until."""
    child = subprocess.Popen(list(map(str, argv)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             cwd=kho.tmp)
    kho.children.append(child)
    seen = b""
    while until not in seen:
        byte = child.stdout.read(1)
        assert byte, f"{argv[0]} ended: {seen}"
        seen += byte
    return child


def machine(kho, name, read_only="off", image="disk.qcow2"):
    return hold(kho, ["qemu-system-x86_64", "-name", name, "-machine", "none", "-nodefaults", "-display", "none",
                      "-qmp", "stdio", "-blockdev", f"driver=qcow2,node-name=d,read-only={read_only},file.driver=file,"
                      f"file.filename={image}"], b"\n")


def refuses_all(kho, verbs, *says):
    for verb in verbs:
        kho.refuses("img", *verb, status=BUSY, says=["disk.qcow2", *says])
    assert not (kho.tmp / "copy.raw").exists()


def test_a_running_machine_is_named(kho, disk):
    qemu = machine(kho, "guest=web1,debug-threads=on")
    before = disk.read_bytes()
    refuses_all(kho, READS + WRITES, "machine 'web1'", "qemu-system-x86_64", f"pid {qemu.pid}", "shut it down")
    assert disk.read_bytes() == before
    kho("img", "info", "disk.qcow2")
    kho("img", "map", "-U", "disk.qcow2")
    kho("img", "convert", "-U", "-O", "qcow2", "disk.qcow2", "torn.qcow2")


def test_a_backing_file_of_a_running_machine_may_be_read(kho, disk):
    kho("img", "create", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", "over.qcow2")
    qemu = machine(kho, "web2", image="over.qcow2")
    kho("img", "map", "disk.qcow2")
    kho("img", "check", "disk.qcow2")
    refuses_all(kho, WRITES, "machine 'web2'", f"pid {qemu.pid}")


def test_an_overlay_can_be_made_over_an_image_in_use(kho, disk):
    machine(kho, "web3")
    kho("img", "create", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", "over.qcow2")
    kho.refuses("img", "convert", "over.qcow2", "copy.raw", status=BUSY, says="machine 'web3'")


@pytest.mark.parametrize("fmt", ["qcow2", "raw"])
def test_qemu_io_is_named(kho, disk, fmt):
    child = hold(kho, ["qemu-io", "-f", fmt, "disk.qcow2"], b"qemu-io>")
    refuses_all(kho, READS + WRITES, "qemu-io", f"pid {child.pid}")


def test_the_storage_daemon_is_named(kho, disk):
    child = hold(kho, ["qemu-storage-daemon", "--blockdev", "driver=file,node-name=f,filename=disk.qcow2", "--blockdev",
                       "driver=qcow2,node-name=q,file=f", "--chardev", "stdio,id=c", "--monitor", "chardev=c"], b"\n")
    refuses_all(kho, READS + WRITES, "qemu-storage-daemon", f"pid {child.pid}")


def test_a_reader_keeps_writers_out(kho, disk):
    child = hold(kho, ["qemu-io", "-r", "-f", "qcow2", "disk.qcow2"], b"qemu-io>")
    for verb in READS:
        kho("img", *verb)
    (kho.tmp / "copy.raw").unlink()
    refuses_all(kho, WRITES, "qemu-io", f"pid {child.pid}")


def test_two_khos(kho, disk):
    """Readers live beside each other; a writer is alone, and QEMU heeds both."""
    reader, writer = KhoIo(kho), KhoIo(kho)
    reader("openro", "qcow2", disk)
    kho("img", "map", "disk.qcow2")
    refuses_all(kho, WRITES, "kho-io", f"pid {reader.child.pid}")
    assert "lock" in qemu_img("resize", disk, "+1M", status=1).err
    reader("close")

    writer("open", "qcow2", disk)
    refuses_all(kho, READS + WRITES, "kho-io", f"pid {writer.child.pid}")
    assert "lock" in qemu_img("map", disk, status=1).err
    assert "lock" in qemu_img("resize", disk, "+1M", status=1).err
    writer("write", 0, 4096, 9)
    writer("close")
    kho("img", "resize", "disk.qcow2", "+1M")
    qemu_io(disk, ["read -P 9 0 4096"])
    reader.end()
    writer.end()


def test_the_lock_ends_with_its_holder(kho, disk):
    """Rule: kill -9 of whoever holds the image frees it."""
    child = hold(kho, ["qemu-io", "-f", "qcow2", "disk.qcow2"], b"qemu-io>")
    kho.refuses("img", "resize", "disk.qcow2", "+1M", status=BUSY)
    child.kill()
    child.wait(timeout=harness.HANG_GUARD_S)
    kho("img", "resize", "disk.qcow2", "+1M")
