"""Persistent bitmaps, read without kho: by a parser of the test's own, and by QEMU through NBD."""

import json
import subprocess

import harness


def number(image, off, width):
    return int.from_bytes(image[off:off + width], "big")


def directory_of(image):
    """(offset, length, how many), or None where the header names none."""
    at = number(image, 100, 4)
    while number(image, at, 4) != 0:
        if number(image, at, 4) == 0x23852875 and number(image, 88, 8) & 1:
            return number(image, at + 24, 8), number(image, at + 16, 8), number(image, at + 8, 4)
        at += 8 + (number(image, at + 4, 4) + 7) // 8 * 8
    return None


def read(path):
    """{name: (in use, auto, granularity, the set of its bits)} as the file has them."""
    image, found = path.read_bytes(), {}
    place, cluster = directory_of(image), 1 << number(image, 20, 4)
    at = place[0] if place else 0
    for _ in range(place[2] if place else 0):
        table, entries, flags, name_bytes = (number(image, at, 8), number(image, at + 8, 4), number(image, at + 12, 4),
                                             number(image, at + 18, 2))
        bits = set()
        for index in range(0 if flags & 1 else entries):
            word = number(image, table + 8 * index, 8)
            content = image[word:word + cluster] if word > 1 else bytes([255 * word]) * cluster
            value = int.from_bytes(content, "little")
            while value:
                low = value & -value
                bits.add(index * cluster * 8 + low.bit_length() - 1)
                value ^= low
        name = image[at + 24:at + 24 + name_bytes].decode()
        found[name] = (bool(flags & 1), bool(flags & 2), 1 << image[at + 17], bits)
        at += (24 + name_bytes + 7) // 8 * 8
    assert not place or at == place[0] + place[1]
    return found


def ranges(bits, granularity, size):
    """The bits as joined (start, length) in bytes."""
    joined = []
    for bit in sorted(bits):
        start = bit * granularity
        length = min(granularity, size - start)
        if joined and joined[-1][0] + joined[-1][1] == start:
            joined[-1][1] += length
        else:
            joined.append([start, length])
    return [tuple(one) for one in joined]


def by_qemu(kho, path, name):
    """What QEMU tells a backup program: the joined dirty (start, length) of the bitmap, through qemu-nbd."""
    socket = kho.tmp / "bitmap.sock"
    server = subprocess.Popen(["qemu-nbd", "-r", "-f", "qcow2", "-B", name, "-k", socket, "--fork", "--pid-file",
                               kho.tmp / "nbd.pid", path], stdin=subprocess.DEVNULL, cwd=path.parent)
    assert server.wait(timeout=harness.HANG_GUARD_S) == 0  # --fork: it listens by now, and ends with its client
    options = f"driver=nbd,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:{name}"
    said = json.loads(harness.run(["qemu-img", "map", "--output=json", "--image-opts", options]).out)
    joined = []
    for one in said:
        if one["data"]:
            continue
        if joined and sum(joined[-1]) == one["start"]:
            joined[-1][1] += one["length"]
        else:
            joined.append([one["start"], one["length"]])
    return [tuple(one) for one in joined]
