"""Bad input to the pool and vol verbs, one by one: a status that is not 0, one line that names the object, and nothing
changed."""

import os

import pytest

from snapshot import snapshot

UUID = "7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00"
OTHER_UUID = "11111111-2222-3333-4444-555555555555"
USAGE, NOT_FOUND, EXISTS, INVALID, UNSUPPORTED, NO_SPACE = 2, 3, 4, 5, 6, 10


@pytest.fixture
def world(kho):
    """An active pool `on` with two volumes, an inactive one `off`, and a refusal that checks that nothing changed."""
    kho("pool-define-as", "on", "dir", "--target", kho.base / "on", "--uuid", UUID)
    kho("pool-start", "--build", "on")
    kho("pool-define-as", "off", "dir", "--target", kho.base / "off")
    kho("vol-create-as", "on", "v.img", "1M")
    kho("vol-create-as", "on", "v.qcow2", "1M", "--format", "qcow2")
    (kho.base / "file").write_text("not a folder")

    def refuses(*words, status, says):
        before = snapshot(kho.root, kho.base / "on")
        kho.refuses(*words, status=status, says=says)
        assert snapshot(kho.root, kho.base / "on") == before
        assert not (kho.base / "new").exists()
    kho.nothing_changes = refuses
    return kho


UNKNOWN_POOL = ["pool-build", "pool-start", "pool-destroy", "pool-autostart", "pool-refresh", "pool-undefine", "pool-info",
                "pool-dumpxml", "vol-list"]


def test_unknown_pool(world):
    for verb in UNKNOWN_POOL:
        for name in ("nosuch", OTHER_UUID, "a/b", "", "..", "-"):
            world.nothing_changes(verb, "--pool", name, status=NOT_FOUND, says=f'"{name}"')
    world.nothing_changes("vol-create-as", "nosuch", "n", "1M", status=NOT_FOUND, says="nosuch")
    for verb, *more in (["vol-info"], ["vol-dumpxml"], ["vol-path"], ["vol-resize", "2M"], ["vol-clone", "n"], ["vol-delete"]):
        world.nothing_changes(verb, "v.img", *more, "--pool", "nosuch", status=NOT_FOUND, says="nosuch")


def test_unknown_volume(world):
    for verb, *more in (["vol-info"], ["vol-dumpxml"], ["vol-path"], ["vol-resize", "2M"], ["vol-clone", "n"], ["vol-delete"]):
        world.nothing_changes(verb, "nosuch", *more, "--pool", "on", status=NOT_FOUND, says="nosuch")
        world.nothing_changes(verb, "../file", *more, "--pool", "on", status=INVALID, says="../file")
        world.nothing_changes(verb, world.base / "file", *more, "--pool", "on", status=NOT_FOUND, says="file")
        world.nothing_changes(verb, world.base / "file", *more, status=NOT_FOUND, says="file")


def test_a_folder_of_the_systems_is_no_pool(world):
    (world.base / "top").symlink_to("/")
    for target in ("/", "//", "/..", "/proc", "/proc/self", "/sys/kernel", "/dev", "/dev/mapper", world.base / "top"):
        world.nothing_changes("pool-define-as", "new", "dir", "--target", target, status=INVALID,
                              says=["pool new", f"{target} is", "choose a folder of its own"])
    world("pool-define-as", "new", "dir", "--target", "/devices")


def test_wrong_state(world):
    world.nothing_changes("pool-start", "on", status=INVALID, says="active already")
    world.nothing_changes("pool-build", "on", status=INVALID, says="pool on is active")
    world.nothing_changes("pool-undefine", "on", status=INVALID, says=["pool on is active", "pool-destroy on"])
    world.nothing_changes("pool-destroy", "off", status=INVALID, says="pool off is not active")
    world.nothing_changes("pool-refresh", "off", status=INVALID, says="pool-start off")
    world.nothing_changes("vol-list", "off", status=INVALID, says="pool-start off")
    world.nothing_changes("vol-create-as", "off", "n", "1M", status=INVALID, says="pool off is not active")
    world.nothing_changes("pool-start", "off", status=NOT_FOUND, says=["pool off", "off", "pool-build off"])


BAD_NAMES = ["a/b", ".", "..", ".hidden", "-x", "a\nb", "a\tb", "a\x7fb", "x" * 201, "", "a\udcffb"]


def test_forbidden_names(world):
    for name in BAD_NAMES:
        what = name[0] if name else "empty"
        world.nothing_changes("pool-define-as", "--name", name, "--type", "dir", "--target", world.base / "new", status=INVALID,
                              says=["pool", what])
        world.nothing_changes("vol-create-as", "on", "--name", name, "1M", status=INVALID, says=["volume", what])
        world.nothing_changes("vol-clone", "--pool", "on", "v.img", "--newname", name, status=INVALID, says=["volume", what])


