"""The harness itself: a guard that cannot fail guards nothing."""

import os
import subprocess

import pytest

import harness


def test_runs_kho_in_a_fresh_tree(kho):
    assert "kho" in kho("--version").out


def test_hang_guard_fails_with_the_output():
    with pytest.raises(AssertionError, match="(?s)hung for 1 s.*said this"):
        harness.run(["sh", "-c", "echo said this; sleep 100"], timeout=1)


def test_unexpected_status_fails_with_the_output():
    with pytest.raises(AssertionError, match="(?s)expected status 0.*said that.*status 3"):
        harness.run(["sh", "-c", "echo said that >&2; exit 3"])


def test_finds_a_process_left_behind(build):
    kho = harness.Kho(build)
    child = subprocess.Popen(["sleep", "100"], env=dict(os.environ, KHO_ROOT=str(kho.root)))
    harness.wait_for("the child to run sleep", lambda: "sleep" in kho.processes().get(child.pid, ""))
    with pytest.raises(AssertionError, match=f"process {child.pid}"):
        kho.end(settle_s=0.2)
    assert child.wait(timeout=10) != 0, "the process was not ended"
    assert not kho.base.exists()


@pytest.mark.parametrize("kind", ["ofd", "flock"])
def test_finds_a_held_lock(build, tmp, kind):
    import fcntl
    import struct
    path = tmp / "lock"
    with open(path, "w+") as holder:
        assert not harness.is_locked(path)
        if kind == "ofd":
            fcntl.fcntl(holder, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        else:
            fcntl.flock(holder, fcntl.LOCK_EX)
        assert harness.is_locked(path)
    assert not harness.is_locked(path)


def test_finds_a_temporary_file_and_a_sanitizer_report(build):
    kho = harness.Kho(build)
    (kho.root / ".a.kho-tmp").touch()
    assert any("temporary file" in line for line in kho.leftovers())
    (kho.reports / "asan.1").write_text("ERROR: AddressSanitizer")
    with pytest.raises(AssertionError, match="AddressSanitizer"):
        kho.end(passed=False)


@pytest.mark.parametrize("kind,size_mib", [("ext4", 16), ("xfs", 300)])
def test_small_file_system_fills(small_fs, kind, size_mib):
    disk = small_fs(kind, size_mib)
    for leave in (4 << 20, 1 << 20, 0):
        disk.fill(leave)
        assert disk.free_bytes() <= leave + (1 << 20)
    with pytest.raises(OSError):
        (disk.path / "more").write_bytes(bytes(2 << 20))
