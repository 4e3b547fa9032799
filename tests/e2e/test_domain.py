"""Verbs on machines: definitions, states, what is told of them, and what bad input gets."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import uuid

import pytest

import harness
import machine
from machine import make_image

NOT_FOUND, EXISTS, INVALID, UNSUPPORTED, CORRUPT, BUSY, USAGE = 3, 4, 5, 6, 7, 8, 2
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


# --- definitions --------------------------------------------------------------------------------------------------------

def test_define_show_and_undefine(kho):
    (kho.tmp / "web1.xml").write_text(machine.xml("web1", machine.disk("/images/a.qcow2")))
    assert kho("define", "web1.xml").out == "Domain 'web1' defined from web1.xml\n"
    assert kho("list").out == " Id   Name   State\n--------------------\n\n"
    assert kho("list", "--all").out == " Id   Name   State\n-----------------------\n -    web1   shut off\n\n"
    assert kho("list", "--all", "--name").out == "web1\n"
    own = kho("domuuid", "web1").out.strip()
    assert UUID.fullmatch(own)
    assert kho("domname", own).out == "web1\n"
    assert kho("domname", own.upper()).out == "web1\n"
    assert kho("domid", "web1").out == "-\n"
    assert kho("domstate", "web1").out == "shut off\n"
    text = kho("dumpxml", "web1").out
    assert f"<uuid>{own}</uuid>" in text and kho("dumpxml", own, "--inactive").out == text
    assert kho("domblklist", "web1").out.splitlines()[2:] == [" vda      /images/a.qcow2", ""]
    assert " file   disk     vda      /images/a.qcow2" in kho("domblklist", "web1", "--details").out
    info = dict(line.split(":", 1) for line in kho("dominfo", "web1").out.splitlines() if line)
    assert info["Name"].strip() == "web1" and info["State"].strip() == "shut off" and info["Id"].strip() == "-"
    assert info["Max memory"].strip() == "32768 KiB" and info["Persistent"].strip() == "yes"
    assert kho("undefine", "web1").out == "Domain 'web1' has been undefined\n"
    kho.refuses("dominfo", "web1", status=NOT_FOUND, says="web1")


def test_json_has_the_keys_of_the_docs(kho):
    machine.define(kho, "web1", machine.disk("/images/a.qcow2"), machine.disk("/x.iso", "hdc", "raw", "cdrom"))
    docs = (harness.REPO / "docs/json.md").read_text()
    said = [kho.json("list", "--all")[0], kho.json("dominfo", "web1"), kho.json("domstate", "web1"),
            kho.json("domblklist", "web1")[0]]
    for key in {key for answer in said for key in answer}:
        assert f"`{key}`" in docs, f"docs/json.md does not tell of {key}"
    assert said[0]["state"] == said[1]["state"] == said[2]["state"] == "shut off"
    assert kho.json("domuuid", "web1") == {"uuid": said[0]["uuid"]} and kho.json("domid", "web1") == {"id": None}
    assert kho.json("domname", said[0]["uuid"]) == {"name": "web1"}
    assert said[0]["id"] is None and said[0]["uuid"] == said[1]["uuid"]
    assert kho.json("domblklist", "web1")[1] == {"type": "file", "device": "cdrom", "target": "hdc", "source": "/x.iso",
                                                 "format": "raw", "read-only": True}


def test_redefining_needs_the_same_uuid(kho):
    own, other = str(uuid.uuid4()), str(uuid.uuid4())
    machine.define(kho, "web1", uuid=own)
    machine.define(kho, "web1", uuid=own, memory_mib=48)
    assert kho.json("dominfo", "web1")["max-memory-kib"] == 48 * 1024
    before = machine.kept(kho)
    for text, says in [(machine.xml("web1", uuid=other), own), (machine.xml("web1"), own),
                       (machine.xml("web2", uuid=own), "web1")]:
        kho.refuses("define", "-", input=text, status=EXISTS, says=says)
    assert machine.kept(kho) == before


def test_autostart_is_a_link_and_goes_with_the_definition(kho):
    machine.define(kho, "web1")
    mark = kho.root / "etc/qemu/autostart/web1.xml"
    assert kho("autostart", "web1").out == "Domain 'web1' marked as autostarted\n"
    assert os.readlink(mark) == "../web1.xml" and kho.json("dominfo", "web1")["autostart"] is True
    assert [entry["name"] for entry in kho.json("list", "--all", "--autostart")] == ["web1"]
    kho("autostart", "web1", "--disable")
    assert not mark.is_symlink() and kho.json("list", "--all", "--autostart") == []
    kho("autostart", "web1")
    kho("undefine", "web1")
    assert not mark.is_symlink()


def test_names_are_matched_before_uuids_and_ids(kho):
    machine.define(kho, "first")
    own = kho("domuuid", "first").out.strip()
    machine.define(kho, own)
    machine.define(kho, "7")
    assert kho("domname", own).out.strip() == own
    assert kho("domname", "7").out == "7\n"


def test_two_defines_at_once_make_one_machine(kho):
    """Of many defines of one name, one wins and the others are told; of one uuid likewise."""
    own = str(uuid.uuid4())
    texts = [machine.xml("same") for _ in range(4)] + [machine.xml(f"m{i}", uuid=own) for i in range(4)]
    for index, text in enumerate(texts):
        (kho.tmp / f"{index}.xml").write_text(text)
    children = [kho.spawn("define", f"{index}.xml") for index in range(len(texts))]
    statuses = [child.wait(timeout=harness.HANG_GUARD_S) for child in children]
    assert sorted(statuses[:4]) == [0, EXISTS, EXISTS, EXISTS]
    assert sorted(statuses[4:]) == [0, EXISTS, EXISTS, EXISTS]
    assert len(kho("list", "--all", "--name").out.split()) == 2


def test_edit_replaces_only_what_is_good(kho):
    machine.define(kho, "web1")
    before = kho("dumpxml", "web1").out
    edit = lambda command, **keywords: kho("edit", "web1", env={"EDITOR": command, "VISUAL": ""}, **keywords)
    assert "not changed" in edit("true").out
    assert "edited" in edit("sed -i s/32768/65536/").out
    assert kho("dumpxml", "web1").out == before.replace("32768", "65536")
    kept = machine.kept(kho)
    for command, says in [("false", "'false' failed"), ("sed -i s/memory/memo/", "line"), ("sed -i s/web1/web2/", "web1"),
                          ("sed -i 's/<uuid>./<uuid>/'", "uuid"), ("/no/such/editor", "/no/such/editor")]:
        ran = edit(command, status=None)
        assert ran.status != 0 and says in ran.err and ran.err.splitlines()[-1].startswith("error: "), str(ran)
        assert machine.kept(kho) == kept
    assert not list(kho.tmp.glob("*.xml"))
    assert "edited" in kho("edit", "web1", env={"VISUAL": "sed -i s/65536/32768/", "EDITOR": "false"}).out


def test_edit_does_not_undo_what_another_changed_meanwhile(kho):
    own = str(uuid.uuid4())
    machine.define(kho, "web1", uuid=own)
    (kho.tmp / "other.xml").write_text(machine.xml("web1", uuid=own, memory_mib=48))
    script = kho.tmp / "editor"
    script.write_text(f'#!/bin/sh\n{kho.program} -q define other.xml && sed -i s/32768/65536/ "$1"\n')
    script.chmod(0o755)
    kho.refuses("edit", "web1", env={"EDITOR": "./editor", "VISUAL": ""}, status=BUSY, says=["'web1'", "meanwhile"])
    assert kho.json("dominfo", "web1")["max-memory-kib"] == 48 * 1024


def test_a_damaged_definition_hides_no_other_machine(kho):
    machine.define(kho, "good")
    (kho.root / "etc/qemu/bad.xml").write_text("<domain")
    assert kho("list", "--all", "--name").out.split() == ["bad", "good"]
    assert [entry["uuid"] is None for entry in kho.json("list", "--all")] == [True, False]
    kho.refuses("dominfo", "bad", status=CORRUPT, says="etc/qemu/bad.xml")


@pytest.mark.parametrize("damage", [lambda text: "bad\n", lambda text: "", lambda text: text.replace("web1", "web2"),
                                    lambda text: text + " " * (5 << 20)], ids=["text", "empty", "name", "long"])
def test_a_damaged_definition_is_told_replaced_and_removed(kho, damage):
    machine.define(kho, "web1")
    kho("autostart", "web1")
    path = kho.root / "etc/qemu/web1.xml"
    good = path.read_text()
    path.write_text(damage(good))
    for verb in ("dominfo", "edit", "start", "dumpxml", "autostart"):
        kho.refuses(verb, "web1", status=CORRUPT, says=[str(path), "damaged", "`kho define FILE`", "`kho undefine web1`"])
    assert kho("list", "--all").out.splitlines()[2].split(maxsplit=2)[2] == "shut off (its definition is damaged)"
    assert kho.json("list", "--all")[0]["damaged"] is True
    kho("define", "-", input=machine.xml("web1"))  # whatever uuid the damaged one had
    assert kho.json("dominfo", "web1")["autostart"] is True and kho.json("list", "--all")[0]["damaged"] is False
    path.write_text(damage(good))
    kho("undefine", "web1")
    assert not path.exists() and kho("list", "--all", "--name").out == "" and not list(path.parent.glob("autostart/*"))


def test_a_damaged_definition_of_a_machine_that_runs(kho):
    """Its uuid is known: it is no other machine's name now."""
    machine.define(kho, "web1")
    kho("start", "web1")
    path = kho.root / "etc/qemu/web1.xml"
    good = path.read_text()
    path.write_text("bad\n")
    assert "running (its definition is damaged)" in kho("list").out
    kho.refuses("define", "-", input=machine.xml("web1"), says="exists already with uuid")
    kho("define", "-", input=good)
    path.write_text("bad\n")
    kho("undefine", "web1")
    kho("destroy", "web1")
    assert kho("list", "--all", "--name").out == ""


