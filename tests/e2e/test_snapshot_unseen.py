"""Whoever cannot be looked at might lie on a file: as long as somebody names him, that file is neither removed nor written.
Contents are read by qemu-img."""

import os
import struct

import harness
import layers
import machine
import pytest

BUSY = 8


def stands(kho, m):
    """All that a refused verb leaves as it was."""
    return machine.kept(kho), {path: path.stat().st_mtime_ns for path in m.folder.iterdir()}


@pytest.fixture
def m(kho):
    """s1 to s3 closed vda, vda.1 and vda.2; m goes on in vda.3."""
    found = layers.Machine(kho, formats=("qcow2",))
    for n in range(1, 4):
        found.write("vda", n, 64 * n, 512)
        kho("snapshot-create-as", "m", f"s{n}")
    found.write("vda", 4, 0, 64)
    return found


def move(path, kho):
    away = kho.tmp / "away"
    os.rename(path, away)
    return lambda: os.rename(away, path)


def cut(path, kho):
    whole = path.read_bytes()
    os.truncate(path, 70000)
    return lambda: path.write_bytes(whole)


def renew(path, kho):
    """A feature that this kho does not know, and that changes what the rest of the header means."""
    def write(word):
        with open(path, "r+b") as file:
            file.seek(72)
            file.write(struct.pack(">Q", word))
    write(1 << 50)
    return lambda: write(0)


@pytest.mark.parametrize("hide", [move, cut, renew])
@pytest.mark.parametrize("top, deletes", [("vda.3", ["s3", "s1"]), ("vda.2", ["s2"])])
def test_a_delete_waits_for_what_cannot_be_looked_at(kho, m, hide, top, deletes):
    path, old = m.folder / f"{top}.qcow2", m.state()
    st = path.stat()
    back = hide(path, kho)
    before = stands(kho, m)
    for name in deletes:
        whose = "disk vda of machine 'm'" if top == "vda.3" else "snapshot 's3' of machine 'm'"
        kho.refuses("snapshot-delete", "m", name, status=BUSY,
                    says=[f"'{name}'", f"{path} ({whose})", "cannot be told", "put it back", f"--force m {name}"])
    assert stands(kho, m) == before
    back()
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    layers.seen.clear()
    assert m.state() == old
    for name in deletes:
        kho("snapshot-delete", "m", name)
    assert m.now() == old["now"]


def test_a_top_on_a_file_system_that_is_not_mounted(kho, small_fs):
    disk = small_fs("ext4", 32)
    m = layers.Machine(kho, formats=("qcow2",))
    kho("snapshot-create-as", "m", "s1")
    kho("snapshot-create-as", "m", "s2", "--diskspec", f"vda,file={disk.path}/top.qcow2")
    m.write("vda", 4, 0, 64)
    now = m.now()
    harness.run(["umount", disk.path])
    before = stands(kho, m)
    for name in ("s1", "s2"):
        kho.refuses("snapshot-delete", "m", name, status=BUSY, says=[f"{disk.path}/top.qcow2 (disk vda of machine 'm')"])
    # nor where nothing but the list of what kho made leads to it
    text = kho("dumpxml", "m").out
    kho("detach-disk", "m", "vda", "--config")
    listed = kho.root / "lib/qemu/snapshot/m/.overlays"
    for name in ("s1", "s2"):
        kho.refuses("snapshot-delete", "m", name, status=BUSY,
                    says=[f"{disk.path}/top.qcow2, which kho made for machine 'm'", str(listed)])
    kho("define", "-", input=text)
    assert stands(kho, m) == before
    harness.run(["mount", "-o", "loop", disk.base / "disk", disk.path])
    layers.seen.clear()
    assert m.now() == now
    for name in ("s1", "s2"):
        kho("snapshot-delete", "m", name)
    assert m.now() == now


@pytest.fixture
def other(kho, m):
    """The disk of machine b lies on what m writes."""
    top = layers.overlay(kho.base / "b/top.qcow2", m.folder / "vda.3.qcow2")
    machine.define(kho, "b", machine.disk(top))
    return top


