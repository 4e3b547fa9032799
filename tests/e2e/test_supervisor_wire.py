"""What crosses qmp.sock and monitor.sock: kho-vm between clients and a QEMU that behaves as a test wants."""

import json
import os
import resource
import socket
import time

import pytest

import harness
from supervised import Machine, end_of, kill

FAKE = str(harness.REPO / "tests" / "fake_qemu.py")


@pytest.fixture
def fake(kho):
    """fake("slow", ...): a started machine whose QEMU is fake_qemu.py in that mode."""
    def make(mode="ok", *words, start=True, **plan):
        machine = Machine(kho)
        machine.plan["argv"] = ["/usr/bin/python3", FAKE, mode, *map(str, words)]
        machine.plan.update({key.replace("_", "-"): value for key, value in plan.items()})
        if start:
            machine.start()
        return machine
    return make


# --- ids and forwarding --------------------------------------------------------------------------------------------


def test_two_clients_with_the_same_ids(fake):
    machine = fake("backwards")
    with machine.client() as one, machine.client() as two:
        one.send({"execute": "echo", "arguments": {"who": 1}, "id": 7})
        two.send({"execute": "echo", "arguments": {"who": 2}, "id": 7})
        replies = [one.reply(), two.reply()]
    assert [reply["id"] for reply in replies] == [7, 7]
    assert [reply["return"]["arguments"]["who"] for reply in replies] == [1, 2]
    seen = [reply["return"]["id-seen"] for reply in replies]
    assert seen[0] != seen[1], "QEMU saw the same id twice"
    machine.destroy()


@pytest.mark.parametrize("id", [0, -1, "word", "", None, True, 1.5, [1, {"a": 2}], {"deep": [[]]}])
def test_any_id_comes_back_as_it_was(fake, id):
    machine = fake()
    with machine.client() as client:
        for command in ("echo", "kho-status", "no-such", "qmp_capabilities"):
            client.send({"execute": command, "id": id})
            assert client.reply()["id"] == id
        client.send({"execute": "echo"})
        assert "id" not in client.reply()
    machine.destroy()


def test_errors_of_qemu_arrive_as_they_are(fake):
    machine = fake(start=False)
    machine.plan["argv"][2] = "refuse"
    machine.start(says=["fake refuses in two lines"])
    assert not machine.run_path.exists()


def test_numbers_past_63_bits_do_not_break_the_monitor(fake):
    machine = fake()
    with machine.client() as client:
        assert client.ask("query-balloon")["actual"] == pytest.approx(2**64)
        assert client.ask("query-status")["status"] == "running"
    machine.destroy()


def test_an_answer_larger_than_the_unread_limit_arrives_whole(fake):
    machine = fake()
    with machine.client() as client:
        assert len(client.ask("query-big")["big"]) == 3 << 20
    machine.destroy()


# --- a QMP server as QEMU's is -------------------------------------------------------------------------------------


def test_negotiation_comes_first_but_for_khos_own(fake):
    machine = fake()
    with machine.client(negotiate=False) as client:
        assert client.greeting["QMP"]["version"]["qemu"]["major"] == 7
        reply = client.call("query-status")
        assert reply["error"]["class"] == "CommandNotFound" and "qmp_capabilities" in reply["error"]["desc"]
        assert client.ask("kho-status")["state"] == "running"
        client.ask("qmp_capabilities")
        assert client.ask("query-status")["running"]
        assert client.call("kho-dance")["error"]["class"] == "CommandNotFound"
    machine.destroy()


def test_messages_need_no_line_feed_and_come_in_pieces(fake):
    machine = fake()
    with machine.client() as client:
        client.sock.sendall(b'{"execute":"echo","id":"}{\\""}{"execute":"ec')
        assert client.reply()["id"] == '}{"'
        client.sock.sendall(b'ho"')
        client.sock.sendall(b'\n , "id" : 2 } \r\n\t')
        assert client.reply()["id"] == 2
    machine.destroy()


