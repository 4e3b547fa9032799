"""Verbs on a terminal: console, edit, completion in a real bash, colours."""

import hashlib
import os
import select
import signal
import subprocess
import time

import pexpect
import pytest

import harness
import machine
from guest import serial

GUEST_XML_OS = ("<kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{cmdline}</cmdline>")


@pytest.fixture
def guest(kho):
    """A running machine web1 whose guest obeys its serial console."""
    serial.make()
    machine.define(kho, "web1", memory_mib=256, os_more=GUEST_XML_OS.format(
        kernel=serial.KERNEL, initrd=serial.INITRAMFS, cmdline=serial.command_line()))
    kho("start", "web1")
    yield kho
    kho("destroy", "web1", status=None)


def test_console_reaches_the_guest_and_gives_the_terminal_back(guest):
    child = guest.terminal("console", "web1")
    child.expect_exact("Connected to domain 'web1'")
    line = serial.GuestSerial(os.dup(child.child_fd))
    line.wait_ready()
    assert line.run("echo $((6 * 7))") == "42"
    child.send("\x1d")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    line.close()


def test_console_escape_can_be_chosen_and_devices_named(guest):
    child = guest.terminal("console", "web1", "serial0", "--escape", "^A")
    child.expect_exact("Escape character is ^A")
    child.send("\x1d\x01")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    guest.refuses("console", "web1", "serial9", status=3, says="serial9")
    guest.refuses("console", "web1", "--escape", "abc", status=5, says="abc")


def test_one_console_at_a_time_and_the_holder_is_named(guest):
    child = guest.terminal("console", "web1")
    child.expect_exact("Connected")
    guest.refuses("console", "web1", status=8, says=["'web1'", f"pid {child.pid}"])
    child.send("\x1d")
    child.expect(pexpect.EOF)
    guest("console", "web1", input=b"\n")


def paste(child, data):
    """Types @data as fast as it is taken; raises where nobody takes it."""
    while data:
        assert select.select([], [child.child_fd], [], 30)[1], "the paste is not taken"
        data = data[os.write(child.child_fd, data[:1000]):]


