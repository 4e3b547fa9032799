"""The states of an image's disk, its snapshots' and its own, read without kho: by a parser of the test's own."""

import dataclasses

OFFSET = (1 << 56) - 512
COMPRESSED = 1 << 62


@dataclasses.dataclass
class State:
    name: str
    ident: str
    size: int
    clock_ns: int
    entries: dict  # of the guest's clusters that have data: where it lies, as the table has it without its flags
    state_bytes: bytes  # the VM state, uncompressed clusters only


class File:
    def __init__(self, path):
        self.image = path.read_bytes()
        self.cluster_bits = self.number(20, 4)
        self.cluster = 1 << self.cluster_bits
        self.version = self.number(4, 4)
        incompatible = self.number(72, 8) if self.version >= 3 else 0
        self.entry_bytes = 16 if incompatible >> 4 & 1 else 8
        self.per_table = self.cluster // self.entry_bytes

    def number(self, off, width):
        return int.from_bytes(self.image[off:off + width], "big")

    def entries(self, l1_off, l1_entries):
        """{guest cluster: its word}, of those that have data."""
        found = {}
        for i in range(l1_entries):
            table = self.number(l1_off + 8 * i, 8) & OFFSET
            for j in range(self.per_table if table else 0):
                word = self.number(table + j * self.entry_bytes, 8) & ~(1 << 63)
                zero = self.entry_bytes == 8 and word & 1 and not word & COMPRESSED
                if word & ~1 and not zero:
                    found[i * self.per_table + j] = word
        return found

    def state_of(self, entries, start, length):
        """VM state from guest cluster @start on."""
        parts = []
        for number in range(start, start + (length + self.cluster - 1) // self.cluster):
            at = entries.get(number, 0) & OFFSET
            parts.append(self.image[at:at + self.cluster].ljust(self.cluster, b"\0") if at else bytes(self.cluster))
        return b"".join(parts)[:length]

    def snapshot_at(self, at):
        extra, id_bytes, name_bytes = self.number(at + 36, 4), self.number(at + 12, 2), self.number(at + 14, 2)
        text = self.image[at + 40 + extra:at + 40 + extra + id_bytes + name_bytes]
        size = self.number(at + 48, 8) if extra >= 16 else self.number(24, 8)
        length = self.number(at + 40, 8) if extra >= 8 else self.number(at + 32, 4)
        entries = self.entries(self.number(at, 8), self.number(at + 8, 4))
        span = self.cluster * self.per_table
        disk = -(-size // span) * self.per_table
        state = State(text[id_bytes:].decode(), text[:id_bytes].decode(), size, self.number(at + 24, 8),
                      {key: word for key, word in entries.items() if key < disk}, self.state_of(entries, disk, length))
        return state, at + (40 + extra + len(text) + 7) // 8 * 8

    def states(self):
        found, at = [], self.number(64, 8)
        for _ in range(self.number(60, 4)):
            state, at = self.snapshot_at(at)
            found.append(state)
        found.append(State("", "", self.number(24, 8), 0, self.entries(self.number(40, 8), self.number(36, 4)), b""))
        return found


def read(path):
    return File(path).states()


def pattern(states):
    """Which states have a cluster in common, wherever it lies: {guest cluster: the first state with the same, for each}."""
    clusters = sorted({key for state in states for key in state.entries})
    return {key: [next((i for i, other in enumerate(states) if other.entries.get(key) == state.entries[key]), None)
                  if key in state.entries else None for state in states] for key in clusters}


def places(states):
    """How many different places they name."""
    return len({word for state in states for word in state.entries.values()})
