"""README's command blocks, typed into a shell on a terminal as they are printed. In a block marked `text` each line's words
must stand in the output before it, in order, with `...` for anything; a `guest` block is typed on the console."""

import os
import re
import signal

import pexpect

from guest import serial
from harness import REPO, tree_processes

PROMPT = "ready> "
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
FAILS = ("build/kho img resize",)  # shown because it is refused


def blocks():
    return BLOCK.findall((REPO / "README.md").read_text())


def commands(block):
    """The block's commands, one each, a here-document with its text."""
    found, end = [], None
    for line in block.splitlines():
        if end:
            found[-1] += "\n" + line
            end = None if line == end else end
        else:
            found.append(line)
            here = re.search(r"<<(\w+)", line)
            end = here[1] if here else None
    return found


class Terminal:
    """bash on a terminal, in a folder that looks like this repository with the build under test as build/."""

    def __init__(self, folder, kho):
        (folder / "build").symlink_to(kho.build)
        (folder / ".cache").mkdir()
        (folder / ".cache/guest").symlink_to(serial.CACHE)
        (folder / "tests").symlink_to(REPO / "tests")
        env = dict(kho.env(), TMPDIR=str(kho.tmp), PS1=PROMPT, PS2="", TERM="dumb", KHO_GUEST=str(serial.CACHE))
        del env["KHO_ROOT"]
        self.shell = pexpect.spawn("/bin/bash", ["--noprofile", "--norc", "--noediting"], env=env, cwd=str(folder),
                                   encoding="utf-8", codec_errors="replace", timeout=90, dimensions=(50, 200))
        self.shell.expect_exact(PROMPT)
        self.output = ""

    def type(self, command):
        for line in command.split("\n"):
            self.shell.sendline(line)
        if command.endswith("--console"):
            self.shell.expect_exact("guest ready")
            return
        self.shell.expect_exact(PROMPT)
        self.output = self.shell.before.replace("\r\n", "\n")
        self.shell.sendline("echo status=$?=")
        self.shell.expect(r"\nstatus=(\d+)=")
        status = int(self.shell.match[1])
        self.shell.expect_exact(PROMPT)
        refused = command.startswith(FAILS)
        assert (status != 0) == refused, f"{command}\n{self.output}(status {status})"

    def type_in_guest(self, lines):
        self.shell.sendline("")
        self.shell.expect_exact("guest# ")
        for line in lines:
            self.shell.sendline(line)
            self.shell.expect_exact("guest# ")
            said = self.shell.before.replace("\r", "").partition("\n")[2]  # what was typed is echoed first
            assert said == ("hello from the guest\n" if line.startswith("cat ") else ""), f"{line} said {said!r}"
        self.shell.send("\x1d")
        self.shell.expect_exact(PROMPT)

    def shows(self, text):
        for line in text.splitlines():
            pattern = ".*".join(re.escape(word) for word in line.replace("...", " ").split())
            assert re.search(pattern, self.output), f"README shows {line!r}, the terminal:\n{self.output}"


def test_first_block_is_the_two_commands():
    language, text = blocks()[0]
    assert language == "sh" and [line.split("#")[0].strip() for line in text.splitlines()] == ["make demo", "make check"]


def test_tour(kho, tmp):
    serial.make()
    terminal = Terminal(tmp, kho)
    try:
        typed = 0
        for language, text in blocks()[1:]:
            if language == "guest":
                terminal.type_in_guest(text.splitlines())
            elif language == "text":
                terminal.shows(text)
            else:
                assert language == "sh", f"what is a block of {language}?"
                for command in commands(text):
                    terminal.type(command)
                    typed += 1
        assert typed > 25
    finally:
        terminal.shell.close(force=True)
        for pid in tree_processes(kho.tmp):  # only a tour that failed leaves any
            os.kill(pid, signal.SIGKILL)
