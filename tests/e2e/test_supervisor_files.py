"""Files given to QEMU while it runs (kho-open, kho-close): with them block jobs rewrite layers that were open for
reading, and no name of a descriptor reaches a header. Contents and headers are read by qemu-img and qemu-io."""

import json
import os
import re
import subprocess

import pytest

from chain import Chain, backing, fdset, image_fds, open_file
from supervised import Machine, kill


@pytest.fixture
def chain(tmp):
    return Chain(tmp)


@pytest.fixture
def machine(kho, chain):
    machine = Machine(kho)
    machine.add_chain(*chain.paths)
    return machine


def finish(client, job, layer, below):
    """Waits for the job and lets it have its effect; a job that failed fails the test. QEMU writes the header that
    names another backing file before the tables that make up for it: @layer, which was written, is reopened first,
    which flushes it."""
    while True:
        event = client.wait_event("JOB_STATUS_CHANGE")["data"]
        assert event["id"] == job
        if event["status"] == "ready":
            client.ask("job-complete", id=job)
        elif event["status"] == "pending":
            client.ask("blockdev-reopen", options=[{
                "driver": "qcow2", "node-name": f"d-{layer}", "file": f"d-{layer}-file", "read-only": False,
                "backing": below}])
            client.ask("job-finalize", id=job)
        elif event["status"] == "concluded":
            break
    assert [row.get("error") for row in client.ask("query-jobs")] == [None]
    client.ask("job-dismiss", id=job)


def drop(client, layer):
    client.ask("blockdev-del", node_name=f"d-{layer}")
    client.ask("blockdev-del", node_name=f"d-{layer}-file")
    client.ask("kho-close", fdset=layer)


def commit(client, chain, top, base):
    """Layer @top, which is not the one in use, into @base."""
    given = [(layer, open_file(client, chain.paths[layer], layer)) for layer in (base, top - 1)]
    client.ask("block-commit", job_id="j", device="d-0", top_node=f"d-{top}", base_node=f"d-{base}",
               backing_file=chain.paths[base].name, auto_dismiss=False, auto_finalize=False)
    finish(client, "j", base, None)
    for number, fd in given:
        client.ask("kho-close", fdset=number, fd=fd)
    drop(client, top)


@pytest.mark.parametrize("paused", [False, True])
def test_commit_into_lower_layers_and_out_of_the_active_one(machine, chain, paused):
    machine.start()
    pid = machine.status()["pid"]
    with machine.client() as client:
        if paused:
            client.ask("stop")
        refused = client.call("block-commit", job_id="j", device="d-0", top_node="d-2", base_node="d-3",
                              backing_file="l3.qcow2")
        assert "Permission denied" in refused["error"]["desc"], refused
        commit(client, chain, top=2, base=3)
        assert backing(chain.paths[1]) == ("l3.qcow2", "qcow2")
        chain.check(chain.paths[0])
        commit(client, chain, top=1, base=3)  # the locks that the first job left behind are not in its way
        assert backing(chain.paths[0]) == ("l3.qcow2", "qcow2")
        chain.check(chain.paths[0])

        old = fdset(client, 3)
        open_file(client, chain.paths[3], 3)
        client.ask("block-commit", job_id="j", device="d-0", base_node="d-3", auto_dismiss=False,
                   auto_finalize=False)
        finish(client, "j", 3, None)
        client.ask("kho-close", fdset=3, fd=old[0])
        drop(client, 0)
        assert backing(chain.paths[3]) == (None, None)
        chain.check(chain.paths[3])
        if paused:
            client.ask("cont")
            client.ask("query-status")
        assert set(image_fds(pid, chain.folder).values()) == {"l3.qcow2"}, "QEMU keeps a file that was merged away"
    machine.destroy()


