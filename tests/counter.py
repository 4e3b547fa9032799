"""A guest of one sector that notices when its memory and its disk are not of the same moment. It boots in a second; 18 times
a second it counts on, and writes the count into a ring of 32 sectors (3 to 34) and into sector 2. What stands in the ring where
the next count goes must be older than that; a disk that has moved on without this memory holds that count, or a later one.

    start:  ax, ds, es, ss = 0; sp = 0x7c00; [0x608] = dl         # the drive it was booted from
            read sector 2; [0x600] = [0x8000]; esi = [0x600] + 1  # the count goes on from the disk's
            if ring[esi] == esi: [0x600] = esi                    # the plug was pulled between the two writes
            [0x604] = 0x600D600D
    again:  sti; hlt                                              # until the next tick of the clock
            esi = [0x600] + 1; if ring[esi] >= esi goto bad
            [0x600] = esi; write ring[esi]; write sector 2; goto again
    bad:    [0x604] = 0x0BAD0BAD; cli; hlt

The count and the word are read from its memory by QMP."""

import re
import struct

import harness
import machine

BOOT = bytes.fromhex(
    "31c08ed88ec08ed0bc007c88160806b102b402e86400668b36008066893600066646e83f006639f07505668936000666c70604060d600d"
    "60fbf4668b3600066646e820006639f0734366893600066689360080e81b00b403e81f00b102b403e81800ebd4e80a00b402e80e0066a1"
    "0080c389f180e11f80c103c3b00130edbb008030f68a160806cd137201c366c7060406ad0bad0bfaf4ebf3")
GOOD, BAD = 0x600D600D, 0x0BAD0BAD


def make_disk(path, format="qcow2"):
    raw = path.with_suffix(".boot")
    raw.write_bytes(BOOT.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    harness.run(["qemu-img", "convert", "-f", "raw", "-O", format, raw, path])
    raw.unlink()


def define(kho, name, path, **keywords):
    make_disk(path)
    machine.define(kho, name, machine.disk(path), **keywords)


def on_disk(path, format="qcow2"):
    """The count that the disk holds; of a machine that does not run."""
    raw = path.with_suffix(".look")
    harness.run(["qemu-img", "convert", "-f", format, "-O", "raw", path, raw])
    count = struct.unpack_from("<I", raw.read_bytes(), 512)[0]
    raw.unlink()
    return count


def look(kho, name):
    """(count, word) in the memory of a machine that runs or is paused."""
    with machine.qmp(kho, name) as client:
        text = client.ask("human-monitor-command", command_line="xp /2wx 0x600")
    return tuple(int(word, 16) for word in re.findall(r" 0x([0-9a-f]{8})", text))


def wait_counting(kho, name, beyond=0):
    """Waits until it has counted past @beyond; returns the count. A guest that found a contradiction fails the test."""
    def counted():
        count, word = look(kho, name)
        assert word != BAD, f"memory and disk of {name} are not of one moment"
        return word == GOOD and count > beyond and count
    return harness.wait_for(f"{name} to count past {beyond}", counted)
