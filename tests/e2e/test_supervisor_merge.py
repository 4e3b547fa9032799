"""Merging layers under a running guest (vm/merge.h): what the disk reads never changes, whoever dies and whenever;
nothing of a layer that went stays behind in QEMU. Contents and headers are read by qemu-img and qemu-io."""

import itertools
import json

import pytest

from chain import Chain, Drive, backing, fdset, image_fds
from supervised import Machine, kill


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


def merge_of(chain, upper, down):
    """The merge of layers @upper and @upper + 1, which no other has changed before."""
    lower = upper + 1
    names = [path.name for path in chain.paths]
    merge = {"device": "disk", "discard": "unmap", "job": f"merge-{upper}", "down": down, "upper": f"d-{upper}",
             "lower": f"d-{lower}", "upper-path": str(chain.paths[upper]), "lower-path": str(chain.paths[lower])}
    if upper > 0:
        merge["above-path"] = str(chain.paths[upper - 1])
    named = names[lower] if down and upper > 0 else names[lower + 1] if not down and lower < 3 else None
    if named:
        merge["backing-name"] = named
    return merge


def say(verb, merge):
    return f"merge {verb} '{json.dumps(merge)}'"


def nodes(machine):
    with machine.client() as client:
        return {row["node-name"] for row in client.ask("query-named-block-nodes", flat=True)}


def check_merged(machine, chain, upper, down, died=False):
    """The layer that was to go is gone, from the disk and from QEMU; the others read as before. kho-vm may have opened what
    a driver that @died had asked for after the next one had looked."""
    goes = upper if down else upper + 1
    left = [i for i in range(4) if i != goes]
    assert nodes(machine) == {f"d-{i}" for i in left} | {f"d-{i}-file" for i in left}
    with machine.client() as client:
        if not client.ask("query-status")["running"]:
            client.ask("cont")
        sets = {row["fdset-id"]: len(row["fds"]) for row in client.ask("query-fdsets")}
        assert sorted(sets) == left and sum(sets.values()) - len(left) <= died, sets
    assert sorted(set(image_fds(machine.status()["pid"], chain.folder).values())) == [f"l{i}.qcow2" for i in left]
    for above, below in zip(left, left[1:]):
        assert backing(chain.paths[above]) == (f"l{below}.qcow2", "qcow2")
    assert backing(chain.paths[left[-1]]) == (None, None)
    chain.paths[goes].unlink()
    chain.check(chain.paths[left[0]])


KINDS = [(0, True), (1, True), (2, True), (0, False), (1, False), (2, False)]
NAMES = ["active-down", "middle-down", "base-down", "active-up", "middle-up", "base-up"]


@pytest.mark.parametrize("upper,down", KINDS, ids=NAMES)
@pytest.mark.parametrize("end", ["", "kill"])
def test_merge(machine, chain, upper, down, end):
    """Killed right after the merge, QEMU has left everything durable that the headers rely on."""
    merge = merge_of(chain, upper, down)
    active_down = upper == 0 and down
    with Drive(machine) as drive:
        assert drive(say("finish", merge))[:2] == ["error", "not-found"]
        assert drive(say("look", merge)) == ["ok", "apart"]
        assert drive(say("copy", merge)) == ["ok", "done"]
        assert drive.progress[-1][0] == drive.progress[-1][1] > 0
        assert drive(say("copy", merge)) == ["ok", "done"]  # again: nothing more to do
        assert drive(say("look", merge)) == ["ok", "apart"]
        if active_down:
            assert drive(say("finish", merge))[:2] == ["error", "invalid"]  # the guest runs
            with machine.client() as client:
                client.ask("stop")
        assert drive(say("finish", merge)) == ["ok", "done"]
        if end:
            kill(machine.status()["pid"])
            machine.wait_gone()
            goes = upper if down else upper + 1
            chain.paths[goes].unlink()
            chain.check(chain.paths[1 if goes == 0 else 0])
            return
        for verb in ("copy", "finish", "cancel"):  # again: nothing more to do
            assert drive(say(verb, merge)) == ["ok", "done"]
        assert drive(say("look", merge)) == ["ok", "merged"]
    check_merged(machine, chain, upper, down)


@pytest.mark.parametrize("upper,down", KINDS, ids=NAMES)
def test_merge_of_a_machine_that_is_paused(machine, chain, upper, down):
    merge = merge_of(chain, upper, down)
    with machine.client() as client:
        client.ask("stop")
    with Drive(machine) as drive:
        if upper > 0 and not down:
            code, message = drive(say("copy", merge))[1:]
            assert code == "busy" and "paused" in message
            chain.check(chain.paths[0])
            return
        assert drive(say("copy", merge)) == ["ok", "done"]
        assert drive(say("finish", merge)) == ["ok", "done"]
    check_merged(machine, chain, upper, down)


