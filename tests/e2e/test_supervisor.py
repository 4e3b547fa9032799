"""kho-vm with a real QEMU: start, the guest's and the processes' ends, adoption, silence. What kho makes of it is
tested in test_domain*.py; what crosses the wire in test_supervisor_wire.py."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

import harness
from supervised import Machine, end_of, kill, read_answer


@pytest.fixture
def machine(kho):
    return Machine(kho)


@contextlib.contextmanager
def orphaned(machine):
    """Kills kho-vm and hands out QEMU's own monitor."""
    kill(machine.status()["supervisor-pid"])
    (machine.run_path / "qmp.sock").unlink()
    os.symlink("monitor.sock", machine.run_path / "qmp.sock")
    with machine.client() as monitor:
        yield monitor


# --- start ---------------------------------------------------------------------------------------------------------


def test_start_publishes_what_runs(machine):
    machine.start()
    status = machine.status()
    assert (status["state"], status["reason"], status["paused"]) == ("running", "booted", False)
    assert status["unanswered-ms"] == 0 and status["id"] == 1 and status["uuid"] == machine.plan["uuid"]
    file = machine.file()
    assert file["pid"] == status["pid"] and file["state"] == "running" and "unanswered-ms" not in file
    assert os.readlink(f"/proc/{status['pid']}/exe").endswith("qemu-system-x86_64")
    assert sorted(path.name for path in machine.run_path.iterdir()) == [
        "alive", "monitor.sock", "qmp.sock", "status.json", "stderr.fifo", "supervisor"]
    machine.destroy()
    assert "ended (destroyed): QEMU: exit status 0" in machine.ended()


def test_kho_vm_and_qemu_have_left_whoever_started_them(machine):
    machine.start()
    status = machine.status()
    for pid in (status["pid"], status["supervisor-pid"]):
        assert os.getsid(pid) != os.getsid(0) and os.getpgid(pid) != os.getpgid(0)
    stdio = {os.readlink(f"/proc/{status['supervisor-pid']}/fd/{fd}") for fd in (0, 1, 2)}
    assert stdio == {"/dev/null"}
    machine.destroy()


def test_start_paused_lets_the_guest_wait(machine):
    machine.plan["paused"] = True
    machine.start()
    assert (machine.status()["state"], machine.status()["reason"]) == ("paused", "starting up")
    with machine.client() as client:
        assert client.ask("query-status")["status"] == "prelaunch"
        client.ask("cont")
        client.wait_event("RESUME")
    assert machine.status()["state"] == "running"
    machine.destroy()


def test_second_start_is_refused_and_changes_nothing(machine):
    machine.start()
    pid = machine.status()["pid"]
    assert machine.start(says="running already")["code"] == "busy"
    assert machine.status()["pid"] == pid
    machine.destroy()


def test_racing_starts_let_one_win(kho):
    machines = [Machine(kho) for _ in range(4)]
    answers = []

    def start(machine):
        with machine.launch("--start", machine.plan) as ours:
            answers.append(read_answer(ours))
    threads = [threading.Thread(target=start, args=(machine,)) for machine in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.get("code", "ok") for answer in answers) == ["busy"] * 3 + ["ok"], answers
    machines[0].destroy()


def test_start_follows_an_end_at_once(machine):
    for _ in range(5):
        machine.start()
        with machine.client() as client:
            client.ask("kho-destroy")
    assert not machine.run_path.exists()


def test_files_reach_qemu_as_descriptors_and_its_locks_end_with_it(machine, tmp):
    image = tmp / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    machine.plan["argv"] += ["-add-fd", "fd=30,set=0", "-blockdev",
                             '{"driver":"file","filename":"/dev/fdset/0","node-name":"f"}', "-blockdev",
                             '{"driver":"raw","file":"f","node-name":"d"}', "-device", "virtio-blk-pci,drive=d"]
    machine.add_file(image, 30)
    machine.start()
    status = machine.status()
    holders = [os.readlink(f"/proc/{status['supervisor-pid']}/fd/{fd}")
               for fd in os.listdir(f"/proc/{status['supervisor-pid']}/fd")]
    assert str(image) not in holders, "kho-vm keeps the image open"
    assert harness.is_locked(image)
    kill(status["supervisor-pid"])
    kill(status["pid"])
    assert not harness.is_locked(image)
    machine.adopt()
    assert not machine.run_path.exists()


