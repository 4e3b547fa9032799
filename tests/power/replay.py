"""What a power failure could leave of a tree: from a log that record.c wrote, at the end of every fsync.

The file system of this model promises only what POSIX does: a file's bytes are durable after its fsync, a name in a folder
after the folder's. At each end of an fsync it gives the state with nothing else (least), the state with all that was
done until then (all), and states with a random part of what was still on its way."""

import hashlib
import os
import pathlib
import shutil
import struct
import subprocess

import harness

HEAD = struct.Struct("<IIQQQIIII")
MAGIC = 0x6B686F21
NEW, WRITE, TRUNCATE, SPACE, SYNC, LINK, UNLINK, RENAME, MKDIR, SYMLINK = range(1, 11)
KEEP_SIZE, PUNCH, ZERO = 1, 2, 16
RANDOMS = 20 if harness.SOAK else 2


class Op:
    def __init__(self, kind, inode, offset, length, mode, first, second):
        self.kind, self.inode, self.offset, self.length, self.mode = kind, inode, offset, length, mode
        self.first, self.second = first, second

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
        kind, _, inode, offset, length, mode, n_first, n_second, magic = HEAD.unpack_from(data, at)
        assert magic == MAGIC, f"the log is damaged at byte {at}"
        at += HEAD.size
        first, second = data[at:at + n_first], data[at + n_first:at + n_first + n_second]
        at += n_first + n_second
        if kind != WRITE:
            first, second = os.fsdecode(first), os.fsdecode(second)
        if kind == NEW:
            known[inode] = f"{inode}, made at {at}"
        inode = known.get(inode, str(inode))
        yield Op(kind, inode, offset, length, mode, first, second)


class State:
    """Files by inode, names by path, times of files that have not been written since. Contents are copied when they are
    changed."""

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
        else:
            self.apply_bytes(op, self.bytes_of(op.inode))
            self.times.pop(op.inode, None)

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

    def digest(self):
        """Differs where what write_out writes differs."""
        whole = hashlib.sha256(repr(sorted(self.names.items())).encode())
        for inode in sorted({what for kind, what in self.names.values() if kind == "file"}):
            whole.update(hashlib.sha256(self.files[inode]).digest())
        return whole.digest()

    def write_out(self, root):
        """Makes @root what this state holds; what lies in run/ does not outlive a power failure."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        gone, written = str(root / "run"), {}
        for name in sorted(self.names):
            kind, what = self.names[name]
            if name == gone or name.startswith(gone + "/") or not os.path.isdir(os.path.dirname(name)):
                continue
            if kind == "folder":
                os.makedirs(name, exist_ok=True)
            elif kind == "link":
                os.symlink(what, name)
            elif what in written:  # one file of two names
                os.link(written[what], name)
            else:
                write_sparse(name, self.files[what])
                if what in self.times:
                    os.utime(name, ns=(self.times[what], self.times[what]))
                written[what] = name


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

    def states(self, rng, randoms):
        """(what, State) at the start and after every fsync that ended."""
        durable, pending, begun = self.before.copy(), [], {}
        yield "before", durable.copy()
        boundary = 0
        for op in read_log(self.log):
            if op.kind != SYNC:
                pending.append(op)
            elif op.offset == 0:
                begun[(op.inode, op.length)] = len(pending), list(pending)
            else:
                covered = begun.pop((op.inode, op.length))[1]
                pending = settle(durable, pending, set(map(id, covered)), op)
                boundary += 1
                yield f"fsync {boundary}, least", durable.copy()
                yield f"fsync {boundary}, all", with_ops(durable, pending)
                for i in range(randoms if pending else 0):
                    yield f"fsync {boundary}, random {i}", with_ops(durable, some_of(pending, rng))
        yield "the end", with_ops(durable, pending)


def preload(library):
    """The sanitizers' run-time library must come before any other."""
    asan = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{asan}:{library}"


def settle(durable, pending, covered, sync):
    """Applies what the fsync made durable; returns what is still pending."""
    left = []
    for op in pending:
        folders = op.folders()
        if id(op) in covered and (sync.first in folders if folders else op.inode == sync.inode):
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
