"""What holds when QEMU is stopped, or kho, kho-vm or QEMU is killed: the next command tells the truth, adopts what lives,
and leaves nothing behind. The kho fixture fails a test that leaves a process, socket, lock or run-time folder."""

import json
import os
import signal
import subprocess
import time

import pytest

import harness
import machine
import supervised

READS = [("list",), ("list", "--all"), ("dominfo", "web1"), ("domstate", "web1"), ("domstate", "web1", "--reason"),
         ("dumpxml", "web1"), ("dumpxml", "web1", "--inactive"), ("domblklist", "web1"), ("domid", "web1")]
NOT_HUNG_S = 20  # that a read does not wait for QEMU is told by QEMU being stopped still; how fast it is, by the benchmark


def start(kho, name="web1"):
    machine.define(kho, name)
    kho("start", name)
    return machine.qemu_pid(kho, name), machine.supervisor_pid(kho, name)


def unanswered_ms(kho):
    return kho.json("domstate", "web1")["unanswered-ms"]


def test_with_qemu_stopped_every_read_answers_and_says_since_when(kho):
    qemu, _ = start(kho)
    os.kill(qemu, signal.SIGSTOP)
    harness.wait_for("kho-vm to miss QEMU's answer", lambda: unanswered_ms(kho) > 1000)
    since = time.time() - unanswered_ms(kho) / 1000
    day = time.strftime("%Y-%m-%d", time.localtime(since))
    for verb in READS:
        ran = kho(*verb, timeout=NOT_HUNG_S)
        assert "running" in ran.out or verb[0] in ("dumpxml", "domblklist", "domid")
        if verb[0] in ("list", "dominfo"):
            assert f"(no answer since {day}" in ran.out, str(ran)
        elif verb[0] == "domstate" or verb == ("dumpxml", "web1"):
            assert f"has not answered since {day}" in ran.err, str(ran)
    assert machine.is_stopped(qemu)
    for verb in (["suspend"], ["reset"], ["shutdown"], ["reboot"], ["destroy", "--graceful"]):
        ran = kho.refuses(*verb, "web1", says=["'web1'", "kho destroy", f"kill -CONT {qemu}"])
        assert ran.status == 12 and machine.is_stopped(qemu)
    kho("destroy", "web1")
    assert not machine.is_alive(qemu) and kho("domstate", "web1", "--reason").out == "shut off (destroyed)\n"


def test_ctrl_c_ends_the_wait_for_an_end(kho):
    """Of a QEMU that heeds neither its monitor nor SIGTERM: --graceful would wait, and then say that it is busy."""
    held = supervised.Machine(kho, "web1")
    held.plan["argv"] = ["/usr/bin/python3", str(harness.REPO / "tests/fake_qemu.py"), "hold"]
    held.start()
    child = kho.spawn("destroy", "web1", "--graceful")
    harness.wait_for("destroy to wait", lambda: "ending QEMU" in held.log() and machine.is_waiting(child))
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=NOT_HUNG_S)
    assert (child.returncode, err) == (130, b"error: machine 'web1': cancelled while waiting for kho-vm\n")
    assert kho("domstate", "web1").out != "shut off\n"
    kho("destroy", "web1")


def test_qemu_that_goes_on_is_told_of_as_before(kho):
    qemu, _ = start(kho)
    os.kill(qemu, signal.SIGSTOP)
    harness.wait_for("kho-vm to miss QEMU's answer", lambda: unanswered_ms(kho) > 500)
    os.kill(qemu, signal.SIGCONT)
    harness.wait_for("QEMU's answer", lambda: unanswered_ms(kho) < 500)
    assert kho("list").out.split()[-1] == "running"
    kho("destroy", "web1")


def test_with_qemu_and_supervisor_stopped_reads_answer_and_destroy_works(kho):
    qemu, supervisor = start(kho)
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(qemu, signal.SIGSTOP)
    for verb in READS:
        kho(*verb, timeout=NOT_HUNG_S)
    assert machine.is_stopped(qemu) and machine.is_stopped(supervisor)
    ran = kho("domstate", "web1")
    assert ran.out == "running\n" and "kho-vm of machine 'web1' does not answer" in ran.err
    assert kho.json("domstate", "web1")["supervised"] is False and "(kho-vm does not answer)" in kho("list").out
    kho("destroy", "web1")
    assert not machine.is_alive(qemu) and not machine.is_alive(supervisor)
    assert kho("domstate", "web1", "--reason").out == "shut off (destroyed)\n"


