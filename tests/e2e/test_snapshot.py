"""Verbs that look at snapshots, over metadata as it stands on disk."""

import harness
import layers
import machine
import pytest

NOT_FOUND, INVALID, UNSUPPORTED, CORRUPT = 3, 5, 6, 7

SNAPSHOT = """<domainsnapshot xmlns:kho='urn:kho:snapshot'>
  <name>{name}</name>
  <state>{state}</state>
{parent}  <creationTime>{created}</creationTime>
  <memory snapshot='no'/>
  <kho:snapshot version='1'{more}>
    <kho:disk name='vda' file='/images/{name}.qcow2' format='qcow2'/>
  </kho:snapshot>
</domainsnapshot>
"""


def folder(kho, name="web1"):
    return kho.root / "lib/qemu/snapshot" / name


def put(kho, name, parent=None, state="shutoff", created=1700000000, more=""):
    folder(kho).mkdir(exist_ok=True)
    above = f"  <parent>\n    <name>{parent}</name>\n  </parent>\n" if parent else ""
    (folder(kho) / f"{name}.xml").write_text(
        SNAPSHOT.format(name=name, state=state, parent=above, created=created, more=more))


def family(kho):
    """a has b and c, b has d; e stands alone; c is current."""
    machine.define(kho, "web1", machine.disk("/images/a.qcow2"))
    put(kho, "a", created=1700000003)
    put(kho, "b", "a", state="disk-snapshot", more=" pauseMs='12'")
    put(kho, "c", "a", state="running", more=" deleting='yes'")
    put(kho, "d", "b")
    put(kho, "e")
    (folder(kho) / ".current").write_text("c\n")


def names(kho, *args):
    return kho("snapshot-list", "web1", "--name", *args).out.split()


def test_list(kho):
    family(kho)
    lines = kho("snapshot-list", "web1", env={"TZ": "UTC"}).out.splitlines()
    assert lines[0].split() == ["Name", "Creation", "Time", "State"]
    assert lines[2] == " a      2023-11-14 22:13:23 +0000   shutoff"
    assert lines[4] == " c      2023-11-14 22:13:20 +0000   deleting"
    assert kho("snapshot-list", "web1", "--parent").out.splitlines()[3].split()[-1] == "a"
    assert names(kho) == ["a", "b", "c", "d", "e"]
    assert names(kho, "--topological") == ["a", "e", "b", "c", "d"]
    assert names(kho, "--roots") == ["a", "e"]
    assert names(kho, "--leaves") == ["c", "d", "e"] and names(kho, "--no-leaves") == ["a", "b"]
    assert names(kho, "--from", "a") == ["b", "c"] and names(kho, "--from", "a", "--descendants") == ["b", "c", "d"]
    assert names(kho, "--current", "--descendants") == []
    assert names(kho, "--inactive") == ["a", "d", "e"] and names(kho, "--active") == ["c"]
    assert names(kho, "--disk-only") == ["b"] and names(kho, "--disk-only", "--active") == ["b", "c"]
    assert names(kho, "--internal") == [] and len(names(kho, "--internal", "--external")) == 5
    assert names(kho, "--no-metadata") == [] and len(names(kho, "--metadata")) == 5
    kho.refuses("snapshot-list", "web1", "--tree", "--name", status=INVALID, says="--tree")
    kho.refuses("snapshot-list", "web1", "--from", "nix", status=NOT_FOUND, says="'nix'")
    kho.refuses("snapshot-list", "web2", status=NOT_FOUND, says="web2")


def test_tree(kho):
    family(kho)
    whole = """a
  |
  +- b
  |   |
  |   +- d
  |
  +- c

e

"""
    assert kho("snapshot-list", "web1", "--tree").out == whole
    assert kho("snapshot-list", "web1", "--tree", "--from", "b").out == "b\n  |\n  +- d\n\n"


def test_one(kho):
    family(kho)
    info = dict(line.split(":", 1) for line in kho("snapshot-info", "web1", "a").out.splitlines() if line)
    info = {key: value.strip() for key, value in info.items()}
    assert info == {"Name": "a", "Domain": "web1", "Current": "no", "State": "shutoff", "Location": "external",
                    "Parent": "-", "Children": "2", "Descendants": "3", "Metadata": "yes", "Disk": "vda /images/a.qcow2"}
    assert "deleting" in kho("snapshot-info", "web1", "--current").out
    assert kho("snapshot-parent", "web1", "d").out == "b\n"
    assert kho("snapshot-parent", "web1", "--current").out == "a\n"
    kho.refuses("snapshot-parent", "web1", "e", status=NOT_FOUND, says=["'e'", "no parent"])
    assert kho("snapshot-current", "web1", "--name").out == "c\n"
    text = kho("snapshot-current", "web1").out
    assert text == (folder(kho) / "c.xml").read_text() == kho("snapshot-dumpxml", "web1", "c").out
    kho.refuses("snapshot-info", "web1", "nix", status=NOT_FOUND, says=["'nix'", "snapshot-list web1"])
    kho.refuses("snapshot-info", "web1", "a/b", status=INVALID, says="slash")
    kho.refuses("snapshot-info", "web1", status=INVALID, says="--current")
    kho.refuses("snapshot-info", "web1", "a", "--current", status=INVALID, says="--current")
    (folder(kho) / ".current").write_text("gone\n")
    kho.refuses("snapshot-current", "web1", status=NOT_FOUND, says="no current snapshot")


