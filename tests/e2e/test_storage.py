"""Pools and volumes through the command line: every verb, what each prints, what each leaves on disk."""

import json
import os
import re
import subprocess

import pytest

import harness

UUID = "7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00"
MIB = 1 << 20


@pytest.fixture
def pool(kho):
    """An active pool vmdisks; returns its folder."""
    folder = kho.base / "vmdisks"
    kho("pool-define-as", "--name", "vmdisks", "--type", "dir", "--target", folder)
    kho("pool-start", "--build", "vmdisks")
    return folder


def image_info(path):
    return json.loads(harness.run(["qemu-img", "info", "--output=json", path]).out)


def write_xml(kho, name, text):
    path = kho.tmp / name
    path.write_text(text)
    return path


def pool_xml(name, target, extra=""):
    return f"<pool type='dir'><name>{name}</name>{extra}<target><path>{target}</path></target></pool>"


def test_pool_as_people_type_it(kho):
    """A pool from its definition to its end, and what each verb prints."""
    folder = kho.base / "vmdisks"
    assert kho("pool-define-as", "--name", "vmdisks", "--type", "dir", "--target", folder).out == "Pool vmdisks defined\n"
    assert re.search(r"^ vmdisks   inactive   no$", kho("pool-list", "--all").out, re.M)
    assert "vmdisks" not in kho("pool-list").out
    assert not folder.exists()
    assert kho("pool-start", "--build", "vmdisks").out == "Pool vmdisks started\n"
    assert folder.is_dir() and folder.stat().st_mode & 0o7777 == 0o755
    assert kho("pool-autostart", "vmdisks").out == "Pool vmdisks marked as autostarted\n"
    assert re.search(r"^ vmdisks   active   yes$", kho("pool", "list").out, re.M)

    info = kho("pool-info", "vmdisks").out
    for label in ("Name:           vmdisks", "State:          running", "Persistent:     yes", "Autostart:      yes"):
        assert label in info
    stat = os.statvfs(folder)
    seen = kho.json("pool-info", "vmdisks")
    assert seen["capacity-bytes"] == stat.f_blocks * stat.f_frsize
    assert seen["capacity-bytes"] == seen["allocation-bytes"] + seen["available-bytes"]
    assert f"Capacity:       {seen['capacity-bytes']}\n" in kho("pool-info", "vmdisks", "--bytes").out
    assert seen == kho.json("pool-info", seen["uuid"]) | {k: seen[k] for k in ("allocation-bytes", "available-bytes")}

    kho("vol-create-as", "vmdisks", "raw-disk.img", "10G", "--format", "raw", "--allocation", "0")
    kho("vol-create-as", "vmdisks", "qcow2-disk.qcow2", "10G", "--format", "qcow2")
    info = kho("vol-info", "--pool", "vmdisks", "qcow2-disk.qcow2").out
    for label in ("Name:           qcow2-disk.qcow2", "Type:           file", "Capacity:       10.00 GiB"):
        assert label in info
    assert image_info(folder / "qcow2-disk.qcow2")["virtual-size"] == 10 << 30

    assert kho("pool-autostart", "vmdisks", "--disable").out == "Pool vmdisks unmarked as autostarted\n"
    assert kho("pool-refresh", "vmdisks").out == "Pool vmdisks refreshed\n"
    assert kho("pool-destroy", "vmdisks").out == "Pool vmdisks destroyed\n"
    assert sorted(entry.name for entry in folder.iterdir()) == ["qcow2-disk.qcow2", "raw-disk.img"]
    assert "State:          inactive" in kho("pool-info", "vmdisks").out
    assert kho("pool-undefine", "vmdisks").out == "Pool vmdisks has been undefined\n"
    assert kho.json("pool-list", "--all") == []
    assert sorted(entry.name for entry in folder.iterdir()) == ["qcow2-disk.qcow2", "raw-disk.img"]


def test_pool_positional_like_virsh(kho):
    kho("pool-define-as", "a", "dir", "-", "-", "-", "-", kho.base / "a", "--uuid", UUID)
    assert kho.json("pool-info", UUID)["name"] == "a"
    assert kho("pool-build", "a").out == "Pool a built\n"
    (kho.base / "a" / "kept").write_text("x")
    kho("pool-build", "a")
    assert (kho.base / "a" / "kept").read_text() == "x"
    kho("pool-start", UUID)


