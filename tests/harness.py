"""What every end-to-end test stands on: running kho in a tree of its own, under hang guards, and looking for what it
left behind. The fixtures that hand these out are in conftest.py; the guest's side is in guest/."""

import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import traceback

REPO = pathlib.Path(__file__).resolve().parent.parent
SOAK = os.environ.get("KHO_SOAK") == "1"
HANG_GUARD_S = 120


def build_dir():
    """The build under test: KHO_BUILD, or build-check beside the sources."""
    return pathlib.Path(os.environ.get("KHO_BUILD", REPO / "build-check")).resolve()


def wait_for(what, ask, timeout_s=HANG_GUARD_S, every_s=0.02):
    """Asks until the answer is true and returns it; fails naming @what. For states that send no event."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s} s still waiting for {what}")
        time.sleep(every_s)


def ask_qemu(path, timeout_s=3):
    """The answers to a few questions, a line each; or why there is none."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(str(path))
            lines = sock.makefile("rw")
            lines.readline()
            for command in ("qmp_capabilities", "query-status", "query-jobs"):
                lines.write(json.dumps({"execute": command, "id": command}) + "\n")
                lines.flush()
                while json.loads(said := lines.readline()).get("id") != command:
                    pass
                yield said.strip()
        except (OSError, ValueError) as error:
            yield f"no answer: {error}"


def as_user(uid, function):
    """Runs @function as another user in a process of its own, and returns what it returns (as JSON)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(write, json.dumps(function()).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return json.loads(said)


class Ran:
    """A finished command: status, out, err, seconds."""

    def __init__(self, argv, status, out, err, seconds):
        self.argv, self.status, self.out, self.err, self.seconds = argv, status, out, err, seconds

    def __str__(self):
        return f"$ {' '.join(map(str, self.argv))}\n{self.out}{self.err}(status {self.status}, {self.seconds:.2f} s)"


def run(argv, status=0, input=None, timeout=HANG_GUARD_S, env=None, cwd=None, binary=False):
    """Runs a program to its end. @status: the one expected, or None for any. A hang or another status fails with all
    output. With @binary, out is bytes."""
    argv = [str(arg) for arg in argv]
    start = time.monotonic()
    if isinstance(input, str):
        input = input.encode()
    stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
    process = subprocess.Popen(argv, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=cwd, start_new_session=True)
    hung = False
    try:
        out, err = process.communicate(stdin.get("input"), timeout=timeout)
    except subprocess.TimeoutExpired:
        hung = True
        os.killpg(process.pid, signal.SIGKILL)
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired as late:  # a child that left the group keeps the pipe open
            out, err = late.stdout or b"", late.stderr or b""
    ran = Ran(argv, process.returncode, out if binary else out.decode(errors="replace"), err.decode(errors="replace"),
              time.monotonic() - start)
    if hung:
        raise AssertionError(f"hung for {timeout} s: {ran}")
    if status is not None and ran.status != status:
        raise AssertionError(f"expected status {status}: {ran}")
    return ran


class Kho:
    """kho in one fresh tree. Call it with a verb and its arguments: kho("list", "--all").out."""

    def __init__(self, build=None):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="kho-test-", dir="/tmp"))
        self.root = self.base / "root"
        self.tmp = self.base / "tmp"
        self.reports = self.base / "reports"  # what the sanitizers say, also of detached processes
        for folder in (self.root, self.tmp, self.reports):
            folder.mkdir()
        self.build = pathlib.Path(build) if build else build_dir()
        self.program = self.build / "kho"
        self.children = []

    def env(self, **more):
        env = dict(os.environ, KHO_ROOT=str(self.root), LC_ALL="C.UTF-8", G_DEBUG="fatal-criticals",
                   **{k: str(v) for k, v in more.items()})
        env["ASAN_OPTIONS"] = f"detect_leaks=1:exitcode=99:log_path={self.reports}/asan:" + os.environ.get("ASAN_OPTIONS", "")
        env["UBSAN_OPTIONS"] = (f"halt_on_error=1:exitcode=99:print_stacktrace=1:log_path={self.reports}/ubsan:"
                                + os.environ.get("UBSAN_OPTIONS", ""))
        return env

    def __call__(self, *args, status=0, input=None, timeout=HANG_GUARD_S, env=None, cwd=None, binary=False):
        return run([self.program, *args], status=status, input=input, timeout=timeout, env=self.env(**(env or {})),
                   cwd=cwd or self.tmp, binary=binary)

    def json(self, *args, **keywords):
        """Runs a verb with --json and returns what it printed."""
        return json.loads(self(*args, "--json", **keywords).out)

    def refuses(self, *args, says=(), **keywords):
        """Runs a verb that must fail with one line; @says: words that line must hold. Returns the Ran."""
        keywords.setdefault("status", None)
        ran = self(*args, **keywords)
        assert 0 < ran.status < 90, f"expected a refusal: {ran}"
        assert len(ran.err.splitlines()) == 1, f"expected one line of error: {ran}"
        assert not re.search(r"(machine '[^']*'): \1", ran.err), f"the machine is named twice: {ran}"
        for word in [says] if isinstance(says, str) else says:
            assert word in ran.err, f"expected {word!r} in the error: {ran}"
        return ran

    def spawn(self, *args, env=None, **keywords):
        """Starts a verb without waiting: a Popen, killed when the test ends."""
        keywords.setdefault("stdin", subprocess.DEVNULL)
        keywords.setdefault("stdout", subprocess.PIPE)
        keywords.setdefault("stderr", subprocess.PIPE)
        keywords.setdefault("cwd", self.tmp)
        child = subprocess.Popen([str(self.program), *map(str, args)], env=self.env(**(env or {})), **keywords)
        self.children.append(child)
        return child

    def terminal(self, *args, timeout=HANG_GUARD_S, env=None):
        """Starts a verb on a terminal of its own: a pexpect.spawn, closed when the test ends."""
        import pexpect
        child = pexpect.spawn(str(self.program), [str(arg) for arg in args], env=self.env(**(env or {})),
                              cwd=str(self.tmp), timeout=timeout, encoding="utf-8", codec_errors="replace")
        self.children.append(child)
        return child

    def processes(self):
        """{pid: command line} of every process that belongs to this tree: by arguments, environment, open files."""
        return tree_processes(self.base)

    def leftovers(self):
        """One line for each process, socket, run-time folder, held lock and temporary file of this tree."""
        found = [f"process {pid}: {command}" for pid, command in self.processes().items()]
        for path in self.base.rglob("*"):
            if path.is_socket():
                found.append(f"socket {path}")
            elif path.name.endswith(".kho-tmp"):
                found.append(f"temporary file {path}")
            elif path.parent == self.root / "run" / "qemu" and path.is_dir():
                found.append(f"run-time folder {path}")
            elif path.is_file() and self.root / "run" in path.parents and is_locked(path):
                found.append(f"held lock {path}")
        return found

    def qemu_says(self):
        """What each QEMU of this tree does, and its jobs, as kho-vm passes it on: for a failing test's report."""
        return "\n".join(f"{path.parent.name}: {said}" for path in self.root.glob("run/qemu/*/qmp.sock") for said in ask_qemu(path))

    def sanitizer_reports(self):
        lines = "".join(path.read_text(errors="replace") for path in sorted(self.reports.glob("*"))).splitlines(True)
        # the leak check met a worker thread that was just ending: no finding
        return "".join(line for line in lines if "Unable to get registers from thread" not in line)

    def logs(self):
        """The ends of the machines' logs, for a failing test's report."""
        text = ""
        for path in sorted(self.root.glob("log/**/*.log")):
            text += f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}\n"
        return text

    def end(self, passed=True, settle_s=5):
        """Ends what the test started and removes the tree. When the test passed so far, leftovers are failures."""
        for child in self.children:
            close_child(child)
        found = []
        if passed:
            try:
                wait_for("the tree's last process to end", lambda: not self.leftovers(), timeout_s=settle_s)
            except AssertionError:
                found = self.leftovers()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reports = self.sanitizer_reports()
        shutil.rmtree(self.base, ignore_errors=True)
        assert not reports, f"a sanitizer reports:\n{reports}"
        assert not found, "left behind:\n  " + "\n  ".join(found)


