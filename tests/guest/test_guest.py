"""The guest that other tests rely on, in a QEMU of its own."""

import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest

from guest.serial import CACHE, REPO, BareGuest, GuestError, GuestSerial, make


def disk(tmp, name, size_mib=64):
    path = tmp / name
    with open(path, "wb") as file:
        file.truncate(size_mib << 20)
    return path


def test_formats_writes_reads_back(tmp):
    """The whole vocabulary in one boot: what a guest said lies on the disk is there, seen from the host."""
    vda, sda, hdc = disk(tmp, "vda"), disk(tmp, "sda"), disk(tmp, "hdc", 1)
    with open(hdc, "r+b") as file:
        file.write(b"from the host")
    with BareGuest("-drive", f"file={vda},format=raw,if=virtio", "-device", "virtio-scsi-pci",
                   "-drive", f"file={sda},format=raw,if=none,id=s", "-device", "scsi-hd,drive=s",
                   "-drive", f"file={hdc},format=raw,media=cdrom,if=ide,index=2", "-device", "virtio-rng-pci",
                   "-device", "virtio-balloon-pci", "-device", "virtio-net-pci", "-device", "pvpanic") as guest:
        line = guest.serial
        line.wait_text("guest ready")
        up_s = time.monotonic() - guest.started
        print(f"up after {up_s:.1f} s")
        assert up_s < 60, "a hang guard; the figure itself stands in `make bench`"

        assert line.run("uname -s") == "Linux"
        line.run("mkfs.ext4 -q -F /dev/vda && mount /dev/vda /mnt")
        line.run("dd if=/dev/urandom of=/mnt/file bs=64k count=16 2>/dev/null && sync")
        inside = line.sha256("/mnt/file")
        line.run("umount /mnt && echo 3 >/proc/sys/vm/drop_caches && mount /dev/vda /mnt")
        assert line.sha256("/mnt/file") == inside
        line.run("umount /mnt && e2fsck -f -n /dev/vda")
        line.run("dd if=/dev/urandom of=/dev/sda bs=1M count=3 conv=fsync 2>/dev/null")
        assert line.run("dd if=/dev/sr0 bs=13 count=1 2>/dev/null") == "from the host"
        raw = [line.sha256("/dev/vda"), line.sha256("/dev/sda")]

        line.run("count start")
        first = int(line.run("while [ ! -f /run/count ]; do usleep 10000; done; count"))
        line.run(f"while [ $(count) -le {first} ]; do usleep 10000; done")
        assert "rng" in line.run("cat /sys/class/misc/hw_random/rng_current")
        assert "eth0" in line.run("ls /sys/class/net")

        line.send("poweroff")
        assert guest.wait() == 0
    assert raw == [hashlib.sha256(path.read_bytes()).hexdigest() for path in (vda, sda)]


def test_status_output_and_long_answers():
    with BareGuest() as guest:
        line = guest.serial
        line.wait_ready()
        assert line.run("exit 7", status=7) == ""
        with pytest.raises(GuestError, match="(?s)no such file.*status 1"):
            line.run("echo no such file >&2; false")
        assert line.run("seq 1 20000").split() == [str(n) for n in range(1, 20001)]
        assert line.run("head -c 3000 /dev/urandom | tee /tmp/x | md5sum") == line.run("md5sum </tmp/x")
        line.write(b"echo by a person\n")
        line.wait_text("by a person\r\nguest# ")
        assert line.run("echo and a test again") == "and a test again"
        line.send("reboot")
        line.wait_text("guest ready")
        line.heard = b""
        line.wait_text("guest ready")
        line.send("panic")
        line.wait_text("Kernel panic")


class FakeGuest:
    """The other end of a line, answering as a test wants."""

    def __init__(self):
        ours, self.far = socket.socketpair()
        self.line = GuestSerial(ours.detach())

    def answer(self, say):
        nonce = self.line.send("cmd")
        self.far.recv(4096)
        self.far.send(say(nonce).encode())
        return self.line.answer([nonce], "cmd", time.monotonic() + 0.2)


@pytest.mark.parametrize("damage,says", [
    (lambda good: good, None),
    (lambda good: "kernel noise\r\n" + good, None),
    (lambda good: good.replace("output", "out\0ut"), "garbled"),
    (lambda good: good.replace("output", "outpu"), "garbled"),
    (lambda good: good.replace("output", "output and noise"), "garbled"),
    (lambda good: good.replace("@", "@0"), "did not answer"),
    (lambda good: good[:-40], "did not answer"),
    (lambda good: "", "did not answer"),
])
def test_lost_or_garbled_answers_fail(damage, says):
    digest = hashlib.md5(b"output\n").hexdigest()
    fake = FakeGuest()

    def say(nonce):
        return damage(f"\n{nonce} begin 7 {digest}\noutput\n\n{nonce} end 0 7 {digest}\n") + ("x" * 200 if says == "garbled" else "")
    if says:
        with pytest.raises(GuestError, match=says):
            fake.answer(say)
    else:
        assert fake.answer(say) == (0, b"output\n")
    fake.line.close()
    fake.far.close()


def test_a_guest_slower_than_the_questions_is_up():
    """It answers each question only after the next one was asked; the first answer is garbled."""
    fake = FakeGuest()
    digest = hashlib.md5(b"").hexdigest()

    def guest():
        lines = fake.far.makefile()
        asked = [lines.readline(), lines.readline()]
        for damage in ("noise", ""):
            nonce = asked.pop(0).split("/")[0]
            fake.far.send(f"\n{nonce} begin 0 {digest}\n{damage}\n{nonce} end 0 0 {digest}\n".encode() + b"x" * 200 * len(damage))
            asked.append(lines.readline())
            asked.append(lines.readline())
    thread = threading.Thread(target=guest, daemon=True)
    thread.start()
    assert fake.line.wait_ready(timeout=20) == (0, b"")
    fake.line.close()
    thread.join()
    fake.far.close()


def test_a_garbled_command_is_not_run():
    with BareGuest() as guest:
        line = guest.serial
        line.wait_ready()
        line.write(b"@abc/20 touch /tmp/oops\n")
        line.wait_text("@abc end 255")
        assert line.run("ls /tmp") == ""


def test_cache_needs_no_network(tmp):
    """With the packages cached the guest is built again without apt; with nothing changed, nothing is done."""
    make()
    shutil.copytree(CACHE / "debs", tmp / "debs")
    (tmp / "bin").mkdir()
    for program in ("apt-get", "apt-cache"):
        (tmp / "bin" / program).write_text("#!/bin/sh\necho network >&2\nexit 1\n")
        (tmp / "bin" / program).chmod(0o755)
    env = dict(os.environ, KHO_GUEST=str(tmp), PATH=f"{tmp}/bin:{os.environ['PATH']}")
    subprocess.run([REPO / "tests/guest/build"], env=env, check=True)
    made = (tmp / "initramfs").stat()
    subprocess.run([REPO / "tests/guest/build"], env=env, check=True)
    again = (tmp / "initramfs").stat()
    assert (made.st_ino, made.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)
    assert (tmp / "initramfs").read_bytes() == (CACHE / "initramfs").read_bytes()
