"""A machine's memory on its way out (vm/migrate.h) while its guest goes on: cancelled, its driver or kho-vm killed, a
guest that writes faster than can be written out. What comes of the memory is tested with save and snapshots."""

import os
import random
import signal
import sys
import time

import pytest

import harness
from chain import Drive, image_tool
from supervised import Machine

FAKE = str(harness.REPO / "tests" / "fake_qemu.py")


UNLIMITED = str(1 << 40).encode()
SLOWLY = {b'": ' + UNLIMITED: b'": 100', b'":' + UNLIMITED: b'":100'}  # bytes a second


@pytest.fixture
def machine(kho):
    machine = Machine(kho)
    machine.start()
    yield machine
    if machine.run_path.exists():
        machine.destroy()


def memory_file(tmp):
    path = tmp / "memory"
    path.write_bytes(b"h" * 4096)
    return path


def status(machine):
    with machine.client() as client:
        return client.ask("query-status")["status"]


def test_memory_is_written_behind_the_head_while_the_guest_runs(machine, tmp):
    path = memory_file(tmp)
    with machine.client() as client:
        client.ask("kho-state", state="paused", reason="saving")
    with Drive(machine) as drive:
        assert drive(f"migrate {path} 4096") == ["ok"]
        assert drive.progress and drive.progress[-1][0] <= drive.progress[-1][1]
        assert status(machine) == "postmigrate"
        assert (machine.status()["state"], machine.status()["reason"]) == ("paused", "saving")
        assert path.read_bytes()[:4100] == b"h" * 4096 + b"QEVM"
        refused = drive(f"migrate {path} 4096")
        assert refused[:2] == ["error", "invalid"]
        assert drive("unmigrate") == ["ok"]
    with machine.client() as client:
        client.ask("cont")
    assert machine.status()["state"] == "running"


def begin_slowly(machine, drive, path):
    """Begins a migration that never ends, and returns when it is under way."""
    drive.send(f"migrate {path} 4096")

    def under_way():
        with machine.client() as client:
            return client.ask("query-migrate").get("status") == "active"
    harness.wait_for("the migration to begin", under_way)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_cancel_ends_it_and_the_guest_goes_on(machine, tmp, stopped):
    path = memory_file(tmp)
    with Drive(machine, change=SLOWLY) as drive:
        begin_slowly(machine, drive, path)
        pid = machine.status()["pid"]
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        drive.cancel()
        assert drive.answer() == ["error", "cancelled", "cancelled"]
        if stopped:
            os.kill(pid, signal.SIGCONT)
        assert drive("unmigrate") == ["ok"]
        assert time.monotonic() - began < 10
        assert drive("unmigrate") == ["ok"]  # again: there is none
    assert status(machine) == "running"
    with Drive(machine) as drive:
        assert drive(f"migrate {path} 4096") == ["ok"]  # and it can be done after all
    assert status(machine) == "postmigrate"


@pytest.fixture
def with_disk(kho, tmp):
    image_tool("qemu-img", "create", "-q", "-f", "qcow2", tmp / "disk.qcow2", "16M")
    machine = Machine(kho)
    machine.add_chain(tmp / "disk.qcow2")
    machine.start()
    yield machine
    machine.destroy()


def assert_goes_on(machine):
    """The guest runs and can write its disk: QEMU ends at the first write to an image that it has let go of."""
    with machine.client() as client:
        assert client.ask("query-status")["running"]
        edges = client.ask("x-debug-query-block-graph")["edges"]
    assert ["write" in edge["perm"] for edge in edges if edge["name"] == "root"] == [True]


def test_a_cancel_at_the_switchover(with_disk, tmp):
    """The guest is stopped for the rest, which nobody writes."""
    with Drive(with_disk, change={b"migrate-continue": b"migrate-stay"}) as drive:
        assert drive(f"migrate {memory_file(tmp)} 4096")[0] == "error"
        assert status(with_disk) == "finish-migrate"
        assert drive("unmigrate") == ["ok"]
    assert_goes_on(with_disk)


def test_a_cancel_at_any_moment(with_disk, tmp):
    path, cancelled = memory_file(tmp), 0
    with Drive(with_disk) as drive:
        assert drive("unmigrate") == ["ok"]  # it listens to signals now
        for _ in range(400 if harness.SOAK else 50):
            drive.send(f"migrate {path} 4096")
            until = time.monotonic() + random.random() * 0.04
            while time.monotonic() < until:
                pass
            drive.cancel()
            cancelled += drive.answer()[-1] == "cancelled"
            assert drive("unmigrate") == ["ok"]
            if status(with_disk) == "postmigrate":
                with with_disk.client() as client:
                    client.ask("cont")
            assert_goes_on(with_disk)
    assert cancelled > 5


@pytest.mark.parametrize("victim", ["driver", "kho-vm", "both"])
def test_whoever_comes_after_a_death_ends_it(machine, tmp, victim):
    drive = Drive(machine, change=SLOWLY)
    begin_slowly(machine, drive, memory_file(tmp))
    drive.die(machine, victim)
    assert status(machine) == "running"
    with Drive(machine) as drive:
        assert drive("unmigrate") == ["ok"]
    with machine.client() as client:
        assert client.ask("query-migrate")["status"] == "cancelled"
    assert machine.status()["state"] == "running"


def test_a_full_disk_is_told_and_the_guest_goes_on(machine, small_fs):
    small = small_fs("ext4", 8)
    path = small.path / "memory"
    path.write_bytes(b"h" * 4096)
    small.fill(64 << 10)
    with Drive(machine) as drive:
        assert drive(f"migrate {path} 4096")[:2] == ["error", "no-space"]
        assert drive("unmigrate") == ["ok"]
        with machine.client() as client:
            if not client.ask("query-status")["running"]:
                client.ask("cont")
    assert status(machine) == "running"
    machine.destroy()


def test_a_guest_that_writes_faster_than_can_be_written_out_is_stopped(kho, tmp):
    machine = Machine(kho)
    log = tmp / "commands"
    machine.plan["argv"] = [sys.executable, FAKE, "restless", str(log)]
    machine.start()
    with Drive(machine) as drive:
        assert drive(f"migrate {memory_file(tmp)} 4096") == ["ok"]
    commands = log.read_text().split()
    assert commands.count("stop") == 1
    assert 4 < commands[:commands.index("stop")].count("query-migrate") < 20
    machine.destroy()
