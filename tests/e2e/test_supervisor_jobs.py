"""Block jobs as drivers run them (vm/job.h): followed by events, cancelled, finished, found again by whoever comes
after a driver, or a kho-vm, that was killed. The guest's disk reads the same at every moment."""

import hashlib
import json
import os
import signal
import time

import pytest

from chain import Chain, Drive, backing, fdset, image_tool, open_file
from supervised import Machine

MIB = 1 << 20


@pytest.fixture
def chain(tmp):
    return Chain(tmp)


@pytest.fixture
def machine(kho, chain):
    machine = Machine(kho)
    machine.add_chain(*chain.paths)
    machine.start()
    yield machine
    if machine.run_path.exists():
        machine.destroy()


def open_for_commit(machine, chain):
    with machine.client() as client:
        open_file(client, chain.paths[3], 3)
        open_file(client, chain.paths[1], 1)


SLOW = {"device": "d-0", "top-node": "d-2", "base-node": "d-3", "backing-file": "l3.qcow2", "speed": 262144}


def hash_of_disk(chain):
    """What the guest would read, though its QEMU holds the files."""
    raw = chain.folder / "raw"
    image_tool("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", chain.paths[0], raw)
    return hashlib.sha256(raw.read_bytes()).hexdigest()


def test_a_commit_is_waited_for_flushed_and_finished(machine, chain):
    open_for_commit(machine, chain)
    with Drive(machine) as drive:
        drive.begin("block-commit", "j", **dict(SLOW, speed=0))
        assert drive("wait pending j") == ["ok"]
        assert drive.progress[-1][0] == drive.progress[-1][1] > 0
        assert drive("look j") == ["ok", "pending"]
        assert backing(chain.paths[1]) == ("l2.qcow2", "qcow2")  # no effect yet
        assert drive("nodes disk") == ["ok", "d-0", "d-1 d-2 d-3"]
        assert drive("flush d-3 unmap") == ["ok"]
        assert drive("flush nowhere")[:2] == ["error", "not-found"]
        assert drive("finish j") == ["ok"]
        assert drive("nodes disk") == ["ok", "d-0", "d-1 d-3"]
        assert drive("look j") == ["ok", "absent"]
        for over in ("finish j", "cancel j"):  # again: nothing to do
            assert drive(over) == ["ok"]
        assert drive("wait pending j")[:2] == ["error", "not-found"]
    assert backing(chain.paths[1]) == ("l3.qcow2", "qcow2")
    chain.check(chain.paths[0])


def test_a_commit_of_the_layer_in_use_is_completed(machine, chain):
    with machine.client() as client:
        open_file(client, chain.paths[3], 3)
    with Drive(machine) as drive:
        drive.begin("block-commit", "j", device="d-0", base_node="d-3")
        assert drive("wait ready j") == ["ok"]
        assert drive("nodes disk") == ["ok", "d-0", "d-1 d-2 d-3"]
        assert drive("finish j")[:2] == ["error", "busy"]
        assert drive("complete j") == ["ok"]
        assert drive("look j") == ["ok", "pending"]
        assert drive("flush d-3 unmap") == ["ok"]
        assert drive("finish j") == ["ok"]
        assert drive("nodes disk") == ["ok", "d-3"]
    chain.check(chain.paths[3])


@pytest.mark.parametrize("stopped", [False, True])
def test_a_cancel_ends_the_job_and_leaves_all_as_it_was(machine, chain, stopped):
    open_for_commit(machine, chain)
    before = hash_of_disk(chain)
    with Drive(machine) as drive:
        drive.begin("block-commit", "j", **SLOW)
        drive.send("wait pending j")
        drive.wait_progress()
        pid = machine.status()["pid"]
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        drive.cancel()
        assert drive.answer() == ["error", "cancelled", "cancelled"]
        assert time.monotonic() - began < 10
        if stopped:
            os.kill(pid, signal.SIGCONT)
        assert drive("cancel j") == ["ok"]
        assert time.monotonic() - began < 10
        assert drive("look j") == ["ok", "absent"]
        assert drive("nodes disk") == ["ok", "d-0", "d-1 d-2 d-3"]
    assert hash_of_disk(chain) == before
    assert backing(chain.paths[1]) == ("l2.qcow2", "qcow2")
    chain.check(chain.paths[0])