# --- bad input ----------------------------------------------------------------------------------------------------------

BAD_NAMES = ["", "a/b", ".", "..", "-a", ".a", "a\tb", "x" * 201]


def test_forbidden_names_are_refused(kho):
    machine.define(kho, "web1")
    before = machine.kept(kho)
    for name in BAD_NAMES:
        kho.refuses("define", "-", input=machine.xml(name.replace("\t", "&#9;")), status=INVALID)
        kho.refuses("dominfo", "--domain", name, status=NOT_FOUND)
        assert machine.kept(kho) == before, name


# What kho itself has as a file, a folder, a part of a lock's or a log's name, or an id.
OWN_NAMES = ["next-id", "autostart", "networks", "version", "alive", "qmp.sock", "web1.xml", "web1.log", "web1.log.1",
             "name", "qemu", "kho-tmp", "1", "console-0", "x" * 200]


def test_no_name_collides_with_what_kho_keeps(kho):
    for name in ["web1"] + OWN_NAMES:
        machine.define(kho, name)
        kho("autostart", name)
        kho("start", name, "--paused")
    assert sorted(kho("list", "--name").out.split()) == sorted(["web1"] + OWN_NAMES)
    for name in OWN_NAMES:
        assert kho("domstate", name).out == "paused\n"
        kho("destroy", name)
        kho("undefine", name)
    assert kho("list", "--all", "--name", "--autostart").out == "web1\n" and kho("domstate", "web1").out == "paused\n"
    kho("destroy", "web1")


