"""kho's engine and QEMU's, driven side by side: a session with kho-io, batches for qemu-io, and comparisons whose oracle
is qemu-img or a model in the test."""

import hashlib
import json
import os
import subprocess

import harness


class KhoIo:
    """A session with the kho-io test program: io("write", 0, 512, 7). Ends with end()."""

    def __init__(self, kho):
        self.kho = kho
        self.child = subprocess.Popen([str(kho.build / "kho-io")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      env=kho.env(), cwd=kho.tmp, text=True, bufsize=1)
        kho.children.append(self.child)

    def ask(self, *words):
        self.child.stdin.write(" ".join(map(str, words)) + "\n")
        self.child.stdin.flush()
        return self.child.stdout.readline().rstrip("\n")

    def __call__(self, *words):
        answer = self.ask(*words)
        assert answer.startswith("ok"), f"kho-io: {words}: {answer or 'it ended'}"
        return answer[3:]

    def try_(self, *words):
        """None, or "CODE MESSAGE" of the refusal."""
        answer = self.ask(*words)
        assert answer.startswith(("ok", "error ")), f"kho-io: {words}: {answer or 'it ended'}"
        return answer[6:] if answer.startswith("error ") else None

    def end(self):
        self.child.stdin.close()
        self.kho.children.remove(self.child)
        assert self.child.wait(timeout=harness.HANG_GUARD_S) == 0


class Moments:
    """Random moments at which to stop runs: sooner after one that had ended by itself, later after one that was stopped, so
    that they fall within the runs, however fast the machine is."""

    def __init__(self, rng, longest_s):
        self.rng, self.longest_s, self.hit = rng, longest_s, 0

    def stop(self, child, number):
        """Sends @number to it unless it ends before; what it said on stderr."""
        try:
            child.wait(timeout=self.rng.uniform(0, self.longest_s))
            self.longest_s *= 0.6
        except subprocess.TimeoutExpired:
            child.send_signal(number)
            self.longest_s *= 1.2
        _, said = child.communicate(timeout=harness.HANG_GUARD_S)
        self.hit += child.returncode != 0
        return said


def qemu_io(path, commands, fmt="qcow2", cwd=None):
    """Runs qemu-io's commands in one process, with discards that reach the image. Any complaint is a failure."""
    argv = ["qemu-io", "-d", "unmap", "-f", fmt]
    for command in commands:
        argv += ["-c", command]
    ran = harness.run([*argv, path], cwd=cwd)
    for word in ("failed", "rror", "invalid", "mismatch"):
        assert word not in ran.out + ran.err, f"qemu-io complains: {ran}"
    return ran


def qemu_env(env=None):
    """For QEMU's programs: they measure key derivations by a precise clock (tests/tools/clock.c), and make cheap keys."""
    return {**(env or os.environ), "LD_PRELOAD": str(harness.build_dir() / "clock.so")}


def qemu_img(*args, status=0, env=None, **keywords):
    return harness.run(["qemu-img", *args], status=status, env=qemu_env(env), **keywords)


def qemu_json(*args, **keywords):
    return json.loads(qemu_img(*args, "--output=json", **keywords).out)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def assert_clean(path, **keywords):
    """qemu-img finds neither corruption nor leaked clusters."""
    found = qemu_json("check", "-f", "qcow2", path, **keywords)
    assert not found.get("corruptions") and not found.get("leaks") and not found["check-errors"], found


def assert_same(a, a_format, b, b_format, **keywords):
    """qemu-img reads the same bytes, and the same size, from both."""
    ran = qemu_img("compare", "-f", a_format, "-F", b_format, a, b, status=None, **keywords)
    assert ran.status == 0 and "mismatch" not in ran.out + ran.err, str(ran)
