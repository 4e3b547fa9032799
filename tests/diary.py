"""A guest of one sector that keeps the same diary on two disks: 18 times a second it writes entry n into sector n of the first,
then into sector n of the second. It boots in a second. The BIOS asks for no cache, so QEMU flushes each write before it tells the guest
that it is done: who sees entry n written knows that entry n - 1 is durable on both. Where the second disk holds an
entry that the guest's memory does not know of, that memory is not of the disk's moment.

    start:  ax, ds, es, ss = 0; sp = 0x7c00; esi = 0
            do esi++ while sector esi of disk 0x81 holds entry esi    # the diary goes on where it ends
            [0x600] = esi - 1; [0x604] = 0x600D600D
    again:  sti; hlt                                                  # until the next tick of the clock
            esi = [0x600] + 1; if sector esi of disk 0x81 holds an entry goto bad
            write entry esi to sector esi of disk 0x80, then 0x81; [0x600] = esi; goto again
    bad:    [0x604] = 0x0BAD0BAD; cli; hlt                            # also where a disk fails

Read with counter.look and counter.wait_counting."""

import hashlib
import struct
import tempfile

import harness
import layers

BOOT = bytes.fromhex(
    "31c08ed88ec08ed0bc007c6631f66646e85a0066813e0080444952597507663936048074e9664e668936000666c70604060d600d60fbf466"
    "8b3600066646e82c0066813e008044495259745266c7060080444952596689360480ba8043e81000ba8143e80a006689360006ebc8ba8142"
    "66c70610061000010066c706140600800000668936180666c7061c0600000000666088f4be1006cd1366617201c366c7060406ad0bad0bfa"
    "f4")
MARK = b"DIRY"
SECTOR, END = 512, 1 << 20  # of the part of a disk that is the diary's; behind it lies what the test put there


def entry(data):
    """The number of the entry that these bytes are; None where they are none."""
    return struct.unpack_from("<I", data, 4)[0] if len(data) == SECTOR and data.startswith(MARK) else None


def install(path, format="qcow2"):
    with tempfile.NamedTemporaryFile(prefix="kho-boot-") as boot:
        boot.write(BOOT.ljust(SECTOR - 2, b"\0") + b"\x55\xaa")
        boot.flush()
        layers.qemu_io(path, format, f"write -s {boot.name} 0 {SECTOR}")


def read(path, format):
    """(number of the last entry, hash of what lies behind the diary); what is before that entry must be whole."""
    def ask():
        with tempfile.NamedTemporaryFile(prefix="kho-content-") as out:
            harness.run(["qemu-img", "convert", "-U", "-f", format, "-O", "raw", path, out.name])
            data = out.read()
        n = 1
        while entry(data[n * SECTOR:(n + 1) * SECTOR]) == n:
            n += 1
        assert not data[n * SECTOR:END].strip(b"\0"), f"{path} holds something after entry {n - 1}"
        return n - 1, hashlib.sha256(data[END:]).hexdigest()
    return layers.remembered("diary", path, ask)


def agreed(disks):
    """The last entry that both of {target: (path, format)} hold."""
    (vda, _), (vdb, _) = read(*disks["vda"]), read(*disks["vdb"])
    assert vdb <= vda <= vdb + 1, f"vda has {vda} entries, vdb {vdb}"
    return vdb
