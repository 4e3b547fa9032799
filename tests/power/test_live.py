"""A power failure at the end of an fsync while a guest writes, of what kho and QEMU do to the snapshots of a machine that runs:
the machine is shut off and as before or as after, what its guest was told is durable is there, and each snapshot that is
listed reads exactly as it did."""

import copy

import counter
import diary
import harness
import layers
import machine
import pytest
from power.replay import WRITE, Recording, recorded_emulator

# How many of a verb's fsyncs are the last one before the failure; one in how many of the states is gone on from.
CUTS, RANDOMS, EVERY = (None, 2, 5) if harness.SOAK else (3, 1, 10)


class Guest:
    """A machine whose guest keeps a diary on both disks, or (@silent) touches none, so that none of its flushes takes along what
    kho and QEMU forgot to flush; all that happens to its tree is recorded."""

    def __init__(self, kho, build, silent):
        self.kho, self.build, self.silent = kho, build, silent

        def define(kho, name, *disks):  # the BIOS knows those alone that it may boot from
            disks = [disk.replace("</disk>", f"<boot order='{n}'/></disk>") for n, disk in enumerate(disks, 1)]
            machine.define(kho, name, recorded_emulator(kho), *disks)
        self.m = layers.Machine(kho, folder=kho.root / "disks", define=define)
        if not silent:
            diary.install(self.m.folder / "vda.qcow2")

    def start(self):
        self.recording = Recording(self.kho, self.build / "record.so", self.kho.base / "record.log")
        self.kho("start", "m", env=self.recording.env)
        self.write_on()

    def write_on(self, by=3):
        if not self.silent:
            counter.wait_counting(self.kho, "m", counter.wait_counting(self.kho, "m") + by)

    def do(self, *words):
        """Runs a verb while the guest writes; remembers its part of the recording."""
        since = self.recording.size()
        self.kho(*words, env=self.recording.env)
        self.part = since, self.recording.size()
        self.write_on()

    def end(self):
        self.kho("destroy", "m")
        self.m.check()
        return self.look()

    def look(self):
        """Of a machine that is shut off: all that must be exact; how far the diary goes is judged apart."""
        return self.m.state() if self.silent else self.m.state(lambda path, format: diary.read(path, format)[1])

    def failures(self, rng):
        """(what, {pid of a QEMU: the last entry that its guest knows to be durable}), the tree being what a power failure
        during the verb could have left."""
        fsyncs, known = self.recording.boundaries(*self.part), {}
        spread = len(fsyncs) / (CUTS or len(fsyncs))
        assert spread >= 1

        def watch(op):
            n = diary.entry(op.first) if op.kind == WRITE else None
            if n:
                known[op.pid] = max(n - 1, known.get(op.pid, 0))
        wanted = {fsyncs[int((n + rng.random()) * spread)] for n in range(CUTS or len(fsyncs))} | {fsyncs[-1]}
        seen = set()
        for what, state in self.recording.states(rng, RANDOMS, wanted, watch):
            digest = state.digest()
            if digest not in seen:
                seen.add(digest)
                state.write_out(self.kho.root)
                yield what, dict(known)

    def recovered(self, what):
        self.kho("recover")
        assert self.kho("domstate", "m").out == "shut off\n", what
        self.m.check(leaks=True)
        return self.look()

    def wrote(self, what, known):
        """How far the diary goes: at least as far as the guest knows."""
        if self.silent:
            return 0
        last = diary.agreed(self.m.disks())
        assert last >= max(known.values()), f"{what}: the guest knows {known}, its disks end at {last}"
        return last


def is_one_of(what, state, *wanted):
    assert state in wanted, f"{what}: {state}\nis none of\n" + "\n".join(map(str, wanted))


@pytest.fixture(params=[False, True], ids=["writing", "silent"])
def guest(kho, build, request):
    guest = Guest(kho, build, silent=request.param)
    for target in guest.m.targets:
        guest.m.write(target, 1, 1024, 512)
    kho("snapshot-create-as", "m", "s0")
    return guest