BAD_XML = {
    "not closed": ("<domain type='qemu'>\n  <name>a</name>\n  <memory>", INVALID, "line 3"),
    "no XML": ("hello", INVALID, "line 1, column 1"),
    "empty": ("", INVALID, "standard input"),
    "another element": ("<pool type='dir'/>", INVALID, "domain"),
    "no name": ("<domain type='qemu'><memory>1024</memory></domain>", INVALID, "name"),
    "bad uuid": (machine.xml("a", uuid="12"), INVALID, "uuid"),
    "bad memory": (machine.xml("a").replace("'MiB'>32", "'MiB'>many"), INVALID, "line 3"),
    "memory overflows": (machine.xml("a").replace("'MiB'>32", "'EiB'>99999999999"), INVALID, "line 3"),
    "bad unit": (machine.xml("a").replace("'MiB'", "'MoB'"), INVALID, "MoB"),
    "two disks at one place": (machine.xml("a", machine.disk("/a"), machine.disk("/b")), INVALID, "vda"),
    "an entity": ("<!DOCTYPE x [<!ENTITY a 'b'>]><domain type='qemu'><name>&a;</name></domain>", INVALID, "line 1"),
    "NUL": ("<domain>\0</domain>", INVALID, "line 1"),
}


def test_bad_xml_is_refused_with_its_place(kho):
    machine.define(kho, "web1")
    before = machine.kept(kho)
    for what, (text, status, says) in BAD_XML.items():
        kho.refuses("define", "-", input=text, status=status, says=says)
        assert machine.kept(kho) == before, what


