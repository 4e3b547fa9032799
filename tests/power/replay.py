"""What a power failure could leave of a tree: from a log that record.c wrote, at the end of every fsync.

The file system of this model promises only what POSIX does: a file's bytes are durable after its fsync or fdatasync, the time of its
last change after its fsync, a name in a folder after the folder's. At each end of an fsync it gives the state with nothing else (least), the state with all that was
done until then (all), and states with a random part of what was still on its way."""

import hashlib
import os
import pathlib
import stat
import struct
import subprocess

import harness

HEAD = struct.Struct("<IIQQQQIIII")
MAGIC = 0x6B686F21
NEW, WRITE, TRUNCATE, SPACE, SYNC, LINK, UNLINK, RENAME, MKDIR, SYMLINK = range(1, 11)
TIME = 0  # of a file's last change: made here, of each change of its bytes
KEEP_SIZE, PUNCH, ZERO = 1, 2, 16
RANDOMS = 20 if harness.SOAK else 2


class Op:
    """@at: where its record ends in the log."""

    def __init__(self, kind, inode, at, pid, offset=0, length=0, mode=0, first="", second=""):
        self.kind, self.inode, self.at, self.pid = kind, inode, at, pid
        self.offset, self.length, self.mode, self.first, self.second = offset, length, mode, first, second

    def folders(self):
        """The folders whose fsync makes it durable; none for what is done to a file's bytes."""
        if self.kind == RENAME:
            return {os.path.dirname(self.first), os.path.dirname(self.second)}
        if self.kind == SYMLINK:
            return {os.path.dirname(self.second)}
        if self.kind in (NEW, LINK, UNLINK, MKDIR) and self.first:
            return {os.path.dirname(self.first)}
        return set()


def read_log(path):
    """The operations in order. A number that a removed file had and a new one got stands for two files: the later have a
    number of their own."""
    data, at, known = pathlib.Path(path).read_bytes(), 0, {}
    while at < len(data):
        kind, pid, inode, offset, length, mtime_ns, mode, n_first, n_second, magic = HEAD.unpack_from(data, at)
        assert magic == MAGIC, f"the log is damaged at byte {at}"
        at += HEAD.size
        first, second = data[at:at + n_first], data[at + n_first:at + n_first + n_second]
        at += n_first + n_second
        if kind != WRITE:
            first, second = os.fsdecode(first), os.fsdecode(second)
        if kind == NEW:
            known[inode] = f"{inode}, made at {at}"
        inode = known.get(inode, str(inode))
        yield Op(kind, inode, at, pid, offset, length, mode, first, second)
        if kind in (NEW, WRITE, TRUNCATE, SPACE):
            yield Op(TIME, inode, at, pid, offset=mtime_ns)


