"""Memory in files: save, restore, managed saves. The guest (counter.py) notices when its memory and its disk are not of one
moment, so that a count that goes on means that everything fits."""

import os
import stat

import counter
import harness
import machine
import pytest


@pytest.fixture
def disk(kho):
    return kho.tmp / "web1.qcow2"


@pytest.fixture
def web1(kho, disk):
    """A machine that runs and counts."""
    counter.define(kho, "web1", disk)
    kho("start", "web1")
    counter.wait_counting(kho, "web1", 2)


def state(kho, name="web1"):
    return kho("domstate", name, "--reason").out.strip()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def managed(kho):
    return files(kho.root / "lib/qemu/save")


def test_save_and_restore(kho, web1, disk):
    id_before = int(kho("domid", "web1").out)
    assert kho("save", "web1", "web1.save").out == "Domain 'web1' saved to web1.save\n"
    assert state(kho) == "shut off (saved)" and kho("domid", "web1").out == "-\n"
    file = kho.tmp / "web1.save"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and files(kho.tmp) == ["web1.qcow2", "web1.save"]
    assert kho("dominfo", "web1").out.count("Managed save:   no") == 1
    saved_at = counter.on_disk(disk)

    assert kho("restore", "web1.save").out == "Domain 'web1' restored from web1.save\n"
    assert state(kho) == "running (restored)" and int(kho("domid", "web1").out) > id_before
    counter.wait_counting(kho, "web1", saved_at + 2)
    kho.refuses("restore", "web1.save", says="is running already")
    kho("destroy", "web1")

    # its disk has moved on: the same memory once more does not fit it
    ran = kho.refuses("restore", "web1.save", says=["restored from it already", "--force"])
    assert ran.status == 5 and file.exists()
    kho("restore", "web1.save", "--force")
    harness.wait_for("the guest to notice", lambda: counter.look(kho, "web1")[1] == counter.BAD)
    kho("destroy", "web1")


def test_saved_again_and_again(kho, web1, disk):
    for _ in range(3):
        at = counter.wait_counting(kho, "web1")
        kho("save", "web1", "web1.save")  # replaces the one before
        kho("restore", "web1.save")
        counter.wait_counting(kho, "web1", at + 2)
    kho("destroy", "web1")


def test_managed_save(kho, web1, disk):
    at = counter.wait_counting(kho, "web1")
    assert kho("managedsave", "web1").out == "Domain 'web1' state saved by kho\n"
    assert managed(kho) == ["web1.save"] and state(kho) == "shut off (saved)"
    assert "Managed save:   yes" in kho("dominfo", "web1").out and kho.json("dominfo", "web1")["managed-save"] is True
    assert kho("list", "--all").out.split()[-2:] == ["shut", "off"]
    assert kho("list", "--all", "--managed-save").out.split()[-1] == "saved"
    assert kho("list", "--all", "--name", "--with-managed-save").out == "web1\n"
    assert kho("list", "--all", "--name", "--without-managed-save").out == ""
    kho.refuses("undefine", "web1", says=["managed save", "--managed-save"])

    assert kho("start", "web1").out == "Domain 'web1' started\n"
    counter.wait_counting(kho, "web1", at + 2)
    assert managed(kho) == [] and state(kho) == "running (restored)"
    assert "Managed save:   no" in kho("dominfo", "web1").out
    kho("destroy", "web1")
    kho("start", "web1")  # boots: there is nothing to go on from
    assert state(kho) == "running (booted)"
    counter.wait_counting(kho, "web1")
    kho("destroy", "web1")


def test_managed_save_thrown_away(kho, web1, disk):
    kho("managedsave", "web1")
    away = disk.with_suffix(".away")
    disk.rename(away)
    kho.refuses("start", "web1", "--force-boot", status=3, says="web1.qcow2")
    assert kho("list", "--all", "--with-managed-save", "--name").out == "web1\n"  # a start that fails costs no memory
    away.rename(disk)
    kho("start", "web1", "--force-boot")
    assert managed(kho) == [] and state(kho) == "running (booted)"
    counter.wait_counting(kho, "web1")
    kho("managedsave", "web1")
    assert kho("managedsave-remove", "web1").out == "Removed managedsave image for domain 'web1'\n"
    assert managed(kho) == []
    assert "has no manage save image" in kho("managedsave-remove", "web1").out
    kho("start", "web1")
    assert state(kho) == "running (booted)"
    counter.wait_counting(kho, "web1")
    kho("managedsave", "web1")
    kho("undefine", "web1", "--managed-save")
    assert managed(kho) == [] and kho("list", "--all", "--name").out == ""


