"""`backup` is a noun and a verb: whatever the order of words, a command that asks for a backup makes one or fails."""

import pytest

import backups

USAGE = 2


@pytest.fixture
def world(kho):
    backups.make(kho)
    kho.store = backups.store(kho)
    return kho


def test_options_before_the_operand(world):
    world("backup", "--to", world.store, "--point", "one", "web1")
    world("backup", f"--to={world.store}", "--compress=none", "--point=two", "web1")
    assert world.json("backup", f"--to={world.store}", "--point=three", "web1")["point"] == "three"
    assert world("backup", "--json", f"--to={world.store}", "--point=four", "web1").out.startswith("{")
    assert backups.points(world.store) == ["four", "one", "three", "two"]


@pytest.mark.parametrize("words", [["backup"], ["backup", "--bogus"], ["backup", "--quiet"], ["backup", "--to"],
                                   ["pool", "--bogus"], ["domain", "--json"], ["snapshot", "-x"]])
def test_what_is_missing_is_told(kho, words):
    ran = kho(*words, status=USAGE)
    assert ran.out == "" and len(ran.err.splitlines()) == 1, ran


def test_help(kho):
    texts = [kho(*words).out for words in (["help", "backup"], ["backup", "--help"], ["backup", "-h"])]
    assert texts[0] == texts[1] == texts[2]
    for word in ("--to", "--compress", "backup-list", "restore-backup"):
        assert word in texts[0]
    assert "vol-list" in kho("vol", "--help").out and "vol-list" in kho("vol").out
