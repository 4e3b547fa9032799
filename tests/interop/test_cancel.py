"""Ctrl-C and kill -9 during a convert or a resize: what stood there stands, and nothing else does."""

import os
import pathlib
import shutil
import signal
import time

import pytest

import harness
from interop.engine import Moments, assert_clean, assert_same, qemu_img, qemu_io, qemu_json, sha256_of

SOURCE_MIB = 384


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A compressed image: small on disk, and slow to read."""
    folder = tmp_path_factory.mktemp("cancel")
    with open(folder / "a.raw", "wb") as file:
        for number in range(SOURCE_MIB):
            file.write(bytes([number % 255 + 1]) * (1 << 20))
    qemu_img("convert", "-c", "-O", "qcow2", folder / "a.raw", folder / "a.qcow2", timeout=240)
    (folder / "a.raw").unlink()
    return folder / "a.qcow2"


def moved_bytes(pid, *accounts):
    """How much the process has written (or read: "rchar") so far, by the kernel's account: by system calls or to disks."""
    try:
        fields = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    except OSError:
        return 0
    return max(int(fields[account]) for account in accounts or ("wchar", "write_bytes"))


def interrupt(kho, source, arguments, at_bytes, number):
    """Runs a convert and sends @number once so much was written: (Popen, seconds until it ended)."""
    child = kho.spawn("img", "convert", "-f", "qcow2", *arguments, source, "target")
    harness.wait_for(f"{at_bytes} bytes", lambda: child.poll() is not None or moved_bytes(child.pid) >= at_bytes,
                     every_s=0.001)
    assert child.poll() is None, f"it ended too soon: {child.communicate()}"
    child.send_signal(number)
    start = time.monotonic()
    out, err = child.communicate(timeout=harness.HANG_GUARD_S)
    child.out, child.err = out.decode(), err.decode()
    return child, time.monotonic() - start


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancel_leaves_nothing(kho, source, fmt, number):
    child, seconds = interrupt(kho, source, ["-O", fmt], 8 << 20, number)
    assert child.returncode == 130 and seconds < 2, (child.returncode, seconds, child.err)
    assert len(child.err.splitlines()) == 1 and "cancelled" in child.err and "target" in child.err
    assert os.listdir(kho.tmp) == []