@pytest.mark.parametrize("was_paused", [False, True])
def test_wishes(kho, web1, disk, was_paused):
    """What is wished at the restore counts first, then what was wished at the save, then what the guest did."""
    for at_save in [None, "--running", "--paused"]:
        for at_restore in [None, "--running", "--paused"]:
            if was_paused:
                kho("suspend", "web1")
            count, _ = counter.look(kho, "web1")
            kho("save", "web1", "web1.save", *filter(None, [at_save]))
            kho("restore", "web1.save", *filter(None, [at_restore]))
            paused = (at_restore or at_save or ("--paused" if was_paused else "")) == "--paused"
            assert state(kho) == ("paused (user)" if paused else "running (restored)"), (at_save, at_restore)
            if paused:
                assert counter.look(kho, "web1") == counter.look(kho, "web1")
                kho("resume", "web1")
            counter.wait_counting(kho, "web1", count + 1)
    for words in [("save", "web1", "f"), ("managedsave", "web1"), ("restore", "f")]:
        kho.refuses(*words, "--running", "--paused", says="does not go with")
    kho("destroy", "web1")


def test_paused_start_from_a_managed_save(kho, web1):
    count = counter.wait_counting(kho, "web1")
    kho("managedsave", "web1")
    kho("start", "web1", "--paused")
    assert state(kho) == "paused (user)" and managed(kho) == []
    kho("managedsave", "web1", "--running")  # once more, although its guest did not run in between
    kho("start", "web1")
    counter.wait_counting(kho, "web1", count + 2)
    kho("destroy", "web1")


def test_of_a_machine_without_a_definition(kho, web1, disk):
    kho("undefine", "web1")
    kho.refuses("managedsave", "web1", says=["no definition", "kho save"])
    count = counter.wait_counting(kho, "web1")
    kho("save", "web1", "web1.save")
    assert kho("list", "--all", "--name").out == ""
    kho("restore", "web1.save")
    counter.wait_counting(kho, "web1", count + 2)
    assert "Persistent:     no" in kho("dominfo", "web1").out
    kho("destroy", "web1")


def test_xml_of_a_save_file(kho, web1, disk):
    definition = kho("dumpxml", "web1", "--inactive").out
    kho("save", "web1", "web1.save")
    xml = kho("save-image-dumpxml", "web1.save").out
    assert f"<source file='{disk}'/>" in xml and "<name>web1</name>" in xml and "pc-i440fx-" in xml and "id=" not in xml
    kho("undefine", "web1")
    kho("define", "-", input=xml)  # a definition like any other
    kho("define", "-", input=definition)
    kho("restore", "web1.save", "--paused")
    kho("destroy", "web1")


def test_progress(kho, web1):
    ran = kho("save", "web1", "web1.save", "--verbose")
    assert ran.err.endswith("\rSave: [100 %]\n"), repr(ran.err)
    kho("restore", "web1.save")
    assert "\rManagedsave: [100 %]\n" in kho("managedsave", "web1", "--verbose").err


def test_a_disk_of_saved_memory_is_written_only_by_force(kho, web1, disk):
    kho("managedsave", "web1")
    before = disk.read_bytes()
    said = ["is disk vda of machine 'web1'", "managed save", "kho managedsave-remove web1", "--force"]
    kho.refuses("img", "resize", disk, "+1M", status=8, says=said)
    kho.refuses("img", "check", "-r", "all", disk, status=8, says=said)
    kho("pool-define-as", "p", "dir", "--target", disk.parent)
    kho("pool-start", "p")
    kho.refuses("vol-resize", disk.name, "64M", "--pool", "p", status=8, says=said[:3])
    kho("pool-destroy", "p")
    assert disk.read_bytes() == before
    kho("img", "resize", "--force", disk, "+1M")
    kho.refuses("start", "web1", status=5, says="--force-boot")
    kho("managedsave-remove", "web1")
    kho("img", "resize", disk, "+1M")
