"""`make install`: everything is where packages expect it, and the installed kho finds its parts."""

import os
import subprocess

from harness import run


def test_install(build, tmp):
    run(["meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", tmp])
    prefix = tmp / "usr/local"
    for path in ("bin/kho", "libexec/kho-vm", "include/kho/image.h", "include/kho/host.h", "share/man/man1/kho.1",
                 "share/bash-completion/completions/kho.bash"):
        assert (prefix / path).is_file(), path
    assert list(prefix.glob("lib/**/libkho.so*"))
    assert run([prefix / "bin/kho", "--version"]).out.startswith("kho ")
    assert "kho" in run([prefix / "bin/kho", "help"]).out


def test_the_man_page_has_no_warning(build):
    ran = run(["man", "--warnings=all", "-l", build / "kho.1"], env=dict(os.environ, MANROFFSEQ="", MANPAGER="cat", LC_ALL="C.UTF-8",
                                                                          MAN_KEEP_STDERR="1"))
    assert "NAME" in ran.out and ran.err == "", ran


def test_bash_completes_verbs(build):
    script = f"""source /usr/share/bash-completion/bash_completion
source {build}/kho.bash
COMP_WORDS=({build}/kho he) COMP_CWORD=1 COMP_LINE='kho he' COMP_POINT=6
spec=$(complete -p kho) && [[ $spec =~ -F\\ ([^ ]+) ]] && ${{BASH_REMATCH[1]}} kho he kho
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    ran = subprocess.run(["/bin/bash", "--norc", "-c", script], capture_output=True, text=True, timeout=30,
                         env=dict(os.environ, PATH=f"{build}:{os.environ['PATH']}"))
    assert "help" in ran.stdout.split(), ran