def test_longest_name(kho):
    name = "x" * 200
    kho("pool-define-as", name, "dir", "--target", kho.base / "p")
    kho("pool-start", "--build", name)
    kho("vol-create-as", name, "y" * 200, "1M", "--allocation", "0")
    kho("vol-clone", "--pool", name, "y" * 200, "z" * 200)
    kho("vol-delete", "--pool", name, "y" * 200)


def test_duplicates(world):
    new = ["--target", world.base / "new"]
    world.nothing_changes("pool-define-as", "on", "dir", *new, status=EXISTS, says=["pool on", UUID])
    world.nothing_changes("pool-define-as", "new", "dir", *new, "--uuid", UUID, status=EXISTS, says=["pool on", UUID])
    world.nothing_changes("pool-define-as", "new", "dir", *new, "--uuid", UUID.upper(), status=EXISTS, says=["pool on", UUID])
    for target in (world.base / "on", f"{world.base}/./x/../on/"):
        world.nothing_changes("pool-define-as", "new", "dir", "--target", target, status=EXISTS, says=["pool on", f"{world.base}/on"])
    (world.base / "link").symlink_to("on")
    (world.base / "up").symlink_to(".")
    for target, theirs in (("link", "on"), ("up/on", "on"), ("up/link", "on"), ("up/off", "off")):
        world.nothing_changes("pool-define-as", "new", "dir", "--target", world.base / target, status=EXISTS,
                              says=[f"pool {theirs}", f"{world.base}/{target}", f"{world.base}/{theirs}"])
    for format in ("raw", "qcow2"):
        world.nothing_changes("vol-create-as", "on", "v.img", "1M", "--format", format, status=EXISTS, says=["pool on", "v.img"])
    (world.base / "on" / "folder").mkdir()
    world.nothing_changes("vol-create-as", "on", "folder", "1M", status=EXISTS, says="folder")
    world.nothing_changes("vol-clone", "--pool", "on", "v.img", "v.qcow2", status=EXISTS, says="v.qcow2")


def test_bad_pools(world):
    def define(*words, status, says):
        world.nothing_changes("pool-define-as", "--name", "new", *words, status=status, says=says)
    define("--type", "dir", status=INVALID, says=["pool new", "--target"])
    define("--type", "dir", "--target", "relative", status=INVALID, says=["pool new", "'relative'"])
    define("--type", "dir", "--target", "", status=INVALID, says="pool new")
    define("--type", "nosuch", "--target", "/x", status=INVALID, says="nosuch")
    define("--type", "logical", "--target", "/x", status=UNSUPPORTED, says=["pool new", "logical", "dir"])
    define("--type", "netfs", "--source-host", "h", "--source-path", "/p", "--target", "/x", status=UNSUPPORTED, says="netfs")
    define("--type", "dir", "--source-host", "h", "--target", "/x", status=INVALID, says=["pool new", "'h'"])
    define("--type", "dir", "--target", "/x", "--uuid", "123", status=INVALID, says='"123"')
    define("--target", "/x", status=USAGE, says="TYPE")
    world("pool-define-as", "f", "dir", "--target", world.base / "file")
    for verb in ("pool-build", "pool-start"):
        world.nothing_changes(verb, "f", status=INVALID, says=["pool f", "file is not a folder"])
    world.nothing_changes("pool-start", "f", "--build", status=INVALID, says="file is not a folder")
    world("pool-define-as", "under", "dir", "--target", world.base / "file" / "below")
    world.nothing_changes("pool-build", "under", status=None, says="pool under")


def test_folder_that_became_another_pools(world):
    """A link made after the definitions: only one of the two pools is ever active."""
    world("pool-define-as", "late", "dir", "--target", world.base / "late")
    (world.base / "late").symlink_to("on")
    world.nothing_changes("pool-start", "late", status=EXISTS, says=["pool on", f"{world.base}/late", f"{world.base}/on"])
    world.nothing_changes("pool-start", "late", "--build", status=EXISTS, says="pool on")
    world("pool-destroy", "on")
    world("pool-start", "late")
    world.nothing_changes("pool-start", "on", status=EXISTS, says=["pool late", f"{world.base}/late"])