def test_cancel_leaves_the_old_target(kho, source):
    (kho.tmp / "target").write_bytes(b"precious")
    child, _ = interrupt(kho, source, ["--force", "-O", "qcow2"], 8 << 20, signal.SIGINT)
    assert child.returncode == 130
    assert os.listdir(kho.tmp) == ["target"] and (kho.tmp / "target").read_bytes() == b"precious"


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_kill_leaves_nothing(kho, source, fmt):
    """kill -9 at growing distances; the next run finds nothing in its way."""
    for at_mib in (1, 40, 120, 250):
        child, _ = interrupt(kho, source, ["-O", fmt], at_mib << 20, signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        assert os.listdir(kho.tmp) == []
    kho("img", "convert", "-f", "qcow2", "-O", fmt, source, "target")
    assert_same(kho.tmp / "target", fmt, source, "qcow2")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_convert_at_any_moment(kho, source, rng, soak, number):
    """Rule: what stood at the target stands there, or all of the new image; and nothing else is left."""
    words = ["img", "convert", "--force", "-f", "qcow2", "-O", "qcow2", source, "target"]
    start = time.monotonic()
    kho(*words)
    moments = Moments(rng, time.monotonic() - start)
    for _ in range(50 if soak else 4):
        (kho.tmp / "target").write_bytes(b"precious")
        child = kho.spawn(*words)
        moments.stop(child, number)
        assert os.listdir(kho.tmp) == ["target"]
        if (kho.tmp / "target").read_bytes() == b"precious":
            assert child.returncode != 0
        else:
            assert_clean(kho.tmp / "target")
            assert_same(kho.tmp / "target", "qcow2", source, "qcow2")
    assert moments.hit > 0


def test_what_a_killed_kho_left_under_a_name_is_removed(kho):
    """A temporary file that nobody holds: as a kill leaves it between its last two steps."""
    (kho.tmp / ".target.kho-tmp").write_bytes(b"torn")
    kho("img", "create", "-f", "qcow2", "target", "1M")
    assert os.listdir(kho.tmp) == ["target"]


def test_cancelled_thick_create(kho):
    """Ctrl-C while zeros are written: no file, and its space is free again."""
    child = kho.spawn("img", "create", "-f", "raw", "-o", "preallocation=full", "target", "4G")
    harness.wait_for("zeros to be written", lambda: child.poll() is not None or moved_bytes(child.pid) > 64 << 20,
                     every_s=0.001)
    child.send_signal(signal.SIGINT)
    start = time.monotonic()
    child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == 130 and time.monotonic() - start < 2
    assert os.listdir(kho.tmp) == []


def test_progress_on_a_terminal(kho, source):
    """Rule: what takes longer than a second shows how far it is, and the line is gone at the end."""
    terminal = kho.terminal("img", "convert", "-m", "1", "-O", "qcow2", "-o", "cluster_size=512", source, "target")
    terminal.setwinsize(24, 80)
    terminal.expect(r"\d+ ?%")
    terminal.sendintr()
    terminal.expect("cancelled")
    terminal.wait()
    assert terminal.exitstatus == 130 and os.listdir(kho.tmp) == []


def test_cancelled_check(kho):
    """Ctrl-C while tables are read: said so, and nothing was changed."""
    kho("img", "create", "-f", "qcow2", "-o", "preallocation=metadata,cluster_size=4k", "disk", "8G")
    before = (kho.tmp / "disk").stat().st_mtime_ns
    child = kho.spawn("img", "check", "-r", "all", "disk")
    harness.wait_for("tables to be read", lambda: child.poll() is not None or moved_bytes(child.pid, "rchar") > 4 << 20,
                     every_s=0.001)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == 130 and b"cancelled" in err and out == b"", (child.returncode, out, err)
    assert (kho.tmp / "disk").stat().st_mtime_ns == before


def thick_resize(kho, number):
    """A growth by 2 GiB of zeros that is signalled under way: (Popen, the disk as qemu-img tells of it)."""
    disk = kho.tmp / "disk"
    if not disk.exists():
        qemu_img("create", "-q", "-f", "qcow2", disk, "1M")
        qemu_io(disk, ["write -P 5 100k 800k"])
    child = kho.spawn("img", "resize", "--preallocation", "full", "disk", "+2G")
    harness.wait_for("zeros to be written", lambda: child.poll() is not None or moved_bytes(child.pid) > 64 << 20,
                     every_s=0.001)
    child.send_signal(number)
    child.out, child.err = (text.decode() for text in child.communicate(timeout=harness.HANG_GUARD_S))
    return child, qemu_json("info", disk)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelled_thick_resize(kho, number):
    """Rule: nothing is left of it, not in the file's length either."""
    disk = kho.tmp / "disk"
    thick_resize(kho, signal.SIGINT)  # the first one may make the last cluster whole
    before, length = sha256_of(disk), disk.stat().st_size
    child, info = thick_resize(kho, number)
    assert child.returncode == 130 and "unchanged" in child.err, (child.returncode, child.err)
    assert info["virtual-size"] == 1 << 20 and disk.stat().st_size == length and sha256_of(disk) == before
    assert disk.stat().st_blocks * 512 < 4 << 20
    assert_clean(disk)


def test_killed_thick_resize(kho):
    """Rule: the size is published when the space is there. What a kill leaves is leaks, which a repair gives back; and
    the same command does the whole of it."""
    child, info = thick_resize(kho, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL and info["virtual-size"] == 1 << 20
    found = qemu_img("check", "disk", cwd=kho.tmp, status=None)
    assert found.status in (0, 3), str(found)
    kho("img", "check", "-r", "leaks", "disk")
    assert_clean(kho.tmp / "disk")
    qemu_io(kho.tmp / "disk", ["read -P 5 100k 800k"])
    kho("img", "resize", "--preallocation", "falloc", "disk", "+40M")
    assert kho.json("img", "map", "disk")[-1]["data"]


def test_same_size_reserves_nothing(kho):
    """As qemu-img does it: preallocation is for what is added."""
    kho("img", "create", "-f", "qcow2", "disk", "8M")
    kho.refuses("img", "resize", "--preallocation", "full", "disk", "8M", says=["disk", "growing"])
    kho.refuses("img", "resize", "--preallocation", "full", "disk", "+0", says=["disk", "growing"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_resize_at_any_moment(kho, rng, soak, number):
    """Rule: of a growth with its space, a kill leaves the old disk or the new one, and leaks at most."""
    disk, moments = kho.tmp / "disk", Moments(rng, 0.2)
    kho("img", "create", "-f", "qcow2", "-o", "cluster_size=4k", "whole", "8M")
    qemu_io(kho.tmp / "whole", ["write -P 5 100k 7M"])
    for _ in range(50 if soak else 5):
        shutil.copyfile(kho.tmp / "whole", disk)
        child = kho.spawn("img", "resize", "--preallocation", "metadata", "disk", "+1G")
        moments.stop(child, number)
        size = qemu_json("info", disk)["virtual-size"]
        assert size == 1032 << 20 or (size == 8 << 20 and child.returncode != 0), (child.returncode, size)
        found = qemu_json("check", "-f", "qcow2", disk, status=None)
        assert not found.get("corruptions") and not found["check-errors"], found
        qemu_io(disk, ["read -P 0 0 100k", "read -P 5 100k 7M", f"read -P 0 {100 + 7 * 1024}k 924k"])
    assert moments.hit > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signalled_shrink(kho, number):
    """Rule: wherever a shrink is stopped, the disk is the old one or the new one."""
    path, content = kho.tmp / "disk", kho.tmp / "content"
    kho("img", "create", "-f", "qcow2", "-o", "preallocation=metadata,cluster_size=512", "whole", "96M")
    qemu_io(kho.tmp / "whole", ["write -P 5 0 1M", "write -P 6 20M 1M", "write -P 7 95M 1M"])
    qemu_img("convert", "-O", "raw", "whole", content, cwd=kho.tmp)
    for at_kib in (64, 512, 1024, 1600, 2400):
        shutil.copyfile(kho.tmp / "whole", path)
        child = kho.spawn("img", "resize", "--shrink", "disk", "16M")
        harness.wait_for("tables to be read",
                         lambda: child.poll() is not None or moved_bytes(child.pid, "rchar") > at_kib << 10, every_s=0.001)
        child.send_signal(number)
        child.communicate(timeout=harness.HANG_GUARD_S)
        found = qemu_json("check", "-f", "qcow2", path, status=None)
        assert not found.get("corruptions") and not found["check-errors"], found
        size = qemu_json("info", path)["virtual-size"]
        assert size == (16 << 20 if child.returncode == 0 else size), (size, child.returncode)
        if child.returncode == 130:
            assert size == 96 << 20 and not found.get("leaks"), (size, found)
        if size == 96 << 20:
            assert_same(path, "qcow2", content, "raw")
        else:
            assert size == 16 << 20
            qemu_io(path, ["read -P 5 0 1M", "read -P 0 1M 15M"])
