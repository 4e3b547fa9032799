"""Differential rounds of verbs: random sequences of qemu-img's verbs and of guest writes, the same to Debian's qemu-img and
to kho under that name, each with images of its own. After each verb the exit statuses, and after every few of them what can be
seen of the images, are the same: contents, sizes, snapshots and what is in them, bitmaps and their bits, backing files, and
what `check` says. A failing round prints its seed, and KHO_ROUND=that runs that round alone."""

import os
import random
import shutil

import harness
from interop import bitmaps
from interop.engine import assert_same, qemu_img, qemu_io, qemu_json

ROUNDS = 2000 if harness.SOAK else 7
LOOK_EVERY = 4
CLUSTERS = (512, 4096, 65536)
TOOLS = ("qemu", "kho")
KINDS = {"write": 4, "grow": 1, "shrink": 1, "snapshot-c": 2, "snapshot-a": 2, "snapshot-d": 1, "bitmap": 3, "amend": 2, "commit": 1,
         "rebase": 2, "check": 1, "convert": 1}


class Round:
    def __init__(self, seed, folder, kho_program):
        self.rng = random.Random(seed)
        self.folder = folder
        self.programs = {"qemu": "qemu-img", "kho": kho_program}
        self.cluster = self.rng.choice(CLUSTERS)
        self.version = self.rng.choice((2, 3, 3))
        self.log = []
        self.names = 0
        size = self.cluster * self.rng.randint(24, 60) + 512 * self.rng.randint(0, 3)
        self.make_bases(size)
        options = f"cluster_size={self.cluster},compat={'0.10' if self.version == 2 else '1.1'}"
        if self.version == 3:
            extended = self.cluster >= 16384 and self.rng.random() < 0.5
            options += f",lazy_refcounts={self.rng.choice(('on', 'off'))},extended_l2={'on' if extended else 'off'}"
        backing = self.rng.choice(([], ["-b", "a.qcow2", "-F", "qcow2"], ["-b", "b.raw", "-F", "raw"]))
        self.both("create", "-q", "-f", "qcow2", "-o", options, *backing, "disk", str(size))

    def make_bases(self, size):
        """Two that the disk may lie on, of sizes of their own."""
        for tool in TOOLS:
            (self.folder / tool).mkdir()
        place = self.folder / "qemu"
        lengths = [max(self.cluster, size + self.rng.choice((-4, 0, 4)) * self.cluster) // 512 * 512 for _ in "ab"]
        qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={self.rng.choice(CLUSTERS)}", place / "a.qcow2", str(lengths[0]))
        qemu_io(place / "a.qcow2", [self.a_write(lengths[0]) for _ in range(6)])
        (place / "b.raw").write_bytes(b"".join(bytes([self.rng.randint(1, 255)]) * 512 for _ in range(lengths[1] // 512)))
        for name in ("a.qcow2", "b.raw"):
            shutil.copy(place / name, self.folder / "kho" / name)

    def a_write(self, size):
        off = self.rng.randrange(size // 512) * 512
        length = min(size - off, self.rng.choice((512, self.cluster // 2, self.cluster, self.cluster * 5)))
        return self.rng.choice((f"write -P {self.rng.randint(1, 255)} {off} {length}",) * 3 + (f"write -z {off} {length}", f"discard {off} {length}"))

    def both(self, *words):
        """The same words to both; they end alike. Returns whether they did it."""
        self.log.append(" ".join(words))
        ran = {tool: harness.run([self.programs[tool], *words], status=None, cwd=self.folder / tool) for tool in TOOLS}
        assert ran["kho"].status == ran["qemu"].status, "\n".join(str(one) for one in ran.values())
        return ran["qemu"].status == 0

    def info(self, tool="qemu"):
        return qemu_json("info", "-f", "qcow2", "disk", cwd=self.folder / tool)

    def state(self, tool):
        """What can be seen of it from outside."""
        info = self.info(tool)
        data = info["format-specific"]["data"]
        return {"size": info["virtual-size"], "backing": info.get("backing-filename"), "backing-format": info.get("backing-filename-format"),
                "snapshots": [(one["id"], one["name"], one["vm-state-size"]) for one in info.get("snapshots", [])],
                "layout": {key: data.get(key) for key in ("compat", "lazy-refcounts", "refcount-bits", "extended-l2", "corrupt")}}

    def compare_bitmaps(self):
        """Where kho writes a cluster anew with what it held, the bitmaps tell of it, and QEMU's do not: more is no harm."""
        theirs, ours = (bitmaps.read(self.folder / tool / "disk") for tool in TOOLS)
        assert {name: one[:3] for name, one in ours.items()} == {name: one[:3] for name, one in theirs.items()}
        for name, one in ours.items():
            assert one[3] >= theirs[name][3], (name, sorted(theirs[name][3] - one[3]))

    def compare(self):
        states = {tool: self.state(tool) for tool in TOOLS}
        assert states["kho"] == states["qemu"], states
        self.compare_bitmaps()
        ids = [None, *(one[0] for one in states["qemu"]["snapshots"])]
        for ident in ids:
            if ident:
                for tool in TOOLS:
                    qemu_img("convert", "-l", f"snapshot.id={ident}", "-f", "qcow2", "-O", "raw", "disk", "was.raw", cwd=self.folder / tool)
            disk, fmt = ("was.raw", "raw") if ident else ("disk", "qcow2")
            assert_same(self.folder / "qemu" / disk, fmt, self.folder / "kho" / disk, fmt)
        for name, fmt in (("a.qcow2", "qcow2"), ("b.raw", "raw")):
            assert_same(self.folder / "qemu" / name, fmt, self.folder / "kho" / name, fmt)
        found = qemu_json("check", "-f", "qcow2", "disk", cwd=self.folder / "kho", status=None)
        assert not found.get("corruptions") and not found.get("leaks") and not found["check-errors"], found

    # --- the kinds

    def do(self, kind):
        getattr(self, "do_" + kind.split("-")[0])(*kind.split("-")[1:])

    def do_write(self):
        command = [self.a_write(self.info()["virtual-size"]) for _ in range(self.rng.randint(1, 4))]
        if self.version == 2:  # what is discarded there reads as what lies below, and only QEMU's tools say when
            command = [one.replace("discard", "write -z") for one in command]
        self.log.append("; ".join(command))
        for tool in TOOLS:
            qemu_io("disk", command, cwd=self.folder / tool)

    def do_grow(self):
        """In version 2 QEMU cannot hide what lies below the new end; and of a cluster that the old end cut it shows the rest as
        a rebase has left it, where kho has zeros."""
        if self.version == 2 or self.info()["virtual-size"] % self.cluster:
            return
        self.both("resize", "-q", "-f", "qcow2", "disk", f"+{512 * self.rng.randint(1, self.cluster // 64)}")

    def do_shrink(self):
        """To fewer, whole clusters: of one that is cut, QEMU shows the rest again when the disk grows, where kho has zeros."""
        was = self.info()["virtual-size"]
        size = max(1, was // self.cluster - self.rng.randint(0, 8)) * self.cluster
        if size < was:
            self.both("resize", "-q", "--shrink", "-f", "qcow2", "disk", str(size))

    def do_snapshot(self, what):
        names = [one["name"] for one in self.info().get("snapshots", [])]
        if what == "c":
            self.names += 1
            name = f"s{self.names}"
        else:
            name = self.rng.choice([*names, "none"]) if names else "none"
        self.both("snapshot", f"-{what}", name, "disk")

    def do_bitmap(self):
        names = sorted(bitmaps.read(self.folder / "qemu" / "disk"))
        name = self.rng.choice([*names, "none"])
        deed = self.rng.choice(("add", "add", "remove", "clear", "enable", "disable", "merge"))
        if deed == "add":
            self.names += 1
            name = f"b{self.names}"
        more = ["-g", self.rng.choice(("512", "4k", "64k"))] if deed == "add" else [self.rng.choice([*names, "none"])] if deed == "merge" else []
        if deed == "merge" and more[0] == name:
            return
        self.both("bitmap", f"--{deed}", *more, "-f", "qcow2", "disk", name)

    def has_bitmaps(self):
        return bool(bitmaps.read(self.folder / "qemu" / "disk"))

    def has_snapshots(self):
        return bool(self.info().get("snapshots"))

    def do_amend(self):
        """Version 2 has no bitmaps: kho refuses to lose them, QEMU leaves them behind. Nor has it zero clusters: where one has a
        place that a snapshot uses too, QEMU 7.2 writes zeros over the snapshot's data."""
        wish = self.rng.choice(("compat=1.1", "compat=0.10", "lazy_refcounts=on", "lazy_refcounts=off", "refcount_bits=64", "refcount_bits=16",
                                "refcount_bits=8"))
        if wish == "compat=0.10" and (self.has_bitmaps() or self.has_snapshots()):
            return
        if self.both("amend", "-q", "-f", "qcow2", "-o", wish, "disk"):
            self.version = 2 if self.info()["format-specific"]["data"]["compat"] == "0.10" else 3

    def do_commit(self):
        """Not with bitmaps: kho refuses to lose them, QEMU copies some, and not others. Nor with snapshots, whose holes read
        as the base, which is another one then."""
        if not self.has_bitmaps() and not self.has_snapshots():
            self.both("commit", "-q", "-f", "qcow2", "disk")

    def do_rebase(self):
        """In version 2, which has no zero clusters, QEMU 7.2 lets the new backing file show where zeros were: only to nothing. Not
        with snapshots, whose holes are not kept by a rebase."""
        if self.has_snapshots():
            return
        to = ["-b", ""] if self.version == 2 else self.rng.choice((["-b", ""], ["-F", "qcow2", "-b", "a.qcow2"], ["-F", "raw", "-b", "b.raw"]))
        self.both("rebase", "-q", "-f", "qcow2", *to, "disk")

    def do_check(self):
        """A repair by QEMU 7.2 of an image with bitmaps and snapshots loses the snapshots."""
        repair = [] if self.has_bitmaps() else self.rng.choice(([], ["-r", "leaks"], ["-r", "all"]))
        self.both("check", "-q", "-f", "qcow2", *repair, "disk")

    def do_convert(self):
        """Into a new image, with its bitmaps, which takes the disk's place."""
        if self.version == 3 and self.both("convert", "--bitmaps", "-f", "qcow2", "-O", "qcow2", "-o", f"cluster_size={self.cluster}", "disk", "new"):
            for tool in TOOLS:
                os.replace(self.folder / tool / "new", self.folder / tool / "disk")


def run_round(seed, folder, program):
    folder.mkdir()
    r = None
    try:
        r = Round(seed, folder, program)
        kinds = [kind for kind, times in KINDS.items() for _ in range(times)]
        r.rng.shuffle(kinds)
        for number, kind in enumerate(kinds):
            r.do(kind)
            if number % LOOK_EVERY == LOOK_EVERY - 1 or number == len(kinds) - 1:
                r.compare()
    except AssertionError as error:
        steps = "\n  ".join(r.log if r else [])
        raise AssertionError(f"round KHO_ROUND={seed} (runs alone so)\n  {steps}\n{error}") from error
    shutil.rmtree(folder)


def test_verbs_agree(kho, rng, build):
    """Rule: whoever calls qemu-img gets what qemu-img does, whatever came before."""
    (kho.tmp / "bin").mkdir()
    program = kho.tmp / "bin" / "qemu-img"
    program.symlink_to(build / "kho")
    seeds = [int(os.environ["KHO_ROUND"])] if "KHO_ROUND" in os.environ else rng.sample(range(1 << 31), ROUNDS)
    for number, seed in enumerate(seeds):
        run_round(seed, kho.tmp / f"round-{number}", program)