BAD_POOL_XML = [
    ("not closed", "<pool type='dir'>\n  <name>new</name>\n", ["line 3"]),
    ("mismatched", "<pool type='dir'>\n  <name>new</nome>\n</pool>", ["line 2, column"]),
    ("empty", "", ["line 1"]),
    ("binary", "\x00\x01\x02", ["line 1"]),
    ("entity", "<!DOCTYPE p [<!ENTITY a 'b'>]>\n<pool type='dir'><name>&a;</name></pool>", ["line 1"]),
    ("another root", "<domain type='kvm'><name>new</name></domain>", ["pool"]),
    ("no type", "<pool><name>new</name></pool>", ["type"]),
    ("bad type", "<pool type='nosuch'><name>new</name></pool>", ["nosuch"]),
    ("no name", "<pool type='dir'><target><path>/x</path></target></pool>", ["name"]),
    ("bad uuid", "<pool type='dir'><name>new</name><uuid>12</uuid><target><path>/x</path></target></pool>", ["12"]),
    ("no target", "<pool type='dir'><name>new</name></pool>", ["new"]),
    ("bad mode", "<pool type='dir'><name>new</name><target><path>/x</path><permissions><mode>9</mode></permissions></target></pool>",
     ["mode"]),
    ("setgid", "<pool type='dir'>\n<name>new</name><target><path>/x</path><permissions><mode>02775</mode></permissions></target></pool>",
     ["line 2", "'02775'"]),
]


def test_bad_pool_xml(world):
    for name, text, says in BAD_POOL_XML:
        file = world.tmp / f"{name}.xml"
        file.write_text(text)
        world.nothing_changes("pool-define", file, status=INVALID, says=says)


def volume_xml(inner):
    return f"<volume>{inner}</volume>"


BAD_VOLUME_XML = [
    ("not closed", "<volume>\n<name>n</name>\n", ["line 3"], INVALID),
    ("no name", volume_xml("<capacity>1</capacity>"), ["name"], INVALID),
    ("no capacity", volume_xml("<name>n</name>"), ["capacity"], INVALID),
    ("negative", volume_xml("<name>n</name><capacity>-1</capacity>"), ["-1"], INVALID),
    ("overflow", volume_xml("<name>n</name><capacity unit='EiB'>16</capacity>"), ["16"], INVALID),
    ("unit", volume_xml("<name>n</name><capacity unit='furlong'>1</capacity>"), ["furlong"], INVALID),
    ("format", volume_xml("<name>n</name><capacity>1048576</capacity><target><format type='vmdk'/></target>"), ["vmdk"], None),
    ("compat", volume_xml("<name>n</name><capacity>1048576</capacity><target><format type='qcow2'/><compat>2</compat></target>"),
     ["compat"], INVALID),
    ("owner", volume_xml("<name>n</name><capacity>1048576</capacity><target><permissions><owner>12345</owner></permissions></target>"),
     ["owner"], UNSUPPORTED),
    ("setuid", volume_xml("<name>n</name><capacity>1048576</capacity><target><permissions><mode>04777</mode></permissions></target>"),
     ["line 1", "'04777'"], INVALID),
    ("encryption", volume_xml("<name>n</name><capacity>1048576</capacity><target><format type='qcow2'/><encryption format='luks'/></target>"),
     ["volume n", "encrypt"], UNSUPPORTED),
    ("deep", volume_xml("<name>n</name>" + "<a>" * 20000 + "</a>" * 20000), ["nested too deeply: at most 64 "], INVALID),
    ("name", volume_xml("<name>a/b</name><capacity>1048576</capacity>"), ["a/b"], INVALID),
    ("backing", volume_xml("<name>n</name><capacity>1048576</capacity><target><format type='qcow2'/></target>"
                           "<backingStore><path>/nosuch</path><format type='raw'/></backingStore>"), ["/nosuch"], NOT_FOUND),
]


def test_bad_volume_xml(world):
    for name, text, says, status in BAD_VOLUME_XML:
        file = world.tmp / f"{name}.xml"
        file.write_text(text)
        world.nothing_changes("vol-create", "on", file, status=status, says=says)


def test_cut_and_foreign_images(world):
    """What is not raw is never resized or copied as if it were: a header cut short, and a format that kho does not have."""
    for name, text in (("cut", b"QFI\xfb"), ("vmdk", b"KDMV" + bytes(5000))):
        path = world.base / "on" / name
        path.write_bytes(text)
        world.nothing_changes("vol-resize", name, "5M", "--pool", "on", status=None, says=str(path))
        world.nothing_changes("vol-clone", name, "new", "--pool", "on", status=None, says=str(path))
        world.nothing_changes("img", "resize", path, "5M", status=None, says=str(path))
        world.nothing_changes("img", "convert", "-O", "raw", path, world.base / "new", status=None, says=str(path))
        world("vol-delete", name, "--pool", "on")