VERBS_ON_ONE = ["undefine", "autostart", "dominfo", "domstate", "domid", "domuuid", "domname", "dumpxml", "domblklist",
                "start", "console", "shutdown", "reboot", "reset", "suspend", "resume", "destroy", "edit"]


def test_unknown_machine_and_wrong_arguments(kho):
    for verb in VERBS_ON_ONE:
        kho.refuses(verb, "nope", status=NOT_FOUND, says="'nope'")
        kho.refuses(verb, status=USAGE, says="DOMAIN")
        kho.refuses(verb, "a", "b", "c", status=USAGE, says="one argument too many")
        kho.refuses(verb, "nope", "--bogus", status=USAGE, says="--bogus")
        assert f"Usage: kho {verb}" in kho(verb, "--help").out
        assert kho("domain", verb, "--help").out == kho("help", verb).out


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_every_wait_for_input_ends_with_a_signal(kho, how):
    """A pipe that nobody writes to, standard input that says nothing, a lock that another holds."""
    os.mkfifo(kho.tmp / "fifo")
    machine.define(kho, "web1")
    own = kho("domuuid", "web1").out.strip()
    kho("pool-define-as", "vmdisks", "dir", "--target", kho.tmp / "pool")
    kho("pool-start", "vmdisks", "--build")
    lock = kho.root / "run/lock/qemu" / own
    holder = os.open(lock, os.O_RDWR)
    fcntl.fcntl(holder, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))  # F_OFD_SETLK
    verbs = [["define", "fifo"], ["pool-define", "fifo"], ["vol-create", "vmdisks", "fifo"], ["define", "-"],
             ["pool-define", "-"], ["start", "web1"], ["undefine", "web1"], ["autostart", "web1"]]
    children = [kho.spawn(*verb, stdin=subprocess.PIPE) for verb in verbs]
    for child in children:
        harness.wait_for("the verb to heed signals", lambda: machine.is_waiting(child))
        child.send_signal(how)
    for verb, child in zip(verbs, children):
        assert child.wait(timeout=10) == 130, verb
        assert b"cancelled" in child.stderr.read(), verb
    os.close(holder)


def test_xml_comes_through_pipes_and_from_standard_input(kho):
    os.mkfifo(kho.tmp / "fifo")
    child = kho.spawn("define", "fifo")
    (kho.tmp / "fifo").write_text(machine.xml("web1"))  # opens when kho does
    assert child.wait(timeout=harness.HANG_GUARD_S) == 0
    text = f"<pool type='dir'><name>vmdisks</name><target><path>{kho.tmp}/pool</path></target></pool>"
    assert kho("pool-define", "-", input=text).out == "Pool vmdisks defined from standard input\n"
    kho("pool-start", "vmdisks", "--build")
    kho("vol-create", "vmdisks", "-", input="<volume><name>a</name><capacity unit='M'>1</capacity></volume>")
    kho.refuses("vol-create", "vmdisks", "-", input="<volume", status=INVALID, says="standard input: line 1")
    assert kho("list", "--all", "--name").out == "web1\n"


