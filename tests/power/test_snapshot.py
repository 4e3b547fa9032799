"""A power failure at the end of every fsync of what is done to snapshots: what the machine and its snapshots hold is the old
state or the new one, whatever of it had come to the disk, and no file is orphaned."""

import copy

import layers
import pytest
from power.replay import replayed


@pytest.fixture
def m(kho):
    """Disks in the tree, which is what the recording sees; deleting s1 goes down with vda, up with vdb."""
    m = layers.Machine(kho, folder=kho.root / "disks")
    kho("snapshot-create-as", "m", "s0")  # below which are files that kho did not make
    m.write("vda", 1, 0, 512)
    m.write("vdb", 1, 0, 4)
    kho("snapshot-create-as", "m", "s1")
    m.write("vda", 2, 0, 64)
    m.write("vdb", 2, 64, 512)
    kho("snapshot-create-as", "m", "s2")
    m.write("vda", 3, 32, 64)
    return m


def after(m, *words):
    """What a verb makes of it, undisturbed; then all is as before."""
    saved = layers.Saved(m)
    m.kho(*words)
    m.check()
    state = m.state()
    saved.restore()
    return state


@pytest.mark.parametrize("words", [("snapshot-create-as", "m", "s3"), ("snapshot-revert", "m", "s1")],
                         ids=["create", "revert"])
def test_old_or_new(kho, build, rng, m, words):
    old, new, seen = m.state(), after(m, *words), []
    for what in replayed(kho, build, rng, *words):
        kho("recover")
        state = m.state()
        assert state in (old, new), f"{what}: {state}\nis neither\n{old}\nnor\n{new}"
        m.check(leaks=True)
        seen.append(state == new)
    assert set(seen) == {True, False} and seen[-1]


def test_delete(kho, build, rng, m):
    """Between the two it shows as being deleted, all else is as it was, and the next delete goes on."""
    words = ("snapshot-delete", "m", "s1")
    old, new, seen = m.state(), after(m, *words), []
    half = copy.deepcopy(old)
    half["snapshots"]["s1"].update(deleting=True, disks=None)
    for what in replayed(kho, build, rng, *words):
        kho("recover")
        state = m.state()
        deleting = state["snapshots"].get("s1", {}).get("deleting", False)
        if deleting:
            state["snapshots"]["s1"]["disks"] = None  # its own contents are given up
        assert state in (old, half, new), f"{what}: {state}\nis none of\n{old}\n{half}\n{new}"
        if deleting and seen.count("deleting") % 10 == 0:
            kho(*words)
            assert m.state() == new, what
        m.check(leaks=True)
        seen.append("deleting" if deleting else "new" if state == new else "old")
    assert set(seen) == {"old", "deleting", "new"} and seen[-1] == "new", seen
