"""Machines with disks to be backed up, and what a backup of them must hold. For test_backup*.py."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import tempfile

import booted
import harness
import machine

MIB = 1 << 20


def make(kho, name="web1", folder=None, size_mib=8, more=""):
    """A machine with a chain of two qcow2 files, a raw disk, a read-only one and a CD; returns the writable disks."""
    folder = pathlib.Path(folder or kho.base / "disks")
    folder.mkdir(exist_ok=True)
    base, top, raw = folder / f"{name}.base", folder / f"{name}.qcow2", folder / f"{name}.raw"
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", base, f"{size_mib}M"])
    harness.run(["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -P 2 3M 1M", base])
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top])
    harness.run(["qemu-io", "-f", "qcow2", "-c", "write -P 3 512k 1M", "-c", "write -z 3M 512k", top])
    raw.write_bytes(bytes(MIB) + os.urandom(MIB) + bytes(MIB + 512))
    for other in ("seed", "iso"):
        (folder / f"{name}.{other}").write_bytes(b"x" * 4096)
    machine.define(kho, name, machine.disk(top, "vda"), machine.disk(raw, "vdb", "raw"),
                   machine.disk(folder / f"{name}.seed", "vdc", "raw", more="<readonly/>"),
                   machine.disk(folder / f"{name}.iso", "hdc", "raw", "cdrom"),
                   "<interface type='user'><model type='virtio'/></interface>", more=more)
    return {"vda": top, "vdb": raw}


def store(kho, name="store"):
    path = kho.base / name
    path.mkdir(exist_ok=True)
    return path


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@contextlib.contextmanager
def as_guest(path, format=None):
    """What a guest reads of an image, told by qemu-img: an open file."""
    with tempfile.NamedTemporaryFile(prefix="kho-content-") as raw:
        harness.run(["qemu-img", "convert", "-U", *(["-f", format] if format else []), "-O", "raw", path, raw.name])
        with open(raw.name, "rb") as file:  # qemu-img made it anew
            yield file


def contents(path, format=None):
    """The hash of what a guest reads."""
    with as_guest(path, format) as file:
        return hashlib.sha256(file.read()).hexdigest()


def formats(path):
    return "raw" if str(path).endswith(".raw") else "qcow2"


def hashes(disks):
    return {target: contents(path, formats(path)) for target, path in disks.items()}


def manifest(point):
    return json.loads((pathlib.Path(point) / "manifest.json").read_text())


def write_manifest(point, data):
    """Writes a manifest with its own hash, as kho would."""
    data = dict(data, **{"manifest-sha256": "0" * 64})
    text = json.dumps(data, indent=2) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    (pathlib.Path(point) / "manifest.json").write_text(text.replace("0" * 64, digest))


def check_whole(point, wanted=None):
    """Each file is as the manifest says, and reads as @wanted ({target: hash of the contents}), where that is given."""
    told = manifest(point)
    text = (point / "manifest.json").read_text()
    own = told["manifest-sha256"]
    assert hashlib.sha256(text.replace(own, "0" * 64).encode()).hexdigest() == own
    assert told["definition"]["sha256"] == sha256(point / "domain.xml")
    assert sorted(path.name for path in point.iterdir()) == sorted(
        ["domain.xml", "manifest.json"] + [disk["file"] for disk in told["disks"]])
    for disk in told["disks"]:
        assert disk["sha256"] == sha256(point / disk["file"]) and disk["size-bytes"] == (point / disk["file"]).stat().st_size
        if wanted is None:
            continue
        harness.run(["qemu-img", "check", "-q", "-f", "qcow2", point / disk["file"]])
        assert contents(point / disk["file"], "qcow2") == wanted[disk["target"]], disk["target"]
    assert wanted is None or {disk["target"] for disk in told["disks"]} == set(wanted)


def disks_of(kho, name):
    """{target: path} of the machine's writable disks."""
    return {disk["target"]: pathlib.Path(disk["source"]) for disk in kho.json("domblklist", name)
            if disk["source"] and not disk["read-only"] and disk["device"] == "disk"}


def macs(kho, name):
    return re.findall(r"mac address='([^']*)'", kho("dumpxml", name, "--inactive").out)


def parts(store):
    """Part folders that stand in the store."""
    return sorted(path.name for path in store.glob("*/.*.part"))


def points(store):
    return sorted(path.name for path in store.glob("*/[!.]*"))


# --- guests that write while they are backed up ---------------------------------------------------------------------------
# Sector n of vda, then sector n of vdb, hold n: what is on both agrees up to one record. /run/n says how far it has come.
LOG = ("(n=0; while :; do n=$((n+1)); for d in vda vdb; do printf '%-511d\\n' $n | "
       "dd of=/dev/$d bs=512 seek=$n conv=fsync,notrunc 2>/dev/null; done; echo $n >/run/n.new; mv /run/n.new /run/n; done) "
       "</dev/null >/dev/null 2>&1 &")
LOG_BYTES = 4 * MIB


def make_guest(kho, name="web1", bulk_mib=24, more=""):
    """A machine with a guest that obeys, and two disks: room for the log, then data that does not compress."""
    folder = kho.base / "disks"
    folder.mkdir(exist_ok=True)
    disks = {"vda": folder / f"{name}.qcow2", "vdb": folder / f"{name}.raw"}
    with open(disks["vdb"], "wb") as file:
        file.seek(LOG_BYTES)
        file.write(os.urandom(bulk_mib * MIB))
    harness.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disks["vdb"], disks["vda"]])
    booted.define(kho, name, machine.disk(disks["vda"], "vda"), machine.disk(disks["vdb"], "vdb", "raw"), more)
    return disks


def log_end(path, format):
    """How far the log goes on a disk; what is before must be whole, and nothing may be behind."""
    with as_guest(path, format) as file:
        data = file.read(LOG_BYTES)
    n = 1
    while data[n * 512:(n + 1) * 512] == b"%-511d\n" % n:
        n += 1
    assert not data[n * 512:].strip(b"\0"), f"{path} holds something after record {n - 1}"
    return n - 1


def agreed(disks):
    """The log's end on {target: path}."""
    vda, vdb = (log_end(disks[target], formats(disks[target])) for target in ("vda", "vdb"))
    assert vdb <= vda <= vdb + 1, f"vda has {vda} records, vdb {vdb}"
    return vda


def files_of(point):
    return {disk["target"]: point / disk["file"] for disk in manifest(point)["disks"]}


def bulk(path):
    """The hash of what lies behind the log."""
    with as_guest(path, formats(path)) as file:
        file.seek(LOG_BYTES)
        return hashlib.sha256(file.read()).hexdigest()


def in_qemu(kho, name):
    """What a backup could have left in a running QEMU: jobs, nodes, descriptors."""
    with machine.qmp(kho, name) as qmp:
        jobs = [job["id"] for job in qmp.ask("query-jobs")]
        nodes = [node["node-name"] for node in qmp.ask("query-named-block-nodes", flat=True)]
        sets = [row["fdset-id"] for row in qmp.ask("query-fdsets")]
    return jobs + [node for node in nodes if node.startswith("backup-")] + [number for number in sets if number > 1000]