# --- states -------------------------------------------------------------------------------------------------------------

def enter(kho, state):
    """Brings machine web1, which may be in any state, to @state."""
    now = kho("domstate", "web1").out.strip()
    if now != "shut off":
        kho("destroy", "web1")
    if state != "shut off":
        kho("start", "web1", *(["--paused"] if state == "paused" else []))


# What each verb does in each state: the state after it, or the words of the refusal.
STATES = {
    "start": {"shut off": "running", "running": "running already", "paused": "is paused: resume"},
    "shutdown": {"shut off": "is not running", "running": None, "paused": "is paused: resume it first"},
    "reboot": {"shut off": "is not running: start it first", "running": None, "paused": "is paused: resume it first"},
    "reset": {"shut off": "is not running: start it first", "running": "running", "paused": "paused"},
    "suspend": {"shut off": "is not running: start it first", "running": "paused", "paused": "paused"},
    "resume": {"shut off": "is not running: start it first", "running": "is running", "paused": "running"},
    "destroy": {"shut off": "is not running", "running": "shut off", "paused": "shut off"},
    "console": {"shut off": "is not running: start it first"},
}
SHORT_STATES = {"shut off", "running", "paused"}


def test_every_verb_in_every_state(kho):
    machine.define(kho, "web1")
    for verb, state, wanted in [(verb, *row) for verb, rows in STATES.items() for row in rows.items()]:
        if kho("domstate", "web1").out.strip() != state:
            enter(kho, state)
        if wanted is None or wanted in SHORT_STATES:
            kho(verb, "web1")
            assert wanted in (None, kho("domstate", "web1").out.strip()), f"{verb} of a machine that is {state}"
        else:
            kho.refuses(verb, "web1", status=INVALID, says=["'web1'", wanted])
            assert kho("domstate", "web1").out.strip() == state
    enter(kho, "shut off")


def test_reasons_and_times(kho):
    machine.define(kho, "web1")
    kho("start", "web1")
    assert kho("domstate", "web1", "--reason").out == "running (booted)\n"
    kho("suspend", "web1")
    assert kho("domstate", "web1", "--reason").out == "paused (user)\n"
    kho("resume", "web1")
    assert kho("domstate", "web1", "--reason").out == "running (unpaused)\n"
    told = kho.json("domstate", "web1")
    assert abs(told["since-ms"] / 1000 - __import__("time").time()) < harness.HANG_GUARD_S and told["unanswered-ms"] < 5000
    kho("destroy", "web1")
    assert kho("domstate", "web1", "--reason").out == "shut off (destroyed)\n"


def test_a_running_machine_is_told_of(kho, tmp):
    image = make_image(tmp / "a.qcow2")
    machine.define(kho, "web1", machine.disk(image))
    kho("start", "web1")
    one = int(kho("domid", "web1").out)
    assert kho("domname", one).out == "web1\n" and kho("dominfo", one).out
    assert kho("list").out.splitlines()[2].split() == [str(one), "web1", "running"]
    assert kho("list", "--id").out == f"{one}\n" and kho("list", "--inactive").out.splitlines()[2:] == [""]
    assert kho("list", "--all", "--name", "--state-paused").out == ""
    live, inactive = kho("dumpxml", "web1").out, kho("dumpxml", "web1", "--inactive").out
    assert f"id='{one}'" in live and "id='" not in inactive.splitlines()[0]
    pty = re.search(r"<console type='pty' tty='(/dev/pts/\d+)'>", live)[1]
    assert os.path.exists(pty) and pty not in inactive
    info = kho.json("dominfo", "web1")
    assert info["cpu-time-ns"] > 0 and info["state"] == "running"
    assert os.readlink(f"/proc/{info['pid']}/exe").startswith("/usr/bin/qemu-system")
    kho("destroy", "web1")
    kho("start", "web1")
    assert int(kho("domid", "web1").out) > one
    kho("destroy", "web1")