def test_a_revert_leaves_what_another_machine_might_need(kho, m, other):
    content, back = layers.reads(other), move(other, kho)
    said = kho("snapshot-revert", "m", "s3").err
    assert f"{m.folder}/vda.3.qcow2 stays" in said and f"{other} (disk vda of machine 'b')" in said and said.count("\n") == 1
    back()
    assert layers.reads(other) == content
    kho("start", "b")
    kho("destroy", "b")


def test_what_goes_out_of_sight_meanwhile(kho, m, other):
    """Before the first write the delete is taken back; afterwards the file stays, and the delete ends all the same."""
    for name, point, status in [("s1", "look-again:before", BUSY), ("s2", "drop-files:before", 0)]:
        old, content = m.state(), layers.reads(other)
        child = layers.stop_at(kho, f"snapshot-delete:{point}", "snapshot-delete", "m", name)
        back = move(other, kho)
        child.send_signal(18)
        out, err = (text.decode() for text in child.communicate(timeout=60))
        assert child.returncode == status and f"{other} (disk vda of machine 'b')" in out + err, (out, err)
        back()
        assert layers.reads(other) == content
        assert m.now() == old["now"] and (status == 0 or m.state() == old)
    assert f"warning: left behind: {m.folder}/vda.1.qcow2 stays" in err and len(m.snapshots()) == 2


def test_what_is_raw_lies_on_nothing(kho, m):
    """Its definition says so: nobody needs to look."""
    machine.define(kho, "b", machine.disk(kho.base / "nix.img", format="raw"))
    kho("snapshot-delete", "m", "s2")
    m.check()


def test_the_ways_out_of_a_file_that_is_gone_for_good(kho, m, other):
    # whoever names it does so no more
    now, gone = m.now(), os.unlink(other)
    kho.refuses("snapshot-delete", "m", "s1", status=BUSY, says=["machine 'b'", "kho edit"])
    kho("undefine", "b")
    kho("snapshot-delete", "m", "s1")
    assert m.now() == now and gone is None
    # its snapshot is forgotten; going back ends the use of a disk's file that is lost
    (m.folder / "vda.2.qcow2").unlink()
    kho.refuses("snapshot-delete", "m", "s2", status=BUSY, says=["snapshot 's3'", "kho snapshot-delete --metadata m s3"])
    kho("snapshot-revert", "m", "s2")
    kho("snapshot-delete", "--metadata", "m", "s3")
    kho("snapshot-delete", "m", "s2")
    assert len(m.snapshots()) == 0


def test_force_gives_up_what_cannot_be_looked_at(kho, m, other):
    now, back = m.now(), move(other, kho)
    kho.refuses("snapshot-delete", "m", "s2", status=BUSY, says="lose it with `kho snapshot-delete --force m s2`")
    kho("snapshot-delete", "--force", "m", "s2")
    assert m.now() == now and len(m.snapshots()) == 2
    back()
    os.unlink(other)


def test_what_was_taken_out_of_its_folder_is_gone(kho, m):
    """An overlay that nobody names any more, and that somebody removed: nothing waits for it."""
    kho("snapshot-create-as", "m", "s4")
    text = kho("dumpxml", "m").out
    kho("define", "-", input=text.replace("vda.4.qcow2", "mine.qcow2"))
    os.rename(m.folder / "vda.4.qcow2", m.folder / "mine.qcow2")
    kho("snapshot-delete", "m", "s4")
    kho("snapshot-delete", "m", "s2")
    m.check()


@pytest.mark.parametrize("name", [".mine.qcow2", ".kho-tmp.qcow2"])
def test_an_overlay_with_a_hidden_name_is_seen(kho, m, name):
    hidden = layers.overlay(m.folder / name, m.folder / "vda.1.qcow2")
    content = layers.reads(hidden)
    kho.refuses("snapshot-delete", "m", "s2", status=6, says=name)
    assert layers.reads(hidden) == content
    hidden.unlink()
    kho("snapshot-delete", "m", "s2")
    m.check()