@pytest.mark.parametrize("more", [["--disk-only"], []], ids=["disks", "memory"])
def test_create(kho, rng, guest, more):
    old, seen = guest.look(), []
    guest.start()
    guest.do("snapshot-create-as", "m", "s1", *more)
    if not more:
        memory = kho.root / "lib/qemu/snapshot/m/s1.mem"
        assert guest.recording.content(memory) == memory.read_bytes()
    new = guest.end()
    for what, known in guest.failures(rng):
        state = guest.recovered(what)
        last = guest.wrote(what, known)
        taken = state["snapshots"].get("s1", {})
        if more and taken and taken["disks"] == guest.m.now():  # of the failure's moment: the guest wrote to no overlay
            taken["disks"] = new["snapshots"]["s1"]["disks"]
        is_one_of(what, state, old, new)
        seen.append(state == new)
        if state == new:
            assert guest.silent or diary.agreed(layers.closed(guest.m, "s1")) <= last
            if not more and seen.count(True) % EVERY == 1:
                kho("snapshot-revert", "m", "s1")
                guest.write_on()
                kho("destroy", "m")
    assert seen[-1]


@pytest.mark.parametrize("guest", [False], indirect=True, ids=["writing"])
def test_revert(kho, rng, guest):
    """Forward where the machine was ended for it: what its guest wrote last was given up, and it goes on from the memory."""
    m, seen = guest.m, []
    guest.start()
    kho("snapshot-create-as", "m", "s1", env=guest.recording.env)
    guest.write_on()
    old_disks = m.disks()
    guest.do("snapshot-revert", "m", "s1")
    new_disks, state = m.disks(), guest.end()
    for what, known in guest.failures(rng):
        kho("recover")
        if kho("domstate", "m").out == "running\n":
            counter.wait_counting(kho, "m")
            kho("destroy", "m")
        is_one_of(what, guest.recovered(what), state)
        is_one_of(what, m.disks(), old_disks, new_disks)
        became, wrote, last = m.disks() == new_disks, list(known.values()), diary.agreed(m.disks())
        assert last >= (diary.agreed(layers.closed(m, "s1")) if became else wrote[0]), what
        assert became or len(wrote) == 1, f"{what}: the guest that went on has written, and the machine is the old one"
        assert last >= wrote[-1] or len(wrote) == 1, f"{what}: the guest knows {wrote[-1]}, its disks end at {last}"
        seen.append(became)
    assert seen[-1] and (False in seen or CUTS)  # a few cuts may miss it


# vda is merged downwards, vdb upwards, but for s0, whose files kho did not make: all goes down into those.
LAYERS = [("vda", 1024), ("vdb", 4)], [("vda", 256), ("vdb", 256)], [("vda", 4), ("vdb", 512)]


@pytest.mark.parametrize("name", ["s0", "s1", "s2"], ids=["base", "middle", "active"])
def test_delete(kho, rng, guest, name):
    """Between old and new it shows as being deleted, all else is as it was, and the next delete goes on."""
    m, words = guest.m, ("snapshot-delete", "m", name)
    for n, layer in enumerate(LAYERS, 1):
        for target, kib in layer:
            m.write(target, 16 + n, 1024 + 64 * n, kib)
        if n < 3:
            kho("snapshot-create-as", "m", f"s{n}")
    old, files, seen = guest.look(), layers.closed(m, name), []
    guest.start()
    guest.do(*words)
    new = guest.end()
    left = {file for _, (path, _) in m.disks().items() for file in layers.chain(path)}
    assert files["vda"][0] in left and (files["vdb"][0] in left) == (name == "s0")
    half = copy.deepcopy(old)
    half["snapshots"][name].update(deleting=True, disks=None)
    for what, known in guest.failures(rng):
        state = guest.recovered(what)
        deleting = state["snapshots"].get(name, {}).get("deleting", False)
        if deleting:
            state["snapshots"][name]["disks"] = None  # its own contents are given up
        is_one_of(what, state, old, half, new)
        last = guest.wrote(what, known)
        if deleting and seen.count("deleting") % EVERY == 0:
            kho(*words)
            assert guest.look() == new and guest.wrote(what, known) == last, what
            m.check(leaks=True)
        seen.append("deleting" if deleting else "new" if state == new else "old")
    assert seen[-1] == "new" and ("deleting" in seen or CUTS), seen  # a few cuts may miss it
