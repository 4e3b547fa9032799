"""NBD servers for the tests: Debian's qemu-nbd on a unix socket, and one that says nothing."""

import contextlib
import os
import signal
import socket
import subprocess

import harness


class Server:
    """qemu-nbd serving one image: server.uri names it."""

    def __init__(self, folder, image, *options, fmt="raw", name="disk", clients=8, export=""):
        self.path = folder / f"{name}.sock"
        self.uri = f"nbd+unix:///{export}?socket={self.path}"
        image = ["-f", fmt, image] if fmt else [image]
        argv = ["qemu-nbd", "--persistent", "--shared", clients, "--socket", self.path, "--discard=unmap",
                "--detect-zeroes=off", *(["-x", export] if export else []), *options, *image]
        self.process = subprocess.Popen([str(arg) for arg in argv], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        harness.wait_for("qemu-nbd's socket", lambda: self.path.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.stderr.read()

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def asked_to_end(self):
        """qemu-nbd loses a signal that comes before its loop has begun."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=0.5)
        return self.process.returncode is not None

    def end(self):
        """Ends it in order, so that all it was given is in the image."""
        self.process.send_signal(signal.SIGCONT)
        harness.wait_for("qemu-nbd's end", self.asked_to_end)
        self.process.communicate()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


@contextlib.contextmanager
def serving(folder, image, *options, **keywords):
    server = Server(folder, image, *options, **keywords)
    try:
        yield server
    finally:
        server.end()


@contextlib.contextmanager
def silent(folder):
    """A server that takes every caller and answers none: its URI."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "silent.sock"))
        listener.listen(8)
        yield f"nbd+unix:///?socket={folder}/silent.sock"
    os.unlink(folder / "silent.sock")