@pytest.mark.parametrize("change,says", [
    (lambda m: m["argv"].__setitem__(0, "/nowhere/qemu"), ["cannot start /nowhere/qemu", "No such file"]),
    (lambda m: m["argv"].extend(["-device", "no-such-device"]), ["QEMU cannot run machine 'm1'", "no-such-device"]),
    (lambda m: m["files"].append({"path": "/nowhere/disk", "fd": 30, "read-only": True}), ["/nowhere/disk", "No such"]),
    (lambda m: m["files"].append({"path": "/proc", "fd": 30, "read-only": False}), ["/proc", "directory"]),
    (lambda m: m["argv"].__setitem__(0, "/dev/null"), ["cannot start /dev/null", "denied"]),
    (lambda m: m.__setitem__("version", 2), ["version 2", "differ"]),
    (lambda m: m.__setitem__("on-crash", "dance"), ["on-crash", "dance"]),
    (lambda m: m.__setitem__("monitor-fd", 2), ["monitor-fd"]),
    (lambda m: m.__setitem__("live-xml", "<domain><name>x"), ["line 1"]),
    (lambda m: m.__delitem__("argv"), ["argv"]),
])
def test_failed_start_says_why_and_leaves_nothing(machine, change, says):
    change(machine.plan)
    machine.start(says=says)
    assert not machine.run_path.exists()


def test_image_in_use_is_busy(machine, kho, tmp):
    image = tmp / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    other = Machine(kho, "other")
    for one in (machine, other):
        one.plan["argv"] += ["-add-fd", "fd=30,set=0", "-blockdev",
                             '{"driver":"file","filename":"/dev/fdset/0","node-name":"f"}', "-device",
                             "virtio-blk-pci,drive=f"]
        one.add_file(image, 30)
    machine.start()
    assert other.start(says=["Failed to get", "lock"])["code"] == "busy"
    assert not other.run_path.exists()
    machine.destroy()


def test_live_xml_tells_ptys_and_port(machine):
    machine.plan["live-xml"] = f"""<domain type='qemu' id='1'><name>m1</name><uuid>{machine.plan['uuid']}</uuid>
<memory>16384</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<serial type='pty'><target port='0'/><alias name='serial0'/></serial>
<console type='pty'><target type='serial' port='0'/><alias name='serial0'/></console>
<graphics type='vnc' port='-1' autoport='yes'/></devices></domain>"""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    machine.plan["argv"] += ["-chardev", "pty,id=charserial0", "-device", "isa-serial,chardev=charserial0",
                             "-vnc", f"127.0.0.1:{port - 5900}"]
    machine.start()
    with machine.client() as client:
        ptys = [row["filename"] for row in client.ask("query-chardev") if row["label"] == "charserial0"]
    xml = (machine.run_path / "live.xml").read_text()
    path = ptys[0].removeprefix("pty:")
    assert xml.count(f"path='{path}'") == 2 and f"tty='{path}'" in xml and f"port='{port}'" in xml, xml
    machine.destroy()


def test_a_root_of_any_depth(kho):
    deep = kho.root
    while len(str(deep)) < 400:
        deep = deep / ("x" * 60)
    machine = Machine(kho, "n" * 200, root=deep)
    machine.start()
    assert machine.status()["state"] == "running"
    status = machine.status()
    kill(status["supervisor-pid"])
    machine.adopt()
    assert machine.status()["pid"] == status["pid"]
    machine.destroy()


def test_cancelled_start_ends_qemu_first(machine):
    machine.plan["argv"] = ["/usr/bin/python3", str(harness.REPO / "tests/fake_qemu.py"), "mute"]
    with machine.launch("--start", machine.plan) as ours:
        harness.wait_for("QEMU to be started", lambda: (machine.run_path / "status.json").exists())
        pid = machine.file()["pid"]
        ours.shutdown(socket.SHUT_WR)
        answer = read_answer(ours)
    assert answer["code"] == "cancelled", answer
    assert not os.path.exists(f"/proc/{pid}") and not machine.run_path.exists()