def test_a_ready_job_is_cancelled_without_its_effect(machine, chain):
    with machine.client() as client:
        open_file(client, chain.paths[3], 3)
    with Drive(machine) as drive:
        drive.begin("block-commit", "j", device="d-0", base_node="d-3")
        assert drive("wait ready j") == ["ok"]
        assert drive("cancel j") == ["ok"]
        assert drive("nodes disk") == ["ok", "d-0", "d-1 d-2 d-3"]
    chain.check(chain.paths[0])


@pytest.mark.parametrize("victim", ["driver", "kho-vm", "both"])
def test_a_job_outlives_its_driver_and_its_kho_vm(machine, chain, victim):
    open_for_commit(machine, chain)
    drive = Drive(machine)
    drive.begin("block-commit", "j", **SLOW)
    drive.send("wait pending j")
    drive.wait_progress()
    drive.die(machine, victim)
    with Drive(machine) as drive:
        assert drive("look j") == ["ok", "working"]
        with machine.client() as client:
            client.ask("block-job-set-speed", device="j", speed=0)
        assert drive("wait pending j") == ["ok"]
        assert drive("flush d-3 unmap") == ["ok"]
        assert drive("finish j") == ["ok"]
        assert drive("nodes disk") == ["ok", "d-0", "d-1 d-3"]
    chain.check(chain.paths[0])


def test_a_job_that_fails_says_why(machine, chain, small_fs, tmp):
    """Two backups in one transaction, one onto a disk that is too small: that is the reason, for both."""
    small = small_fs("ext4", 8)
    small.fill(MIB)
    with machine.client() as client:
        actions = []
        for number, path in ((20, tmp / "good.qcow2"), (21, small.path / "bad.qcow2")):
            image_tool("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
            open_file(client, path, number)
            client.ask("blockdev-add", driver="qcow2", node_name=f"t{number}",
                       file={"driver": "file", "filename": f"/dev/fdset/{number}"})
            actions.append({"type": "blockdev-backup", "data": {
                "job-id": f"j{number}", "device": "d-0", "target": f"t{number}", "sync": "full", "auto-dismiss": False,
                "auto-finalize": False}})
        client.ask("transaction", actions=actions, properties={"completion-mode": "grouped"})
    with Drive(machine) as drive:
        assert drive("wait pending j20 j21")[0] == "error"
        assert drive("finish j20 j21") == ["error", "no-space", "QEMU's backup failed: No space left on device"]
        assert drive("look j20") == ["ok", "absent"]
        assert drive("look j21") == ["ok", "absent"]
    with machine.client() as client:
        assert client.ask("query-jobs") == []
        client.ask("blockdev-del", node_name="t20")
        client.ask("blockdev-del", node_name="t21")
        assert len(fdset(client, 20)) == 1
    chain.check(chain.paths[0])
    machine.destroy()


def test_a_flush_that_fails_is_told(kho, tmp):
    machine = Machine(kho)
    path = tmp / "disk.qcow2"
    image_tool("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    error = [{"event": "flush_to_disk", "errno": 28, "once": False, "immediately": True}]
    for node in ({"driver": "file", "filename": str(path), "node-name": "p"},
                 {"driver": "blkdebug", "image": "p", "node-name": "b", "inject-error": error},
                 {"driver": "qcow2", "file": "b", "node-name": "d"}):
        machine.plan["argv"] += ["-blockdev", json.dumps(node)]
    machine.start()
    with machine.client() as client:
        client.ask("human-monitor-command", command_line='qemu-io d "write 0 1M"')
    with Drive(machine) as drive:
        code, message = drive("flush d")[1:]
        assert code == "no-space" and "No space left" in message
    machine.destroy()