def test_stream_into_a_lower_layer_and_into_the_active_one(machine, chain):
    machine.start()
    with machine.client() as client:
        # The file that the layer is open as goes first, and another takes its place: its locks must not stay.
        old = fdset(client, 1)
        open_file(client, chain.paths[1], 1, read_only=True)
        client.ask("kho-close", fdset=1, fd=old[0])
        fd = open_file(client, chain.paths[1], 1)
        client.ask("block-stream", job_id="j", device="d-1", base_node="d-3", backing_file="l3.qcow2",
                   auto_dismiss=False, auto_finalize=False)
        finish(client, "j", 1, "d-2")
        client.ask("kho-close", fdset=1, fd=fd)
        drop(client, 2)
        assert backing(chain.paths[1]) == ("l3.qcow2", "qcow2")
        chain.check(chain.paths[0])

        client.ask("block-stream", job_id="j", device="d-0", base_node="d-3", backing_file="l3.qcow2",
                   auto_dismiss=False, auto_finalize=False)
        finish(client, "j", 0, "d-1")
        drop(client, 1)
        assert backing(chain.paths[0]) == ("l3.qcow2", "qcow2")
        chain.check(chain.paths[0])
    machine.destroy()


def test_each_descriptor_goes_with_its_own_command(kho, tmp):
    """Commands of several clients, sent at once: every set holds the file that was asked for."""
    machine = Machine(kho)
    machine.start()
    pid = machine.status()["pid"]
    clients = [machine.client() for _ in range(3)]
    for n, client in enumerate(clients):
        messages = []
        for i in range(20):
            path = tmp / f"{n}-{i}"
            path.write_bytes(b"x")
            messages += [{"execute": "kho-open", "id": i, "arguments": {"path": str(path), "read-only": False,
                                                                        "fdset": 100 * n + i}},
                         {"execute": "query-status"}]
        client.sock.sendall(b"".join(json.dumps(message).encode() for message in messages))
    for n, client in enumerate(clients):
        for _ in range(40):
            reply = client.reply()
            if "id" not in reply:
                continue
            assert reply["return"]["fdset-id"] == 100 * n + reply["id"]
            assert image_fds(pid, tmp)[reply["return"]["fd"]] == f"{n}-{reply['id']}"
        client.sock.close()
    supervisor = machine.status()["supervisor-pid"]
    assert image_fds(supervisor, tmp) == {}, "kho-vm keeps them open"
    machine.destroy()


def test_a_stream_begins_where_it_is_told(kho, tmp):
    machine = Machine(kho)
    machine.start()
    path = tmp / "memory"
    path.write_bytes(b"h" * 5000)
    with machine.client() as client:
        client.ask("kho-open", path=str(path), read_only=False, fdname="out", offset=5000)
        client.ask("migrate", uri="fd:out")
        while client.ask("query-migrate")["status"] != "completed":
            client.ask("query-status")
    machine.destroy()
    content = path.read_bytes()
    assert content[:5000] == b"h" * 5000 and content[5000:5004] == b"QEVM"