@pytest.mark.parametrize("text", [b"hello\n", b"[]\n", b'{"execute":}', b"\xff{}", b'{"a":"\xff"}', b'{"execute"',
                                  b"{" * 100000, b'{"execute":"' + b"x" * (2 << 20) + b'"}'],
                         ids=["word", "list", "syntax", "byte", "not-utf8", "half", "deep", "long"])
def test_what_is_no_qmp_ends_only_its_own_connection(fake, text):
    machine = fake()
    with machine.client() as good:
        with machine.client() as bad:
            try:
                bad.sock.sendall(text)
                bad.sock.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            for reply in iter(bad.receive, None):
                assert "error" in reply, reply
        assert good.ask("query-status")["running"]
    machine.destroy()


@pytest.mark.parametrize("message", [{}, {"execute": 5}, {"execute": "echo", "arguments": []}, {"run": "x"}])
def test_a_command_of_the_wrong_form_is_answered(fake, message):
    machine = fake()
    with machine.client() as client:
        client.send({**message, "id": 1})
        reply = client.reply()
        assert reply["error"]["class"] == "GenericError" and reply["id"] == 1
        assert client.ask("query-status")["running"]
    machine.destroy()


def test_events_go_to_everybody_who_negotiated(fake):
    machine = fake("flood")
    with machine.client() as one, machine.client() as two, machine.client(negotiate=False) as silent:
        one.ask("flood")
        one.wait_event("FLOOD")
        assert two.wait_event("FLOOD")["timestamp"] == {"seconds": 1, "microseconds": 2}
        assert silent.call("kho-status")["return"] and silent.events == []
    machine.destroy()


# --- clients that misbehave ----------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_dropped(fake):
    machine = fake("flood")
    with machine.client() as slow, machine.client() as good:
        for _ in range(80):  # 2.5 MiB of events, of which the socket holds some 200 KiB
            good.ask("flood")
            good.wait_event("FLOOD")
        harness.wait_for("the client to be dropped", lambda: "does not read" in machine.log())
        got = 0
        while slow.receive() is not None:
            got += 1
        assert 0 < got < 80
        assert good.ask("query-status")["running"]
    machine.destroy()


def test_a_client_that_asks_without_end_is_held_back(fake, tmp):
    """64 open commands at most: the rest waits in its socket, everybody else is served."""
    fifo = tmp / "release"
    os.mkfifo(fifo)
    machine = fake("slow", fifo)
    with machine.client() as greedy, machine.client(negotiate=False) as good:
        greedy.send({"execute": "wait", "id": "wait"})
        greedy.sock.sendall(b"".join(b'{"execute":"echo","id":%d}' % i for i in range(200)))
        assert good.ask("kho-status")["state"] == "running"
        fifo.write_text("")
        assert greedy.reply()["id"] == "wait"
        assert [greedy.reply()["id"] for _ in range(200)] == list(range(200))
    machine.destroy()


def test_a_client_that_leaves_in_between_harms_nobody(fake, tmp):
    fifo = tmp / "release"
    os.mkfifo(fifo)
    machine = fake("slow", fifo)
    with machine.client() as good:
        with machine.client() as leaving:
            leaving.send({"execute": "wait"})
            leaving.send({"execute": "kho-destroy-not"})
        fifo.write_text("")
        assert good.ask("query-status")["running"]
    machine.destroy()


