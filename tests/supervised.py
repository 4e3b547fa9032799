"""kho-vm driven by hand: plans without kho, a QMP client that sees what crosses the wire. For test_supervisor*.py."""

import json
import os
import select
import signal
import socket
import subprocess
import time
import uuid

import harness

QEMU = "/usr/bin/qemu-system-x86_64"
MONITOR_FD, FIRST_FD = 20, 30


class Machine:
    """One machine of a tree, with a plan that a test may change before start()."""

    def __init__(self, kho, name="m1", root=None):
        self.kho, self.name = kho, name
        root = root or kho.root
        self.run_path = root / "run" / "qemu" / name
        self.log_path = root / "log" / "qemu" / f"{name}.log"
        self.run_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.plan = {
            "version": 1, "name": name, "uuid": str(uuid.uuid4()), "id": 1, "run-path": str(self.run_path),
            "log-path": str(self.log_path), "monitor-fd": MONITOR_FD, "files": [], "on-poweroff": "destroy",
            "on-reboot": "restart", "on-crash": "destroy", "paused": False, "start-timeout-ms": 60000,
            "argv": [QEMU, "-name", f"guest={name}", "-machine", "pc,accel=tcg", "-m", "16", "-S", "-nodefaults",
                     "-no-user-config", "-display", "none", "-no-shutdown", "-action", "panic=pause",
                     "-chardev", f"socket,id=charmonitor,fd={MONITOR_FD},server=on,wait=off",
                     "-mon", "chardev=charmonitor,id=monitor,mode=control"],
        }

    def add_file(self, path, fd, read_only=False):
        self.plan["files"].append({"path": str(path), "fd": fd, "read-only": read_only})

    def add_chain(self, *paths, node="d"):
        """A disk over qcow2 files, the one the guest writes first, as kho gives it to QEMU: the file of layer i is
        in fdset i, its nodes are NODE-i and NODE-i-file."""
        for i in reversed(range(len(paths))):
            fd = FIRST_FD + len(self.plan["files"])
            self.add_file(paths[i], fd, read_only=i > 0)
            file = {"driver": "file", "filename": f"/dev/fdset/{i}", "node-name": f"{node}-{i}-file",
                    "auto-read-only" if i > 0 else "read-only": i > 0, "locking": "on", "discard": "unmap"}
            layer = {"driver": "qcow2", "file": f"{node}-{i}-file", "node-name": f"{node}-{i}", "read-only": i > 0,
                     "backing": f"{node}-{i + 1}" if i + 1 < len(paths) else None}
            self.plan["argv"] += ["-add-fd", f"fd={fd},set={i}", "-blockdev", json.dumps(file), "-blockdev",
                                  json.dumps(layer)]
        self.plan["argv"] += ["-device", f"virtio-blk-pci,drive={node}-0,id=disk"]

    def launch(self, verb, plan=None, **env):
        """Starts kho-vm and returns our end of the answer's socket."""
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [str(self.kho.build / "kho-vm"), verb, str(self.run_path)]
            fds = {4: theirs.fileno()}
            if plan is not None:
                memory = os.memfd_create("plan")
                os.write(memory, json.dumps(plan).encode())
                os.lseek(memory, 0, os.SEEK_SET)
                fds[3] = memory
            status = run_with_fds(argv, fds, self.kho.env(**env))
            if plan is not None:
                os.close(memory)
        assert status == 0, f"kho-vm did not detach: status {status}"
        return ours

    def start(self, says=None, **env):
        """Starts the machine; with @says, the words that its refusal must hold. Returns the answer."""
        with self.launch("--start", self.plan, **env) as ours:
            answer = read_answer(ours)
        if says is None:
            assert answer == {"ok": True}, f"{answer}\n{self.log()}"
        else:
            assert answer is not None and "ok" not in answer, answer
            for word in [says] if isinstance(says, str) else says:
                assert word in answer["message"], answer
            assert "\n" not in answer["message"]
        return answer

    def adopt(self):
        with self.launch("--adopt") as ours:
            answer = read_answer(ours)
        assert answer == {"ok": True}, f"{answer}\n{self.log()}"

    def client(self, **keywords):
        return Client(self, **keywords)

    def status(self):
        with self.client(negotiate=False) as client:
            return client.ask("kho-status")

    def wait_state(self, state, reason=None):
        def there():
            status = self.status()
            return status["state"] == state and (reason is None or status["reason"] == reason) and status
        return harness.wait_for(f"{self.name} to be {state} ({reason})", there)

    def file(self):
        """status.json."""
        return json.loads((self.run_path / "status.json").read_text())

    def destroy(self, **arguments):
        with self.client(negotiate=False) as client:
            client.ask("kho-destroy", **arguments)
        self.wait_gone()

    def wait_gone(self):
        harness.wait_for(f"{self.name} to be gone", lambda: not self.run_path.exists())

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    def ended(self):
        """The log's last line, which says how the machine ended."""
        return self.log().splitlines()[-1]


