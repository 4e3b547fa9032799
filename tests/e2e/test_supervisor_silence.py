"""A QEMU that does not answer: what is told, what is refused, and that nothing is carried out long after who asked for it
was told that it failed."""

import os
import signal
import time

import pytest

import harness
import machine as machines
from supervised import Machine, kill

FAKE = str(harness.REPO / "tests" / "fake_qemu.py")


@pytest.fixture
def machine(kho):
    return Machine(kho)


class Slow(Machine):
    """A machine whose QEMU hangs in the command `wait` until release(), and notes the commands that reach it."""

    def __init__(self, kho, tmp):
        super().__init__(kho)
        self.fifo, self.seen = tmp / "release", tmp / "seen"
        os.mkfifo(self.fifo)
        self.plan["argv"] = ["/usr/bin/python3", FAKE, "slow", str(self.fifo), str(self.seen)]
        self.start()

    def hang(self, client, silent_ms):
        client.send({"execute": "wait"})
        harness.wait_for("the silence", lambda: self.status()["unanswered-ms"] >= silent_ms)

    def release(self, client):
        self.fifo.write_text("")
        assert client.reply()["return"] == {}
        with self.client() as after:  # whatever was written before this has been read
            after.ask("query-balloon")
        return self.seen.read_text().split()


@pytest.fixture
def slow(kho, tmp):
    return Slow(kho, tmp)


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    harness.wait_for(f"process {pid} to stop", lambda: machines.is_stopped(pid))


# --- stopped by a signal -------------------------------------------------------------------------------------------


def test_what_is_asked_of_a_stopped_qemu_is_refused_and_never_done(machine):
    machine.start()
    pid = machine.status()["pid"]
    with machine.client() as client:
        stop(pid)
        for command, arguments in [("system_reset", {}), ("stop", {}), ("cont", {}), ("quit", {}), ("kho-shutdown", {}),
                                   ("kho-reboot", {}), ("kho-destroy", {"graceful": True})]:
            error = client.call(command, **arguments)["error"]
            assert error["kho-code"] == "timeout" and f"process {pid}" in error["desc"], error
            assert f"kill -CONT {pid}" in error["desc"] and "kho destroy" in error["desc"]
        assert machines.is_stopped(pid)
        os.kill(pid, signal.SIGCONT)
        assert client.ask("query-status")["running"]
        assert client.events == []
    assert (machine.status()["state"], machine.status()["reason"]) == ("running", "booted")
    assert "asked to" not in machine.log() and "SIGTERM" not in machine.log()
    machine.destroy()


def test_stopped_in_the_middle_of_a_graceful_end(machine):
    """The `quit` cannot be taken back; SIGTERM is not sent to a process that will heed it some day."""
    machine.plan["argv"] = ["/usr/bin/python3", FAKE, "hold"]
    machine.start()
    pid = machine.status()["pid"]
    with machine.client(negotiate=False) as client:
        client.send({"execute": "kho-destroy", "arguments": {"graceful": True, "timeout-ms": 3000}})
        harness.wait_for("the end to begin", lambda: "ending QEMU" in machine.log())
        stop(pid)
        error = client.reply()["error"]
        assert "may yet" in error["desc"] and f"kill -CONT {pid}" in error["desc"]
    assert "SIGTERM" not in machine.log()
    os.kill(pid, signal.SIGCONT)
    machine.destroy(timeout_ms=300)


# --- hanging -------------------------------------------------------------------------------------------------------


def test_what_a_client_asked_that_has_left_is_not_done(slow):
    """Neither for one command nor for so many that the client is held back."""
    with slow.client() as client:
        slow.hang(client, 500)
        for count in (1, 64, 100):
            with slow.client() as leaving:
                leaving.sock.sendall(b'{"execute":"echo"}' * count)
        slow.status()  # answered when kho-vm has seen them leave
        seen = slow.release(client)
    assert "wait" in seen and "echo" not in seen, seen
    slow.destroy()


def test_what_waits_is_done_when_qemu_goes_on(slow):
    with slow.client() as client, slow.client() as waiting:
        slow.hang(client, 500)
        waiting.send({"execute": "echo", "id": 5})
        assert "echo" in slow.release(client)
        assert waiting.reply()["id"] == 5
    slow.destroy()


def test_a_hanging_qemu_is_asked_nothing_more(slow):
    pid = slow.status()["pid"]
    with slow.client() as client:
        slow.hang(client, 2000)
        with slow.client() as other:
            for command in ("system_reset", "kho-shutdown", "kho-reboot"):
                error = other.call(command)["error"]
                assert error["kho-code"] == "timeout" and f"process {pid}" in error["desc"], error
                assert "kho destroy" in error["desc"]
        seen = slow.release(client)
    assert "system_reset" not in seen and "system_powerdown" not in seen
    assert slow.status()["state"] == "running"
    slow.destroy()


