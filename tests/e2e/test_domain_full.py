"""Verbs on machines on a full disk: the old state stays, and no temporary file; what runs can be looked at and ended."""

import harness
import machine

LEVELS = 20


def test_definitions_on_a_full_disk(kho, small_fs):
    file_system = small_fs("ext4", 8)
    root = file_system.path / "root"
    run = lambda *args, **keywords: kho("--root", root, *args, **keywords)
    own = "11111111-2222-3333-4444-555555555555"
    old = machine.xml("web1", uuid=own)
    # larger than a block, so that there is a level at which only a part of it fits
    new = machine.xml("web1", uuid=own, more=f"  <description>{'long ' * 4000}</description>\n")
    run("define", "-", input=old)
    before = run("dumpxml", "web1").out
    refused, done = 0, 0
    for level in range(LEVELS):
        file_system.fill(level * 2048)
        for verb, text in ((["define", "-"], new), (["define", "-"], machine.xml("web2")), (["autostart", "web1"], None),
                           (["edit", "web1"], None)):
            ran = run(*verb, input=text, status=None, env={"EDITOR": "sed -i s/32768/65536/", "VISUAL": "", "TMPDIR": "/tmp"})
            now = run("dumpxml", "web1").out
            if ran.status != 0:
                refused += 1
                assert ran.status == 10 and len(ran.err.splitlines()) == 1, str(ran)
                assert now == before, f"{verb} failed and changed the definition"
            else:
                done += 1
            if verb[0] == "autostart" and ran.status != 0:
                assert "disable" in run("dominfo", "web1").out
            assert not list(root.rglob("*.kho-tmp")), str(ran)
            if ran.status == 0:  # back to the old state, with room for it
                file_system.fill(1 << 20)
                run("define", "-", input=old)
                run("autostart", "web1", "--disable")
                run("undefine", "web2", status=None)
                file_system.fill(level * 2048)
    assert refused >= 5 and done >= 5, f"{refused} refused, {done} done: the levels miss the edge"
    file_system.fill(0)
    run("undefine", "web1")  # what frees space needs none
    assert run("list", "--all", "--name").out == ""


def test_starts_on_a_full_disk(kho, small_fs):
    """A machine runs, or it does not and nothing of it is left; a kho-vm that dies is replaced."""
    file_system = small_fs("ext4", 8)
    root = kho.root = file_system.path / "root"  # the harness looks for leftovers there
    machine.define(kho, "web1")
    refused, done = 0, 0
    for level in range(LEVELS):
        file_system.fill(level * 1024)
        ran = kho("start", "web1", status=None)
        if ran.status == 0:
            done += 1
            file_system.fill(0)
            machine.kill(machine.supervisor_pid(kho, "web1"))
            kho("suspend", "web1")
            assert kho("domstate", "web1").out == "paused\n"
            kho("destroy", "web1")
        else:
            refused += 1
            assert ran.status == 10 and len(ran.err.splitlines()) == 1 and "No space left" in ran.err, str(ran)
        assert kho("domstate", "web1").out == "shut off\n"
        assert not (root / "run/qemu/web1").exists(), str(ran)
        harness.wait_for("nothing to be left", lambda: not kho.leftovers())
    assert refused >= 2 and done >= 5, f"{refused} refused, {done} done: the levels miss the edge"