def test_pool_list_filters(kho):
    for name in "abc":
        kho("pool-define-as", name, "dir", "--target", kho.base / name)
    kho("pool-start", "--build", "b")
    kho("pool-autostart", "c")

    def names(*options):
        return kho("pool-list", "--name", *options).out.split()
    assert names() == ["b"]
    assert names("--all") == ["a", "b", "c"]
    assert names("--inactive") == ["a", "c"]
    assert names("--all", "--autostart") == ["c"]
    assert names("--all", "--no-autostart") == ["a", "b"]
    assert len(kho("pool-list", "--all", "--uuid").out.split()) == 3
    head, rule, *rows = kho("pool-list", "--all", "--details").out.splitlines()
    assert head.split() == ["Name", "State", "Autostart", "Persistent", "Capacity", "Allocation", "Available"]
    assert rows[0].split() == ["a", "inactive", "no", "yes", "-", "-", "-"]
    assert rows[1].split()[:4] == ["b", "running", "no", "yes"]


def test_pool_xml_round_trip(kho):
    folder = kho.base / "x"
    file = write_xml(kho, "p.xml", f"""<pool type='dir'>
  <name>x</name><uuid>{UUID}</uuid><own:note xmlns:own='urn:n'>kept</own:note>
  <target><path>{folder}</path><permissions><mode>0700</mode></permissions></target>
</pool>""")
    assert kho("pool-define", file).out == f"Pool x defined from {file}\n"
    kho("pool-start", "--build", "x")
    assert folder.stat().st_mode & 0o7777 == 0o700
    dumped = kho("pool-dumpxml", "x").out
    for part in ("<name>x</name>", UUID, "urn:n", "<mode>0700</mode>", "<capacity unit='bytes'>"):
        assert part in dumped
    kho("pool-destroy", "x")
    kho("pool-undefine", "x")
    kho("pool-define", write_xml(kho, "again.xml", dumped))
    assert kho.json("pool-info", "x")["uuid"] == UUID
    inactive = kho("pool-dumpxml", "x", "--inactive").out
    assert "<capacity unit='bytes'>0</capacity>" in inactive
    # a new definition of the same name and uuid takes the old one's place
    kho("pool-define", write_xml(kho, "new.xml", inactive.replace(str(folder), str(kho.base / "y"))))
    assert kho.json("pool-info", "x")["target-path"] == str(kho.base / "y")


def test_active_pool_keeps_what_it_was_started_with(kho, pool):
    """A new definition holds from the next start."""
    xml = kho("pool-dumpxml", "vmdisks", "--inactive").out
    kho("pool-define", write_xml(kho, "p.xml", xml.replace("vmdisks</path>", "other</path>")))
    assert f"<path>{pool}</path>" in kho("pool-dumpxml", "vmdisks").out
    assert f"<path>{kho.base}/other</path>" in kho("pool-dumpxml", "vmdisks", "--inactive").out
    kho("vol-create-as", "vmdisks", "v", "1M")
    assert (pool / "v").exists()


# --- volumes ---------------------------------------------------------------------------------------------------------

def test_raw_allocation(kho, pool):
    """A raw volume is thick unless told otherwise, and part of it may be reserved."""
    def blocks(name):
        return (pool / name).stat().st_blocks * 512
    kho("vol-create-as", "vmdisks", "thick", "8M")
    assert (pool / "thick").stat().st_size == 8 * MIB and blocks("thick") >= 8 * MIB
    kho("vol-create-as", "vmdisks", "sparse", "8M", "--allocation", "0")
    assert (pool / "sparse").stat().st_size == 8 * MIB and blocks("sparse") < MIB
    kho("vol-create-as", "vmdisks", "half", "8M", "--allocation", "4M")
    assert (pool / "half").stat().st_size == 8 * MIB and 4 * MIB <= blocks("half") < 5 * MIB
    assert (pool / "thick").stat().st_mode & 0o7777 == 0o600
    assert (pool / "thick").read_bytes() == bytes(8 * MIB)