@pytest.mark.parametrize("verb_after", ["start", "destroy"])
def test_with_qemu_killed_and_supervisor_stopped_nothing_is_said_to_run(kho, verb_after):
    qemu, supervisor = start(kho)
    one = kho("domid", "web1").out
    os.kill(supervisor, signal.SIGSTOP)
    machine.kill(qemu)
    for verb in READS:
        ran = kho(*verb, timeout=NOT_HUNG_S)
        assert "running" not in ran.out, str(ran)
    ran = kho("domstate", "web1", "--reason")
    assert ran.out == "shut off (crashed)\n" and "its QEMU has ended" in ran.err
    assert kho("domid", "web1").out == "-\n" and kho.json("dominfo", "web1")["pid"] is None
    assert kho("list", "--name").out == "" and "id=" not in kho("dumpxml", "web1").out
    kho.refuses("suspend", "web1", says="is not running")
    assert machine.is_stopped(supervisor)  # reading has ended nothing
    if verb_after == "destroy":
        kho.refuses("destroy", "web1", says="is not running")
        assert not machine.is_alive(supervisor)
        harness.wait_for("nothing to be left", lambda: not kho.leftovers())
        return
    kho("start", "web1")
    assert not machine.is_alive(supervisor) and machine.is_alive(machine.qemu_pid(kho, "web1"))
    assert int(kho("domid", "web1").out) > int(one)
    kho("destroy", "web1")


def test_a_pid_that_came_to_another_process_is_not_taken_for_qemu(kho):
    """The status file is compared by start time and boot, too; and who holds `alive` is QEMU whatever it names."""
    qemu, supervisor = start(kho)
    os.kill(supervisor, signal.SIGSTOP)
    path = kho.root / "run/qemu/web1/status.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"pid-start-ticks": written["pid-start-ticks"] + 1}))
    assert kho("domstate", "web1").out == "running\n" and machine.is_alive(qemu)
    machine.kill(qemu)
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        path.write_text(json.dumps(written | {"pid": bystander.pid}))
        assert kho("domstate", "web1").out == "shut off\n"
        ticks = int(open(f"/proc/{bystander.pid}/stat").read().rpartition(")")[2].split()[19])
        path.write_text(json.dumps(written | {"pid": bystander.pid, "pid-start-ticks": ticks,
                                              "boot-id": "00000000-0000-0000-0000-000000000000"}))
        assert kho("domstate", "web1").out == "shut off\n"
        os.kill(supervisor, signal.SIGCONT)
        harness.wait_for("kho-vm to clear up", lambda: not path.exists())
        assert bystander.poll() is None
        bystander.kill()


def test_destroy_ends_a_machine_whose_status_is_damaged(kho):
    qemu, supervisor = start(kho)
    machine.kill(supervisor)
    (kho.root / "run/qemu/web1/status.json").write_text("{")
    kho.refuses("start", "web1")
    assert machine.is_alive(qemu)
    kho("destroy", "web1")
    assert not machine.is_alive(qemu) and kho("domstate", "web1", "--reason").out == "shut off (destroyed)\n"


def test_both_killed_with_a_damaged_status_is_told_as_crashed(kho):
    qemu, supervisor = start(kho)
    machine.kill(supervisor)
    machine.kill(qemu)
    (kho.root / "run/qemu/web1/status.json").write_text("")
    assert kho("domstate", "web1", "--reason").out == "shut off (crashed)\n"


def test_an_empty_run_folder_that_stayed_is_swept(kho):
    machine.define(kho, "web1")
    for verb, status in ((["list", "--all"], 0), (["destroy", "web1"], 5), (["domstate", "web1"], 0)):
        (kho.root / "run/qemu/web1").mkdir()
        kho(*verb, status=status)
        harness.wait_for(f"nothing to be left by {verb}", lambda: not kho.leftovers())
    (kho.root / "run/qemu/gone").mkdir()
    kho("list")
    harness.wait_for("nothing to be left", lambda: not kho.leftovers())


def test_a_dead_supervisor_is_replaced_by_the_next_command(kho):
    qemu, supervisor = start(kho)
    looking = [verb for verb in READS if "--inactive" not in verb]  # that one reads the definition alone
    for verb in looking + [("suspend", "web1"), ("resume", "web1"), ("reset", "web1")]:
        machine.kill(machine.supervisor_pid(kho, "web1"))
        kho(*verb)
        assert machine.is_alive(qemu), verb
    assert machine.supervisor_pid(kho, "web1") not in (None, supervisor)
    assert machine.qemu_pid(kho, "web1") == qemu and kho("domstate", "web1").out == "running\n"
    machine.kill(machine.supervisor_pid(kho, "web1"))
    kho("destroy", "web1")
    assert not machine.is_alive(qemu)


def test_a_dead_supervisor_of_a_stopped_qemu(kho):
    qemu, supervisor = start(kho)
    os.kill(qemu, signal.SIGSTOP)
    machine.kill(supervisor)
    for verb in READS:
        kho(*verb, timeout=NOT_HUNG_S)
    assert machine.is_stopped(qemu)
    kho("destroy", "web1")
    assert not machine.is_alive(qemu) and kho("list").out.splitlines()[2:] == [""]