def close_child(child):
    if isinstance(child, subprocess.Popen):
        if child.poll() is None:
            child.kill()
        child.communicate()
    else:
        child.close(force=True)


def tree_processes(folder):
    """{pid: command line} of every process, other than this one, that names @folder or has a file open below it."""
    needle = os.fsencode(str(folder))
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        if process_names(f"/proc/{entry}", needle):
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().replace(b"\0", b" ").decode(errors="replace")
                with open(f"/proc/{entry}/stat") as file:
                    state = file.read().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state not in "ZX":
                found[int(entry)] = words[:300]
    return found


def process_names(proc, needle):
    for name in ("cmdline", "environ"):
        try:
            with open(f"{proc}/{name}", "rb") as file:
                if needle in file.read():
                    return True
        except OSError:
            pass
    try:
        return any(needle in os.fsencode(os.readlink(f"{proc}/fd/{fd}")) for fd in os.listdir(f"{proc}/fd"))
    except OSError:
        return False


F_OFD_GETLK = 36


def is_locked(path):
    """Whether a process holds an OFD, POSIX or flock lock on the file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        answer = fcntl.fcntl(fd, F_OFD_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        if struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK:
            return True
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


class SmallFileSystem:
    """A file system of its own on a loop device, small enough to be filled. Needs root."""

    def __init__(self, kind, size_mib):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="kho-fs-", dir="/tmp"))
        self.path = self.base / "mnt"
        self.path.mkdir()
        image = self.base / "disk"
        with open(image, "wb") as file:
            file.truncate(size_mib << 20)
        make = {"ext4": ["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal"],
                "xfs": ["mkfs.xfs", "-q"]}[kind]
        try:
            run([*make, image], env=dict(os.environ, PATH=f"{os.environ['PATH']}:/usr/sbin:/sbin"))
            run(["mount", "-o", "loop", image, self.path])
        except BaseException:
            shutil.rmtree(self.base)
            raise

    def free_bytes(self):
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def kept_bytes(self):
        """What the file system keeps back: root may get at a part of it."""
        stat = os.statvfs(self.path)
        return (stat.f_bfree - stat.f_bavail) * stat.f_frsize

    def fill(self, leave_bytes):
        """Fills it with ballast until about @leave_bytes are free; may be called again with more or less."""
        with open(self.path / ".ballast", "ab") as file:
            os.ftruncate(file.fileno(), 0)
            os.fsync(file.fileno())
            size, step = 0, max(self.free_bytes() - leave_bytes, 0)
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError:  # what the file system's own blocks take is not known beforehand
                    pass
                step = min(step // 2, max(self.free_bytes() - leave_bytes, 0))

    def end(self):
        run(["umount", self.path], status=None)
        if os.path.ismount(self.path):
            holders = tree_processes(self.base)
            run(["umount", "-l", self.path])
            raise AssertionError(f"the small file system was still in use by {holders}")
        shutil.rmtree(self.base)