def test_qcow2_volumes(kho, pool):
    kho("vol-create-as", "vmdisks", "base.qcow2", "16M", "--format", "qcow2")
    harness.run(["qemu-io", "-c", "write -P 7 1M 64k", pool / "base.qcow2"])
    kho("vol-create-as", "vmdisks", "over.qcow2", "32M", "--format", "qcow2", "--backing-vol", "base.qcow2",
        "--backing-vol-format", "qcow2")
    info = image_info(pool / "over.qcow2")
    assert info["backing-filename"] == "base.qcow2" and info["backing-filename-format"] == "qcow2"
    assert info["virtual-size"] == 32 * MIB
    harness.run(["qemu-io", "-c", "read -P 7 1M 64k", pool / "over.qcow2"])
    seen = kho.json("vol-info", "--pool", "vmdisks", "over.qcow2")
    assert seen["backing-path"] == str(pool / "base.qcow2") and seen["backing-format"] == "qcow2"
    assert f"<path>{pool}/base.qcow2</path>" in kho("vol-dumpxml", "--pool", "vmdisks", "over.qcow2").out

    kho("vol-create-as", "vmdisks", "meta.qcow2", "16M", "--format", "qcow2", "--prealloc-metadata")
    kho("vol-create-as", "vmdisks", "full.qcow2", "16M", "--format", "qcow2", "--allocation", "16M")
    assert (pool / "full.qcow2").stat().st_blocks * 512 >= 16 * MIB
    for name in ("over.qcow2", "meta.qcow2", "full.qcow2"):
        harness.run(["qemu-img", "check", "-q", pool / name])


def test_vol_create_xml(kho, pool):
    kho("vol-create", "vmdisks", write_xml(kho, "raw.xml", """<volume><name>r.img</name><capacity unit='MiB'>3</capacity>
        <allocation>0</allocation><target><permissions><mode>0640</mode></permissions></target></volume>"""))
    assert (pool / "r.img").stat().st_size == 3 * MIB and (pool / "r.img").stat().st_mode & 0o7777 == 0o640
    made = kho("vol-create", "vmdisks", write_xml(kho, "q.xml", """<volume><name>q.qcow2</name><capacity unit='M'>5</capacity>
        <target><format type='qcow2'/><compat>0.10</compat><clusterSize unit='B'>4096</clusterSize></target></volume>"""))
    assert made.out.startswith("Vol q.qcow2 created from ")
    info = image_info(pool / "q.qcow2")
    assert info["format-specific"]["data"]["compat"] == "0.10" and info["cluster-size"] == 4096
    kho("vol-create", "vmdisks", write_xml(kho, "o.xml", f"""<volume><name>o.qcow2</name><target><format type='qcow2'/></target>
        <backingStore><path>{pool}/q.qcow2</path><format type='qcow2'/></backingStore></volume>"""))
    assert image_info(pool / "o.qcow2")["virtual-size"] == 5 * MIB
    # what dumpxml prints makes a volume again
    xml = kho("vol-dumpxml", "--pool", "vmdisks", "q.qcow2").out
    kho("vol-create", "vmdisks", write_xml(kho, "again.xml", xml.replace("q.qcow2", "again.qcow2")))
    assert image_info(pool / "again.qcow2")["cluster-size"] == 4096


def test_vol_lookups(kho, pool):
    kho("vol-create-as", "vmdisks", "v.img", "1M")
    path = str(pool / "v.img")
    assert kho("vol-path", "--pool", "vmdisks", "v.img").out == path + "\n"
    assert kho("vol-path", path).out == path + "\n"
    assert kho("vol-path", path, "--pool", "vmdisks").out == path + "\n"
    assert kho("vol", "path", f"{pool}/../vmdisks/v.img").out == path + "\n"
    link = kho.base / "link"
    link.symlink_to(pool)
    assert kho.json("vol-info", link / "v.img")["name"] == "v.img"
    kho.refuses("vol-path", "v.img", status=5, says=["v.img", "--pool"])
    kho.refuses("vol-path", "/elsewhere/v.img", status=3, says="/elsewhere/v.img")
    assert "Physical:       1048576" in kho("vol-info", path, "--bytes", "--physical").out


