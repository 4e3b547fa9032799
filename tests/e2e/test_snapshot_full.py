"""Snapshots on a full file system, tree and images alike: the old state or the new one, one line of error, nothing orphaned, and
when there is room again the machine can be used."""

import itertools

import harness
import layers
import machine
import pytest
import steps

NO_SPACE = 10
MIB = 1 << 20
ROOMY = 24 * MIB  # what a test needs beside its files

STOPPED = {"snapshot-create": {"create": ("snapshot-create-as", "m", "s3")},
           "snapshot-revert": {"revert": ("snapshot-revert", "m", "s1")},
           "snapshot-delete": {"delete": ("snapshot-delete", "m", "s1")}}  # down with vda, up with vdb
RUNNING = {"snapshot-create": {"disks alone": ("snapshot-create-as", "m", "s4", "--disk-only"),
                               "with memory": ("snapshot-create-as", "m", "s4")},
           "snapshot-revert": {"boot": ("snapshot-revert", "m", "s1", "--running"), "to memory": ("snapshot-revert", "m", "s3")},
           "snapshot-delete": {"active": ("snapshot-delete", "m", "s3"), "middle": ("snapshot-delete", "m", "s1")}}


@pytest.fixture
def fs(small_fs):
    return small_fs("ext4", 192)


@pytest.fixture
def m(kho, fs):
    """All of kho's tree and the images are on the small file system."""
    kho.root = fs.path / "root"
    m = layers.Machine(kho, folder=fs.path / "disks")
    kho("snapshot-create-as", "m", "s0")  # below which are files that kho did not make
    m.write("vda", 1, 0, 2048)
    m.write("vdb", 1, 0, 4)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 256)
    m.write("vdb", 2, 64, 1024)
    kho("snapshot-create-as", "m", "s2")
    m.write("vda", 3, 32, 64)
    return m


def with_memory(m):
    m.kho("start", "m")
    m.kho("snapshot-create-as", "m", "s3")
    m.kho("destroy", "m")
    m.write("vdb", 3, 64, 2048)


def states(m, verbs, runs):
    """(saved files, {words: (state before, state after)}), each verb having run undisturbed once."""
    saved, found = layers.Saved(m), {}
    for words in itertools.chain.from_iterable(kind.values() for kind in verbs.values()):
        saved.restore()
        old = m.state()
        if runs:
            m.kho("start", "m")
        m.kho(*words)
        found[words] = old, m.state()
        end(m)
    return saved, found


def end(m):
    if m.kho.json("domstate", "m")["state"] != "shut off":
        m.kho("destroy", "m")


def judge(m, fs, words, old, new, ran, use=True):
    """@ran: (status, stderr) of the verb that met a full file system. @use: the machine is used afterwards."""
    status, said = ran
    assert len(said.splitlines()) == (status != 0), f"{words}: {status}: {said}"
    assert status in (0, NO_SPACE) or "space" in said, f"{words}: {status}: {said}"
    assert status != NO_SPACE or str(fs.path) in said, f"{words}: which file? {said}"
    fs.fill(ROOMY)
    m.kho("recover")
    became = layers.judge(m, old, new, deleted=words[2] if words[0] == "snapshot-delete" else None)
    print(words, status, said.strip(), "new" if became else "old")
    if use:
        if m.kho.json("domstate", "m")["state"] == "shut off":
            m.kho("start", "m")
        assert m.kho("domstate", "m").out == "running\n"
        m.kho("snapshot-create-as", "m", "after", "--disk-only")
        m.kho("snapshot-delete", "m", "after")
        m.check()
    end(m)
    assert not list(fs.path.rglob("*.kho-tmp"))


def full_at_every_step(m, fs, verbs, runs, soak):
    """The room goes when a step begins, all or nearly all of it."""
    saved, found = states(m, verbs, runs)
    levels = [0, 8 << 10, 128 << 10, 512 << 10, MIB]
    for n, (kind, step, _) in enumerate(layers.steps(m.kho, *verbs)):
        cases = list(itertools.product(verbs[kind].values(), levels))
        for words, level in cases if soak else [cases[n * 7 % len(cases)]]:
            fs.fill(ROOMY * 5)
            saved.restore()
            if runs:
                m.kho("start", "m")
            child = steps.stopped(m.kho, f"{kind}:{step}:before", *words)
            fs.fill(level)
            child.send_signal(harness.signal.SIGCONT)
            said = child.communicate(timeout=harness.HANG_GUARD_S)[1].decode()
            print(step, level)
            judge(m, fs, words, *found[words], (child.returncode, said), use=soak or n % 4 == 0)