def test_start_whose_starter_was_killed_leaves_nothing(machine):
    machine.plan["argv"] = ["/usr/bin/python3", str(harness.REPO / "tests/fake_qemu.py"), "mute"]
    with machine.launch("--start", machine.plan):
        harness.wait_for("QEMU to be started", lambda: (machine.run_path / "status.json").exists())
    machine.wait_gone()
    assert "cancelled" in machine.ended()


# --- the end, whatever causes it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number,how", [(signal.SIGKILL, "killed by signal 9"), (signal.SIGSEGV, "killed by signal 11")])
def test_killed_qemu_is_cleared_up_and_logged(machine, number, how):
    machine.start()
    kill(machine.status()["pid"], number)
    machine.wait_gone()
    assert "ended (crashed)" in machine.ended() and how in machine.ended()


def quit_by_client(machine):
    with machine.client() as client:
        client.send({"execute": "quit"})
        while client.receive() is not None:
            pass


def term_by_signal(machine):
    kill(machine.status()["pid"], signal.SIGTERM)


@pytest.mark.parametrize("end", [quit_by_client, term_by_signal])
def test_qemu_told_to_end_by_others(machine, end):
    machine.start()
    end(machine)
    machine.wait_gone()
    assert "ended (destroyed)" in machine.ended()


def test_destroy_answers_when_nothing_is_left(machine):
    machine.start()
    pid = machine.status()["pid"]
    with machine.client(negotiate=False) as one, machine.client(negotiate=False) as two:
        one.send({"execute": "kho-destroy", "id": "a"})
        two.send({"execute": "kho-destroy", "id": "b"})
        assert one.reply() == {"return": {}, "id": "a"} and two.reply() == {"return": {}, "id": "b"}
    assert not machine.run_path.exists() and not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("reason", ["destroyed", "saved", "failed", "from snapshot"])
def test_why_it_was_ended_is_told(machine, reason):
    machine.start()
    with machine.client() as client:
        for other in ["", "shutdown", "saved\n2026"]:
            assert client.call("kho-destroy", reason=other)["error"]["kho-code"] == "invalid"
    machine.destroy(reason=reason)
    assert f"ended ({reason}): " in machine.ended()


def test_arguments_that_are_none_end_nothing(machine):
    """Of another type, or misspelt: what the command does without them is not what was meant."""
    machine.start()
    wrong = [("kho-destroy", {"graceful": 5}), ("kho-destroy", {"graceful": "no"}), ("kho-destroy", {"timeout-ms": "9"}),
             ("kho-destroy", {"timeout-ms": -1}), ("kho-destroy", {"timeout-ms": 1.5}), ("kho-destroy", {"reason": 1}),
             ("kho-destroy", {"gracefull": True}), ("kho-destroy", {"": 1}), ("kho-status", {"x": 1}),
             ("kho-shutdown", {"timeout-ms": 1}), ("kho-state", {"state": "paused", "reason": 1}), ("kho-state", {"state": 1}),
             ("kho-unplug", {}), ("kho-unplug", {"device": "x", "nodes": 1}),
             ("kho-live-xml", {"xml": 1}), ("kho-close", {"fdset": 1, "fd": -1}), ("kho-close", {"fdset": 1, "fd": "1"}),
             ("kho-open", {"path": "/etc/passwd", "read-only": 1, "fdset": 1})]
    with machine.client() as client:
        for command, arguments in wrong:
            client.send({"execute": command, "arguments": arguments})
            reply = client.reply()
            assert reply and reply["error"]["kho-code"] == "invalid", (command, arguments, reply)
        assert client.ask("kho-status")["state"] == "running"
    machine.destroy()


