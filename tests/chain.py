"""A disk of several layers under a machine of supervised.py, and what is true of it. Read by qemu-img and qemu-io."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from supervised import kill


def image_tool(*argv):
    ran = subprocess.run([str(word) for word in argv], capture_output=True, text=True)
    assert ran.returncode == 0, f"{argv}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def backing(path):
    info = json.loads(image_tool("qemu-img", "info", "-U", "--output=json", path))
    return info.get("backing-filename"), info.get("backing-filename-format")


class Chain:
    """Four layers, 0 on top: MiB i holds 0x10 + i, written in layer i; MiB 9 was written in every layer."""

    def __init__(self, folder):
        self.folder = folder
        self.paths = [folder / f"l{i}.qcow2" for i in range(4)]
        for i in (3, 2, 1, 0):
            below = [] if i == 3 else ["-F", "qcow2", "-b", f"l{i + 1}.qcow2"]
            image_tool("qemu-img", "create", "-q", "-f", "qcow2", *below, self.paths[i], *([] if below else ["64M"]))
            image_tool("qemu-io", "-f", "qcow2", "-c", f"write -P {0x10 + i} {i}M 1M", "-c", f"write -P {0x20 + i} 9M 1M",
                       self.paths[i])

    def check_reads_beside(self, top):
        """The same of a copy, while a job keeps others from the files."""
        with tempfile.TemporaryDirectory(prefix="kho-copy-", dir="/tmp") as folder:
            for path in self.paths:
                shutil.copy(path, folder)
            self.check_reads(f"{folder}/{top.name}")

    def check_reads(self, top):
        wanted = [(0x10 + i, i) for i in range(4)] + [(0x20, 9)]
        reads = [word for value, mib in wanted for word in ("-c", f"read -P {value} {mib}M 1M")]
        image_tool("qemu-io", "-r", "-U", "-f", "qcow2", *reads, top)  # fails where a byte is another

    def check(self, top):
        self.check_reads(top)
        for path in self.paths:
            if path.exists():
                assert b"fdset" not in path.read_bytes()[:65536], path
                image_tool("qemu-img", "check", "-q", "-U", path)


def open_file(client, path, fdset, read_only=False):
    return client.ask("kho-open", path=str(path), read_only=read_only, fdset=fdset)["fd"]


def fdset(client, number):
    return [fd["fd"] for row in client.ask("query-fdsets") if row["fdset-id"] == number for fd in row["fds"]]


def image_fds(pid, folder):
    """{descriptor: file name} of the files of that folder that a process, usually QEMU, has open."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            path = os.readlink(f"/proc/{pid}/fd/{fd}")
            if path.startswith(str(folder)):
                found[int(fd)] = os.path.basename(path)
    return found


class Proxy:
    """Stands between kho-drive and kho-vm: kills kho-drive once it has sent so many commands (0: never), and changes
    words of what it sends."""

    def __init__(self, machine, die_after, change, drive):
        self.change = change
        self.folder = tempfile.mkdtemp(prefix="kho-proxy-", dir="/tmp")
        self.left, self.drive = die_after, drive
        self.server = socket.socket(socket.AF_UNIX)
        self.server.connect(str(machine.run_path / "qmp.sock"))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{self.folder}/qmp.sock")
        self.listener.listen()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        client = self.listener.accept()[0]
        with client, self.server:
            try:
                self.pass_on(client)
            except ConnectionError:  # what a killed client had not read
                pass

    def pass_on(self, client):
        ends = {client: self.server, self.server: client}
        buffer = b""
        while True:
            for one in select.select(list(ends), [], [])[0]:
                data = one.recv(1 << 16)
                if not data:
                    return
                if one is self.server:
                    client.sendall(data)
                    continue
                buffer += data
                while b"\n" in buffer:
                    line, _, buffer = buffer.partition(b"\n")
                    for old, new in self.change.items():
                        line = line.replace(old, new)
                    self.server.sendall(line + b"\n")
                    self.left -= 1
                    if self.left == 0:
                        self.drive.process.kill()

    def end(self):
        self.thread.join()
        self.listener.close()
        shutil.rmtree(self.folder)


class Drive:
    """kho-drive: what a driver of kho's does to a running machine. drive("look j") is ["ok", "working"], an error
    ["error", CODE, MESSAGE]; progress that came before is in .progress."""

    def __init__(self, machine, die_after=0, change={}):
        self.proxy = Proxy(machine, die_after, change, self) if die_after or change else None
        folder = self.proxy.folder if self.proxy else machine.run_path
        self.process = subprocess.Popen([machine.kho.build / "kho-drive", folder], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=machine.kho.env())
        self.progress = []

    def __enter__(self):
        return self

    def die(self, machine, victim):
        """Kills the "driver", "kho-vm" or "both" while the driver waits for something; a new kho-vm takes over."""
        if victim != "kho-vm":
            self.process.kill()
            self.process.wait()
        if victim != "driver":
            kill(machine.status()["supervisor-pid"])
            if victim == "kho-vm":
                assert self.answer()[:2] == ["error", "io"]
            machine.adopt()
        self.__exit__()

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(60) in (0, -signal.SIGKILL)
        if self.proxy:
            self.proxy.end()

    def send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        while True:
            words = self.process.stdout.readline().rstrip("\n").split(" ", 2)
            if words[0] != "progress":
                return words
            self.progress.append((int(words[1]), int(words[2])))

    def wait_progress(self):
        """Until something was copied."""
        while not self.progress or self.progress[-1][0] == 0:
            words = self.process.stdout.readline().split()
            assert words[0] == "progress", words
            self.progress.append((int(words[1]), int(words[2])))

    def __call__(self, line):
        self.send(line)
        return self.answer()

    def begin(self, command, job, **arguments):
        text = json.dumps({key.replace("_", "-"): value for key, value in arguments.items()})
        assert self(f"begin {command} {job} '{text}'") == ["ok"]

    def cancel(self):
        self.process.send_signal(signal.SIGUSR1)
