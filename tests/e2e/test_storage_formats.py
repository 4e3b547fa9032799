"""A guest owns every byte of its raw disk, and may write the header of another format there: what kho knows of a volume's
format stands beside it, and no verb is misled."""

import pytest

import harness
import machine

UUID = "7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00"
MIB = 1 << 20


@pytest.fixture
def pool(kho):
    folder = kho.base / "pool"
    kho("pool-define-as", "pool", "dir", "--target", folder, "--uuid", UUID)
    kho("pool-start", "--build", "pool")
    return folder


@pytest.fixture
def secret(kho):
    path = kho.base / "secret"
    path.write_bytes(b"S" * 65536)
    return path


def disguise(kho, path, secret, header="qcow2"):
    """What a guest does: the first bytes of its disk are now those of a qcow2 image over a file of the host."""
    if header == "qcow2":
        fake = kho.tmp / "fake"
        harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", fake, "64G"])
        bytes_ = fake.read_bytes()
    else:
        bytes_ = header
    with open(path, "r+b") as file:
        file.write(bytes_)


def assert_raw(kho, path, size):
    """Every verb that looks at the volume, and those that change it."""
    name = path.name
    before = path.read_bytes()
    info = kho.json("vol-info", "--pool", "pool", name)
    assert (info["format"], info["capacity-bytes"]) == ("raw", size) and info["backing-path"] is None
    assert [row["format"] for row in kho.json("vol-list", "pool") if row["name"] == name] == ["raw"]
    assert "<format type='raw'/>" in kho("vol-dumpxml", "--pool", "pool", name).out
    kho("vol-clone", "--pool", "pool", name, "copy")
    assert (path.parent / "copy").read_bytes() == before
    assert kho.json("vol-info", "--pool", "pool", "copy")["format"] == "raw"
    kho("vol-delete", "--pool", "pool", "copy")
    kho("vol-resize", "--pool", "pool", name, size + MIB)
    assert path.read_bytes() == before + bytes(MIB)
    kho("vol-resize", "--pool", "pool", name, size, "--shrink")
    assert path.read_bytes() == before


@pytest.mark.parametrize("header", ["qcow2", b"QFI\xfb", b"KDMV"])
def test_recorded_when_made(kho, pool, secret, header):
    kho("vol-create-as", "pool", "v", "2M")
    disguise(kho, pool / "v", secret, header)
    assert_raw(kho, pool / "v", 2 * MIB)
    kho("vol-clone", "--pool", "pool", "v", "w")
    assert_raw(kho, pool / "w", 2 * MIB)
    kho("vol-delete", "--pool", "pool", "v")
    assert '"v"' not in (kho.root / f"lib/storage/{UUID}.json").read_text()


@pytest.mark.parametrize("header", ["qcow2", b"QFI\xfb", b"KDMV"])
def test_said_by_a_machine(kho, pool, secret, header):
    """Nobody recorded the file, but a machine says that it is raw, by whatever name."""
    (pool / "v").write_bytes(bytes(2 * MIB))
    (kho.base / "link").symlink_to(pool / "v")
    machine.define(kho, "m", machine.disk(kho.base / "link", format="raw"))
    disguise(kho, pool / "v", secret, header)
    assert_raw(kho, pool / "v", 2 * MIB)
    kho("undefine", "m")
    kho.refuses("vol-clone", "--pool", "pool", "v", "copy", says=str(secret) if header == "qcow2" else str(pool / "v"))
    assert not (pool / "copy").exists()


def test_another_file_of_the_name(kho, pool):
    """A record does not outlive its file."""
    kho("vol-create-as", "pool", "v", "2M")
    (pool / "v").unlink()
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", pool / "v", "5M"])
    assert kho.json("vol-info", "--pool", "pool", "v")["format"] == "qcow2"
    kho("vol-resize", "--pool", "pool", "v", "6M")
    assert kho.json("vol-info", "--pool", "pool", "v")["capacity-bytes"] == 6 * MIB


def test_what_cannot_be_recorded_is_not_left(kho, pool):
    kho("vol-create-as", "pool", "q", "2M", "--format", "qcow2")
    records = kho.root / f"lib/storage/{UUID}.json"
    records.write_text("{")
    for words in (["vol-create-as", "pool", "v", "2M"], ["vol-list", "pool"], ["vol-info", "--pool", "pool", "q"]):
        kho.refuses(*words, status=7, says=str(records))
    assert [path.name for path in pool.iterdir()] == ["q"]
    records.unlink()
    assert [row["name"] for row in kho.json("vol-list", "pool")] == ["q"]
