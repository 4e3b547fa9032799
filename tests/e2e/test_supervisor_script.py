"""An emulator that is a script which starts the real one: the script's end is not the machine's."""

import os
import signal

import pytest

import harness
import machine as machines
from supervised import QEMU, Machine, end_of, kill, read_answer


def script_at(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(kho, tmp):
    """A machine whose emulator is a script that waits for QEMU."""
    made = Machine(kho)
    made.plan["argv"][0] = str(script_at(tmp / "emulator", f'{QEMU} "$@"\nexit $?'))
    return made


def real_qemu(kho):
    """The QEMU of this tree, whoever started it."""
    for pid in kho.processes():
        try:
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("qemu-system"):
                return pid
        except OSError:
            continue
    return None


def left_by_its_script(machine):
    """Starts the machine, kills the script, and waits until kho-vm follows QEMU itself."""
    machine.start()
    script, qemu = machine.status()["pid"], real_qemu(machine.kho)
    assert script != qemu
    kill(script)
    harness.wait_for("kho-vm to follow QEMU", lambda: machine.status()["pid"] == qemu)
    return qemu


def test_the_machine_outlives_the_script(machine):
    qemu = left_by_its_script(machine)
    assert (machine.status()["state"], machine.status()["reason"]) == ("running", "booted")
    assert machine.file()["pid"] == qemu and harness.is_locked(machine.run_path / "alive")
    assert machine.start(says="running already")["code"] == "busy"
    with machine.client() as client:
        assert client.ask("query-status")["running"]
    machine.destroy()
    assert "ended (destroyed)" in machine.ended() and not machines.is_alive(qemu)


def test_the_end_of_the_real_one_is_the_machines(machine):
    kill(left_by_its_script(machine))
    machine.wait_gone()
    assert "ended (crashed)" in machine.ended()


def test_a_script_that_ends_at_once(kho, tmp):
    machine = Machine(kho)
    machine.plan["argv"][0] = str(script_at(tmp / "emulator", f'{QEMU} "$@" &\nexit 0'))
    machine.start()
    harness.wait_for("kho-vm to follow QEMU", lambda: machine.status()["pid"] == real_qemu(kho))
    machine.destroy()
    assert "ended (destroyed)" in machine.ended()


def test_a_script_ends_with_its_qemu(machine):
    machine.start()
    with machine.client() as client:
        client.send({"execute": "quit"})
    machine.wait_gone()
    assert "ended (destroyed): QEMU: exit status 0" in machine.ended()


def test_destroy_ends_a_stopped_qemu_behind_its_script(machine):
    machine.start()
    script, qemu = machine.status()["pid"], real_qemu(machine.kho)
    os.kill(qemu, signal.SIGSTOP)
    with machine.client(negotiate=False) as client:
        client.ask("kho-destroy", timeout_ms=1500)
    assert not machine.run_path.exists()
    assert not machines.is_alive(qemu) and not machines.is_alive(script)
    assert "ended (destroyed)" in machine.ended()


def test_graceful_destroy_ends_what_the_script_left(machine):
    qemu = left_by_its_script(machine)
    with machine.client(negotiate=False) as client:
        client.ask("kho-destroy", graceful=True)
    assert not machines.is_alive(qemu) and not machine.run_path.exists()


def test_adoption_finds_the_real_one(machine):
    machine.start()
    status, qemu = machine.status(), real_qemu(machine.kho)
    kill(status["supervisor-pid"])
    kill(status["pid"])
    machine.adopt()
    after = machine.status()
    assert after["pid"] == qemu and after["state"] == "running" and machine.file()["pid"] == qemu
    machine.destroy()
    assert "ended (destroyed)" in machine.ended()


def test_kho_never_says_shut_off_while_the_real_one_lives(kho, tmp):
    emulator = script_at(tmp / "emulator", f'{QEMU} "$@"\nexit $?')
    text = machines.xml("web1").replace("<devices>", f"<devices><emulator>{emulator}</emulator>")
    kho("define", "-", input=text)
    for killed in (["script"], ["script", "kho-vm"], ["kho-vm", "script"]):
        kho("start", "web1")
        script, supervisor, qemu = machines.qemu_pid(kho, "web1"), machines.supervisor_pid(kho, "web1"), real_qemu(kho)
        for who in killed:
            machines.kill({"script": script, "kho-vm": supervisor}[who])
            assert kho("domstate", "web1").out == "running\n", killed
        kho.refuses("start", "web1", says="running already")
        assert machines.qemu_pid(kho, "web1") == qemu
        kho("destroy", "web1")
        assert not machines.is_alive(qemu)
        assert kho("domstate", "web1", "--reason").out == "shut off (destroyed)\n"


def test_with_kho_vm_stopped_the_real_one_counts(kho, tmp):
    emulator = script_at(tmp / "emulator", f'{QEMU} "$@"\nexit $?')
    kho("define", "-", input=machines.xml("web1").replace("<devices>", f"<devices><emulator>{emulator}</emulator>"))
    kho("start", "web1")
    script, supervisor, qemu = machines.qemu_pid(kho, "web1"), machines.supervisor_pid(kho, "web1"), real_qemu(kho)
    os.kill(supervisor, signal.SIGSTOP)
    machines.kill(script)
    assert kho("domstate", "web1").out == "running\n"
    kho.refuses("start", "web1", says="running already")
    kho("destroy", "web1")
    assert not machines.is_alive(qemu) and not machines.is_alive(supervisor)
    assert kho("domstate", "web1", "--reason").out == "shut off (destroyed)\n"


def test_a_start_whose_script_dies_goes_on_with_qemu(kho, tmp):
    """The script is killed while QEMU has not greeted yet."""
    fake = harness.REPO / "tests" / "fake_qemu.py"
    go = tmp / "go"
    os.mkfifo(go)
    machine = Machine(kho)
    emulator = script_at(tmp / "emulator", f"(read x <{go}; exec /usr/bin/python3 {fake} ok)\nexit $?")
    machine.plan["argv"] = [str(emulator)]
    with machine.launch("--start", machine.plan) as ours:
        harness.wait_for("the script to be started", lambda: (machine.run_path / "status.json").exists())
        with open(go, "w") as release:  # opened when the script's child reads it
            script = machine.file()["pid"]
            kill(script)
            release.write("go\n")
        assert read_answer(ours) == {"ok": True}, machine.log()
    assert machine.status()["pid"] != script
    machine.destroy()
    end_of(script)
