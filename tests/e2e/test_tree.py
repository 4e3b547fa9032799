"""The tree itself: which one is worked on, and whose it is."""

import harness
import machine

USAGE, INVALID = 2, 5


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