@pytest.mark.parametrize("arguments,says", [
    ({"path": "/nowhere/x", "read-only": True, "fdset": 1}, "/nowhere/x: No such file"),
    ({"path": "/proc", "read-only": True, "fdset": 1}, "/proc is not a regular file"),
    ({"path": "x", "read-only": True, "fdset": 1}, "not absolute"),
    ({"path": "FIFO", "read-only": False, "fdset": 1}, "is not a regular file"),
    ({"path": "FIFO", "read-only": True, "fdset": 1}, "is not a regular file"),
    ({"path": "/etc/passwd", "read-only": True}, "fdset"),
    ({"path": "/etc/passwd", "read-only": True, "fdset": 1, "fdname": "x"}, "fdset"),
    ({"path": "/etc/passwd", "read-only": True, "fdset": -1}, "fdset"),
    ({"path": "/etc/passwd", "read-only": True, "fdset": 1 << 40}, "fdset"),
    ({"path": "/etc/passwd", "fdset": 1}, "read-only"),
    ({"read-only": True, "fdset": 1}, "path"),
    ({"path": "/etc/passwd", "read-only": True, "fdname": "x", "offset": -1}, "0 upwards"),
    ({"path": "/etc/passwd", "read-only": True, "fdname": "7"}, "digit"),
])
def test_open_refuses(kho, tmp, arguments, says):
    machine = Machine(kho)
    machine.start()
    os.mkfifo(tmp / "fifo")
    if arguments.get("path") == "FIFO":
        arguments = dict(arguments, path=str(tmp / "fifo"))
    with machine.client() as client:
        client.send({"execute": "kho-open", "arguments": arguments})
        reply = client.reply()
        assert says in reply["error"]["desc"] and "\n" not in reply["error"]["desc"], reply
        assert client.ask("query-fdsets") == []
        for wrong, word in (({}, "fdset"), ({"fdset": 7}, "fdset-id:7"), ({"fdset": "x"}, "fdset")):
            client.send({"execute": "kho-close", "arguments": wrong})
            assert word in client.reply()["error"]["desc"]
    machine.destroy()


def test_an_adopter_opens_and_closes_as_well(machine, chain):
    machine.start()
    kill(machine.status()["supervisor-pid"])
    machine.adopt()
    with machine.client() as client:
        client.ask("stop")
        commit(client, chain, top=2, base=3)
        commit(client, chain, top=1, base=3)
        chain.check(chain.paths[0])
    machine.destroy()


def test_live_xml_is_replaced_by_one_of_the_same_machine(kho):
    machine = Machine(kho)
    text = (f"<domain type='qemu' id='1'><name>m1</name><uuid>{machine.plan['uuid']}</uuid><memory>16384</memory>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>%s</devices></domain>")
    machine.plan["live-xml"] = text % ""
    machine.start()
    live = machine.run_path / "live.xml"
    with machine.client(negotiate=False) as client:
        # As large as an XML may be: the message is larger.
        new = text % ("<!-- " + "'\"&lt;" * 500000 + " -->")
        client.ask("kho-live-xml", xml=new)
        assert live.read_text() == new
        other = text.replace("m1", "m2") % ""
        for wrong, says in ((other, "'m2'"), ("<domain><name>x", "line 1"), (3, "xml")):
            refused = client.call("kho-live-xml", xml=wrong)
            assert says in refused["error"]["desc"], refused
        assert live.read_text() == new
    assert re.search("-rw-------", subprocess.run(["ls", "-l", live], capture_output=True, text=True).stdout)
    machine.destroy()


def test_a_client_says_what_a_pause_is_called(kho):
    machine = Machine(kho)
    machine.start()
    with machine.client() as client:
        def told(state, reason):
            status = machine.status()
            assert (status["state"], status["reason"]) == (state, reason)
            assert (machine.file()["state"], machine.file()["reason"]) == (state, reason)

        client.ask("kho-state", state="running", reason="from snapshot")  # what it is called now
        told("running", "from snapshot")
        client.ask("kho-state", state="paused", reason="saving")  # what the next pause is called
        told("running", "from snapshot")
        client.ask("stop")
        told("paused", "saving")
        client.ask("cont")
        told("running", "unpaused")
        client.ask("stop")  # told once, for one pause
        told("paused", "user")
        client.ask("kho-state", state="paused", reason="creating snapshot")
        told("paused", "creating snapshot")
        client.ask("kho-state", state="running", reason="restored")
        client.ask("kho-state", state="running")  # taken back
        client.ask("cont")
        told("running", "unpaused")
        assert "the machine is paused (saving)" in machine.log()
        for wrong in ({"state": "crashed", "reason": "x"}, {"reason": "x"}, {"state": "paused", "reason": ""},
                      {"state": "paused", "reason": "x" * 100}, {"state": "paused", "reason": "a\nb"}):
            assert "error" in client.call("kho-state", **wrong), wrong
        told("running", "unpaused")
    machine.destroy()