def test_a_killed_qemu_is_told_as_crashed(kho):
    qemu, supervisor = start(kho)
    machine.kill(qemu)
    harness.wait_for("kho-vm to clear up", lambda: not machine.is_alive(supervisor))
    assert kho("domstate", "web1", "--reason").out == "shut off (crashed)\n"
    kho("start", "web1")
    kho("destroy", "web1")


def test_both_killed_is_cleaned_up_and_told_as_crashed(kho):
    for verb in [("domstate", "web1", "--reason"), ("list", "--all"), ("start", "web1"), ("destroy", "web1")]:
        if kho("list", "--all", "--name").out == "":
            machine.define(kho, "web1")
        kho("start", "web1")
        qemu, supervisor = machine.qemu_pid(kho, "web1"), machine.supervisor_pid(kho, "web1")
        os.kill(supervisor, signal.SIGSTOP)
        machine.kill(qemu)
        machine.kill(supervisor)
        ran = kho(*verb, status=None)
        if verb[0] == "start":
            assert ran.status == 0, str(ran)
            kho("destroy", "web1")
        elif verb[0] == "destroy":
            assert ran.status == 5 and "is not running" in ran.err
        else:
            assert "shut off" in ran.out
        if verb[0] != "start":
            assert kho("domstate", "web1", "--reason").out == "shut off (crashed)\n"
        # a kho-vm that has answered a destroy takes a moment to end
        harness.wait_for("nothing to be left", lambda: not kho.leftovers())


def settle(kho):
    """The truth after a kill, whatever it hit: what is told, what runs and what can be done agree."""
    state = kho("domstate", "web1").out.strip()
    assert state in ("running", "paused", "shut off", "in shutdown"), state
    if state != "shut off":
        pid = machine.qemu_pid(kho, "web1")
        if pid:
            assert machine.is_alive(pid) or kho("domstate", "web1").out.strip() == "shut off"
        kho("destroy", "web1", status=None)
    harness.wait_for("nothing to be left", lambda: not kho.leftovers())
    assert kho("domstate", "web1").out == "shut off\n"
    kho("start", "web1")
    kho("destroy", "web1")


def test_kill_at_random_moments_of_a_start(kho, rng, soak):
    """kho, kho-vm or QEMU is killed somewhere between the first instruction of `start` and its end."""
    machine.define(kho, "web1")
    began = time.monotonic()
    kho("start", "web1")
    whole = time.monotonic() - began
    kho("destroy", "web1")
    for _ in range(200 if soak else 8):
        child = kho.spawn("start", "web1")
        who = rng.choice(["kho", "kho-vm", "qemu"])
        until = time.monotonic() + rng.uniform(0, whole * 1.2)
        victim = None
        while time.monotonic() < until and child.poll() is None:
            victim = child.pid if who == "kho" else find(kho, who)
        victim = child.pid if who == "kho" else find(kho, who) or victim
        if victim and (who != "kho" or child.poll() is None):
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                pass
        child.communicate(timeout=harness.HANG_GUARD_S)
        settle(kho)


def find(kho, who):
    for pid, command in kho.processes().items():
        if os.path.basename(command.split(" ")[0]).startswith(who):
            return pid
    return None


def test_kill_of_kho_in_the_middle_of_changes(kho, rng, soak):
    """define, undefine, autostart: killed at any moment, the definition is the old one or the new one."""
    old, new = machine.xml("web1", uuid="11111111-2222-3333-4444-555555555555"), \
        machine.xml("web1", uuid="11111111-2222-3333-4444-555555555555", memory_mib=48)
    for name, text in (("old", old), ("new", new)):
        (kho.tmp / f"{name}.xml").write_text(text)
    began = time.monotonic()
    kho("define", "old.xml")
    whole = time.monotonic() - began
    before = kho("dumpxml", "web1").out
    after = before.replace("32768", "49152")
    for _ in range(500 if soak else 8):
        for verb in (["define", "new.xml"], ["autostart", "web1"], ["undefine", "web1"]):
            child = kho.spawn(*verb)
            time.sleep(rng.uniform(0, whole))
            child.kill()
            child.communicate()
            names = kho("list", "--all", "--name").out.split()
            assert names in (["web1"], [])
            if names:
                assert kho("dumpxml", "web1").out in (before, after)
            kho("define", "old.xml")
            assert kho("dumpxml", "web1").out == before
            assert kho.json("dominfo", "web1")["autostart"] in (True, False)
        kho("autostart", "web1", "--disable")
    assert not [path for path in machine.kept(kho) if path.name.endswith(".kho-tmp")]


def test_a_cancelled_start_leaves_nothing(kho, rng):
    machine.define(kho, "web1")
    for _ in range(6):
        child = kho.spawn("start", "web1")
        time.sleep(rng.uniform(0, 0.3))
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=harness.HANG_GUARD_S)
        if child.returncode == 0:
            kho("destroy", "web1")
        else:
            assert child.returncode in (130, -signal.SIGINT), err
        harness.wait_for("nothing to be left", lambda: not kho.leftovers())
        assert kho("domstate", "web1").out == "shut off\n"