def test_merges_follow_each_other_until_one_file_is_left(machine, chain):
    """All paused but the upward one; each finds no locks in its way that one before it left behind."""
    with Drive(machine) as drive, machine.client() as client:
        def run(merge):
            assert drive(say("copy", merge)) == ["ok", "done"]
            assert drive(say("finish", merge)) == ["ok", "done"]
        run(merge_of(chain, 1, False))  # 2 goes
        client.ask("stop")
        run(dict(merge_of(chain, 1, True), **{"lower": "d-3", "lower-path": str(chain.paths[3]),
                                              "backing-name": "l3.qcow2"}))  # 1 goes
        run(dict(merge_of(chain, 0, True), **{"lower": "d-3", "lower-path": str(chain.paths[3])}))  # 0 goes
        client.ask("cont")
        assert len(fdset(client, 3)) == 1
    assert nodes(machine) == {"d-3", "d-3-file"}
    chain.check(chain.paths[3])


@pytest.mark.parametrize("upper,down", KINDS, ids=NAMES)
def test_a_cancelled_merge_leaves_all_as_it_was(machine, chain, upper, down):
    merge = merge_of(chain, upper, down)
    before = nodes(machine)
    with Drive(machine) as drive:
        assert drive(say("look", merge)) == ["ok", "apart"]
        drive.send(say("copy", merge))
        drive.cancel()  # seen at the first look, or by the finish of a copy that was quicker
        assert drive.answer() in (["error", "cancelled", "cancelled"], ["ok", "done"])
        assert drive(say("cancel", merge)) == ["ok", "done"]
        assert drive(say("look", merge)) == ["ok", "apart"]
        assert nodes(machine) == before
        with machine.client() as client:
            assert [len(fdset(client, i)) for i in range(4)] == [1, 1, 1, 1]
        chain.check(chain.paths[0])
        assert drive(say("copy", merge)) == ["ok", "done"]  # and it can be done after all
        pause_for(machine, merge)
        assert drive(say("finish", merge)) == ["ok", "done"]
    check_merged(machine, chain, upper, down)


@pytest.mark.parametrize("upper,down", KINDS, ids=NAMES)
def test_a_merge_onto_a_full_disk_fails_and_leaves_all_as_it_was(kho, small_fs, upper, down):
    small = small_fs("ext4", 24)
    chain = Chain(small.path)
    small.fill(256 << 10)
    machine = Machine(kho)
    machine.add_chain(*chain.paths)
    machine.start()
    merge = merge_of(chain, upper, down)
    with Drive(machine) as drive:
        code, message = drive(say("copy", merge))[1:]
        assert (code, "No space left" in message) == ("no-space", True), message
        assert drive(say("look", merge)) == ["ok", "apart"]
        chain.check_reads(chain.paths[0])
        small.fill(16 << 20)
        assert drive(say("copy", merge)) == ["ok", "done"]
        pause_for(machine, merge)
        assert drive(say("finish", merge)) == ["ok", "done"]
    check_merged(machine, chain, upper, down)
    machine.destroy()


@pytest.mark.parametrize("verb", ["copy", "finish"])
@pytest.mark.parametrize("upper,down", KINDS, ids=NAMES)
def test_a_driver_is_killed_at_any_command(kho, tmp, rng, soak, upper, down, verb):
    """Once it has sent so many commands; the next driver goes on, or takes it back first."""
    step = 0 if soak else rng.randrange(0, 16)
    for attempt in itertools.count():
        step += 1
        chain = Chain(tmp)
        machine = Machine(kho, f"m{step}")
        machine.add_chain(*chain.paths)
        machine.start()
        died = run_until_killed(machine, merge_of(chain, upper, down), verb, step)
        go_on(machine, chain, upper, down, back=verb == "copy" and step % 2 == 0)
        machine.destroy()
        if not soak or not died:
            break
    assert not soak or attempt > 5, f"{verb} was hardly killed"


def pause_for(machine, merge):
    """What a driver does before a finish that takes the disk over to the lower file."""
    if merge["down"] and "above-path" not in merge:
        with machine.client() as client:
            client.ask("stop")


def run_until_killed(machine, merge, verb, step):
    """Whether it came so far before it was done."""
    if verb == "finish":
        with Drive(machine) as drive:
            assert drive(say("copy", merge)) == ["ok", "done"]
        pause_for(machine, merge)
    with Drive(machine, die_after=step) as drive:
        drive.send(say(verb, merge))
        answer = drive.answer()
    assert answer in ([""], ["ok", "done"]), answer
    return answer == [""]


def go_on(machine, chain, upper, down, back):
    merge = merge_of(chain, upper, down)
    with Drive(machine) as drive:
        top = drive("nodes disk")[1]
        chain.check_reads_beside(chain.paths[int(top[-1])])
        if back:
            assert drive(say("cancel", merge)) == ["ok", "done"]
            assert drive(say("look", merge)) == ["ok", "apart"]
        assert drive(say("copy", merge)) == ["ok", "done"]
        pause_for(machine, merge)
        assert drive(say("finish", merge)) == ["ok", "done"]
    check_merged(machine, chain, upper, down, died=True)