def test_definition_changes_leave_the_running_machine_alone(kho):
    own = str(uuid.uuid4())
    machine.define(kho, "web1", uuid=own)
    kho("start", "web1")
    machine.define(kho, "web1", uuid=own, memory_mib=48)
    assert "32768" in kho("dumpxml", "web1").out and "49152" in kho("dumpxml", "web1", "--inactive").out
    assert kho.json("dominfo", "web1")["max-memory-kib"] == 32768
    kho("undefine", "web1")
    assert kho.json("dominfo", "web1")["persistent"] is False and kho("domstate", own).out == "running\n"
    kho.refuses("undefine", "web1", status=NOT_FOUND, says="no definition")
    kho.refuses("autostart", "web1", status=NOT_FOUND, says="no definition")
    kho.refuses("define", "-", input=machine.xml("web1"), status=EXISTS, says=own)
    assert kho("list", "--transient", "--name").out == "web1\n"
    kho("destroy", "web1")
    kho.refuses("domstate", "web1", status=NOT_FOUND)
    assert kho("list", "--all", "--name").out == ""


def test_output_that_cannot_be_written_fails(kho):
    machine.define(kho, "web1")
    for verb in (["list", "--all"], ["dumpxml", "web1"], ["dominfo", "web1", "--json"], ["help"]):
        with open("/dev/full", "w") as full:
            child = subprocess.run([kho.program, *verb], env=kho.env(), stdout=full, stderr=subprocess.PIPE, text=True)
        assert child.returncode == 10 and child.stderr == "error: cannot write to standard output: No space left on device\n"


def test_no_file_gets_the_number_of_a_closed_stream(kho):
    """What is printed would go into it."""
    os.mkfifo(kho.tmp / "fifo")
    script = f"exec {kho.program} define {kho.tmp}/fifo <&- >&- 2>&-"
    child = subprocess.Popen(["/bin/sh", "-c", script], env=kho.env())
    kho.children.append(child)
    harness.wait_for("kho to wait for the pipe", lambda: os.path.basename(os.readlink(f"/proc/{child.pid}/exe")) == "kho"
                     and machine.is_waiting(child))
    assert {os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
    (kho.tmp / "fifo").write_text(machine.xml("web1"))
    assert child.wait(timeout=harness.HANG_GUARD_S) == 11  # it could not say that it is done
    assert kho("list", "--all", "--name").out == "web1\n"


def test_what_is_done_is_not_denied_where_it_cannot_be_told(kho):
    """The status says that the output was lost, the message that the work was not."""
    (kho.tmp / "web1.xml").write_text(machine.xml("web1"))
    for verb, told in [(["img", "create", "-f", "qcow2", "a.qcow2", "1M"], "Created a.qcow2, format qcow2"),
                       (["define", "web1.xml"], "Domain 'web1' defined from web1.xml")]:
        with open("/dev/full", "w") as full:
            child = subprocess.run([kho.program, *verb], env=kho.env(), stdout=full, stderr=subprocess.PIPE, text=True,
                                   cwd=kho.tmp)
        assert child.returncode == 10
        assert child.stderr == f"error: it is done ({told}), but cannot be told on standard output: No space left on device\n"
    assert kho("list", "--all", "--name").out == "web1\n"
    harness.run(["qemu-img", "check", kho.tmp / "a.qcow2"])


def test_help_man_page_and_registry_agree(kho):
    overview, man = kho("help").out, kho("help", "--man").out
    assert json.dumps(overview)
    for verb in VERBS_ON_ONE + ["list", "define"]:
        assert re.search(rf"^  {verb} ", overview, re.M) and f".SS {verb}\n" in man
        assert kho("help", verb).out.startswith(f"{verb}: ")
    warnings = harness.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", kho.build / "kho.1"]).err
    assert warnings == ""