class State:
    """Files by inode, names by path, times of the last change by inode. Contents are copied when they are changed."""

    def __init__(self):
        self.files, self.names, self.times, self.owned = {}, {}, {}, set()

    def copy(self):
        other = State()
        other.files, other.names, other.times = dict(self.files), dict(self.names), dict(self.times)
        self.owned = set()
        return other

    def bytes_of(self, inode):
        if inode not in self.owned:
            self.files[inode] = bytearray(self.files.get(inode, b""))
            self.owned.add(inode)
        return self.files[inode]

    def apply(self, op):
        if op.kind == NEW:
            if op.first:
                self.names[op.first] = ("file", op.inode)
            self.files.setdefault(op.inode, bytearray())
        elif op.kind == LINK:
            self.names[op.first] = ("file", op.inode)
        elif op.kind == UNLINK:
            self.names.pop(op.first, None)
        elif op.kind == MKDIR:
            self.names[op.first] = ("folder", None)
        elif op.kind == SYMLINK:
            self.names[op.second] = ("link", op.first)
        elif op.kind == RENAME:
            moved = [name for name in self.names if name == op.first or name.startswith(op.first + "/")]
            if moved:
                self.names.pop(op.second, None)
            for name in moved:
                self.names[op.second + name[len(op.first):]] = self.names.pop(name)
        elif op.kind == TIME:
            self.times[op.inode] = op.offset
        else:
            self.apply_bytes(op, self.bytes_of(op.inode))

    @staticmethod
    def apply_bytes(op, content):
        end = op.offset + (len(op.first) if op.kind == WRITE else op.length)
        if op.kind == TRUNCATE:
            del content[op.offset:]
            content.extend(bytes(op.offset - len(content)))
            return
        if not op.mode & KEEP_SIZE and len(content) < end:
            content.extend(bytes(end - len(content)))
        if op.kind == WRITE:
            content[op.offset:end] = op.first
        elif op.mode & (PUNCH | ZERO):
            end = min(end, len(content))
            content[op.offset:end] = bytes(max(end - op.offset, 0))

    def digests(self):
        """{inode: differs where contents or times do} of the files that have a name."""
        named = {what for kind, what in self.names.values() if kind == "file"}
        return {inode: (hashlib.sha256(self.files[inode]).hexdigest(), self.times.get(inode)) for inode in named}

    def digest(self):
        """Differs where what write_out writes differs; where that is times alone, only in the long run."""
        whole = hashlib.sha256(repr(sorted(self.names.items())).encode())
        for inode, (content, time) in sorted(self.digests().items()):
            whole.update(f"{inode} {content} {time if harness.SOAK else ''}\n".encode())
        return whole.digest()

    def write_out(self, root, kept={}):
        """Makes @root what this state holds; what lies in run/ does not outlive a power failure. What stands there already
        stays: what is known of it need not be found out anew."""
        gone, written, digests = str(root / "run"), {}, self.digests()
        names = {name: what for name, what in self.names.items() if name != gone and not name.startswith(gone + "/")}
        for path in sorted(root.rglob("*"), reverse=True):
            kind, what = names.get(str(path), (None, None))
            if kind == "folder" or (kind == "file" and kept.get(str(path)) == (digests[what], looks(path))):
                continue
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name in sorted(names):
            kind, what = names[name]
            if os.path.isdir(os.path.dirname(name)):
                if kind == "file":
                    self.write_file(name, what, written)
                elif kind == "folder":
                    os.makedirs(name, exist_ok=True)
                else:
                    os.symlink(what, name)
        kept.clear()
        kept.update({name: (digests[names[name][1]], looks(name)) for made in written.values() for name in made})

    def write_file(self, name, inode, written):
        """Unless it is there already. @written: {inode: its names} so far."""
        if os.path.exists(name):
            pass
        elif inode in written:
            os.link(written[inode][0], name)
        else:
            write_sparse(name, self.files[inode])
            if inode in self.times:
                os.utime(name, ns=(self.times[inode], self.times[inode]))
        written.setdefault(inode, []).append(name)


def looks(path):
    """Differs where a file is another or was changed."""
    st = os.lstat(path)
    return stat.S_IFMT(st.st_mode), st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def write_sparse(path, content):
    block = 1 << 16
    zeros = bytes(block)
    with open(path, "wb") as out:
        for at in range(0, len(content), block):
            piece = content[at:at + block]
            if piece != zeros[:len(piece)]:
                out.seek(at)
                out.write(piece)
        out.truncate(len(content))


