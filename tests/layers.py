"""A machine's disks and snapshots as their contents: written by qemu-io, read and hashed by qemu-img, so that what kho did is
judged without kho. Its own words (names, parents, which file is meant) are taken from its JSON."""

import copy
import hashlib
import os
import pathlib
import re
import signal
import stat
import struct
import tempfile

import harness
import machine

DISK_MIB = 4


def qemu_io(path, format, *commands):
    harness.run(["qemu-io", "-f", format, *[word for command in commands for word in ("-c", command)], path])


def backing(path):
    """The file that the header of a qcow2 image names, absolute; None where it is raw or names none."""
    with open(path, "rb") as file:
        head = file.read(24)
        if len(head) < 24 or head[:4] != b"QFI\xfb":
            return None
        at, length = struct.unpack(">QI", head[8:20])
        file.seek(at)
        name = file.read(length).decode() if at else None
    return os.path.join(os.path.dirname(path), name) if name else None


def chain(path):
    """The file and all that it lies on."""
    found = []
    while path:
        found.append(str(path))
        path = backing(path)
    return found


def identity(path):
    """Differs where anything of the chain was written."""
    return tuple((file, *(lambda st: (st.st_ino, st.st_mtime_ns, st.st_ctime_ns, st.st_size))(os.stat(file))) for file in chain(path))


seen = {}  # what qemu-img said of files that have not changed since


def remembered(what, path, ask):
    key = (what, identity(path))
    if key not in seen:
        seen[key] = ask()
    return seen[key]


def content(path, format):
    """The hash of what the guest would read."""
    def ask():
        with tempfile.NamedTemporaryFile(prefix="kho-content-") as out:
            harness.run(["qemu-img", "convert", "-U", "-f", format, "-O", "raw", path, out.name])
            return hashlib.sha256(out.read()).hexdigest()
    return remembered(format, path, ask)


def contents(disks, content=content):
    return {target: content(path, format) for target, (path, format) in disks.items()}


def overlay(path, backing):
    """One that only its own header tells of, with something of its own."""
    path.parent.mkdir(exist_ok=True)
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", path])
    qemu_io(path, "qcow2", "write -P 99 3M 64k")
    return path


def reads(path):
    """What the guest would read, whatever the names and times: asked anew."""
    seen.clear()
    return content(path, "qcow2")


class Machine:
    """A machine that is not started here, its disks vda (qcow2) and vdb (raw) in a folder of their own."""

    def __init__(self, kho, name="m", folder=None, formats=("qcow2", "raw"), define=machine.define):
        self.kho, self.name = kho, name
        self.folder = pathlib.Path(folder or kho.base / "disks")
        self.folder.mkdir(exist_ok=True)
        self.targets = [f"vd{letter}" for letter in "abcd"[:len(formats)]]
        devices = []
        for target, format in zip(self.targets, formats):
            path = self.folder / f"{target}.{format}"
            harness.run(["qemu-img", "create", "-q", "-f", format, path, f"{DISK_MIB}M"])
            devices.append(machine.disk(path, target, format))
        define(kho, name, *devices)

    def disks(self):
        """{target: (path, format)} of what the machine writes."""
        return {disk["target"]: (disk["source"], disk["format"]) for disk in self.kho.json("domblklist", self.name)}

    def write(self, target, pattern, offset_kib, length_kib, disks=None):
        path, format = (disks or self.disks())[target]
        qemu_io(path, format, f"write -P {pattern} {offset_kib}k {length_kib}k")

    def scribble(self, rng, times=2):
        """Random writes, some of them zeros; what is read then."""
        disks = self.disks()
        for _ in range(times):
            length = rng.choice([4, 64, 100, 512])
            self.write(rng.choice(self.targets), rng.randrange(256), rng.randrange(0, DISK_MIB * 1024 - length, 4), length, disks)
        return contents(disks)

    def now(self, content=content):
        return contents(self.disks(), content)

    def snapshots(self):
        return self.kho.json("snapshot-list", self.name)

    def state(self, content_now=content):
        """All that must be as it was, or as it is to be: contents by name, and what came from what."""
        snapshots = self.snapshots()
        return {"now": self.now(content_now),
                "current": next((s["name"] for s in snapshots if s["current"]), None),
                "snapshots": {s["name"]: {"parent": s["parent"], "deleting": s["deleting"], "memory": s["memory-file"],
                                          "disks": {d["target"]: content(d["file"], d["format"]) for d in s["disks"]}}
                              for s in snapshots}}

    def noted(self):
        """(file, size, time in ns, whether its snapshot is being deleted) of each file that a snapshot closed. While that is
        being changed a file has neither size nor time."""
        for text in (path.read_text() for path in (self.kho.root / "lib/qemu/snapshot" / self.name).glob("*.xml")):
            for row in re.findall(r"<kho:disk .*?/>", text):
                file, size, seconds, ns = re.search(r" file='([^']*)'.*?(?: stamp='(\d+):(\d+)\.(\d{9})')?/>", row).groups()
                mtime_ns = int(seconds) * 10**9 + int(ns) if size else None
                yield file, int(size) if size else None, mtime_ns, "deleting='yes'" in text

    def check(self, leaks=False):
        """No file that nobody names, none missing, all sound, nothing half done. @leaks: a cluster may be counted that nothing
        refers to, as a power failure leaves it."""
        needed, disks, snapshots = set(), self.disks(), self.snapshots()
        tops = [path for path, _ in disks.values()] + [d["file"] for s in snapshots for d in s["disks"]]
        for top in tops:
            needed.update(chain(top))
        there = {str(path) for path in self.folder.iterdir()}
        assert there == needed, f"orphans: {there - needed}, missing: {needed - there}"
        for path in there:
            if path.endswith(".qcow2"):
                ran = remembered("check", path, lambda: harness.run(["qemu-img", "check", "-q", "-U", path], status=None))
                assert ran.status in ((0, 3) if leaks else (0,)), ran
        memory = self.kho.root / "lib/qemu/snapshot" / self.name
        named = {s["memory-file"] for s in snapshots if s["memory-file"] and s["memory-file"].startswith(str(memory))}
        assert {str(path) for path in memory.glob("*.mem")} == named
        for file, size, mtime_ns, deleting in self.noted():
            now = os.stat(file)
            assert deleting or (size, mtime_ns) == (now.st_size, now.st_mtime_ns), f"{file} is not what was noted of it"
        inactive = self.kho.json("domblklist", self.name, "--inactive")
        assert {d["target"]: (d["source"], d["format"]) for d in inactive} == disks, "live and inactive XML disagree"
        journal = list((self.kho.root / "lib/journal").iterdir())
        assert not journal, journal