def test_graceful_destroy_does_not_kill(machine):
    machine.plan["argv"] = ["/usr/bin/python3", str(harness.REPO / "tests/fake_qemu.py"), "hold"]
    machine.start()
    pid = machine.status()["pid"]
    with machine.client(negotiate=False) as client:
        reply = client.call("kho-destroy", graceful=True, timeout_ms=300)
        assert reply["error"]["kho-code"] == "busy" and "graceful" in reply["error"]["desc"]
        assert os.path.exists(f"/proc/{pid}")
        assert client.ask("kho-status")["state"] == "running"
        assert client.call("kho-destroy", timeout_ms=300) == {"return": {}}
    assert "signal 9" in machine.ended()


# --- silence -------------------------------------------------------------------------------------------------------


def test_stopped_qemu_is_told_at_once_and_can_be_destroyed(machine):
    machine.start()
    status = machine.status()
    os.kill(status["pid"], signal.SIGSTOP)
    first = harness.wait_for("the silence to be noticed", lambda: machine.status()["unanswered-ms"])
    second = harness.wait_for("the silence to grow", lambda: max(machine.status()["unanswered-ms"] - first, 0))
    assert second > 0 and machine.status()["state"] == "running"
    with open(f"/proc/{status['pid']}/stat") as file:
        assert file.read().rpartition(")")[2].split()[0] == "T", "it was still stopped while it was asked"
    machine.destroy()
    assert "killed by signal 9" in machine.ended()


def test_silence_ends_when_qemu_goes_on(machine):
    machine.start()
    pid = machine.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    harness.wait_for("the silence to be noticed", lambda: machine.status()["unanswered-ms"])
    os.kill(pid, signal.SIGCONT)
    harness.wait_for("the silence to end", lambda: machine.status()["unanswered-ms"] == 0)
    machine.destroy()


# --- adoption ------------------------------------------------------------------------------------------------------


def test_adopted_machine_goes_on(machine):
    machine.start()
    before = machine.status()
    with machine.client() as client:
        client.ask("stop")
        client.wait_event("STOP")
    kill(before["supervisor-pid"])
    machine.adopt()
    after = machine.wait_state("paused", "user")
    assert after["pid"] == before["pid"] and after["supervisor-pid"] != before["supervisor-pid"]
    assert machine.file()["supervisor-pid"] == after["supervisor-pid"]
    with machine.client() as client:
        client.ask("cont")
        client.wait_event("RESUME")
    machine.wait_state("running", "unpaused")
    machine.destroy()
    assert "ended (destroyed)" in machine.ended()


def test_adoption_learns_what_it_missed(machine):
    machine.start()
    with orphaned(machine) as monitor:
        monitor.ask("stop")
    machine.adopt()
    machine.wait_state("paused")
    machine.destroy()


def test_adoption_without_a_log(machine):
    """A machine is not left alone for its log; what is said of it from the moment the log can be opened stands there."""
    machine.start()
    status = machine.status()
    kill(status["supervisor-pid"])
    machine.log_path.unlink()
    machine.log_path.mkdir()
    machine.adopt()
    assert machine.status()["pid"] == status["pid"]
    machine.log_path.rmdir()
    machine.destroy()
    assert "ended (destroyed)" in machine.ended()


def test_sigterm_to_kho_vm_leaves_the_guest(machine):
    machine.start()
    status = machine.status()
    kill(status["supervisor-pid"], signal.SIGTERM)
    assert os.path.exists(f"/proc/{status['pid']}")
    machine.adopt()
    assert machine.status()["pid"] == status["pid"]
    machine.destroy()


