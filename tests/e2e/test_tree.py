"""The tree itself: which one is worked on, and whose it is."""

import os
import shutil

import pytest

import harness
import machine

USAGE, INVALID, DENIED = 2, 5, 9
NOBODY = 65534


@pytest.fixture
def shared(kho):
    """kho where other users can start it."""
    for program in ("kho", "kho-vm"):
        shutil.copy(kho.build / program, kho.base / program)
    kho.program = kho.base / "kho"
    kho.base.chmod(0o755)
    kho.reports.chmod(0o777)
    kho.tmp.chmod(0o777)
    return kho


def test_an_empty_root_is_no_other_tree(kho):
    """Neither must lead to the system's machines: what was meant is not known."""
    machine.define(kho, "web1")
    kho.refuses("--root", "", "list", status=USAGE, says="the root folder's name is empty")
    kho.refuses("list", "--root=", status=USAGE, says="the root folder's name is empty")
    empty = dict(kho.env(), KHO_ROOT="")
    ran = harness.run([kho.program, "list"], status=INVALID, env=empty)
    assert "the root folder's name is empty" in ran.err and "KHO_ROOT" in ran.err
    harness.run([kho.program, "--root", kho.root, "domuuid", "web1"], env=empty)
    harness.run([kho.program, "help"], env=empty)


def test_what_root_makes_in_a_users_tree_is_the_users(shared):
    """Nobody is locked out of his own tree because root was there."""
    kho = shared
    os.chown(kho.root, NOBODY, NOBODY)
    disk = machine.make_image(kho.root / "disk.qcow2")
    os.chown(disk, NOBODY, NOBODY)
    text = machine.xml("web1", machine.disk(disk), uuid="11111111-2222-3333-4444-555555555555")
    kho("define", "-", input=text)
    kho("snapshot-create-as", "web1", "s1")
    kho("start", "web1")
    kho("managedsave", "web1")
    kho("pool-define-as", "p", "dir", "--target", kho.root / "pool")
    foreign = [path for path in kho.root.rglob("*") if path.lstat().st_uid != NOBODY and path.name != "pool"]
    assert not foreign

    def users():
        kho("define", "-", input=kho("dumpxml", "web1").out)
        kho("start", "web1")
        kho("destroy", "web1")
        kho("snapshot-delete", "web1", "s1")
        kho("undefine", "web1")
        kho("pool-undefine", "p")
        return True
    assert harness.as_user(NOBODY, users)


def test_root_in_a_users_tree_gives_away_nothing_that_stood_there(shared):
    """A name of the user's that leads elsewhere is not followed, and what it leads to keeps its owner."""
    kho = shared
    machine.define(kho, "web1")
    for path in (kho.root, *kho.root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    secret = kho.base / "secret"
    secret.write_text("root's")
    lock = kho.root / "run/lock/name/qemu-web1"
    lock.unlink()
    lock.symlink_to(secret)
    kho.refuses("undefine", "web1", says=str(lock))
    lock.unlink()
    os.link(secret, lock)
    kho("undefine", "web1")
    assert secret.stat().st_uid == 0
    lock.unlink()


def test_another_users_tree_or_machine_is_named_with_its_owner(shared):
    kho = shared
    machine.define(kho, "web1")
    cure = ["enied", f"the tree {kho.root} belongs to user root: use sudo", "--root or KHO_ROOT"]

    def others():
        for verb in (["dominfo", "web1"], ["undefine", "web1"], ["pool-define-as", "p", "dir", "--target", "/tmp/p"]):
            kho.refuses(*verb, status=DENIED, says=cure)
        return True
    assert harness.as_user(NOBODY, others)
    for path in (kho.root, *kho.root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    kho("start", "web1")

    def owners():
        for verb in ("domstate", "destroy"):
            kho.refuses(verb, "web1", status=DENIED, says=["run/qemu/web1", "belongs to user root: use sudo"])
        return True
    assert harness.as_user(NOBODY, owners)
    kho("destroy", "web1")