def test_bad_files(world):
    world.nothing_changes("pool-define", world.tmp / "nosuch.xml", status=NOT_FOUND, says="nosuch.xml")
    world.nothing_changes("vol-create", "on", world.tmp / "nosuch.xml", status=NOT_FOUND, says="nosuch.xml")
    world.nothing_changes("pool-define", world.tmp, status=None, says=str(world.tmp))
    with open(world.tmp / "huge.xml", "wb") as file:
        file.truncate(1 << 30)
    world.nothing_changes("pool-define", world.tmp / "huge.xml", status=INVALID, says="huge.xml")


def test_bad_sizes(world):
    for size in ("", "x", "1X", "1e3", "0x10", "--5", "9223372036854775808", "8E", "99999999999999999999999", "1.2.3"):
        world.nothing_changes("vol-create-as", "on", "n", "--capacity", size, status=USAGE, says="CAPACITY")
        world.nothing_changes("vol-create-as", "on", "n", "1M", "--allocation", size, status=INVALID, says="--allocation")
        world.nothing_changes("vol-resize", "--pool", "on", "v.img", "--capacity", size, status=INVALID,
                              says="--delta" if size.startswith("-") else size)
    for format in ("raw", "qcow2"):
        world.nothing_changes("vol-create-as", "on", "n", "0", "--format", format, status=INVALID, says="volume n")
    world.nothing_changes("vol-create-as", "on", "n", "1M", "--allocation", "2M", status=INVALID, says=["volume n", "2097152"])
    for name in ("v.img", "v.qcow2"):
        def resize(*words, status=INVALID, says=name):
            world.nothing_changes("vol-resize", "--pool", "on", name, *words, status=status, says=says)
        resize("0", "--shrink")
        resize("512K", says=[name, "--shrink"])
        resize("-1M", says="--delta and --shrink")
        resize("-1M", "--delta", says="--delta and --shrink")
        resize("1M", "--delta", "--shrink")
        resize("2M", "--delta", "--shrink")
        resize("9223372036854775807", "--delta")


def test_thick_that_does_not_fit(world):
    """Refused before anything is written, with the old state intact."""
    stat = os.statvfs(world.base)
    more = str(stat.f_blocks * stat.f_frsize + (1 << 30))
    world.nothing_changes("vol-create-as", "on", "n", more, status=NO_SPACE, says="n")
    world.nothing_changes("vol-create-as", "on", "n", more, "--format", "qcow2", "--allocation", more, status=NO_SPACE, says="n")
    world.nothing_changes("vol-resize", "--pool", "on", "v.img", more, "--allocate", status=NO_SPACE, says="v.img")


def test_bad_backing(world):
    def create(*words, status, says):
        world.nothing_changes("vol-create-as", "on", "n", "1M", *words, status=status, says=says)
    create("--format", "qcow2", "--backing-vol", "v.img", status=INVALID, says=["v.img", "--backing-vol-format"])
    create("--format", "raw", "--backing-vol", "v.img", "--backing-vol-format", "raw", status=INVALID, says=["volume n", "qcow2"])
    create("--format", "qcow2", "--backing-vol", "nosuch", "--backing-vol-format", "raw", status=NOT_FOUND, says="nosuch")
    create("--format", "qcow2", "--backing-vol", "../file", "--backing-vol-format", "raw", status=INVALID, says="../file")
    create("--format", "qcow2", "--backing-vol", "v.img", "--backing-vol-format", "qcow2", status=None, says="v.img")
    create("--format", "nosuch", status=USAGE, says="nosuch")


def test_damaged_tree(world):
    """A definition that someone damaged is named; the other pools go on working."""
    file = world.root / "etc" / "storage" / "off.xml"
    file.write_text("<pool type='dir'>\n<name>off\n")
    world.nothing_changes("pool-start", "off", status=7, says=[str(file), "line "])
    world.nothing_changes("pool-info", "off", status=7, says=str(file))
    ran = world("pool-list", "--all")
    assert "warning: pool off cannot be used" in ran.err and " on " in ran.out and " off " in ran.out
    assert [p["name"] for p in world.json("pool-list", "--all") if p["problem"]] == ["off"]
    world("vol-create-as", "on", "n", "1M")
    world("pool-info", UUID)
    (world.root / "lib" / "version").write_text("2\n")
    world.nothing_changes("pool-list", status=UNSUPPORTED, says="version 2")


def test_vanished_folder(world):
    (world.base / "on").rename(world.base / "gone")
    for verb in ("pool-info", "pool-refresh", "vol-list"):
        world.refuses(verb, "on", status=NOT_FOUND, says=["pool on", "/on"])
    assert "warning: pool on cannot be used" in world("pool-list").err
    world.refuses("vol-create-as", "on", "n", "1M", status=NOT_FOUND, says="/on")
    world("pool-destroy", "on")
    world("pool-undefine", "on")
