"""Images of formats that QEMU reads and writes for kho, through a storage daemon in a cage. The oracle is qemu-img."""

import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

import harness
from interop.engine import KhoIo, assert_same, qemu_img, qemu_io, qemu_json
from interop.nbd import serving
from interop.test_cancel import moved_bytes

MIB = 1 << 20
FORMATS = ["vmdk", "vdi", "vhdx", "vpc", "qed", "parallels", "qcow"]


@pytest.fixture
def source(tmp, rng):
    path = tmp / "source.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "40M")
    qemu_io(path, [f"write -P {rng.randint(1, 255)} {rng.randrange(36) * MIB + rng.randrange(512) * 512} "
                   f"{rng.randint(1, 6000) * 512}" for _ in range(10)])
    return path


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "big.vmdk"
    raw = path.with_suffix(".raw")
    raw.write_bytes(bytes(range(1, 252)) * (256 * MIB // 251))
    os.truncate(raw, 250 * MIB)
    qemu_img("convert", "-f", "raw", "-O", "vmdk", raw, path, timeout=240)
    raw.unlink()
    return path


def daemons(kho):
    return [pid for pid, command in kho.processes().items() if command.split(" ")[0].endswith("/qemu-storage-daemon")]


@pytest.mark.parametrize("fmt", FORMATS)
def test_both_ways(kho, tmp, source, fmt):
    """What QEMU makes reads the same through kho, and what kho makes through QEMU."""
    theirs = tmp / f"theirs.{fmt}"
    qemu_img("convert", "-f", "qcow2", "-O", fmt, source, theirs)
    with open(theirs, "rb") as file:
        os.fsync(file.fileno())  # until then the blocks that it takes may change from one look to the next
    info, oracle = kho.json("img", "info", theirs), qemu_json("info", theirs)
    for key in ("format", "virtual-size", "actual-size", "cluster-size"):
        assert info.get(key) == oracle.get(key), key
    assert sum(e["length"] for e in kho.json("img", "map", theirs)) == oracle["virtual-size"]
    kho("img", "convert", "-O", "qcow2", theirs, tmp / "back.qcow2")
    assert_same(tmp / "back.qcow2", "qcow2", theirs, fmt)
    ours = tmp / f"ours.{fmt}"
    kho("img", "convert", "-f", fmt, "-O", fmt, theirs, ours)
    assert_same(ours, fmt, theirs, fmt)  # not the source: vpc is as long as whole cylinders are
    assert qemu_json("info", ours)["format"] == fmt
    assert os.stat(ours).st_blocks * 512 < 40 * MIB and os.listdir(kho.tmp) == []
    if fmt in ("vmdk", "vdi", "vhdx", "qed", "parallels"):
        assert "No errors" in qemu_img("check", "-f", fmt, ours).out
    assert not daemons(kho)


def test_making_and_growing(kho, tmp):
    kho("img", "create", "-f", "vmdk", "-o", "adapter_type=lsilogic", tmp / "a.vmdk", "1G")
    assert qemu_json("info", tmp / "a.vmdk")["virtual-size"] == 1 << 30
    assert b'ddb.adapterType = "lsilogic"' in (tmp / "a.vmdk").read_bytes()
    kho("img", "create", "-f", "vhdx", "-o", "block_size=2M,subformat=dynamic", tmp / "a.vhdx", "100M")
    assert qemu_json("info", tmp / "a.vhdx")["cluster-size"] == 2 * MIB
    kho("img", "create", "-f", "qed", tmp / "a.qed", "100M")
    qemu_io(tmp / "a.qed", ["write -P 3 99M 1M"], fmt="qed")
    kho("img", "resize", tmp / "a.qed", "+100M")
    assert qemu_json("info", tmp / "a.qed")["virtual-size"] == 200 * MIB
    qemu_io(tmp / "a.qed", ["read -P 3 99M 1M", "read -P 0 100M 100M"], fmt="qed")
    kho.refuses("img", "resize", tmp / "a.vmdk", "2G", says="a.vmdk")
    kho.refuses("img", "resize", tmp / "a.qed", "1M", says="asked for")
    for name, options in (("a.vpc", []), ("exact.vpc", ["-o", "force_size=on,subformat=fixed"])):
        kho("img", "create", "-f", "vpc", *options, tmp / name, "10M")
        qemu_img("create", "-q", "-f", "vpc", *options, tmp / "theirs", "10M")
        assert qemu_json("info", "-f", "vpc", tmp / name)["virtual-size"] == qemu_json("info", "-f", "vpc", tmp / "theirs")["virtual-size"]
        (tmp / name).unlink()
    (tmp / "theirs").unlink()
    kho.refuses("img", "create", "-f", "vmdk", "-o", "cluster_size=64k", tmp / "b.vmdk", "1G", says=["cluster_size", "subformat"])
    kho.refuses("img", "create", "-f", "vmdk", "-o", "subformat=monolithicFlat", tmp / "b.vmdk", "1G", says="monolithicSparse")
    kho.refuses("img", "convert", "-c", "-O", "vdi", tmp / "a.qed", tmp / "b.vdi", says="cannot be compressed")
    kho.refuses("img", "check", "-r", "all", tmp / "a.qed", says="qed")
    assert sorted(os.listdir(tmp)) == ["a.qed", "a.vhdx", "a.vmdk"]


def test_under_an_overlay(kho, tmp, source):
    qemu_img("convert", "-f", "qcow2", "-O", "vmdk", source, tmp / "base.vmdk")
    kho("img", "create", "-f", "qcow2", "-b", "base.vmdk", "-F", "vmdk", tmp / "over.qcow2")
    qemu_io(tmp / "over.qcow2", ["write -P 77 5M 3M"])
    kho("img", "convert", "-O", "raw", tmp / "over.qcow2", tmp / "whole.raw")
    assert_same(tmp / "whole.raw", "raw", tmp / "over.qcow2", "qcow2")
    formats = [image["format"] for image in kho.json("img", "info", "--backing-chain", tmp / "over.qcow2")]
    assert formats == ["qcow2", "vmdk"]


def test_extents_in_files_of_their_own(kho, tmp, source):
    """The descriptor names them; who sits at the keyboard admits them, as with backing files."""
    folder = tmp / ("deep" * 30)
    folder.mkdir()
    for subformat in ("monolithicFlat", "twoGbMaxExtentSparse", "streamOptimized"):
        image = folder / f"{subformat}.vmdk"
        qemu_img("convert", "-f", "qcow2", "-O", "vmdk", "-o", f"subformat={subformat}", source, image)
        kho("img", "convert", "--force", "-O", "raw", image, tmp / "out.raw")
        assert_same(tmp / "out.raw", "raw", source, "qcow2")
        assert kho.json("img", "info", image)["format-specific"]["data"]["create-type"] == subformat
    with serving(tmp, folder / "monolithicFlat-flat.vmdk"):  # somebody writes the extent, not the image
        kho.refuses("img", "convert", "-O", "raw", folder / "monolithicFlat.vmdk", tmp / "b.raw",
                    says=["monolithicFlat-flat.vmdk is in use", "qemu-nbd"])
        kho("img", "info", folder / "monolithicFlat.vmdk")


@pytest.mark.parametrize("fmt", ["vmdk", "qed"])
def test_layers_of_their_own(kho, tmp, source, fmt):
    """An image that names a base in its own format's way: read whole, told of by its header alone."""
    qemu_img("convert", "-f", "qcow2", "-O", fmt, source, tmp / f"base.{fmt}")
    over = tmp / f"over.{fmt}"
    qemu_img("create", "-q", "-f", fmt, "-b", f"base.{fmt}", "-F", fmt, over)
    qemu_io(over, ["write -P 9 1M 64k"], fmt=fmt)
    kho("img", "convert", "-O", "raw", over, tmp / "whole.raw")
    assert_same(tmp / "whole.raw", "raw", over, fmt)
    oracle = qemu_json("info", over)
    (tmp / f"base.{fmt}").unlink()
    info = kho.json("img", "info", over)
    assert info["virtual-size"] == oracle["virtual-size"] and info["backing-filename"] == oracle["backing-filename"]
    kho.refuses("img", "convert", "-O", "raw", over, tmp / "b.raw", says=f"over.{fmt}")


def test_a_stream(kho, tmp, source):
    """Compressed grains, each written once: also where data begins in the middle of one."""
    kho("img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", source, tmp / "a.vmdk")
    assert_same(tmp / "a.vmdk", "vmdk", source, "qcow2")
    assert qemu_json("info", tmp / "a.vmdk")["format-specific"]["data"]["create-type"] == "streamOptimized"
    kho("img", "convert", "-O", "raw", tmp / "a.vmdk", tmp / "a.raw")
    assert_same(tmp / "a.raw", "raw", source, "qcow2")
    assert os.stat(tmp / "a.vmdk").st_size < 4 * MIB


def test_checks(kho, tmp, source):
    """qemu-img looks, in a cage; what it finds is told as for qcow2."""
    image = tmp / "a.qed"
    qemu_img("convert", "-f", "qcow2", "-O", "qed", source, image)
    found, oracle = kho.json("img", "check", image), qemu_json("check", "-f", "qed", image)
    assert {key: found[key] for key in oracle} == dict(oracle, filename=str(image))
    assert "No errors" in kho("img", "check", image).out
    with open(image, "r+b") as file:  # a cluster more that nothing names
        file.truncate(os.stat(image).st_size + 65536)
    theirs = qemu_img("check", "-f", "qed", image, status=None)
    ran = kho("img", "check", image, status=None)
    assert theirs.status == 3 and ran.status > 0 and "1 leaked clusters" in ran.out, (str(theirs), str(ran))
    kho("img", "convert", "-O", "vpc", source, tmp / "a.vpc")
    kho.refuses("img", "check", tmp / "a.vpc", says=["a.vpc", "not checked"])


def descriptor(path, extent, sectors=2048):
    path.write_text("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
                    f'createType="monolithicFlat"\n\nRW {sectors} FLAT "{extent}" 0\n\n'
                    'ddb.virtualHWVersion = "4"\nddb.geometry.cylinders = "2"\nddb.geometry.heads = "16"\n'
                    'ddb.geometry.sectors = "63"\nddb.adapterType = "ide"\n')
    return path


def test_what_an_image_may_not_reach(kho, tmp):
    """No gate, no file: an image names another one, and a caller that admits none gets none. No network at all."""
    secret = tmp / "secret"
    secret.write_bytes(b"secret" * 200000)
    image = descriptor(tmp / "evil.vmdk", secret)
    # vol-upload and its like take what comes from outside: their gate admits nothing.
    io = KhoIo(kho)
    why = io.try_("openalone", "vmdk", image)
    assert why.startswith("denied") and str(secret) in why, why
    assert io.try_("openro", "vmdk", image) is None
    io("close")
    io.end()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        listener.settimeout(0.2)
        descriptor(image, f"nbd://127.0.0.1:{listener.getsockname()[1]}/x")
        kho.refuses("img", "info", image, says="evil.vmdk")
        with pytest.raises(TimeoutError):
            listener.accept()
    for name in ("/proc/self/maps", "/proc/1/environ", "/sys/kernel/notes", "fat:/etc", "/dev/tty", str(tmp)):
        kho.refuses("img", "info", descriptor(image, name), says="evil.vmdk")
    assert not daemons(kho)


def pause_at(kho, big, at_bytes, *arguments):
    """A convert that has written so much, itself or through its daemon."""
    child = kho.spawn("img", "convert", *arguments, big, kho.tmp / "target", env={"TMPDIR": str(kho.tmp)})
    harness.wait_for(f"{at_bytes} bytes", lambda: child.poll() is not None or at_bytes <= max(
        moved_bytes(pid) for pid in (child.pid, *daemons(kho))), every_s=0.001)
    assert child.poll() is None, child.communicate()
    return child


def test_the_cage(kho, big):
    child = pause_at(kho, big, 8 * MIB, "-f", "vmdk", "-O", "raw")
    child.send_signal(signal.SIGSTOP)
    try:
        pid, = daemons(kho)
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert f"Max address space         {2 << 30}" in limits
        files = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert {f for f in files if f.startswith("/") and not f.startswith(("/dev/null", "/memfd:"))} == {str(big)}
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("fmt", ["raw", "vmdk"])
def test_kho_is_killed(kho, big, fmt):
    """The daemon ends with it; no file, no socket, no folder is left."""
    child = pause_at(kho, big, 8 * MIB, "-O", fmt)
    assert len(daemons(kho)) == (2 if fmt == "vmdk" else 1)
    child.kill()
    child.communicate()
    harness.wait_for("the daemons' end", lambda: not daemons(kho), timeout_s=20)
    assert os.listdir(kho.tmp) == []


@pytest.mark.parametrize("fmt", ["raw", "vmdk"])
def test_the_daemon_is_killed(kho, big, fmt):
    child = pause_at(kho, big, 8 * MIB, "-O", fmt)
    os.kill(daemons(kho)[0], signal.SIGKILL)
    start = time.monotonic()
    err = child.communicate(timeout=harness.HANG_GUARD_S)[1].decode()
    assert time.monotonic() - start < 20 and child.returncode > 0
    assert len(err.splitlines()) == 1 and err.startswith("error: "), err
    assert os.listdir(kho.tmp) == [] and not daemons(kho)


def test_cancel(kho, big):
    child = pause_at(kho, big, 8 * MIB, "-O", "vmdk")
    start = time.monotonic()
    child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=harness.HANG_GUARD_S)[1].decode()
    assert child.returncode == 130 and time.monotonic() - start < 3, err
    assert len(err.splitlines()) == 1 and os.listdir(kho.tmp) == [] and not daemons(kho)


def test_refusals(kho, tmp, source):
    image = tmp / "a.vmdk"
    qemu_img("convert", "-f", "qcow2", "-O", "vmdk", source, image)
    with serving(tmp, image, fmt="vmdk") as server:
        kho.refuses("img", "convert", "-O", "raw", image, tmp / "b.raw", says=["in use", "qemu-nbd"])
        kho("img", "info", image)
        kho.refuses("img", "convert", "--force", "-O", "vmdk", source, server.uri, says="in a file")
    kho.refuses("img", "info", "-f", "vdi", image, says=["a.vmdk", "VDI"])
    with open(image, "r+b") as file:
        file.truncate(100)
    kho.refuses("img", "info", image, says="a.vmdk")
    kho.refuses("img", "info", "-f", "vmdk", tmp / "none", says="none")
    bare = tmp / "bin"
    bare.mkdir()
    kho.refuses("img", "info", image, says=["install the package qemu-system-common"], env={"PATH": str(bare)})