def test_vol_list_tells_all(kho, pool):
    """In order of names, formats told from headers, damaged ones flagged, what is no volume left out."""
    kho("vol-create-as", "vmdisks", "b.qcow2", "4M", "--format", "qcow2")
    kho("vol-create-as", "vmdisks", "a.img", "1M")
    (pool / "broken.qcow2").write_bytes((pool / "b.qcow2").read_bytes()[:80])
    (pool / "cd.iso").write_bytes(bytes(32768) + b"\x01CD001" + bytes(4096))
    (pool / "empty").touch()
    (pool / ".hidden").touch()
    (pool / "-dash").touch()
    (pool / "folder").mkdir()
    os.mkfifo(pool / "fifo")
    (pool / "dangling").symlink_to("nowhere")
    listed = kho.json("vol-list", "vmdisks")
    assert [(v["name"], v["format"]) for v in listed] == [
        ("a.img", "raw"), ("b.qcow2", "qcow2"), ("broken.qcow2", "unknown"), ("cd.iso", "iso"), ("empty", "raw")]
    assert [v["name"] for v in listed if v["problem"]] == ["broken.qcow2"]
    ran = kho("vol-list", "vmdisks", "--details")
    assert ran.err.startswith("warning: volume broken.qcow2 cannot be used") and len(ran.err.splitlines()) == 1
    assert len(kho("vol-list", "vmdisks").out.splitlines()) == 8
    kho.refuses("vol-info", "--pool", "vmdisks", "broken.qcow2", status=7, says="broken.qcow2")
    kho.refuses("vol-clone", "--pool", "vmdisks", "broken.qcow2", "c", says="broken.qcow2")
    kho.refuses("vol-resize", "--pool", "vmdisks", "broken.qcow2", "8M", says="broken.qcow2")
    kho("vol-delete", "--pool", "vmdisks", "broken.qcow2")
    kho("vol-delete", "--pool", "vmdisks", "empty")
    assert [v["name"] for v in kho.json("vol-list", "vmdisks")] == ["a.img", "b.qcow2", "cd.iso"]


def test_vol_resize(kho, pool):
    for name, format in (("r.img", "raw"), ("q.qcow2", "qcow2")):
        kho("vol-create-as", "vmdisks", name, "4M", "--format", format, "--allocation", "0")

        def size():
            return kho.json("vol-info", "--pool", "vmdisks", name)["capacity-bytes"]
        harness.run(["qemu-io", "-f", format, "-c", "write -P 5 1M 64k", pool / name])
        kho("vol-resize", "--pool", "vmdisks", name, "6M")
        assert size() == 6 * MIB == image_info(pool / name)["virtual-size"]
        kho("vol-resize", "--pool", "vmdisks", name, "2M", "--delta")
        assert size() == 8 * MIB
        kho.refuses("vol-resize", "--pool", "vmdisks", name, "4M", status=5, says=[name, "--shrink"])
        kho("vol-resize", "--pool", "vmdisks", name, "1M", "--delta", "--shrink")
        assert size() == 7 * MIB
        kho("vol-resize", "--pool", "vmdisks", name, "-1M", "--delta", "--shrink")
        assert size() == 6 * MIB
        kho("vol-resize", pool / name, "3M", "--shrink")
        assert size() == 3 * MIB
        harness.run(["qemu-io", "-f", format, "-c", "read -P 5 1M 64k", pool / name])
    before = (pool / "r.img").stat().st_blocks * 512
    kho("vol-resize", "--pool", "vmdisks", "r.img", "5M", "--allocate")
    assert (pool / "r.img").stat().st_blocks * 512 - before >= 2 * MIB
    harness.run(["qemu-img", "check", "-q", pool / "q.qcow2"])