@pytest.mark.parametrize("kib", [100, 1500])
def test_the_escape_is_seen_although_the_guest_takes_nothing(kho, kib):
    """A machine without an operating system never reads its console. One MiB is kept for it."""
    machine.define(kho, "web1")
    kho("start", "web1")
    child = kho.terminal("console", "web1")
    child.expect_exact("Connected to domain 'web1'")
    paste(child, b"pasted line\n" * (kib * 1024 // 12))
    if kib > 1024:
        child.expect_exact("\a")
    child.send("\x1d")
    child.expect(r"did not take the last (\d+) bytes")
    assert (kib - 40) * 1024 < int(child.match[1]) <= kib * 1024
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    child = kho.terminal("console", "web1")  # it is free again
    child.expect_exact("Connected")
    child.send("\x1d")
    child.expect(pexpect.EOF)
    kho("destroy", "web1")


def test_a_signal_and_the_machines_end_are_seen_although_the_guest_takes_nothing(kho):
    machine.define(kho, "web1")
    for end in (lambda child: child.kill(signal.SIGTERM), lambda _: kho("destroy", "web1")):
        if kho("domstate", "web1").out == "shut off\n":
            kho("start", "web1")
        child = kho.terminal("console", "web1")
        child.expect_exact("Connected to domain 'web1'")
        paste(child, b"pasted line\n" * 20000)
        end(child)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus in (0, 130)


def test_the_escape_is_seen_although_the_terminal_shows_nothing_more(guest):
    """Its window was stopped, and the guest goes on writing."""
    child = guest.terminal("console", "web1")
    child.expect_exact("Connected to domain 'web1'")
    line = serial.GuestSerial(os.dup(child.child_fd))
    line.wait_ready()
    child.send("\nyes 'a line that nobody reads'\n")
    def waits_to_write():
        """The terminal's buffer is full."""
        before = machine_written(child.pid)
        time.sleep(0.3)
        return before > 4096 and machine_written(child.pid) == before
    harness.wait_for("the terminal to be full", waits_to_write)
    child.send("\x1d")
    harness.wait_for("the console to end", lambda: not machine.is_alive(child.pid))
    line.close()
    child.close()
    assert child.exitstatus == 0


def machine_written(pid):
    fields = dict(line.split(": ") for line in open(f"/proc/{pid}/io").read().splitlines())
    return int(fields["wchar"])


def test_a_large_paste_reaches_a_guest_that_is_slow(guest):
    """All of it, in order: more than the pseudo terminal holds, and the emulated serial port takes its time."""
    text = "".join(f"line {number} of what was pasted\n" for number in range(700))
    digest = hashlib.md5(text.encode()).hexdigest()
    hear = f"stty -echo; head -c {len(text)} | md5sum | tr -d ' -'\n"
    child = guest.terminal("console", "web1")
    child.expect_exact("Connected to domain 'web1'")
    line = serial.GuestSerial(os.dup(child.child_fd))
    line.wait_ready()
    line.write(b"\n" + hear.encode())
    paste(child, text.encode())
    line.wait_text(digest)
    child.send("\x1d")
    child.expect(pexpect.EOF)
    child.close()
    line.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize("how", ["TERM", "INT", "HUP"])
def test_a_signal_ends_the_console_and_restores_the_terminal(guest, how):
    """A shell runs it, so that its terminal is there to be looked at afterwards."""
    shell = pexpect.spawn("/bin/sh", env=dict(guest.env(), PS1="ready> "), encoding="utf-8", timeout=60)
    shell.sendline(f"stty -a | md5sum; {guest.program} console web1; echo status=$?; stty -a | md5sum; stty -a")
    shell.expect(r"([0-9a-f]{32})  -")
    before = shell.match[1]
    shell.expect_exact("Connected to domain")
    pids = [pid for pid, command in guest.processes().items() if "console web1" in command and "sh" not in command.split()[0]]
    subprocess.run(["kill", f"-{how}", *map(str, pids)], check=True)
    shell.expect(r"status=(\d+)")
    assert shell.match[1] == "130"
    shell.expect(r"([0-9a-f]{32})  -")
    assert shell.match[1] == before
    shell.close(force=True)


def test_console_ends_with_the_machine(guest):
    child = guest.terminal("console", "web1")
    child.expect_exact("Connected")
    guest("destroy", "web1")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_console_over_a_pipe(guest):
    with serial.GuestSerial.over_console([guest.program, "console", "web1"], env=guest.env()) as line:
        line.wait_ready()
        line.write(b"\x1d")
    child = guest.spawn("console", "web1", stdin=subprocess.PIPE)
    child.stdin.write(b"@000000000000/12 echo pi''ped\n")
    child.stdin.flush()
    heard = b""
    while b"piped" not in heard:
        heard += os.read(child.stdout.fileno(), 4096)
    assert b"Connected" not in heard
    child.stdin.close()  # with the input's end, and the guest quiet, it ends
    child.stdin = None
    assert child.wait(timeout=harness.HANG_GUARD_S) == 0


BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def test_a_guest_follows_shutdown_and_reboot(kho):
    serial.make()
    machine.define(kho, "web1", memory_mib=256, more="  <features><acpi/></features>\n", os_more=GUEST_XML_OS.format(
        kernel=serial.KERNEL, initrd=serial.INITRAMFS, cmdline=serial.command_line()))
    kho("start", "web1")
    pid, since = machine.qemu_pid(kho, "web1"), kho.json("domstate", "web1")["since-ms"]
    with serial.GuestSerial.over_console([kho.program, "console", "web1"], env=kho.env()) as line:
        line.wait_ready()
        boot = line.run(BOOT_ID)
        assert kho("reboot", "web1").out == "Domain 'web1' is being rebooted\n"
        harness.wait_for("the guest to be back", lambda: answer(line, BOOT_ID) not in (None, boot))
        assert machine.qemu_pid(kho, "web1") == pid and kho("domstate", "web1").out == "running\n"
        assert kho.json("domstate", "web1")["since-ms"] > since
        assert kho("shutdown", "web1").out == "Domain 'web1' is being shutdown\n"
    harness.wait_for("the guest to shut down", lambda: kho("domstate", "web1").out == "shut off\n")
    assert kho("domstate", "web1", "--reason").out == "shut off (shutdown)\n" and not machine.is_alive(pid)


def answer(line, command):
    """None where the guest is not there to answer."""
    try:
        return line.run(command, timeout=2)
    except serial.GuestError:
        return None


def test_start_with_console(kho):
    machine.define(kho, "web1")
    child = kho.terminal("start", "web1", "--console")
    child.expect_exact("Domain 'web1' started")
    child.expect_exact("Connected to domain 'web1'")
    child.send("\x1d")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    kho("destroy", "web1")


def test_edit_offers_to_edit_again(kho):
    machine.define(kho, "web1")
    script = kho.tmp / "editor"
    script.write_text("#!/bin/sh\nif [ -e done ]; then sed -i s/memo/memory/g \"$1\"; sed -i s/32768/65536/ \"$1\"\n"
                      "else sed -i s/memory/memo/g \"$1\"; touch done; fi\n")
    script.chmod(0o755)
    child = kho.terminal("edit", "web1", env={"EDITOR": "./editor", "VISUAL": ""})
    child.expect(r"error:.* line \d+")
    child.expect_exact("Edit again? [Y,n] ")
    child.sendline("y")
    child.expect_exact("XML configuration edited")
    child.expect(pexpect.EOF)
    assert kho.json("dominfo", "web1")["max-memory-kib"] == 65536
    (kho.tmp / "done").unlink()
    before = machine.kept(kho)
    child = kho.terminal("edit", "web1", env={"EDITOR": "./editor", "VISUAL": ""})
    child.expect_exact("Edit again? [Y,n] ")
    child.sendline("n")
    child.expect_exact("was not changed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5 and machine.kept(kho) == before


def test_errors_are_coloured_on_a_terminal_only(kho):
    child = kho.terminal("dominfo", "nope", env={"TERM": "xterm", "NO_COLOR": ""})
    child.expect(pexpect.EOF)
    plain = kho("dominfo", "nope", status=3).err
    assert plain.startswith("error: ") and "\x1b" not in plain
    env = {key: value for key, value in kho.env(TERM="xterm").items() if key != "NO_COLOR"}
    child = pexpect.spawn(str(kho.program), ["dominfo", "nope"], env=env, encoding="utf-8", timeout=60)
    child.expect_exact("\x1b[1;31merror:\x1b[0m no machine")
    child.expect(pexpect.EOF)


COMPLETED = [
    ("kho domsta", "kho domstate "), ("kho pool-def", "kho pool-define"), ("kho start on", "kho start only-one "),
    ("kho start only-one --pau", "kho start only-one --paused "), ("kho domain undef", "kho domain undefine "),
    ("kho domstate --domain on", "kho domstate --domain only-one "), ("kho define only.", "kho define only.xml "),
    ("kho --root {root} domid on", "kho --root {root} domid only-one "), ("kho img create -f vm", "kho img create -f vmdk "),
    ("kho help domblk", "kho help domblklist "), ("kho vol-list vmd", "kho vol-list vmdisks "),
    ("kho vol-info --pool vmdisks a-vo", "kho vol-info --pool vmdisks a-volume "), ("kho dominfo nope", "kho dominfo nope"),
    ("kho img info --format=ra", "kho img info --format=raw "),
]


def test_bash_completes(kho):
    """In a real interactive shell; Ctrl-T writes down the line as it then stands."""
    machine.define(kho, "only-one")
    (kho.tmp / "only.xml").touch()
    kho("pool-define-as", "vmdisks", "dir", "--target", kho.tmp / "pool")
    kho("pool-start", "vmdisks", "--build")
    kho("vol-create-as", "vmdisks", "a-volume", "1M")
    shell = pexpect.spawn("/bin/bash", ["--norc", "--noprofile", "-i"], encoding="utf-8", timeout=60, dimensions=(50, 250),
                          env=dict(kho.env(TERM="dumb"), PS1="ready> ", PATH=f"{kho.build}:{os.environ['PATH']}"),
                          cwd=str(kho.tmp))
    shell.expect_exact("ready> ")
    shell.sendline("source <(kho help --bash-completion); "
                   "bind -x '\"\\C-t\": printf %s \"$READLINE_LINE\" >line.tmp; mv line.tmp line'; echo so''urced")
    shell.expect_exact("sourced")
    for typed, becomes in COMPLETED:
        line = kho.tmp / "line"
        shell.send(f"{typed.format(root=kho.root)}\t\x14")
        harness.wait_for(f"{typed!r} to be completed", line.exists)
        assert line.read_text() == becomes.format(root=kho.root)
        line.unlink()
        shell.send("\x15")
    shell.close(force=True)


def big_image(tmp):
    path = tmp / "big.raw"
    with open(path, "wb") as file:
        block = os.urandom(1 << 20)
        for number in range(256):
            file.write(block[number:] + block[:number])
    return path


def stop_in_the_middle(pid):
    """Stops a process once it has read some of its source: it is in the middle of its work then, for as long as wanted."""
    def read_some():
        fields = dict(line.split(": ") for line in open(f"/proc/{pid}/io").read().splitlines())
        return int(fields["rchar"]) > 16 << 20
    harness.wait_for("the copy to be under way", read_some, timeout_s=20, every_s=0.001)
    os.kill(pid, signal.SIGSTOP)


def test_progress_on_a_terminal_after_a_second_and_ctrl_c(kho, tmp):
    convert = ["img", "convert", "-f", "raw", "-O", "qcow2", big_image(tmp)]
    child = kho.terminal(*convert, tmp / "a.qcow2")
    stop_in_the_middle(child.pid)
    time.sleep(1.1)  # a line is shown only for what takes longer than a second
    os.kill(child.pid, signal.SIGCONT)
    child.expect(r"\[[= ]{30}\] +(\d+) %  .* of 256 MiB, .*/s, \d+ s left")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    child = kho.terminal(*convert, tmp / "b.qcow2", "--no-progress")
    stop_in_the_middle(child.pid)
    time.sleep(1.1)
    os.kill(child.pid, signal.SIGCONT)
    child.expect(pexpect.EOF)
    assert "%" not in child.before
    child = kho.terminal(*convert, tmp / "c.qcow2")
    stop_in_the_middle(child.pid)
    child.sendintr()
    child.sendintr()
    os.kill(child.pid, signal.SIGCONT)
    child.expect("error:.*cancelled")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert sorted(path.name for path in tmp.iterdir()) == ["a.qcow2", "b.qcow2", "big.raw"]
    assert kho(*convert, tmp / "d.qcow2").err == ""