def test_a_query_under_way_is_answered_for_a_qemu_that_is_not(slow):
    """Its late answer goes to nobody, and the connection can be used as before."""
    with slow.client() as client, slow.client() as asking:
        client.send({"execute": "wait"})
        asking.send({"execute": "query-status", "id": 1})
        asking.send({"execute": "echo", "id": 2})
        error = asking.reply()
        assert error["id"] == 1 and error["error"]["kho-code"] == "timeout", error
        slow.release(client)
        assert asking.reply()["id"] == 2
        assert asking.ask("query-status")["running"]
    slow.destroy()


def test_a_graceful_end_that_is_given_up_does_not_come_later(slow):
    pid = slow.status()["pid"]
    with slow.client() as client:
        slow.hang(client, 500)
        with slow.client(negotiate=False) as other:
            error = other.call("kho-destroy", graceful=True, timeout_ms=300)["error"]
        assert "graceful" in error["desc"] or "has not answered" in error["desc"], error
        assert "quit" not in slow.release(client)
    assert os.path.exists(f"/proc/{pid}") and slow.status()["state"] == "running"
    slow.destroy()


def test_qemu_killed_under_many_open_commands(slow):
    """More than kho-vm takes at once: those that are open are answered, the rest is never begun."""
    with slow.client() as client:
        slow.hang(client, 500)
        client.sock.sendall(b"".join(b'{"execute":"echo","id":%d}' % i for i in range(300)))
        slow_pid = slow.status()["pid"]
        os.kill(slow_pid, signal.SIGKILL)
        replies = list(iter(client.receive, None))
    assert replies and all(reply["error"]["kho-code"] == "io" for reply in replies), replies[:3]
    slow.wait_gone()


def test_kho_vm_told_to_end_under_many_open_commands(slow):
    with slow.client() as client:
        slow.hang(client, 500)
        client.sock.sendall(b'{"execute":"echo"}' * 300)
        kill(slow.status()["supervisor-pid"], signal.SIGTERM)
        while client.receive() is not None:
            pass
    slow.fifo.write_text("")  # fake QEMU does not outlive the loss of its client
    slow.adopt()
    slow.wait_gone()


# --- since when ----------------------------------------------------------------------------------------------------


def test_since_when_outlives_kho_vm(machine):
    machine.start()
    status = machine.status()
    os.kill(status["pid"], signal.SIGSTOP)
    since_ms = harness.wait_for("the silence to be written down", lambda: machine.file()["silent-since-ms"])
    harness.wait_for("it to last", lambda: machine.status()["unanswered-ms"] > 3000)
    for _ in range(2):
        kill(machine.status()["supervisor-pid"])
        machine.adopt()
        told_ms = time.time() * 1000 - machine.status()["unanswered-ms"]
        assert abs(told_ms - since_ms) < 1000 and machine.file()["silent-since-ms"] == since_ms
    os.kill(status["pid"], signal.SIGCONT)
    harness.wait_for("the answer", lambda: machine.status()["unanswered-ms"] == 0)
    harness.wait_for("the end of the silence to be written down", lambda: machine.file()["silent-since-ms"] == 0)
    assert "QEMU does not answer" in machine.log() and "QEMU answers again" in machine.log()
    machine.destroy()


def test_an_adopter_tells_a_stopped_qemu_at_once(machine):
    machine.start()
    status = machine.status()
    kill(status["supervisor-pid"])
    stop(status["pid"])
    machine.adopt()
    assert machine.status()["unanswered-ms"] > 0
    machine.destroy()


def test_a_silence_that_ended_unseen_refuses_nothing(machine):
    """Stopped, written down, kho-vm killed, and going on before the next kho-vm is there."""
    machine.start()
    status = machine.status()
    os.kill(status["pid"], signal.SIGSTOP)
    harness.wait_for("the silence to be written down", lambda: machine.file()["silent-since-ms"])
    kill(status["supervisor-pid"])
    os.kill(status["pid"], signal.SIGCONT)
    machine.adopt()
    with machine.client() as client:
        assert client.ask("query-status")["running"]
        assert client.ask("kho-status")["unanswered-ms"] == 0
    machine.destroy()


def test_kho_tells_since_when_also_without_kho_vm(kho):
    machines.define(kho, "web1")
    kho("start", "web1")
    qemu, supervisor = machines.qemu_pid(kho, "web1"), machines.supervisor_pid(kho, "web1")
    os.kill(qemu, signal.SIGSTOP)
    path = kho.root / "run/qemu/web1/status.json"
    harness.wait_for("the silence to be written down", lambda: '"silent-since-ms":0' not in path.read_text().replace(" ", ""))
    os.kill(supervisor, signal.SIGSTOP)
    assert kho.json("domstate", "web1")["unanswered-ms"] > 0
    kho("destroy", "web1")
