"""Each rule of tools/lint catches its breach, with file and line, and the tree as it stands has none."""

import pathlib
import shutil
import subprocess

import pytest

from harness import REPO

CASES = [
    ("src/base/a.c", '#include "block/blk.h"\n', "src/base/a.c:1: base/ includes block/, which is its sibling"),
    ("src/block/a.c", '#include "base/fd.h"\n', None),
    ("src/raw/a.c", '\n#include "image/chain.h"\n', "src/raw/a.c:2: raw/ includes image/, which is above it"),
    ("src/store/a.c", "#include <kho/domain.h>\n", "src/store/a.c:1: store/ is below <kho/domain.h>"),
    ("src/model/a.c", '#include "blk.h"\n', "write the folder"),
    ("src/odd/a.c", "int odd;\n", "folder src/odd has no floor"),
    ("include/kho/a.h", '/* A. */\n#include "base/fd.h"\n', "include/kho/a.h:2: a public header includes"),
    ("src/image/a.c", "void\na(int fd)\n{\n    fsync(fd);\n}\n", "src/image/a.c:4: fsync(): base/ wraps it"),
    ("src/image/a.c", "void\na(Ops *ops)\n{\n    ops->pread(1);\n    /* fsync(1) */\n}\n", None),
    ("src/image/test_a.c", "void\na(int fd)\n{\n    fsync(fd);\n}\n", None),
    ("src/image/test_a.c", "void\na(void)\n{\n    sleep(1);\n}\n", "src/image/test_a.c:4: sleep(): use a deadline"),
    ("src/base/a.c", "void\na(char *to)\n{\n    strcpy(to, from);\n}\n", "strcpy(): use"),
    ("src/store/a.c", 'void\na(void)\n{\n    g_print("x");\n}\n', "only cli/, qemuimg/ and supervisor/ print"),
    ("src/cli/a.c", 'void\na(void)\n{\n    g_print("x");\n}\n', None),
    ("src/store/a.c", "void\na(void)\n{\n    goto out;\n}\n", "goto: above base/"),
    ("src/store/a.h", "int a;\n", "a header begins with a comment"),
    ("src/store/util.c", "int a;\n", "named for no noun"),
    ("src/store/a.c", "int  a;\n", "src/store/a.c:1: not formatted"),
    ("src/store/a.c", "/* TO" "DO: more */\n", "stands for something not done"),
    ("src/store/a.c", "KHO_PUBLIC int a;\n", "KHO_PUBLIC outside include/kho/"),
    ("tests/a.sh", "#!/bin/sh\nif true\n", "tests/a.sh:1: "),
    ("tests/a.py", "def a(:\n", "tests/a.py:1: "),
    ("tests/a.py", "#!/usr/bin/env python3\n", "the Python called for is Debian's"),
]


@pytest.fixture
def tree(tmp):
    (tmp / "tools").mkdir()
    shutil.copy(REPO / "tools/lint", tmp / "tools")
    shutil.copy(REPO / ".clang-format", tmp)
    subprocess.run(["git", "init", "-q"], cwd=tmp, check=True)
    return tmp


def lint(tree):
    ran = subprocess.run([tree / "tools/lint"], capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize("path,text,says", CASES)
def test_rule(tree, path, text, says):
    file = tree / pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    status, out = lint(tree)
    assert (status, says or "0 findings") == (1 if says else 0, says or "0 findings") and (says or "0 findings") in out, out


@pytest.mark.parametrize("code,says", [
    ("#include <math.h>\n#include <zlib.h>\nint main(void) { return (int) zlibVersion()[0]; }", None),
    ("#include <pthread.h>\nint main(void) { return 0; }", "links libgio-2.0.so.0"),
])
def test_what_is_linked(tree, code, says):
    (tree / "build").mkdir()
    (tree / "a.c").write_text(code)
    library = "-lz" if says is None else "-l:libgio-2.0.so.0"
    subprocess.run(["gcc", "-o", tree / "build/kho", tree / "a.c", "-Wl,--no-as-needed", library], check=True)
    status, out = lint(tree)
    assert (status, (says or "0 findings") in out) == (1 if says else 0, True), out


def test_what_is_exported(tree):
    (tree / "build").mkdir()
    (tree / "a.c").write_text("int kho_a(void) { return 0; }\nint other(void) { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tree / "build/libkho.so", tree / "a.c"], check=True)
    status, out = lint(tree)
    assert status == 1 and "exports other" in out and "exports kho_a" not in out, out
