"""One row of the matrix: a command line that is given to Debian's qemu-img and to kho under that name, each in a folder
of the same contents, and what is compared afterwards. Rows stand in rows_VERB.py beside this file."""

import dataclasses
import json
import os
import re
import shlex
import shutil

import harness
from interop.engine import qemu_env, qemu_img, qemu_io
from interop.images import settle

REAL = "/usr/bin/qemu-img"


@dataclasses.dataclass(frozen=True)
class Row:
    """@line: the command line, as in a shell. @state: the folder it starts in (a function of STATES). @images: files that
    it makes or changes, with their formats, to be read back by both programs. @says: kho has words of its own on stderr, one
    line that holds this. @out, @err: whether stdout and stderr are compared. @holds: what else must hold, called with the
    folder. @stat: whether the files are of one length."""
    line: str
    state: str = "empty"
    images: tuple = ()
    says: str = None
    out: bool = True
    err: bool = True
    holds: object = None
    stat: bool = True
    readable: bool = True  # what it makes can be read: its backing file is there
    key: str = None        # the passphrase of the images, which are encrypted then

    def __str__(self):
        told = re.sub("--object secret,([^ ]{7})[^ ]*", r"\1", self.line)
        return re.sub(r"[^\w=.,-]+", " ", f"{told} @{self.state}").strip()[:160]

    @property
    def words(self):
        return shlex.split(self.line)


def row(line, state="empty", *images, **more):
    """@images: "x.qcow2" or "x:raw", where the name does not say the format."""
    pairs = tuple(tuple(name.split(":")) if ":" in name else (name, name.rsplit(".", 1)[-1]) for name in images)
    return Row(line, state, pairs, **more)


# --- states: what is in the folder before ---------------------------------------------------------------------------

def empty(folder):
    pass


def images(folder):
    """One image of each kind, each with data, zeros and holes."""
    qemu_img("create", "-q", "-f", "raw", folder / "a.raw", "3M")
    qemu_io(folder / "a.raw", ["write -P 1 0 64k", "write -P 2 1M 100k", "write -z 2M 64k"], "raw")
    qemu_img("create", "-q", "-f", "qcow2", folder / "a.qcow2", "4M")
    qemu_io(folder / "a.qcow2", ["write -P 3 0 128k", "write -P 4 1M 70k", "write -z 2M 128k", "write -P 5 4190208 4k"])
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=0.10,cluster_size=4k", folder / "old.qcow2", "1000000")
    qemu_io(folder / "old.qcow2", ["write -P 6 4k 9k"])
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compression_type=zstd,refcount_bits=1,lazy_refcounts=on",
             folder / "zstd.qcow2", "2M")
    qemu_io(folder / "zstd.qcow2", ["write -P 7 0 1M"])
    qemu_img("convert", "-q", "-c", "-O", "qcow2", folder / "a.qcow2", folder / "packed.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", folder / "empty.qcow2", "64M")
    os.truncate(os.open(folder / "odd", os.O_CREAT | os.O_WRONLY), 700)
    (folder / "notes").write_bytes(b"these are words\n" * 64)


def pairs(folder):
    """Images that are alike, and some that are not: in one place, in length, in what is behind the end."""
    images(folder)
    qemu_img("convert", "-q", "-O", "qcow2", folder / "a.raw", folder / "a2.qcow2")
    qemu_img("convert", "-q", "-c", "-O", "qcow2", folder / "a.raw", folder / "packed2.qcow2")
    shutil.copy(folder / "a.raw", folder / "b.raw")
    qemu_io(folder / "b.raw", ["write -P 9 1000k 10k", "write -P 9 2M 10k"], "raw")
    for name, size in (("long", "4M"), ("short", "1M"), ("tail", "4M")):
        qemu_img("create", "-q", "-f", "raw", folder / f"{name}.raw", size)
    qemu_io(folder / "tail.raw", ["write -P 1 3500k 1k"], "raw")