class Recording:
    """Records what commands do to the tree of @kho: `kho(..., env=recording.env)`. The tree as it is when this is made is
    taken as durable."""

    def __init__(self, kho, library, log):
        self.root, self.log = kho.root, log
        self.env = {"KHO_RECORD": log, "KHO_RECORD_ROOT": self.root, "LD_PRELOAD": preload(library)}
        self.before = State()
        for path in sorted(self.root.rglob("*")):
            name = str(path)
            if path.is_symlink():
                self.before.names[name] = ("link", os.readlink(path))
            elif path.is_dir():
                self.before.names[name] = ("folder", None)
            elif path.is_file():
                inode = str(path.stat().st_ino)
                self.before.times[inode] = path.stat().st_mtime_ns
                self.before.names[name] = ("file", inode)
                self.before.files[inode] = path.read_bytes()

    def size(self):
        """Of the log, so far."""
        return self.log.stat().st_size

    def content(self, path):
        """The bytes that the log gives a file that stands."""
        inode, state = path.stat().st_ino, State()
        for op in read_log(self.log):
            if op.inode.split(",")[0] == str(inode):
                state.apply(op)
        return bytes(state.files[state.names[str(path)][1]])

    def boundaries(self, since, until):
        """The numbers of the fsyncs that ended while the log had these sizes."""
        ends = [op.at for op in read_log(self.log) if op.kind == SYNC and op.offset == 1]
        return [n for n, at in enumerate(ends, 1) if since < at <= until]

    def states(self, rng, randoms, wanted=None, watch=lambda op: None):
        """(what, State) at the start and after every fsync that ended; or after those whose numbers are @wanted. @watch is
        told of every change before the states that it may be in."""
        durable, pending, begun, boundary = self.before.copy(), [], {}, 0
        if wanted is None:
            yield "before", durable.copy()
        for op in read_log(self.log):
            if op.kind != SYNC:
                watch(op)
                pending.append(op)
                continue
            key = (op.pid, op.inode, op.length)
            if op.offset == 0:
                begun[key] = set(pending)
                continue
            pending = settle(durable, pending, begun.pop(key), op)
            boundary += 1
            if wanted is None or boundary in wanted:
                yield from could_be(f"fsync {boundary}", durable, pending, rng, randoms)
        if wanted is None:
            yield "the end", with_ops(durable, pending)


def could_be(what, durable, pending, rng, randoms):
    yield f"{what}, least", durable.copy()
    yield f"{what}, all", with_ops(durable, pending)
    for i in range(randoms if pending else 0):
        yield f"{what}, random {i}", with_ops(durable, some_of(pending, rng))


def recorded_emulator(kho):
    """The XML of an emulator that is recorded as well, but without the sanitizers, which do not know its coroutines."""
    emulator = kho.base / "qemu"
    emulator.write_text("#!/bin/sh\n[ -z \"$KHO_RECORD\" ] || export LD_PRELOAD=\"${LD_PRELOAD##*:}\"\n"
                        "exec /usr/bin/qemu-system-x86_64 \"$@\"\n")
    emulator.chmod(0o755)
    return f"<emulator>{emulator}</emulator>"


def preload(library):
    """The sanitizers' run-time library must come before any other."""
    asan = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{asan}:{library}"


def settle(durable, pending, covered, sync):
    """Applies what the fsync made durable; returns what is still pending. What fdatasync does with times is not said."""
    left, data_only = [], sync.mode == 1
    for op in pending:
        folders = op.folders()
        if op in covered and (sync.first in folders if folders
                                  else op.inode == sync.inode and not (data_only and op.kind == TIME)):
            durable.apply(op)
        else:
            if op.kind == NEW:
                durable.files.setdefault(op.inode, bytearray())
            left.append(op)
    return left


def with_ops(state, ops):
    state = state.copy()
    for op in ops:
        state.apply(op)
    return state


def some_of(pending, rng):
    """Names of one folder come in order, up to some point; bytes in any selection."""
    until = {}
    for op in pending:
        for folder in op.folders():
            until.setdefault(folder, rng.random())
    chosen = []
    for i, op in enumerate(pending):
        folders = op.folders()
        if all(i / len(pending) < until[folder] for folder in folders) if folders else rng.random() < 0.5:
            chosen.append(op)
    return chosen


def replayed(kho, build, rng, *words, **keywords):
    """Runs a verb under recording, then puts each state that a power failure could leave, once, in place of the tree: yields
    its name. What lay in run/ is gone each time."""
    log = kho.base / "record.log"
    log.unlink(missing_ok=True)
    recording = Recording(kho, build / "record.so", log)
    kho(*words, env=recording.env, **keywords)
    seen, count = set(), 0
    for what, state in recording.states(rng, RANDOMS):
        count += 1
        digest = state.digest()
        if digest not in seen:
            seen.add(digest)
            state.write_out(kho.root)
            yield f"{words[0]}: {what}"
    assert count > 4, f"{words[0]} syncs nothing"
