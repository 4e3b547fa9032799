"""Machines for tests: their XML, and what the kernel says of their processes. Verbs are run through the kho fixture."""

import os
import pathlib
import re
import signal
import types

import harness
import supervised


def disk(path, target="vda", format="qcow2", device="disk", more=""):
    bus = "virtio" if target.startswith("vd") else "ide"
    return (f"<disk type='file' device='{device}'><driver name='qemu' type='{format}'/><source file='{path}'/>"
            f"<target dev='{target}' bus='{bus}'/>{more}</disk>")


def xml(name, *devices, memory_mib=32, uuid=None, os_more="", more=""):
    """A machine without an operating system: QEMU runs its firmware, which is enough for every verb."""
    return (f"<domain type='qemu'>\n  <name>{name}</name>\n" + (f"  <uuid>{uuid}</uuid>\n" if uuid else "")
            + f"  <memory unit='MiB'>{memory_mib}</memory>\n"
            f"  <os><type arch='x86_64' machine='pc'>hvm</type>{os_more}</os>\n{more}"
            f"  <devices>{''.join(devices)}<console type='pty'/></devices>\n</domain>\n")


def make_image(path, *options, size="8M", format="qcow2"):
    harness.run(["qemu-img", "create", "-q", "-f", format, *options, path, size])
    return path


def define(kho, name, *devices, **keywords):
    kho("define", "-", input=xml(name, *devices, **keywords))


def qemu_pid(kho, name):
    return kho.json("domstate", name)["pid"]


def supervisor_pid(kho, name):
    """The kho-vm of a machine: it has the machine's run folder's supervisor file open."""
    wanted = str(kho.root / "run/qemu" / name / "supervisor")
    for pid in kho.processes():
        try:
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")) != "kho-vm":
                continue
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") == wanted for fd in os.listdir(f"/proc/{pid}/fd")):
                return pid
        except OSError:
            continue
    return None


def kill(pid, how=signal.SIGKILL):
    """Sends a signal; with SIGKILL waits until the process is gone."""
    os.kill(pid, how)
    if how == signal.SIGKILL:
        harness.wait_for(f"the end of process {pid}", lambda: not is_alive(pid))


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_stopped(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def kept(kho):
    """{path: content} of definitions, marks and images: what a verb that fails must leave as it was."""
    found = {}
    for part in ("etc", "lib"):
        for path in sorted((kho.root / part).rglob("*")):
            if path.is_symlink():
                found[path] = os.readlink(path)
            elif path.is_file():
                found[path] = path.read_bytes()
    return found


def is_waiting(child):
    """Whether a kho that was spawned has set its handlers of signals, and waits."""
    status = open(f"/proc/{child.pid}/status").read()
    caught = re.search(r"SigCgt:\s*(\w+)", status)[1]
    return int(caught, 16) & 1 << signal.SIGTERM - 1 and "State:\tS" in status


def qmp(kho, name):
    """A client of a machine's QMP, through its kho-vm."""
    return supervised.Client(types.SimpleNamespace(run_path=kho.root / "run/qemu" / name))