def run_with_fds(argv, fds, env):
    """Runs a program with exactly these descriptors beside 0, 1, 2; returns its status."""
    pid = os.fork()
    if pid == 0:
        try:
            high = {to: os.dup2(fd, 200 + i, inheritable=True) for i, (to, fd) in enumerate(fds.items())}
            for to, fd in high.items():
                os.dup2(fd, to, inheritable=True)
                os.close(fd)
            null = os.open("/dev/null", os.O_RDWR)
            for to in (0, 1, 2):
                os.dup2(null, to, inheritable=True)
            os.execve(argv[0], argv, env)
        finally:
            os._exit(126)
    pidfd = os.pidfd_open(pid)
    ready, _, _ = select.select([pidfd], [], [], harness.HANG_GUARD_S)
    os.close(pidfd)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def read_answer(sock):
    """The one line that kho-vm says, or None where it ended without one."""
    sock.settimeout(harness.HANG_GUARD_S)
    text = b""
    while not text.endswith(b"\n"):
        chunk = sock.recv(65536)
        if not chunk:
            break
        text += chunk
    return json.loads(text) if text else None


class Client:
    """A QMP client on qmp.sock."""

    def __init__(self, machine, negotiate=True):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(harness.HANG_GUARD_S)
        folder = os.open(machine.run_path, os.O_PATH)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/qmp.sock")
        finally:
            os.close(folder)
        self.buffer, self.events = b"", []
        self.greeting = self.receive()
        if negotiate:
            self.ask("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, message):
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def receive(self):
        """The next message; None at the end of the connection."""
        while b"\n" not in self.buffer:
            try:
                chunk = self.sock.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def reply(self):
        """The next message that is no event; events are kept."""
        while True:
            message = self.receive()
            if message is None or "event" not in message:
                return message
            self.events.append(message)

    def call(self, command, **arguments):
        message = {"execute": command.replace("__", "_")}
        if arguments:
            message["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.send(message)
        return self.reply()

    def ask(self, command, **arguments):
        """What the command returns; an error fails the test."""
        reply = self.call(command, **arguments)
        assert reply is not None and "return" in reply, f"{command}: {reply}"
        return reply["return"]

    def wait_event(self, name):
        while True:
            for i, event in enumerate(self.events):
                if event["event"] == name:
                    del self.events[:i + 1]
                    return event
            message = self.receive()
            assert message is not None, f"the connection ended before {name}"
            self.events.append(message)


def end_of(pid):
    """Waits for the end of a process that is not a child."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([pidfd], [], [], harness.HANG_GUARD_S)
        assert ready, f"process {pid} has not ended"
    finally:
        os.close(pidfd)


def kill(pid, number=signal.SIGKILL):
    """Kills a process and waits for its end."""
    os.kill(pid, number)
    end_of(pid)