def chain(folder):
    """base.raw <- mid.qcow2 <- top.qcow2; lost.qcow2 names a file that is not there."""
    (folder / "sub").mkdir()
    qemu_img("create", "-q", "-f", "raw", folder / "base.raw", "2M")
    qemu_io(folder / "base.raw", ["write -P 1 0 1M"], "raw")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", folder / "mid.qcow2")
    qemu_io(folder / "mid.qcow2", ["write -P 2 64k 64k", "write -z 256k 128k"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", folder / "top.qcow2", "3M")
    qemu_io(folder / "top.qcow2", ["write -P 3 128k 10k", "write -P 4 2M 64k"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "../mid.qcow2", "-F", "qcow2", folder / "sub/side.qcow2")
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", "nowhere", "-F", "qcow2", folder / "lost.qcow2", "1M")
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", "lost.qcow2", "-F", "qcow2", folder / "above.qcow2", "1M")
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", "loop.qcow2", "-F", "qcow2", folder / "loop.qcow2", "1M")
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", "base.raw", "-F", "qcow2", folder / "wrong.qcow2", "1M")


def snapshots(folder):
    """An image with two internal snapshots."""
    path = folder / "snap.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "4M")
    qemu_io(path, ["write -P 1 0 1M"])
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, ["write -P 2 512k 1M"])
    qemu_img("snapshot", "-c", "2", path)
    qemu_io(path, ["write -P 3 0 128k"])


def damaged(folder):
    """leaky.qcow2 has clusters that nobody names, broken.qcow2 an entry that leads out of the file, dirty.qcow2 the mark;
    spoilt.qcow2 has a compressed cluster that cannot be read."""
    images(folder)
    shutil.copy(folder / "packed.qcow2", folder / "spoilt.qcow2")
    with open(folder / "spoilt.qcow2", "r+b") as file:
        file.seek(5 * 65536)
        file.write(b"\xff" * 20)
    for name in ("leaky", "broken", "dirty"):
        qemu_img("create", "-q", "-f", "qcow2", folder / f"{name}.qcow2", "4M")
        qemu_io(folder / f"{name}.qcow2", ["write -P 1 0 1M"])
    with open(folder / "leaky.qcow2", "r+b") as file:
        file.seek(2 * 65536 + 2 * 25)  # the counts of two clusters past the end
        file.write(bytes((0, 1, 0, 1)))
        file.truncate(27 * 65536)
    with open(folder / "broken.qcow2", "r+b") as file:
        file.seek(4 * 65536 + 8 * 2)  # the third entry of the first L2 table
        file.write((0x8000000000000000 | 99 << 16).to_bytes(8, "big"))
    with open(folder / "dirty.qcow2", "r+b") as file:
        file.seek(72)
        file.write((1).to_bytes(8, "big"))


def encrypt(folder, name, options, size="1M", key="abc"):
    """An image that a passphrase opens, with data in it."""
    fmt, secret = name.rsplit(".", 1)[-1], f"secret,id=s0,data={key}"
    key = "encrypt.key-secret=s0" if fmt == "qcow2" else "key-secret=s0"
    qemu_img("create", "-q", "-f", fmt, "--object", secret, "-o", f"{options}{key}", name, size, cwd=folder)
    harness.run(["qemu-io", "--object", secret, "--image-opts", f"driver={fmt},{key},file.filename={name}", "-c",
                 "write -P 7 64k 128k"], cwd=folder)


LUKS = "encrypt.format=luks,encrypt.iter-time=10,"


def luks(folder):
    """Encrypted by a passphrase, "abc", which is in the file key."""
    (folder / "key").write_text("abc")
    encrypt(folder, "luks.qcow2", LUKS)


def luks_keys(folder):
    """The same, which "def" opens too, in slot 3."""
    luks(folder)
    qemu_img("amend", "--object", "secret,id=s0,data=abc", "--object", "secret,id=s1,data=def", "--image-opts",
             "driver=qcow2,encrypt.key-secret=s0,file.filename=luks.qcow2", "-o",
             "encrypt.state=active,encrypt.new-secret=s1,encrypt.keyslot=3,encrypt.iter-time=10", cwd=folder)


def volumes(folder):
    """LUKS volumes: vol.luks, which "abc" opens, and two.luks, which "def" opens too, in slot 3; a.raw, with holes; over.qcow2 lies on vol.luks, and
    top.qcow2 on that."""
    (folder / "key").write_text("abc")
    for name in ("vol", "two"):
        encrypt(folder, f"{name}.luks", "iter-time=10,")
    qemu_img("amend", "--object", "secret,id=s0,data=abc", "--object", "secret,id=s1,data=def", "--image-opts",
             "driver=luks,key-secret=s0,file.filename=two.luks", "-o", "state=active,new-secret=s1,keyslot=3,iter-time=10", cwd=folder)
    qemu_img("create", "-q", "-f", "raw", folder / "a.raw", "3M")
    qemu_io(folder / "a.raw", ["write -P 1 0 64k", "write -P 2 1M 100k"], "raw")
    for base, over in ("vol.luks", "over.qcow2"), ("over.qcow2", "top.qcow2"):
        qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", base.rsplit(".", 1)[-1], over, "2M", cwd=folder)
    (folder / "cut.luks").write_bytes((folder / "vol.luks").read_bytes()[:1 << 20])
    (folder / "later.luks").write_bytes(b"LUKS\xba\xbe\0\2" + bytes(4096))
    (folder / "wrong.luks").write_bytes(b"LUKS\xba\xbe\0\1" + bytes(4096))


def luks_data(folder):
    """The same with data in files of their own: apart.qcow2 in d.raw, alone.qcow2 in r.raw."""
    encrypt(folder, "apart.qcow2", LUKS + "data_file=d.raw,")
    encrypt(folder, "alone.qcow2", LUKS + "data_file=r.raw,data_file_raw=on,")


def luks_chain(folder):
    """plain.qcow2, which "abc" opens, over base.qcow2, which is not encrypted; over.qcow2, the same, over locked.qcow2,
    which "def" opens; other.raw is unlike them."""
    secrets = ("--object", "secret,id=s0,data=abc", "--object", "secret,id=s1,data=def")
    qemu_img("create", "-q", "-f", "raw", folder / "other.raw", "1M")
    qemu_img("create", "-q", "-f", "qcow2", folder / "base.qcow2", "1M")
    for name, pattern in (("base.qcow2", 1), ("other.raw", 2)):
        qemu_io(folder / name, [f"write -P {pattern} 0 1M"], name.rsplit(".", 1)[-1])
    encrypt(folder, "locked.qcow2", LUKS, key="def")
    for name, below, more in (("plain", "base", ""), ("over", "locked", ",backing.encrypt.key-secret=s1")):
        qemu_img("create", "-q", "-f", "qcow2", *secrets, "-o", LUKS + "encrypt.key-secret=s0", "-b", f"{below}.qcow2", "-F", "qcow2",
                 f"{name}.qcow2", "1M", cwd=folder)
        harness.run(["qemu-io", *secrets, "--image-opts", f"driver=qcow2,encrypt.key-secret=s0,file.filename={name}.qcow2{more}",
                     "-c", "write -P 8 128k 128k"], cwd=folder)


def layouts(folder):
    """data.qcow2 keeps its data in d.raw, alone.qcow2 in r.raw, which reads like the disk; fine.qcow2 has subclusters, also
    over.qcow2, which lies on data.qcow2; gone.qcow2 names a data file that is not there."""
    for name, options in (("data", "data_file=d.raw"), ("alone", "data_file=r.raw,data_file_raw=on"), ("fine", "extended_l2=on"),
                          ("gone", "data_file=g.raw")):
        qemu_img("create", "-q", "-f", "qcow2", "-o", options, f"{name}.qcow2", "3M", cwd=folder)
        qemu_io(f"{name}.qcow2", ["write -P 1 0 64k", "write -P 2 1M 100k", "write -z 2M 64k", "write -P 3 2500k 2k"], cwd=folder)
    qemu_img("create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=16k", "-b", "data.qcow2", "-F", "qcow2",
             "over.qcow2", cwd=folder)
    qemu_io("over.qcow2", ["write -P 4 3k 1k", "write -P 5 1100k 100k"], cwd=folder)
    (folder / "g.raw").unlink()


def foreign(folder):
    """An image of each format that QEMU reads for kho, and b.raw, which is unlike them."""
    qemu_img("create", "-q", "-f", "raw", folder / "b.raw", "3M")
    qemu_io(folder / "b.raw", ["write -P 1 0 64k", "write -P 2 1M 100k"], "raw")
    for fmt in ("vmdk", "vdi", "vhdx", "vpc", "qed", "parallels", "qcow"):
        qemu_img("convert", "-q", "-f", "raw", "-O", fmt, folder / "b.raw", folder / f"a.{fmt}")
    qemu_io(folder / "b.raw", ["write -P 3 2M 64k"], "raw")


def bits(folder):
    """bits.qcow2 has three bitmaps, more.qcow2 one of a finer kind and a snapshot, longer.qcow2 one for a longer disk; those of
    broken.qcow2 are inconsistent; room.qcow2 is empty."""
    for name, size in (("bits", "16M"), ("more", "16M"), ("longer", "17M"), ("room", "16M")):
        qemu_img("create", "-q", "-f", "qcow2", folder / f"{name}.qcow2", size)
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", folder / "old.qcow2", "16M")
    qemu_img("create", "-q", "-f", "raw", folder / "plain.raw", "16M")
    for granularity, name in (("512", "fine"), ("1M", "coarse"), ("64k", "off")):
        qemu_img("bitmap", "--add", "-g", granularity, folder / "bits.qcow2", name)
    qemu_img("bitmap", "--disable", folder / "bits.qcow2", "off")
    qemu_io(folder / "bits.qcow2", ["write -P 1 100k 64k", "write -P 2 9M 1k"])
    shutil.copy(folder / "bits.qcow2", folder / "broken.qcow2")
    harness.run(["qemu-io", "-f", "qcow2", "-c", "write -P 3 2M 1k", "-c", "sigraise 9", folder / "broken.qcow2"], status=None)
    qemu_img("snapshot", "-c", "first", folder / "more.qcow2")
    for name in ("more", "longer"):
        qemu_img("bitmap", "--add", "-g", "4k", folder / f"{name}.qcow2", "from")
    qemu_io(folder / "more.qcow2", ["write -P 1 3M 1M"])


STATES = {state.__name__: state for state in (empty, images, pairs, chain, snapshots, damaged, luks, luks_keys, luks_data, luks_chain, volumes, layouts, foreign, bits)}


class Templates:
    """Folders of each state, made once and copied."""

    def __init__(self, top):
        self.top = top

    def copy(self, state, to):
        made = self.top / state
        if not made.exists():
            made.mkdir()
            STATES[state](made)
        # cp keeps holes, and with them what info says of disk space
        harness.run(["cp", "-a", "--sparse=always", made, to])
        settle(to)


# --- one row --------------------------------------------------------------------------------------------------------

def told(path, fmt):
    """What the real qemu-img says of an image, without what depends on where the file system put it, and on when a snapshot
    was taken."""
    said = json.loads(qemu_img("info", "-U", "-f", fmt, "--output=json", path.name, cwd=path.parent).out)
    said.pop("actual-size", None)
    data = said.get("format-specific", {}).get("data", {})
    data.pop("cid", None)  # a vmdk's: at random
    keys = data.get("encrypt", data)
    for random in (keys, *keys.get("slots", ())):  # as many iterations as took the time asked for
        for name in ("uuid", "iters", "master-key-iters"):
            random.pop(name, None)
    for snapshot in said.get("snapshots", ()):
        del snapshot["date-sec"], snapshot["date-nsec"]
    return said


def opened(name, fmt, key):
    """As the real qemu-img is told of an image in its folder."""
    secret = f",{'encrypt.' if fmt == 'qcow2' else ''}key-secret=k" if key and fmt != "raw" else ""
    return f"driver={fmt},file.filename={name}{secret}"


def assert_read_alike(name, fmt, key, real, ours):
    """By the real qemu-img, which looks for a data file from the folder that it runs in."""
    options = (*(("--object", f"secret,id=k,data={key}") if key else ()), "--image-opts")
    chain = qemu_img("info", "-U", "-f", fmt, "--backing-chain", name, cwd=real, status=None).out
    if "data file:" not in chain:
        qemu_img("compare", *options, opened(real / name, fmt, key), opened(ours / name, fmt, key))
    else:
        flat = real.parent / "flat"
        qemu_img("convert", *options, opened(name, fmt, key), "-O", "raw", flat, cwd=real)
        qemu_img("compare", *options, opened(flat, "raw", None), opened(name, fmt, key), cwd=ours)
        flat.unlink()
    if fmt == "qcow2":
        qemu_img("check", "-q", *options, opened(name, fmt, key), cwd=ours)


def assert_images_alike(row, real, ours, kho_img, failed):
    for name, fmt in row.images:
        a, b = real / name, ours / name
        if failed and not b.exists():
            continue  # kho leaves nothing half made
        assert b.exists() == a.exists(), f"{name} is there: qemu-img {a.exists()}, kho {b.exists()}"
        if not a.exists():
            continue
        assert told(b, fmt) == told(a, fmt)
        if fmt in ("raw", "qcow2", "luks"):
            assert kho_img("info", "-f", fmt, name, cwd=real).out == qemu_img("info", "-f", fmt, name, cwd=real).out
        if row.readable:
            assert_read_alike(name, fmt, row.key, real, ours)
        if row.stat:
            assert (a.stat().st_size, a.stat().st_mode) == (b.stat().st_size, b.stat().st_mode), name


def run_row(row, build, templates, tmp):
    """Gives the line to both and compares."""
    face = tmp / "bin/qemu-img"
    face.parent.mkdir(exist_ok=True)
    face.symlink_to(build / "kho")
    for name in ("real", "kho"):
        templates.copy(row.state, tmp / name)
    env = {**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    real = harness.run([REAL, *row.words], status=None, cwd=tmp / "real", env=qemu_env(env))
    ours = harness.run([face, *row.words], status=None, cwd=tmp / "kho", env=env)
    both = f"--- qemu-img\n{real}\n--- kho\n{ours}"
    assert ours.status == real.status, both
    if row.out:
        assert ours.out == real.out, both
    if row.says is None and row.err:
        assert ours.err == real.err, both
    elif row.says:
        assert row.says in ours.err and ours.err.count("\n") == 1, both
    for folder in (tmp / "real", tmp / "kho"):
        settle(folder)
    before, theirs, mine = (sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
                            for folder in (templates.top / row.state, tmp / "real", tmp / "kho"))
    assert mine == (before if ours.status == 1 and theirs != mine else theirs), both  # kho leaves nothing half made
    assert_images_alike(row, tmp / "real", tmp / "kho",
                        lambda *args, **how: harness.run([face, *args], status=None, env=env, **how), ours.status == 1)
    if row.holds:
        row.holds(tmp / "kho")


# --- which options rows cover ----------------------------------------------------------------------------------------

def covered(rows, table):
    """The lines of `qemu-img --table` ("info", "info --format") that the rows use."""
    longs = {}
    for line in table:
        verb, _, option = line.partition(" ")
        longs.setdefault(verb, []).extend([option] if option.startswith("--") else [])
    found = set()
    for one in rows:
        words = one.words
        if not words or words[0] not in longs:
            continue
        verb = words[0]
        found.add(verb)
        for word in words[1:]:
            if word.startswith("--"):
                name = word.split("=")[0]
                matching = [option for option in longs[verb] if option.startswith(name)]
                exact = [option for option in matching if option == name]
                found.update(f"{verb} {option}" for option in exact or matching[:1])
            elif word.startswith("-"):
                found.update(f"{verb} -{letter}" for letter in word[1:])
    return found