def test_vol_clone(kho, pool):
    kho("vol-create-as", "vmdisks", "base.qcow2", "8M", "--format", "qcow2")
    harness.run(["qemu-io", "-c", "write -P 3 0 1M", pool / "base.qcow2"])
    kho("vol-create-as", "vmdisks", "over.qcow2", "8M", "--format", "qcow2", "--backing-vol", "base.qcow2",
        "--backing-vol-format", "qcow2")
    harness.run(["qemu-io", "-c", "write -P 4 2M 1M", pool / "over.qcow2"])
    kho("vol-create-as", "vmdisks", "r.img", "8M")
    harness.run(["qemu-io", "-f", "raw", "-c", "write -P 5 3M 1M", pool / "r.img"])
    for name in ("base.qcow2", "over.qcow2", "r.img"):
        assert kho("vol-clone", "--pool", "vmdisks", name, "--newname", "copy-" + name).out == f"Vol copy-{name} cloned from {name}\n"
        format = "raw" if name == "r.img" else "qcow2"
        harness.run(["qemu-img", "compare", "-f", format, "-F", format, pool / name, pool / ("copy-" + name)])
        kho.refuses("vol-clone", "--pool", "vmdisks", name, "copy-" + name, status=4, says="copy-" + name)
    harness.run(["qemu-img", "snapshot", "-c", "s", pool / "base.qcow2"])
    harness.run(["qemu-img", "bitmap", "--add", pool / "base.qcow2", "b"])
    ran = kho("vol-clone", "--pool", "vmdisks", "base.qcow2", "less.qcow2")
    assert len(ran.err.splitlines()) == 1 and "1 internal snapshot and 1 persistent bitmap," in ran.err
    assert image_info(pool / "copy-over.qcow2")["backing-filename"] == "base.qcow2"
    assert image_info(pool / "copy-over.qcow2")["actual-size"] < 2 * MIB
    assert (pool / "copy-r.img").stat().st_blocks * 512 < 2 * MIB


def test_delete_keeps_what_others_need(kho, pool):
    """A backing file is refused, also when the overlay is in another pool, until the overlay has gone."""
    kho("pool-define-as", "second", "dir", "--target", kho.base / "second")
    kho("pool-start", "--build", "second")
    kho("vol-create-as", "vmdisks", "base.qcow2", "8M", "--format", "qcow2")
    for where, backing in (("vmdisks", "base.qcow2"), ("second", pool / "base.qcow2")):
        kho("vol-create-as", where, "over.qcow2", "8M", "--format", "qcow2", "--backing-vol", backing,
            "--backing-vol-format", "qcow2")
        kho.refuses("vol-delete", "--pool", "vmdisks", "base.qcow2", status=8, says=["base.qcow2", "over.qcow2", where])
        kho.refuses("vol-resize", "--pool", "vmdisks", "base.qcow2", "4M", "--shrink", status=8, says=["over.qcow2", where])
        assert (pool / "base.qcow2").exists()
        kho("vol-delete", "--pool", where, "over.qcow2")
    kho("vol-delete", "--pool", "vmdisks", "base.qcow2")
    assert kho.json("vol-list", "vmdisks") == []


def test_volume_in_use(kho, pool):
    """A process that has the image open is named, and nothing happens."""
    kho("vol-create-as", "vmdisks", "v.qcow2", "8M", "--format", "qcow2")
    user = subprocess.Popen(["qemu-io", pool / "v.qcow2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        user.stdin.write("length\n")
        user.stdin.flush()
        assert "8 MiB" in user.stdout.readline()
        before = (pool / "v.qcow2").read_bytes()
        for words in (["vol-delete", "--pool", "vmdisks", "v.qcow2"], ["vol-resize", "--pool", "vmdisks", "v.qcow2", "9M"],
                      ["vol-clone", "--pool", "vmdisks", "v.qcow2", "copy"]):
            kho.refuses(*words, status=8, says=["v.qcow2", str(user.pid)])
        assert (pool / "v.qcow2").read_bytes() == before
        assert kho.json("vol-info", "--pool", "vmdisks", "v.qcow2")["capacity-bytes"] == 8 * MIB
    finally:
        user.communicate("quit\n")
    kho("vol-delete", "--pool", "vmdisks", "v.qcow2")


def test_clone_reads_no_file_outside_pools(kho, pool):
    """A guest that writes a qcow2 header into its raw disk learns nothing of the host's files from a clone."""
    secret = kho.base / "secret"
    secret.write_bytes(b"S" * 65536)
    harness.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", pool / "v"])
    kho.refuses("vol-clone", "--pool", "vmdisks", "v", "copy", status=9, says=str(secret))
    assert not (pool / "copy").exists()
    kho.refuses("vol-clone", "--pool", "vmdisks", "v", "copy", status=9, says="v")


def test_json_keys_are_documented(kho, pool):
    kho("vol-create-as", "vmdisks", "v", "1M")
    text = (harness.REPO / "docs" / "json.md").read_text()
    for key in [*kho.json("pool-info", "vmdisks"), *kho.json("vol-info", "--pool", "vmdisks", "v")]:
        assert f"| `{key}` |" in text