def test_json_has_the_keys_of_the_docs(kho):
    family(kho)
    docs = (harness.REPO / "docs/json.md").read_text().partition("## Snapshots")[2].partition("\n## ")[0]
    said = kho.json("snapshot-list", "web1")
    for key in {*said[0], *said[0]["disks"][0]}:
        assert f"`{key}`" in docs, f"docs/json.md does not tell of {key}"
    assert said[1] == kho.json("snapshot-info", "web1", "b") == {
        "name": "b", "description": None, "state": "disk-snapshot", "created-s": 1700000000, "parent": "a",
        "current": False, "deleting": False, "children": 1, "descendants": 1, "memory-file": None, "pause-ms": 12,
        "disks": [{"target": "vda", "file": "/images/b.qcow2", "format": "qcow2"}]}
    assert said[2]["deleting"] and said[2]["current"] and kho.json("snapshot-current", "web1") == said[2]
    assert kho.json("snapshot-parent", "web1", "d") == {"name": "b"}


def test_damage(kho):
    family(kho)
    (folder(kho) / "b.xml").write_text("<domainsnapshot><name>other</name></domainsnapshot>")
    kho.refuses("snapshot-list", "web1", status=CORRUPT, says=["b.xml", "'other'"])
    kho.refuses("snapshot-info", "web1", "b", status=CORRUPT, says="b.xml")
    (folder(kho) / "b.xml").write_text("<domain")
    kho.refuses("snapshot-dumpxml", "web1", "b", status=CORRUPT, says=["b.xml", "line 1"])
    put(kho, "b", "d")
    kho.refuses("snapshot-list", "web1", "--tree", status=CORRUPT, says="circle")
    put(kho, "b")
    text = (folder(kho) / "b.xml").read_text()
    (folder(kho) / "b.xml").write_text(text.replace("version='1'", "version='9'"))
    kho.refuses("snapshot-list", "web1", status=UNSUPPORTED, says=["b.xml", "newer kho"])


def test_completion_offers_snapshots(kho):
    family(kho)
    offered = kho("__complete", "--", "3", "kho", "snapshot-info", "web1", "").out.split()
    assert offered == ["a", "b", "c", "d", "e"]


def test_undefine_keeps_a_machine_with_snapshots(kho):
    family(kho)
    kept = machine.kept(kho)
    kho.refuses("undefine", "web1", status=INVALID, says=["5 snapshots", "--snapshots-metadata"])
    assert machine.kept(kho) == kept
    (folder(kho) / "c.mem").write_text("what the guest had in memory")
    kho("undefine", "web1", "--snapshots-metadata")
    assert not folder(kho).exists() and kho("list", "--all", "--name").out == ""
    machine.define(kho, "web1", machine.disk("/images/a.qcow2"))
    assert names(kho) == []
    kho("undefine", "web1")


@pytest.mark.parametrize("damage", ["text", "name"])
def test_damaged_metadata_is_told_of_with_its_cure(kho, damage):
    """What cannot be read may name any file: nobody's files are removed while it stands. It can be forgotten, alone."""
    m, other = layers.Machine(kho), layers.Machine(kho, "b", kho.base / "b")
    for name in ["s1", "s2", "s3"]:
        kho("snapshot-create-as", "m", name)
        kho("snapshot-create-as", "b", name)
    now, kept = m.now(), machine.kept(kho)
    for name in ["s1", "s3"]:
        path = kho.root / "lib/qemu/snapshot/b" / f"{name}.xml"
        text = path.read_text()
        path.write_text(text[:len(text) // 2] if damage == "text" else text.replace(f"<name>{name}</name>", "<name>x</name>"))
    cure = ["lib/qemu/snapshot/b/s1.xml", "mend it", "`kho snapshot-delete --metadata b s1`"]
    for verb in [("snapshot-delete", "m", "s2"), ("snapshot-delete", "b", "s1"), ("snapshot-delete", "b", "s2"),
                 ("snapshot-list", "b"), ("snapshot-create-as", "b", "s4"), ("snapshot-delete", "b", "s1", "--children")]:
        kho.refuses(*verb, status=CORRUPT, says=cure)
    files = sorted(other.folder.iterdir())
    kho("snapshot-delete", "m", "s1", "--metadata")  # no file is in question
    for name in ["s1", "s3"]:
        assert kho("snapshot-delete", "--metadata", "b", name).out == f"Domain snapshot {name} deleted\n"
    assert sorted(other.folder.iterdir()) == files
    assert [(s["name"], s["parent"]) for s in other.snapshots()] == [("s2", None)]
    kho("snapshot-delete", "m", "s3")
    assert m.now() == now and kept != machine.kept(kho)