def test_other_users_are_refused(fake):
    machine = fake()
    for folder in [machine.run_path, *machine.run_path.parents]:
        if str(folder).startswith(str(machine.kho.base)):
            folder.chmod(0o755)
    (machine.run_path / "qmp.sock").chmod(0o666)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(60)
                sock.connect(str(machine.run_path / "qmp.sock"))
                text = sock.makefile("rb").read()
            message = json.loads(text)
            os._exit(0 if message["error"]["kho-code"] == "denied" else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    machine.destroy()


def test_files_are_their_owners_alone(fake):
    machine = fake()
    assert machine.run_path.stat().st_mode & 0o777 == 0o700
    for path in machine.run_path.iterdir():  # who may open a lock's file may hold the lock
        assert path.stat().st_mode & 0o777 == 0o600, path
    machine.destroy()


def test_many_clients(fake):
    """However many there are, the next is served: who has said nothing for longest goes."""
    machine = fake()
    clients = [machine.client() for _ in range(190)]
    assert all(client.ask("query-status")["running"] for client in clients)
    clients[0].ask("query-status")
    extra = [machine.client(negotiate=False) for _ in range(20)]
    assert all(client.ask("kho-status")["state"] == "running" for client in extra)
    assert clients[0].ask("query-status")["running"]
    assert clients[1].receive() is None and machine.log().count("too many") == 10
    machine.destroy()
    for client in clients + extra:
        client.sock.close()


def test_clients_for_more_descriptors_than_there_may_be(fake):
    machine = fake()
    supervisor = machine.status()["supervisor-pid"]
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (60, 60))
    clients = [connect(machine) for _ in range(100)]  # some wait to be accepted
    machine.destroy()
    assert "too many" in machine.log() and len(machine.log().splitlines()) < 300
    for sock in clients:
        sock.close()


def connect(machine):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(machine.run_path / "qmp.sock"))
    return sock


# --- a QEMU that misbehaves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mute", "deaf"])
def test_a_qemu_that_does_not_answer_its_start(fake, mode):
    machine = fake(mode, start=False, start_timeout_ms=300)
    assert machine.start(says="did not answer in time")["code"] == "timeout"
    assert not machine.run_path.exists()


def test_a_qemu_that_speaks_no_qmp(fake):
    machine = fake("garbage", start=False, start_timeout_ms=300)
    machine.start(says="did not answer in time")
    assert "not QMP: byte 0x00" in machine.log()
    assert not machine.run_path.exists()


@pytest.mark.parametrize("text,says", [
    ("qemu-system-x86_64: -drive x: no\n", "m1': -drive x: no"),
    ("qemu-system-x86_64: first\nqemu-system-x86_64: last\nand its cause\n", "m1': last and its cause"),
    ("qemu-system-x86_64: real\nqemu-system-x86_64: warning: later\n", "m1': real"),
    ("no line feed \x1b[31m", "no line feed"),
    ("", "exit status 3"),
])
def test_qemus_last_words_make_the_error(fake, text, says):
    machine = fake("exit", "3", text, start=False)
    answer = machine.start(says=says)
    assert "\x1b" not in answer["message"] and "warning" not in answer["message"]
    assert not machine.run_path.exists()


def test_a_question_that_takes_long_is_told_as_silence(fake, tmp):
    fifo = tmp / "release"
    os.mkfifo(fifo)
    machine = fake("slow", fifo)
    with machine.client() as client:
        client.send({"execute": "wait"})
        asked = time.monotonic()
        silence = harness.wait_for("the silence", lambda: machine.status()["unanswered-ms"])
        assert 250 <= silence <= (time.monotonic() - asked) * 1000 + 100
        fifo.write_text("")
        client.reply()
    harness.wait_for("the answer", lambda: machine.status()["unanswered-ms"] == 0)
    machine.destroy()


def test_clients_learn_that_qemu_ended(fake, tmp):
    fifo = tmp / "release"
    os.mkfifo(fifo)
    machine = fake("slow", fifo)
    pid = machine.status()["pid"]
    with machine.client() as client:
        client.send({"execute": "wait", "id": 1})
        harness.wait_for("the command to be under way", lambda: machine.status()["unanswered-ms"])
        os.kill(pid, 9)
        reply = client.reply()
        assert reply["id"] == 1 and reply["error"]["kho-code"] == "io"
        assert client.receive() is None
    end_of(pid)
    machine.wait_gone()


def test_stopped_kho_vm_serves_again_when_it_goes_on(fake):
    machine = fake()
    pid = machine.status()["supervisor-pid"]
    os.kill(pid, 19)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(machine.run_path / "qmp.sock"))
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
    os.kill(pid, 18)
    assert machine.status()["state"] == "running"
    machine.destroy()
