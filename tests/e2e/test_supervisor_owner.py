"""Whose a machine is: root may look at, and adopt, a machine of another user's, and it stays that user's."""

import os
import shutil
import socket

import pytest

import harness
from supervised import Machine, kill

NOBODY = 65534


@pytest.fixture
def machine(kho, tmp):
    """A running machine of user nobody's."""
    shutil.copy(kho.build / "kho-vm", tmp / "kho-vm")  # the build may lie where others cannot go
    kho.build = tmp
    for path in (tmp, kho.base):
        path.chmod(0o755)
    made = Machine(kho)
    for path in (kho.root, *kho.root.rglob("*"), kho.reports):
        os.chown(path, NOBODY, NOBODY)
    harness.as_user(NOBODY, made.start)
    assert made.run_path.stat().st_uid == NOBODY
    return made


def test_root_adopts_it_and_it_stays_its_owners(machine):
    first = machine.status()
    kill(first["supervisor-pid"])
    machine.adopt()
    second = machine.status()
    assert second["pid"] == first["pid"] and second["supervisor-pid"] != first["supervisor-pid"]
    assert os.stat(f"/proc/{second['supervisor-pid']}").st_uid == NOBODY
    for path in [machine.run_path, *machine.run_path.iterdir(), machine.log_path]:
        assert path.stat().st_uid == NOBODY, path
    assert harness.as_user(NOBODY, machine.status)["state"] == "running"
    kill(second["supervisor-pid"])
    harness.as_user(NOBODY, machine.adopt)
    harness.as_user(NOBODY, machine.destroy)
    assert not machine.run_path.exists()


def test_another_user_cannot_hold_it(machine):
    """Neither its locks nor its socket."""
    def attempt():
        found = []
        for name in ("alive", "supervisor", "status.json"):
            try:
                os.close(os.open(machine.run_path / name, os.O_RDONLY))
                found.append(name)
            except PermissionError:
                pass
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(machine.run_path / "qmp.sock"))
                found.append("qmp.sock")
            except PermissionError:
                pass
        return found
    assert harness.as_user(1, attempt) == []
    machine.destroy()
