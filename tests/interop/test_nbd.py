"""Disks of NBD servers as source and destination. The server and the oracle are QEMU's."""

import json
import os
import signal
import subprocess
import time

import pytest

import harness
from interop.engine import assert_clean, assert_same, qemu_img, qemu_io, qemu_json
from interop.nbd import serving, silent
from interop.test_cancel import moved_bytes

MIB = 1 << 20


@pytest.fixture
def source(tmp, rng):
    """A qcow2 with data, zeros and holes."""
    path = tmp / "source.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, f"{48 * MIB + 512}")
    commands = [f"write -P {rng.randint(1, 255)} {rng.randrange(40) * MIB + rng.randrange(512) * 512} {rng.randint(1, 4000) * 512}"
                for _ in range(12)]
    qemu_io(path, [*commands, f"write -z {7 * MIB} {MIB}", f"write -P 9 {48 * MIB} 512"])
    return path


def garbage(path, size, rng):
    """A file full of what nobody wrote just now."""
    path.write_bytes(rng.randbytes(MIB) * (size // MIB + 1))
    os.truncate(path, size)
    return path


def test_reads_as_qemu_does(kho, tmp, source):
    with serving(tmp, source, fmt="qcow2", export="a/b") as server:
        uri = server.uri
        info = kho.json("img", "info", uri)
        theirs = qemu_json("info", uri)
        assert {key: info[key] for key in theirs} == theirs and "actual-size" not in info
        assert "disk size: unavailable" in kho("img", "info", uri).out
        assert kho.json("img", "map", uri) == qemu_json("map", uri)
        kho("img", "convert", "-O", "qcow2", uri, tmp / "copy.qcow2")
        kho("img", "convert", "-m", "8", "-O", "raw", uri, tmp / "copy.raw")
        assert kho.json("img", "map", f"nbd:unix:{server.path}:exportname=a/b") == qemu_json("map", uri)
    assert_same(tmp / "copy.qcow2", "qcow2", source, "qcow2")
    assert_same(tmp / "copy.raw", "raw", source, "qcow2")
    assert_clean(tmp / "copy.qcow2")
    assert os.stat(tmp / "copy.raw").st_blocks * 512 < 32 * MIB  # the server's holes are holes


def test_tcp(kho, tmp, source):
    """Over the network, by address and port, with one client at a time."""
    port = 10809 + os.getpid() % 20000
    server = subprocess.Popen(["qemu-nbd", "-t", "-e", "1", "-b", "127.0.0.1", "-p", str(port), "-f", "qcow2", str(source)])
    try:
        harness.wait_for("qemu-nbd", lambda: kho("img", "info", f"nbd://127.0.0.1:{port}/", status=None).status == 0)
        kho("img", "convert", "-O", "raw", f"nbd://127.0.0.1:{port}", tmp / "copy.raw")
    finally:
        server.terminate()
        server.wait()
    assert_same(tmp / "copy.raw", "raw", source, "qcow2")


@pytest.mark.parametrize("align", [1, 512, 4096])
@pytest.mark.parametrize("fmt,options", [("raw", []), ("qcow2", []), ("qcow2", ["-o", "cluster_size=512"])])
def test_written_over_what_was_there(kho, tmp, rng, source, fmt, options, align):
    """Whatever the disk held: afterwards it reads as the source. With servers that take whole blocks only."""
    disk = garbage(tmp / "disk.raw", 64 * MIB, rng)
    how = f"driver=blkdebug,align={align},image.driver=file,image.filename={disk}" if align > 1 else \
        f"driver=raw,file.driver=file,file.filename={disk}"
    with serving(tmp, how, "--image-opts", fmt=None) as server:
        refused = kho.refuses("img", "convert", "-O", fmt, source, server.uri, says=["--force", server.uri])
        assert refused.status == 4 or refused.status > 0
        kho("img", "convert", "--force", "-O", fmt, *options, source, server.uri)
        ran = kho("img", "convert", "-f", fmt, "-O", "raw", server.uri, tmp / "back.raw")
        assert "Converted" in ran.out
        if fmt == "qcow2":
            assert json.loads(kho("img", "check", "--output=json", server.uri).out)["corruptions"] == 0
    if fmt == "qcow2":
        assert_clean(disk)
        assert_same(disk, "qcow2", source, "qcow2")
        assert_same(tmp / "back.raw", "raw", source, "qcow2")
    else:
        size = 48 * MIB + 512
        qemu_img("convert", "-f", "qcow2", "-O", "raw", source, tmp / "whole.raw")
        assert disk.read_bytes()[:size] == (tmp / "whole.raw").read_bytes()
        assert disk.read_bytes()[size:] == garbage(tmp / "old.raw", 64 * MIB, rng).read_bytes()[size:] or disk.stat().st_size == 64 * MIB


def test_a_new_disk_is_empty(kho, tmp, rng):
    disk = garbage(tmp / "disk.raw", 8 * MIB, rng)
    with serving(tmp, disk) as server:
        kho("img", "create", "--force", "-f", "raw", server.uri, "8M")
        kho("img", "create", "--force", "-f", "qcow2", server.uri, "1G")
        assert kho.json("img", "info", server.uri)["virtual-size"] == 1 << 30
        kho.refuses("img", "create", "--force", "-f", "raw", server.uri, "9M", says=["9437184", "8388608"])
        kho.refuses("img", "resize", "-f", "raw", server.uri, "9M", says=server.uri)
    assert_clean(disk)


def test_a_backing_file_at_a_server(kho, tmp, source):
    """An overlay whose header names a server's disk, read by both."""
    with serving(tmp, source, fmt="qcow2") as server:
        overlay = tmp / "overlay.qcow2"
        kho("img", "create", "-f", "qcow2", "-b", server.uri, "-F", "raw", overlay)
        assert kho.json("img", "info", overlay)["full-backing-filename"] == server.uri
        kho("img", "convert", "-O", "raw", overlay, tmp / "a.raw")
        qemu_img("convert", "-f", "qcow2", "-O", "raw", overlay, tmp / "b.raw")
        kho("img", "convert", "-O", "qcow2", "-B", server.uri, "-F", "raw", tmp / "a.raw", tmp / "thin.qcow2")
        assert kho.json("img", "map", tmp / "thin.qcow2") == qemu_json("map", tmp / "thin.qcow2")
    assert (tmp / "a.raw").read_bytes() == (tmp / "b.raw").read_bytes()
    assert os.stat(tmp / "thin.qcow2").st_size < MIB  # nothing differs


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_commit_into_a_server(kho, tmp, fmt):
    """The overlay's data goes into a backing file at a server; the same as by qemu-img."""
    disks = {}
    for program in ("kho", "qemu"):
        disk, overlay = tmp / f"{program}.disk", tmp / f"{program}.qcow2"
        qemu_img("create", "-q", "-f", fmt, disk, "2M")
        os.truncate(disk, 4 * MIB if fmt == "qcow2" else 2 * MIB)
        with serving(tmp, disk, name=program) as server:
            qemu_img("create", "-q", "-f", "qcow2", "-b", server.uri, "-F", fmt, overlay)
            qemu_io(overlay, ["write -P 5 64k 192k", "write -P 6 1M 1k"])
            if program == "kho":
                kho("img", "commit", overlay)
            else:
                qemu_img("commit", "-q", overlay)
            qemu_io(overlay, ["read -P 5 64k 192k", "read -P 6 1M 1k", "read -P 0 1200k 100k"])
        disks[program] = disk
    assert_same(disks["kho"], fmt, disks["qemu"], fmt)


VERBS = {
    "check": ["check", "URI"],
    "repair": ["check", "-r", "all", "URI"],
    "map": ["map", "--output=json", "URI"],
    "measure": ["measure", "-O", "qcow2", "URI"],
    "compare": ["compare", "URI", "OTHER"],
    "list": ["snapshot", "-l", "URI"],
    "create": ["snapshot", "-c", "two", "URI"],
    "apply": ["snapshot", "-a", "one", "URI"],
    "delete": ["snapshot", "-d", "one", "URI"],
    "bitmap": ["bitmap", "--add", "URI", "b"],
    "amend": ["amend", "-f", "qcow2", "-o", "lazy_refcounts=on", "URI"],
    "resize": ["resize", "-f", "qcow2", "URI", "5M"],
    "rebase": ["rebase", "-f", "qcow2", "-b", "OTHER", "-F", "qcow2", "URI"],
    "unsafe": ["rebase", "-f", "qcow2", "-u", "-b", "", "URI"],
    "bench": ["bench", "-w", "-q", "-c", "9", "--pattern=7", "-f", "qcow2", "URI"],
    "dd": ["dd", "if=URI", "of=OUT", "bs=64k"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_on_a_qcow2_at_a_server(kho, tmp, build, verb):
    """The same command line to both programs: status, words, and what is at the server afterwards."""
    face = tmp / "bin/qemu-img"
    face.parent.mkdir()
    face.symlink_to(build / "kho")
    qemu_img("create", "-q", "-f", "qcow2", tmp / "first", "4M")
    qemu_io(tmp / "first", ["write -P 1 0 1M"])
    qemu_img("snapshot", "-c", "one", tmp / "first")
    qemu_io(tmp / "first", ["write -P 2 512k 64k"])
    os.truncate(tmp / "first", 16 * MIB)
    said, disks = [], []
    for program in ("/usr/bin/qemu-img", face):
        disk = tmp / f"disk{len(disks)}"
        disk.write_bytes((tmp / "first").read_bytes())
        with serving(tmp, disk) as server:
            names = {"URI": server.uri, "OTHER": str(tmp / "first"), "OUT": str(disk) + ".out"}
            words = [names.get(word, word.replace("=URI", f"={server.uri}").replace("=OUT", f"={names['OUT']}"))
                     for word in VERBS[verb]]
            ran = harness.run([program, *words], status=None, env={**os.environ, "TZ": "UTC"})
        shown = ran.out if verb != "bench" else ""
        said.append((ran.status, shown.replace(str(disk), "DISK"), ran.err))
        disks.append(disk)
    assert said[1] == said[0]
    assert said[0][0] == 0
    assert_clean(disks[1])
    assert_same(disks[1], "qcow2", disks[0], "qcow2")
    infos = [qemu_json("info", disk) for disk in disks]
    for info in infos:
        for snapshot in info.get("snapshots", ()):
            del snapshot["date-sec"], snapshot["date-nsec"]
        del info["filename"]
        info.pop("actual-size", None)
    assert infos[1] == infos[0]
    if verb == "dd":
        assert_same(f"{disks[1]}.out", "raw", f"{disks[0]}.out", "raw")


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_what_was_not_finished_is_marked(kho, tmp, rng, source, fmt):
    """kill -9 in the middle: nobody takes the half for a disk, and a second copy makes it whole."""
    disk = garbage(tmp / "disk.raw", 64 * MIB, rng)
    slow = ["--image-opts", "--object", "throttle-group,id=slow,x-bps-write=2097152"]  # else it might end first
    with serving(tmp, f"driver=throttle,throttle-group=slow,file.driver=file,file.filename={disk}", *slow, fmt=None) as server:
        child = kho.spawn("img", "convert", "--force", "-m", "1", "-O", fmt, source, server.uri)
        harness.wait_for("the mark", lambda: child.poll() is not None or disk.read_bytes()[:4] == b"kho:", every_s=0.001)
        child.kill()
        child.wait()
        assert child.returncode == -signal.SIGKILL
        kho.refuses("img", "info", server.uri, says=["incomplete", "made again"])
        kho.refuses("img", "convert", "-O", "raw", server.uri, tmp / "out.raw", says="incomplete")
        kho.refuses("img", "convert", "-f", "raw", "-O", "raw", server.uri, tmp / "out.raw", says="incomplete")
        assert not (tmp / "out.raw").exists()
    with serving(tmp, disk) as server:
        kho("img", "convert", "--force", "-O", fmt, source, server.uri)
        kho("img", "info", server.uri)
    if fmt == "qcow2":
        assert_same(disk, "qcow2", source, "qcow2")


@pytest.mark.parametrize("end", ["killed", "full"])
def test_a_server_that_fails(kho, tmp, rng, end):
    """It is told at once, by name; a target that is a file is not there, one that is a server's is marked."""
    big = garbage(tmp / "big.raw", 256 * MIB, rng)
    if end == "full":
        with serving(tmp, garbage(tmp / "small.raw", 8 * MIB, rng)) as server:
            ran = kho.refuses("img", "convert", "--force", "-O", "qcow2", big, server.uri, says=[server.uri, "incomplete"])
        assert (tmp / "small.raw").read_bytes()[:4] == b"kho:" and ran.status == 10 or ran.status
        return
    with serving(tmp, big) as server:
        child = kho.spawn("img", "convert", "-f", "raw", "-O", "qcow2", server.uri, "target")
        harness.wait_for("16 MiB", lambda: moved_bytes(child.pid) > 16 * MIB, every_s=0.001)
        server.kill()
        start = time.monotonic()
        err = child.communicate(timeout=harness.HANG_GUARD_S)[1].decode()
        assert time.monotonic() - start < 10 and child.returncode > 0
        assert len(err.splitlines()) == 1 and server.uri in err, err
        assert os.listdir(kho.tmp) == []
    with serving(tmp, garbage(tmp / "disk.raw", 256 * MIB, rng), name="two") as server:
        child = kho.spawn("img", "convert", "--force", "-f", "raw", "-O", "raw", big, server.uri)
        harness.wait_for("16 MiB", lambda: moved_bytes(child.pid, "rchar") > 16 * MIB, every_s=0.001)
        server.kill()
        err = child.communicate(timeout=harness.HANG_GUARD_S)[1].decode()
        assert child.returncode > 0 and len(err.splitlines()) == 1 and "marked" in err, err
    with open(tmp / "disk.raw", "rb") as file:
        assert file.read(4) == b"kho:"


def test_a_server_that_says_nothing(kho, tmp, rng):
    """A deadline ends it; Ctrl-C does at once. Whether it never spoke or stopped in the middle."""
    patience = {"KHO_NBD_PATIENCE_MS": 1500}
    with silent(tmp) as uri:
        ran = kho.refuses("img", "info", uri, says=[uri, "has not answered"], env=patience)
        assert 1 < ran.seconds < 20
        child = kho.spawn("img", "info", uri)
        harness.wait_for("kho to connect", lambda: any("socket:" in os.readlink(f"/proc/{child.pid}/fd/{fd}")
                                                       for fd in os.listdir(f"/proc/{child.pid}/fd")))
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        err = child.communicate(timeout=harness.HANG_GUARD_S)[1].decode()
        assert time.monotonic() - start < 2 and child.returncode == 130, err
    with serving(tmp, garbage(tmp / "big.raw", 256 * MIB, rng)) as server:
        for env, number in ((patience, None), ({}, signal.SIGINT)):
            child = kho.spawn("img", "convert", "-f", "raw", "-O", "raw", server.uri, "target", env=env)
            harness.wait_for("16 MiB", lambda: moved_bytes(child.pid) > 16 * MIB, every_s=0.001)
            server.stop()
            start = time.monotonic()
            if number:
                child.send_signal(number)
            err = child.communicate(timeout=harness.HANG_GUARD_S)[1].decode()
            assert time.monotonic() - start < (2 if number else 20)
            assert child.returncode == (130 if number else child.returncode) and child.returncode > 0
            assert len(err.splitlines()) == 1 and (number or server.uri in err), err
            assert os.listdir(kho.tmp) == []
            server.process.send_signal(signal.SIGCONT)


def test_refusals(kho, tmp, source):
    with serving(tmp, source, "--read-only", fmt="qcow2", export="x") as server:
        kho.refuses("img", "convert", "--force", "-O", "raw", source, server.uri, says=["reading only", server.uri])
        kho.refuses("img", "info", server.uri.replace("/x", "/y"), says="no export named 'y'")
        kho.refuses("img", "convert", "-O", "raw", server.uri, server.uri, says="the source itself")
    kho.refuses("img", "info", server.uri, says=["nobody listens", server.uri])
    kho.refuses("img", "info", "nbd://localhost:1/", says="refused")
    kho.refuses("img", "info", "nbds://localhost/", says="TLS")


def test_a_socket_in_a_deep_folder(kho, tmp, source):
    """An address of a socket holds 107 bytes; the path may be longer."""
    deep = tmp / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with serving(tmp, source, fmt="qcow2") as server:
        os.rename(server.path, deep / "s")
        assert kho.json("img", "info", f"nbd+unix:///?socket={deep}/s")["virtual-size"] == 48 * MIB + 512
        os.unlink(deep / "s")


def test_without_the_library(kho, tmp):
    """Everything else works; what needs it names the package."""
    qemu_img("create", "-q", tmp / "a.raw", "1M")
    script = (f"for f in /usr/lib/*/libnbd.so.0; do mount --bind /dev/null $f; done;"
              f"{kho.program} img info {tmp}/a.raw && exec {kho.program} img info nbd://localhost/x")
    ran = harness.run(["unshare", "-m", "sh", "-c", script], status=None, env=kho.env())
    assert ran.status > 0 and "virtual size: 1 MiB" in ran.out
    assert "install the package libnbd0" in ran.err and len(ran.err.splitlines()) == 1, str(ran)
