"""Every argument vector of tests/golden/argv is accepted by the real QEMU: it starts, answers QMP, knows all block
nodes and devices by the names that the vector gives them, and quits."""

import json
import os
import pathlib
import re
import socket
import subprocess

import pytest

ARGV = pathlib.Path(__file__).parent / "argv"
HANG_S = 60


def vectors():
    found = sorted(ARGV.glob("*.args"))
    assert len(found) >= 30
    return found


def prepare(args, folder):
    """The files that the vector names: images behind its descriptors, and what stands for kernels and logs."""
    images, out, i = {}, [], 0
    layers = [json.loads(a) for o, a in zip(args, args[1:]) if o == "-blockdev"]
    formats = {n["file"]: n for n in layers if "file" in n}
    for node in layers:
        if "file" in node:
            continue
        number = int(re.fullmatch(r"/dev/fdset/(\d+)", node["filename"]).group(1))
        top = formats[node["node-name"]]
        path = folder / f"{number}.img"
        subprocess.run(["qemu-img", "create", "-q", "-f", top["driver"], path, "1M"], check=True)
        images[number] = (path, node.get("read-only", node.get("auto-read-only")))
    while i < len(args):
        if args[i] in ("-kernel", "-initrd"):
            path = folder / args[i].strip("-")
            # The least that QEMU takes for a Linux kernel: magic number, boot protocol, where an initrd may end.
            header = bytearray(0x2000)
            header[0x202:0x208] = b"HdrS" + (0x203).to_bytes(2, "little")
            header[0x22C:0x230] = (0x37FFFFFF).to_bytes(4, "little")
            path.write_bytes(header)
            out += [args[i], str(path)]
            i += 2
            continue
        out.append(re.sub(r"path=[^,]*(,,[^,]*)*", f"path={folder}/chardev.log", args[i]))
        i += 1
    return images, out


class Qmp:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(HANG_S)
        self.sock.connect(path)
        self.file = self.sock.makefile("rw")
        assert "QMP" in json.loads(self.file.readline())
        self("qmp_capabilities")

    def __call__(self, name, **arguments):
        self.file.write(json.dumps({"execute": name, "arguments": arguments, "id": 1}) + "\n")
        self.file.flush()
        while True:
            reply = json.loads(self.file.readline())
            if "id" in reply:
                assert "return" in reply, reply
                return reply["return"]


def start(args, images, folder):
    sock = str(folder / "qmp.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sock)
    listener.listen(1)
    fds = {100: listener.detach()}
    for arg in args:
        placed = re.fullmatch(r"fd=(\d+),set=(\d+),opaque=read-(?:only|write)", arg)
        if placed:
            path, read_only = images[int(placed.group(2))]
            fds[int(placed.group(1))] = os.open(path, os.O_RDONLY if read_only else os.O_RDWR)
    # Out of the way of the numbers that they are to have.
    high = {number: os.dup2(fd, 1000 + number) for number, fd in fds.items()}
    for fd in fds.values():
        os.close(fd)

    def place():
        for number, fd in high.items():
            os.dup2(fd, number)

    qemu = subprocess.Popen(args, preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=open(folder / "stderr", "wb"))
    for fd in high.values():
        os.close(fd)
    return qemu, sock


@pytest.mark.parametrize("vector", vectors(), ids=lambda p: p.stem)
def test_qemu_accepts(vector, tmp_path):
    args = vector.read_text().removesuffix("\n").split("\n")
    if "kvm" in args:
        # Where there is no /dev/kvm, all but the accelerator and what only it knows can be tried.
        args = ["tcg" if a == "kvm" else a.replace("host,", "max,") for a in args]
        at = [i for i, a in enumerate(args) if a.startswith("kvm-pit.")]
        for i in reversed(at):
            del args[i - 1 : i + 1]
    images, args = prepare(args, tmp_path)
    qemu, sock = start(args, images, tmp_path)
    try:
        try:
            qmp = Qmp(sock)
        except Exception:
            qemu.kill()
            raise AssertionError((tmp_path / "stderr").read_text()) from None
        assert qmp("query-status")["status"] == "prelaunch"
        nodes = {n["node-name"] for n in qmp("query-named-block-nodes", flat=True)}
        devices = {d["name"] for d in qmp("qom-list", path="/machine/peripheral")}
        for option, value in zip(args, args[1:]):
            if option == "-blockdev":
                assert json.loads(value)["node-name"] in nodes
            if option == "-device":
                assert json.loads(value)["id"] in devices
        for path, read_only in images.values():
            # Others see that QEMU holds the image: a writer is refused.
            other = subprocess.run(["qemu-io", "-f", "raw", "-c", "quit", path], capture_output=True, text=True)
            assert "lock" in other.stderr, (path, read_only, other.stderr)
        qmp("quit")
        assert qemu.wait(HANG_S) == 0
    finally:
        qemu.kill()
        qemu.wait()
