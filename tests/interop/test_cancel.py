"""Ctrl-C and kill -9 during a convert: what stood there stands, and nothing else does."""

import os
import pathlib
import signal
import time

import pytest

import harness
from interop.engine import assert_same, qemu_img

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


def moved_bytes(pid, direction="wchar"):
    """How much the process has written (or read: rchar) so far, by the kernel's account."""
    try:
        fields = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    except OSError:
        return 0
    return int(fields[direction])


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