def test_full_at_every_step(m, fs, soak):
    full_at_every_step(m, fs, STOPPED, False, soak)


def test_full_at_every_step_under_a_guest(m, fs, soak):
    with_memory(m)
    full_at_every_step(m, fs, RUNNING, True, soak)


def full_from_the_beginning(m, fs, verbs, runs, soak):
    saved, found = states(m, verbs, runs)
    levels = [0, 4 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, MIB, 2 * MIB, 4 * MIB, 16 * MIB]
    for n, words in enumerate(found):
        for level in levels if soak else [levels[n * 3 % len(levels)]]:
            fs.fill(ROOMY * 5)
            saved.restore()
            if runs:
                m.kho("start", "m")
            fs.fill(level)
            ran = m.kho(*words, status=None)
            assert level > 4 << 10 or ran.status == NO_SPACE, str(ran)
            judge(m, fs, words, *found[words], (ran.status, ran.err))


def test_full_from_the_beginning(m, fs, soak):
    full_from_the_beginning(m, fs, STOPPED, False, soak)


def test_full_from_the_beginning_under_a_guest(m, fs, soak):
    with_memory(m)
    full_from_the_beginning(m, fs, RUNNING, True, soak)


def test_the_guest_outlives_a_merge_that_meets_a_full_disk(m, fs, soak):
    """The room is enough for what is copied, and not for the headers, which lie in holes: QEMU 7.2 dies of that."""
    with_memory(m)
    words = RUNNING["snapshot-delete"]["middle"]
    saved, found = states(m, {"snapshot-delete": {"middle": words}}, True)
    for level in range(16 << 10, 192 << 10, (8 if soak else 32) << 10):
        fs.fill(ROOMY * 5)
        saved.restore()
        m.kho("start", "m")
        pid = machine.qemu_pid(m.kho, "m")
        child = steps.stopped(m.kho, "snapshot-delete:mark:before", *words)
        fs.fill(level)
        child.send_signal(harness.signal.SIGCONT)
        said = child.communicate(timeout=harness.HANG_GUARD_S)[1].decode()
        assert machine.qemu_pid(m.kho, "m") == pid, f"{level}: {said}"
        judge(m, fs, words, *found[words], (child.returncode, said), use=soak)


@pytest.mark.parametrize("runs", [False, True])
def test_a_merge_without_room_is_refused_with_the_figures(m, fs, runs):
    if runs:
        m.kho("start", "m")
    old = m.state()
    fs.fill(32 << 10)
    kept = machine.kept(m.kho)
    m.kho.refuses("snapshot-delete", "m", "s1", status=NO_SPACE, says=["merging", "bytes more", "are free", "vdb.2.qcow2", "vdb.4.qcow2"])
    assert kept == machine.kept(m.kho)
    fs.fill(ROOMY)
    assert m.state() == old
    m.kho("snapshot-delete", "m", "s1")
    end(m)
    m.check()


def test_memory_without_room_is_refused_with_the_figures(m, fs):
    m.kho("start", "m")
    old = m.state()
    fs.fill(32 * MIB)
    m.kho.refuses("snapshot-create-as", "m", "s3", status=NO_SPACE, says=["memory of machine 'm' may need 96", "left"])
    assert m.state() == old and m.kho("domstate", "m").out == "running\n"
    m.check()
    end(m)


def test_no_room_for_a_layer_is_told_with_figures(kho, small_fs):
    fs = small_fs("ext4", 16)
    disk = fs.path / "m.raw"
    disk.write_bytes(bytes(MIB))
    machine.define(kho, "m", machine.disk(disk, "vda", "raw"))
    fs.fill(32 << 10)
    kho.refuses("snapshot-create-as", "m", "s1", status=NO_SPACE, says=["needs 256 KiB at least", str(fs.path), "free"])
    assert sorted(path.name for path in fs.path.iterdir()) == [".ballast", "lost+found", "m.raw"]


@pytest.mark.parametrize("name", ["s1", "s2"])
def test_a_merge_in_qemu_that_finds_no_room_names_the_file(m, fs, name):
    m.kho("start", "m")
    child = steps.stopped(m.kho, "snapshot-delete:merge:before", "snapshot-delete", "m", name)
    fs.fill(0)
    child.send_signal(harness.signal.SIGCONT)
    said = child.communicate(timeout=harness.HANG_GUARD_S)[1].decode()
    fs.fill(ROOMY)
    assert child.returncode == NO_SPACE and "No space left" in said and f"{m.folder}/vd" in said, said
    m.kho("snapshot-delete", "m", name)
    m.kho("destroy", "m")
    m.check()
