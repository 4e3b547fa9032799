"""Changes that span files, stopped at moments of their steps: the list of steps comes from kho itself (kho --steps)."""

import os
import signal

import harness
import machine

MOMENTS = ("before", "after", "marked")


def all_steps(build, *kinds):
    """(kind, step, moment) of those kinds; an undo only where the step has one."""
    found = []
    for line in harness.run([build / "kho", "--steps"]).out.splitlines():
        kind, step, *more = line.split()
        if kind in kinds:
            found += [(kind, step, moment) for moment in MOMENTS + (("undo",) if "undo" in more else ())]
    assert {kind for kind, _, _ in found} == set(kinds)
    return found


def stopped(kho, where, *words):
    """Starts a verb and waits until it stops at one of the moments @where ("KIND:STEP:MOMENT", divided by commas)."""
    child = kho.spawn(*words, env={"KHO_STOP_AT": where})
    wait_stopped(child, where)
    return child


def wait_stopped(child, where):
    def is_there():
        assert child.poll() is None, f"ended before {where}: {child.communicate()}"
        return machine.is_stopped(child.pid)
    harness.wait_for(where, is_there)


def go_to(child, where):
    """Lets one that is stopped go on to its next stop, @where."""
    child.send_signal(signal.SIGCONT)
    pid, status = os.waitpid(child.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        child.returncode = os.waitstatus_to_exitcode(status)
        raise AssertionError(f"ended before {where}: {child.communicate()}")


def go_on(child, status=0):
    """Lets it go on to its end; returns what it said on stderr."""
    os.kill(child.pid, signal.SIGCONT)
    _, err = child.communicate(timeout=harness.HANG_GUARD_S)
    assert child.returncode == status, err
    return err.decode()


def kill(child):
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()


def entries(kho):
    """What stands in the journal."""
    folder = kho.root / "lib/journal"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
