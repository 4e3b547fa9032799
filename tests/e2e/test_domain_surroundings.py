"""What stands around a machine: its emulator, its log, its run folder, the terminal it was started from, its definition
while it runs. What is wrong there is named, and nothing waits for it."""

import os
import shutil
import signal

import pytest

import harness
import machine

NOBODY = 65534


def define_with(kho, emulator):
    kho("define", "-", input=machine.xml("web1").replace("<devices>", f"<devices><emulator>{emulator}</emulator>"))


def write(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("make,says", [
    (lambda tmp: tmp / "none", "No such file"),
    (lambda tmp: tmp, "it is a folder"),
    (lambda tmp: write(tmp / "text", "hello\n"), "it is not a program"),
    (lambda tmp: write(tmp / "plain", "hello\n", 0o644), "denied"),
    (lambda tmp: write(tmp / "script", "#!/no/such/shell\n"), "the interpreter that it names is missing"),
    (lambda tmp: "qemu-that-nobody-has", "not on PATH"),
], ids=["missing", "folder", "text", "not-executable", "interpreter", "not-on-path"])
def test_an_emulator_that_is_none(kho, tmp, make, says):
    emulator = make(tmp)
    define_with(kho, emulator)
    kho.refuses("start", "web1", says=["'web1'", f"cannot start {emulator}", says])
    assert kho("domstate", "web1", "--reason").out == "shut off (failed)\n"
    harness.wait_for("nothing to be left", lambda: not kho.leftovers())


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_without_a_path(kho, path):
    machine.define(kho, "web1")
    for verb in (["start"], ["domstate"], ["suspend"], ["resume"], ["destroy"]):
        kho(*verb, "web1", env={"PATH": path})


def put_fifo(path):
    os.mkfifo(path)


def put_folder(path):
    path.mkdir()


def put_link(path):
    path.symlink_to("/etc/passwd")


def take_away(path):
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.parametrize("put", [put_fifo, put_folder, put_link])
def test_a_log_that_is_no_file(kho, put):
    machine.define(kho, "web1")
    log = kho.root / "log/qemu/web1.log"
    put(log)
    kho.refuses("start", "web1", says=["'web1'", str(log), "not a regular file", "remove it"])
    assert kho("domstate", "web1", "--reason").out == "shut off (unknown)\n"
    take_away(log)
    kho("start", "web1")
    machine.kill(machine.supervisor_pid(kho, "web1"))
    log.unlink()
    put(log)
    for verb in (["domstate"], ["suspend"], ["resume"], ["destroy"]):  # what runs is not left alone for its log
        kho(*verb, "web1")
    assert "root" not in open("/etc/passwd").read().splitlines()[-1]
    take_away(log)


@pytest.mark.parametrize("put", [lambda path: path.write_text(""), put_link])
def test_a_run_folder_that_is_none(kho, put):
    machine.define(kho, "web1")
    run = kho.root / "run/qemu/web1"
    put(run)
    assert kho("domstate", "web1").out == "shut off\n"
    kho.refuses("start", "web1", says=[str(run), "not a folder", "remove it"])
    run.unlink()


def test_folders_without_rights(kho):
    """As a user who may not write the logs, or read the run folder: told, and nothing is left or lost."""
    for program in ("kho", "kho-vm"):  # the build may lie where others cannot go
        shutil.copy(kho.build / program, kho.base / program)
    kho.program = kho.base / "kho"
    machine.define(kho, "web1")
    for path in (kho.base, kho.root, *kho.root.rglob("*"), kho.tmp, kho.reports):
        os.chown(path, NOBODY, NOBODY)
    run, logs = kho.root / "run/qemu/web1", kho.root / "log/qemu"

    def kho_as_user():
        logs.chmod(0o500)
        kho.refuses("start", "web1", says=["'web1'", str(logs / "web1.log"), "denied"])
        logs.chmod(0o700)
        kho("start", "web1")
        run.chmod(0)
        for verb in ("domstate", "dominfo", "suspend", "start", "destroy"):
            kho.refuses(verb, "web1", says=[str(run), "denied"])
        assert "web1" in kho("list", "--all").out
        run.chmod(0o700)
        assert kho("domstate", "web1").out == "running\n"
        logs.chmod(0o500)
        machine.kill(machine.supervisor_pid(kho, "web1"))
        for verb in ("domstate", "suspend", "resume", "destroy"):
            kho(verb, "web1")
        logs.chmod(0o700)
        return True
    assert harness.as_user(NOBODY, kho_as_user)


def test_a_machine_outlives_its_terminal(kho):
    """The shell that started it is hung up, and its session killed."""
    import pexpect
    machine.define(kho, "web1")
    shell = pexpect.spawn("/bin/sh", env=kho.env(PS1="$ "), cwd=str(kho.tmp), timeout=harness.HANG_GUARD_S, encoding="utf-8")
    shell.sendline(f"{kho.program} start web1; echo done-$?")
    shell.expect("done-0")
    qemu, supervisor = machine.qemu_pid(kho, "web1"), machine.supervisor_pid(kho, "web1")
    assert shell.pid not in (os.getsid(qemu), os.getsid(supervisor))
    shell.close(force=True)
    assert kho("domstate", "web1").out == "running\n"
    assert machine.qemu_pid(kho, "web1") == qemu and machine.supervisor_pid(kho, "web1") == supervisor
    for number in (signal.SIGHUP, signal.SIGPIPE):
        os.kill(supervisor, number)
    assert kho("domstate", "web1").out == "running\n" and machine.is_alive(supervisor)
    kho("destroy", "web1")


def test_a_definition_that_goes_while_the_machine_runs(kho):
    machine.define(kho, "web1")
    own = kho("domuuid", "web1").out.strip()
    kho("autostart", "web1")
    kho("start", "web1")
    kho("undefine", "web1")
    assert kho.json("dominfo", "web1")["persistent"] is False and kho("domname", own).out == "web1\n"
    kho.refuses("define", "-", input=machine.xml("web1"), says=own)
    for verb in ("autostart", "edit"):
        kho.refuses(verb, "web1", says="no definition", env={"EDITOR": "true"})
    kho("define", "-", input=machine.xml("web1", uuid=own))
    assert kho.json("dominfo", "web1")["persistent"] is True
    kho("undefine", "web1")
    kho("destroy", "web1")
    assert kho("list", "--all", "--name").out.strip() == ""
    harness.wait_for("nothing to be left", lambda: not kho.leftovers())


def test_a_definition_that_changes_while_the_machine_runs(kho):
    machine.define(kho, "web1")
    kho("start", "web1")
    live = kho("dumpxml", "web1").out
    kho("edit", "web1", env={"EDITOR": "sed -i s/32768/49152/", "VISUAL": ""})
    assert kho("dumpxml", "web1").out == live and "49152" in kho("dumpxml", "web1", "--inactive").out
    kho("destroy", "web1")
    kho("start", "web1")
    assert "49152" in kho("dumpxml", "web1").out
    kho("destroy", "web1")