class Saved:
    """A tree and its machine's files as they stand, to be had again."""

    def __init__(self, m):
        self.m, self.folder = m, m.kho.base / "saved"
        self.parts = [m.kho.root / "etc", m.kho.root / "lib", m.folder]
        self.folder.mkdir()
        for n, part in enumerate(self.parts):
            self.copy(part, self.folder / str(n))

    def copy(self, source, target):
        harness.run(["cp", "-a", "--sparse=always", source, target])

    def restore(self):
        """What was not written since stays, so that what is known of it need not be found out anew."""
        for n, part in enumerate(self.parts):
            saved = self.folder / str(n)
            for path in sorted(part.rglob("*"), reverse=True):
                if looks(path) != looks(saved / path.relative_to(part)):
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            for path in sorted(saved.rglob("*")):
                if looks(part / path.relative_to(saved)) is None:
                    self.copy(path, part / path.relative_to(saved))


def looks(path):
    """Differs where a file was written; None where there is none."""
    try:
        st = os.lstat(path)
    except FileNotFoundError:
        return None
    return (st.st_mode, *(() if stat.S_ISDIR(st.st_mode) else (st.st_size, st.st_mtime_ns)))


def without_marks(state):
    """A snapshot that shows as being deleted is the machine's old state, but for its own contents."""
    snapshots = {name: {**snapshot, "deleting": False, "disks": None if snapshot["deleting"] else snapshot["disks"]}
                 for name, snapshot in state["snapshots"].items()}
    return {**state, "snapshots": snapshots}


def without_mark(state, name):
    """What it is once that one is not being deleted any more."""
    return {**state, "snapshots": {**state["snapshots"], name: {**state["snapshots"][name], "deleting": False}}}


def judge(m, old, new, deleted=None):
    """After the next command the state is the old one or the new one, and no file is orphaned. The delete of @deleted may be
    unfinished: that is shown, all else is as it was, and another one finishes it. Whether it is the new one by then."""
    state, old = m.state(), copy.deepcopy(old)
    if deleted and state["snapshots"].get(deleted, {}).get("deleting"):
        old["snapshots"][deleted]["disks"] = None
        assert without_marks(state) == old
        m.check()
        m.kho.refuses("snapshot-revert", m.name, deleted, status=5, says=["half deleted", f"snapshot-delete {m.name} {deleted}"])
        m.kho("snapshot-delete", m.name, deleted)
        state = m.state()
        assert state == new
    assert state in (old, new), f"{state}\nis neither\n{old}\nnor\n{new}"
    m.check()
    return state == new


def steps(kho, *kinds):
    """[(kind, step, has undo)] that kho names, of these kinds."""
    lines = [line.split() for line in kho("--steps").out.splitlines()]
    return [(line[0], line[1], "undo" in line[2:]) for line in lines if line[0] in kinds]


def stop_at(kho, point, *args):
    """Runs a verb up to a point of a step: the Popen, stopped there; or None where the verb ended before it came there."""
    child = kho.spawn(*args, env={"KHO_STOP_AT": point})
    pid, status = os.waitpid(child.pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return child
    child.returncode = os.waitstatus_to_exitcode(status)
    return None


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.wait()


# Sector n of vda, then sector n of vdb, hold n: what is on both agrees up to one record.
LOG = ("(n=0; while :; do n=$((n+1)); for d in vda vdb; do printf '%-511d\\n' $n | "
       "dd of=/dev/$d bs=512 seek=$n conv=fsync,notrunc 2>/dev/null; done; done) </dev/null >/dev/null 2>&1 &")


def last_record(path, format):
    """How far the log goes on a disk; what is before must be whole."""
    with tempfile.NamedTemporaryFile(prefix="kho-content-") as out:
        harness.run(["qemu-img", "convert", "-U", "-f", format, "-O", "raw", path, out.name])
        data = out.read()
    n = 1
    while data[n * 512:(n + 1) * 512] == b"%-511d\n" % n:
        n += 1
    assert not data[n * 512:].strip(b"\0"), f"{path} holds something after record {n - 1}"
    return n - 1


def agreed(disks):
    """The log's end in {target: (path, format)}."""
    vda, vdb = last_record(*disks["vda"]), last_record(*disks["vdb"])
    assert vdb <= vda <= vdb + 1, f"vda has {vda} records, vdb {vdb}"
    return vda


def closed(m, name):
    one = next(s for s in m.snapshots() if s["name"] == name)
    return {d["target"]: (d["file"], d["format"]) for d in one["disks"]}
