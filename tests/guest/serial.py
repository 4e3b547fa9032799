"""Speaks with the guest that tests/guest/build makes, over its serial port: each command is answered with its status and
output between nonces, with length and MD5, so that a lost or garbled answer is an error and never a wrong result.
Here are the line and QEMU started bare; machines that kho starts are reached with over_console() or over_pty()."""

import hashlib
import os
import pathlib
import re
import secrets
import select
import signal
import socket
import subprocess
import time
import tty

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = pathlib.Path(os.environ.get("KHO_GUEST", REPO / ".cache/guest"))
KERNEL, INITRAMFS = CACHE / "vmlinuz", CACHE / "initramfs"
LINE_MAX = 4000  # a terminal's line buffer holds 4095 bytes


def make():
    """Builds the guest, unless it is cached."""
    subprocess.run([REPO / "tests/guest/build"], check=True)


def command_line():
    return (CACHE / "cmdline").read_text().strip()


class GuestError(AssertionError):
    """An answer was lost, garbled, or of another status than expected."""


class Garbled(GuestError):
    """The answer to the command @nonce came, but not as it was sent."""

    def __init__(self, nonce, why):
        super().__init__(why)
        self.nonce = nonce


class GuestSerial:
    """@fd: a descriptor of the line, read and written; closed with it. @child: a process to end with it, or None."""

    def __init__(self, fd, child=None):
        self.fd, self.child = fd, child
        self.heard = b""  # everything that came, for reports

    @classmethod
    def over_socket(cls, path):
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.connect(str(path))
        return cls(line.detach())

    @classmethod
    def over_pty(cls, path):
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(fd)
        return cls(fd)

    @classmethod
    def over_console(cls, argv, env=None):
        """Through a program that connects a terminal, as `kho console NAME` does; it gets a terminal of its own."""
        outer, inner = os.openpty()
        tty.setraw(inner)
        child = subprocess.Popen([str(arg) for arg in argv], stdin=inner, stdout=inner, stderr=inner, env=env,
                                 start_new_session=True)
        os.close(inner)
        return cls(outer, child)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self.child:
            try:
                self.child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
            self.child = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def write(self, data):
        while data:
            data = data[os.write(self.fd, data):]

    def fill(self, deadline, what):
        """Reads what has come, waiting until @deadline for some."""
        ready = select.select([self.fd], [], [], max(deadline - time.monotonic(), 0))[0]
        try:
            data = os.read(self.fd, 65536) if ready else None
        except OSError:  # a terminal whose other end is closed says EIO
            data = b""
        if not data:
            why = "in time" if data is None else "before the line was closed"
            raise GuestError(f"the guest did not answer {what} {why}; heard last:\n"
                             + self.heard[-1500:].decode(errors="replace"))
        self.heard += data

    def wait_text(self, text, timeout=60):
        """Waits until the guest has said @text since the beginning."""
        deadline = time.monotonic() + timeout
        while text.encode() not in self.heard:
            self.fill(deadline, f"with {text!r}")

    def wait_ready(self, timeout=60):
        """Waits until the guest obeys. Asks now and then, since what it said before this line was open is lost; an answer to
        any of these questions will do, or a guest slower than they come would never be up."""
        deadline, asked = time.monotonic() + timeout, []
        while True:
            asked.append(self.send("true"))
            try:
                return self.answer(asked, "whether it is up", min(time.monotonic() + min(len(asked), 5), deadline))
            except GuestError as error:
                if time.monotonic() >= deadline or not self.alive():
                    raise
                if isinstance(error, Garbled):
                    asked.remove(error.nonce)

    def alive(self):
        """Whether the line is still open."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))

    def send(self, command):
        """Sends a command without waiting for its answer (power off, panic); returns its nonce."""
        assert len(command) < LINE_MAX and command.isascii() and "\n" not in command
        nonce = "@" + secrets.token_hex(6)
        self.write(f"{nonce}/{len(command)} {command}\n".encode())
        return nonce

    def answer(self, nonces, command, deadline):
        """(status, output bytes) of a command that was sent: of the first that is answered."""
        begin = re.compile(rb"(?<![!-~])(%s) begin (\d+) ([0-9a-f]{32})\r?\n" % "|".join(nonces).encode())
        start = max(len(self.heard) - 65536, 0)
        while not (found := begin.search(self.heard, start)):
            self.fill(deadline, command)
        size, digest = int(found[2]), found[3].decode()
        tail = re.compile(rb"\n%s end (\d+) %d %s\r?\n" % (found[1], size, digest.encode()))
        limit = found.end() + size + 100
        while not (last := tail.search(self.heard, found.end())) and len(self.heard) < limit:
            self.fill(deadline, command)
        output = self.heard[found.end():last.start()] if last else b""
        if not last or len(output) != size or hashlib.md5(output).hexdigest() != digest:
            raise Garbled(found[1].decode(), f"the answer to {command!r} was garbled:\n"
                          + self.heard[found.start():][:1500].decode(errors="replace"))
        return int(last[1]), output

    def run(self, command, status=0, timeout=60):
        """Runs a shell command in the guest and returns its output, stripped. @status: the one expected, None for any."""
        nonce = self.send(command)
        got, output = self.answer([nonce], command, time.monotonic() + timeout)
        text = output.decode(errors="replace").strip()
        if status is not None and got != status:
            raise GuestError(f"in the guest: {command}\n{text}\n(status {got}, expected {status})")
        return text

    def sha256(self, path, timeout=120):
        return self.run(f"sha256sum {path}", timeout=timeout).split()[0]


class BareGuest:
    """The guest in a QEMU of its own, without kho, its serial port on a socket pair."""

    def __init__(self, *arguments, memory_mib=256, append="", pass_fds=()):
        make()
        ours, theirs = socket.socketpair()
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", str(memory_mib), "-nodefaults", "-no-user-config",
             "-display", "none", "-kernel", KERNEL, "-initrd", INITRAMFS, "-append", f"{command_line()} {append}",
             "-chardev", f"socket,id=serial,fd={theirs.fileno()}", "-serial", "chardev:serial", *map(str, arguments)],
            pass_fds=[theirs.fileno(), *pass_fds], stdin=subprocess.DEVNULL)
        theirs.close()
        self.serial = GuestSerial(ours.detach())

    def wait(self, timeout=60):
        """Waits for QEMU's end; its status."""
        return self.process.wait(timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.serial.close()