def test_adopt_is_idempotent_and_races(machine):
    machine.start()
    kill(machine.status()["supervisor-pid"])
    threads = [threading.Thread(target=machine.adopt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    harness.wait_for("an adopter to serve", lambda: (machine.run_path / "qmp.sock").exists() and machine.status())
    machine.adopt()
    machine.destroy()
    machine.adopt()  # nothing is there: that is no error
    assert not machine.run_path.exists()


def test_adopting_a_stopped_qemu_answers_at_once(machine):
    machine.start()
    status = machine.status()
    os.kill(status["pid"], signal.SIGSTOP)
    kill(status["supervisor-pid"])
    machine.adopt()
    harness.wait_for("the silence to be noticed", lambda: machine.status()["unanswered-ms"])
    assert machine.status()["state"] == "running"
    machine.destroy()
    assert "not known, since it was adopted" in machine.ended()


def test_adopted_qemu_that_is_killed_is_cleared_up(machine):
    machine.start()
    status = machine.status()
    kill(status["supervisor-pid"])
    machine.adopt()
    kill(status["pid"])
    machine.wait_gone()
    assert "ended (crashed)" in machine.ended()


def stopped(machine):
    """The kho-vm of this tree that has stopped at its step."""
    for pid, words in machine.kho.processes().items():
        if "kho-vm --" in words:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "T":
                    return pid
    return None


def die_in_start(machine, step):
    with machine.launch("--start", machine.plan, KHO_VM_STOP_AT=step) as ours:
        kill(harness.wait_for(f"kho-vm at {step}", lambda: stopped(machine)))
        assert read_answer(ours) is None
    machine.adopt()
    if step == "start-published":  # it was running, though nobody was told: the next command finds it so
        machine.wait_state("running", "booted")
        machine.destroy()


def die_in_adoption(machine, step):
    machine.start()
    status = machine.status()
    kill(status["supervisor-pid"])
    with machine.launch("--adopt", KHO_VM_STOP_AT=step):
        kill(harness.wait_for(f"kho-vm at {step}", lambda: stopped(machine)))
    machine.adopt()
    assert machine.wait_state("running", "booted")["pid"] == status["pid"]
    machine.destroy()


def die_in_end(machine, step):
    machine.start(KHO_VM_STOP_AT=step)
    pid = machine.status()["pid"]
    with machine.client() as client:
        client.send({"execute": "kho-destroy"})
        kill(harness.wait_for(f"kho-vm at {step}", lambda: stopped(machine)))
        assert client.reply() is None
    machine.adopt()
    if step == "end-begun":  # QEMU was not told yet
        assert machine.status()["pid"] == pid
        machine.destroy()


def test_kho_vm_killed_at_every_step(kho):
    """Wherever it dies: the next adoption serves what runs or leaves nothing, and no QEMU stays that nobody knows."""
    steps = harness.run([kho.build / "kho-vm", "--steps"]).out.split()
    assert len(steps) >= 17
    for number, step in enumerate(steps):
        machine = Machine(kho, f"m{number}")
        machine.plan["live-xml"] = (f"<domain type='qemu'><name>{machine.name}</name><uuid>{machine.plan['uuid']}</uuid>"
                                    "<memory>16384</memory><os><type>hvm</type></os></domain>")
        {"start": die_in_start, "adopt": die_in_adoption, "end": die_in_end}[step.split("-")[0]](machine, step)
        assert not machine.run_path.exists(), f"{step}: {machine.log()}"
        harness.wait_for(f"no process to be left after {step}", lambda: not kho.processes())


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format":1}', b'{"format":99}'])
def test_damaged_status_names_the_process(machine, damage):
    machine.start()
    status = machine.status()
    kill(status["supervisor-pid"])
    good = (machine.run_path / "status.json").read_bytes()
    (machine.run_path / "status.json").write_bytes(damage)
    with machine.launch("--adopt") as ours:
        answer = read_answer(ours)
    assert answer["code"] == "busy" and str(status["pid"]) in answer["message"], answer
    assert os.path.exists(f"/proc/{status['pid']}")
    (machine.run_path / "status.json").write_bytes(good)
    machine.adopt()
    machine.destroy()


def test_a_reused_pid_is_never_hit(machine):
    """status.json names another process (its pid was used again): it is left alone."""
    machine.start()
    status = machine.status()
    kill(status["supervisor-pid"])
    kill(status["pid"])
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        file = machine.file()
        file["pid"] = bystander.pid
        (machine.run_path / "status.json").write_text(json.dumps(file))
        machine.adopt()
        assert not machine.run_path.exists()
        assert bystander.poll() is None
        bystander.kill()


# --- what the guest does -------------------------------------------------------------------------------------------


def test_reset_by_a_client_is_no_restart(machine):
    machine.start()
    with machine.client() as client:
        for _ in range(8):
            client.ask("system_reset")
            client.wait_event("RESET")
    assert machine.status()["state"] == "running"
    machine.destroy()


# The guest is a BIOS of a few instructions: what it does takes milliseconds and is always the same.


def boot_rom(tmp, code):
    """A BIOS of 64 KiB that runs @code at once."""
    rom = bytearray(b"\xf4" * 65536)
    rom[0:len(code)] = code
    rom[0xfff0:0xfff5] = b"\xea\x00\x00\x00\xf0"  # jmp f000:0000
    path = tmp / "rom"
    path.write_bytes(rom)
    return path


def outl(port, value):
    return b"\xba" + port.to_bytes(2, "little") + b"\x66\xb8" + value.to_bytes(4, "little") + b"\x66\xef"


def outw(port, value):
    return b"\xba" + port.to_bytes(2, "little") + b"\xb8" + value.to_bytes(2, "little") + b"\xef"


def outb(port, value):
    return b"\xba" + port.to_bytes(2, "little") + b"\xb0" + bytes([value]) + b"\xee"


def inb_wait_forever():
    return b"\xf4\xeb\xfd"  # hlt; jmp to it


POWER_OFF = (outl(0xcf8, 0x80000b40) + outl(0xcfc, 0x601)          # PIIX4 PM: PMBASE = 0x600
             + outl(0xcf8, 0x80000b80) + outb(0xcfc, 1)            # PMREGMISC: enable
             + outw(0x604, 0x2000) + inb_wait_forever())           # SLP_EN, type 0: soft off
RESET = outb(0xcf9, 6) + inb_wait_forever()
PANIC = outb(0x505, 1) + inb_wait_forever()


def guest(machine, tmp, code):
    machine.plan["argv"] += ["-bios", str(boot_rom(tmp, code)), "-device", "pvpanic"]


def test_power_off_ends_the_machine(machine, tmp):
    guest(machine, tmp, POWER_OFF)
    machine.plan["paused"] = True
    machine.start()
    with machine.client() as client:
        client.ask("cont")
        assert client.wait_event("SHUTDOWN")["data"]["reason"] == "guest-shutdown"
    machine.wait_gone()
    assert "ended (shutdown)" in machine.ended()


def test_power_off_with_restart_boots_again_until_it_is_too_much(machine, tmp):
    guest(machine, tmp, POWER_OFF)
    machine.plan.update({"paused": True, "on-poweroff": "restart"})
    machine.start()
    pid = machine.status()["pid"]
    with machine.client() as client:
        client.ask("cont")
        for _ in range(6):
            client.wait_event("SHUTDOWN")
    end_of(pid)
    machine.wait_gone()
    assert "ended (crashed)" in machine.ended()
    assert machine.log().count("the guest starts again") == 5
    assert "more than 5 times within 60 s" in machine.log()


def test_power_off_with_preserve_leaves_it(machine, tmp):
    guest(machine, tmp, POWER_OFF)
    machine.plan.update({"paused": True, "on-poweroff": "preserve"})
    machine.start()
    with machine.client() as client:
        client.ask("cont")
    machine.wait_state("paused", "shutting down")
    kill(machine.status()["supervisor-pid"])
    machine.adopt()
    machine.wait_state("paused", "shutting down")
    machine.destroy()


def test_power_off_missed_by_a_dead_kho_vm_is_acted_on(machine, tmp):
    guest(machine, tmp, POWER_OFF)
    machine.plan["paused"] = True
    machine.start()
    with orphaned(machine) as monitor:
        monitor.ask("cont")
        monitor.wait_event("SHUTDOWN")
    machine.adopt()
    machine.wait_gone()
    assert "ended (shutdown)" in machine.ended()


@pytest.mark.parametrize("action,end", [("restart", "crashed"), ("destroy", "shutdown")])
def test_guest_reset(machine, tmp, action, end):
    """A guest that resets itself in circles boots five times; with destroy it ends at the first."""
    guest(machine, tmp, RESET)
    machine.plan.update({"paused": True, "on-reboot": action})
    machine.start()
    with machine.client() as client:
        client.ask("cont")
        while client.receive() is not None:
            pass
    machine.wait_gone()
    assert f"ended ({end})" in machine.ended()
    assert machine.log().count("the guest was reset") == (6 if action == "restart" else 0)


@pytest.mark.parametrize("action", ["destroy", "restart", "preserve"])
def test_guest_panic(machine, tmp, action):
    guest(machine, tmp, PANIC)
    machine.plan.update({"paused": True, "on-crash": action})
    machine.start()
    with machine.client() as client:
        client.ask("cont")
        assert client.wait_event("GUEST_PANICKED")["data"]["action"] == "pause"
        if action == "restart":
            for _ in range(5):
                client.wait_event("GUEST_PANICKED")
    if action == "preserve":
        machine.wait_state("crashed", "panicked")
        machine.destroy()
        return
    machine.wait_gone()
    assert "ended (crashed)" in machine.ended()
    assert machine.log().count("the guest starts again") == (5 if action == "restart" else 0)


def test_shutdown_marks_and_reboot_restarts(machine, tmp):
    """The guest here heeds no power button: kho-shutdown marks it, a pause and resume makes it running again."""
    guest(machine, tmp, inb_wait_forever())
    machine.start()
    with machine.client() as client:
        client.ask("kho-shutdown")
        client.wait_event("POWERDOWN")
        assert client.ask("kho-status")["state"] == "in shutdown"
        client.ask("stop")
        client.wait_event("STOP")
        assert client.ask("kho-status")["state"] == "paused"
        client.ask("cont")
        client.wait_event("RESUME")
        assert client.ask("kho-status")["state"] == "running"
        client.ask("kho-reboot")
        client.wait_event("POWERDOWN")
        assert client.ask("kho-status")["state"] == "running"
    machine.destroy()


# --- the log -------------------------------------------------------------------------------------------------------


def test_qemus_stderr_is_logged_and_survives_kho_vm(machine):
    machine.start()
    status = machine.status()
    kill(status["supervisor-pid"])
    fifo = os.open(machine.run_path / "stderr.fifo", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fifo, b"said while nobody listened\nand kho-vm[1]: ended (forged): x\n")
    os.close(fifo)
    machine.adopt()
    harness.wait_for("the line in the log", lambda: "qemu: said while nobody listened\n" in machine.log())
    machine.destroy()
    assert "qemu: and kho-vm[1]: ended (forged): x\n" in machine.log()


def test_log_is_rotated_by_size(machine):
    machine.log_path.write_text("old\n" * (1 << 18))
    (machine.log_path.parent / "m1.log.3").write_text("oldest\n")
    (machine.log_path.parent / "m1.log.1").write_text("older\n")
    machine.start()
    machine.destroy()
    assert (machine.log_path.parent / "m1.log.1").read_text().startswith("old\n")
    assert (machine.log_path.parent / "m1.log.2").read_text() == "older\n"
    assert machine.log().startswith("20") and "ended (destroyed)" in machine.ended()
    assert sorted(path.name for path in machine.log_path.parent.iterdir()) == [
        "m1.log", "m1.log.1", "m1.log.2", "m1.log.3"]


# --- scope ---------------------------------------------------------------------------------------------------------


def scope_runner(tmp, text):
    path = tmp / "systemd-run"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_scope_of_its_own_where_systemd_runs(machine, tmp):
    runner = scope_runner(tmp, f'echo "$@" >{tmp}/words; while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    machine.start(KHO_SYSTEMD_RUN=runner)
    words = (tmp / "words").read_text()
    assert "--scope --collect" in words and "--unit=kho-m1-" in words and f"--start {machine.run_path}" in words
    environ = open(f"/proc/{machine.status()['pid']}/environ").read()
    assert "KHO_VM_SCOPED" not in environ
    machine.destroy()


@pytest.mark.parametrize("text", ["echo Failed to connect to bus >&2; exit 1", "kill -9 $$"])
def test_start_without_a_scope_where_systemd_fails(machine, tmp, text):
    machine.start(KHO_SYSTEMD_RUN=scope_runner(tmp, text))
    harness.wait_for("the note in the log", lambda: "no scope of its own" in machine.log())
    machine.destroy()
