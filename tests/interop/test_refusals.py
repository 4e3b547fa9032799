"""Bad input: one line that names the object, a status that tells the kind, nothing changed."""

import pytest

import harness
from interop.engine import KhoIo, assert_clean, qemu_img, qemu_io, qemu_json

NOT_FOUND, EXISTS, INVALID, UNSUPPORTED, CORRUPT, NO_SPACE, USAGE = 3, 4, 5, 6, 7, 10, 2


@pytest.fixture
def disk(kho):
    qemu_img("create", "-q", "-f", "qcow2", kho.tmp / "disk.qcow2", "10M")
    qemu_io(kho.tmp / "disk.qcow2", ["write -P 1 0 5M"])
    return kho.tmp / "disk.qcow2"


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def assert_refused(kho, status, says, *args):
    """Refused as told, and every file is what it was."""
    before = listing(kho.tmp)
    kho.refuses("img", *args, status=status, says=says)
    assert listing(kho.tmp) == before


@pytest.mark.parametrize("verb", [["info"], ["map"], ["check"], ["resize", "--", "+1M"], ["convert", "out"]])
def test_missing_file(kho, verb):
    name, *rest = verb
    assert_refused(kho, NOT_FOUND, "nothere.qcow2", name, "nothere.qcow2", *rest)


@pytest.mark.parametrize("keep", [3, 71, 100, 65536, 200_000])
@pytest.mark.parametrize("verb", [["map"], ["convert", "out"]])
def test_truncated_image(kho, disk, keep, verb):
    """A file cut anywhere: too short to be qcow2 at all, or with tables past its end; never a crash, never a target."""
    with open(disk, "r+b") as file:
        file.truncate(keep)
    name, *rest = verb
    before = listing(kho.tmp)
    ran = kho("img", name, "-f", "qcow2", "disk.qcow2", *rest, status=None)
    if keep <= 100:
        assert ran.status in (INVALID, CORRUPT) and "disk.qcow2" in ran.err
    elif keep == 65536:
        assert ran.status == CORRUPT and "disk.qcow2" in ran.err
    else:  # the tables are there, and what data is missing reads as QEMU reads it
        assert ran.status in (0, CORRUPT)
    if ran.status:
        assert len(ran.err.splitlines()) == 1 and listing(kho.tmp) == before


@pytest.mark.parametrize("verb", [["info"], ["map"], ["check"], ["resize", "+1M"], ["convert", "out"]])
def test_another_format(kho, verb):
    (kho.tmp / "disk.img").write_bytes(b"KDMV" + bytes(70_000))
    name, *rest = verb
    assert_refused(kho, INVALID, ["disk.img", "qcow2"], name, "-f", "qcow2", "disk.img", *rest)


def test_not_a_file(kho):
    (kho.tmp / "folder").mkdir()
    assert_refused(kho, INVALID, "folder", "info", "folder")
    assert_refused(kho, None, "folder", "create", "-f", "raw", "--force", "folder", "1M")


@pytest.mark.parametrize("verb", [["map"], ["convert", "out"], ["resize", "+1M"]])
def test_backing_file_missing(kho, verb):
    qemu_img("create", "-q", "-f", "qcow2", kho.tmp / "base.qcow2", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", kho.tmp / "over.qcow2")
    (kho.tmp / "base.qcow2").unlink()
    name, *rest = verb
    assert_refused(kho, NOT_FOUND, ["over.qcow2", "base.qcow2"], name, "over.qcow2", *rest)
    kho("img", "info", "over.qcow2")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_loop_of_backing_files(kho, length):
    names = [f"{number}.qcow2" for number in range(length)]
    for name in names:
        qemu_img("create", "-q", "-f", "qcow2", kho.tmp / name, "1M")
    for name, backing in zip(names, names[1:] + names[:1]):
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", backing, "-F", "qcow2", kho.tmp / name)
    for name, *rest in (["map"], ["convert", "out"], ["resize", "+1M"], ["info", "--backing-chain"]):
        assert_refused(kho, INVALID, ["loops", "0.qcow2"], name, "0.qcow2", *rest)


@pytest.mark.parametrize("name", ["json:{\"driver\":\"null-co\"}", "ssh://localhost/x", "https://example.org/a.raw"])
def test_backing_file_that_is_no_path(kho, name):
    """What is no plain path is refused in words, and told by info."""
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", kho.tmp / "over.qcow2", "1M")
    assert_refused(kho, UNSUPPORTED, ["over.qcow2", name.split(":")[0]], "map", "over.qcow2")
    assert_refused(kho, UNSUPPORTED, "over.qcow2", "convert", "over.qcow2", "out")
    assert kho.json("img", "info", "over.qcow2")["backing-filename"] == name


def test_a_colon_after_a_slash_is_a_path(kho):
    (kho.tmp / "a:b.raw").write_bytes(b"z" * 4096)
    kho("img", "create", "-f", "qcow2", "-b", "./a:b.raw", "-F", "raw", "over.qcow2")
    kho("img", "convert", "over.qcow2", "flat.raw")
    assert (kho.tmp / "flat.raw").read_bytes() == b"z" * 4096


@pytest.mark.parametrize("options,says", [
    ("cluster_size=1000", "cluster"), ("cluster_size=256", "cluster"), ("cluster_size=4M", "cluster"),
    ("refcount_bits=3", "refcount"), ("refcount_bits=128", "refcount"), ("compat=0.10,refcount_bits=8", "refcount"),
    ("compat=2", "compat"), ("compat=0.10,lazy_refcounts=on", "lazy"), ("compat=0.10,compression_type=zstd", "zlib"),
    ("compression_type=lzma", "lzma"), ("preallocation=some", "some"), ("lazy_refcounts=maybe", "maybe"),
    ("nonsense=1", "nonsense"), ("cluster_size", "cluster_size"), ("backing_fmt=raw", "backing"),
])
def test_options_at_odds(kho, options, says):
    assert_refused(kho, None, says, "create", "-f", "qcow2", "-o", options, "new.qcow2", "1M")


@pytest.mark.parametrize("size", ["-1", "9E", "8E", "18446744073709551616", "1X", "", "1.2.3M"])
@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_impossible_sizes(kho, size, fmt):
    assert_refused(kho, None, [], "create", "-f", fmt, "new", size)
    assert not (kho.tmp / "new").exists()


def test_sizes_of_resize(kho, disk):
    assert_refused(kho, INVALID, "disk.qcow2", "resize", "disk.qcow2", "5M")
    assert_refused(kho, INVALID, "-20M", "resize", "--shrink", "disk.qcow2", "-20M")
    assert_refused(kho, None, [], "resize", "disk.qcow2", "+9E")


def test_thick_images_that_do_not_fit(kho):
    for fmt in ("raw", "qcow2"):
        for mode in ("falloc", "full"):
            assert_refused(kho, NO_SPACE, "free", "create", "-f", fmt, "-o", f"preallocation={mode}", "new", "500T")
    kho("img", "create", "-f", "raw", "small.raw", "1M")
    assert_refused(kho, NO_SPACE, "free", "resize", "--preallocation=falloc", "small.raw", "500T")


def test_target_is_a_part_of_the_source(kho, disk):
    qemu_img("create", "-q", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", kho.tmp / "over.qcow2")
    assert_refused(kho, INVALID, "disk.qcow2", "convert", "--force", "disk.qcow2", "disk.qcow2")
    assert_refused(kho, INVALID, "disk.qcow2", "convert", "--force", "over.qcow2", "disk.qcow2")
    assert_refused(kho, INVALID, "disk.qcow2", "create", "--force", "-f", "qcow2", "-b", "over.qcow2", "-F", "qcow2",
                   "disk.qcow2")


def test_wrong_command_lines(kho, disk):
    assert_refused(kho, USAGE, "unheard", "create", "-f", "unheard", "new", "1M")
    assert_refused(kho, None, "size", "create", "-f", "qcow2", "new")
    assert_refused(kho, INVALID, "format", "create", "-f", "qcow2", "-b", "disk.qcow2", "new")
    assert_refused(kho, INVALID, "raw", "create", "-f", "raw", "-b", "disk.qcow2", "-F", "qcow2", "new")
    assert_refused(kho, UNSUPPORTED, "raw", "check", "-f", "raw", "disk.qcow2")
    assert_refused(kho, NOT_FOUND, [], "create", "nofolder/new", "1M")


def test_check_tells_and_mends(kho, disk):
    """A leaked cluster: found, told with its own status, given back with -r leaks."""
    with open(disk, "r+b") as file:  # one more cluster at the end, with a reference count that nothing has raised
        size = disk.stat().st_size
        header = file.read(72)
        table = int.from_bytes(header[48:56], "big")
        file.seek(table)
        block = int.from_bytes(file.read(8), "big")
        file.truncate(size + 65536)
        file.seek(block + size // 65536 * 2)
        file.write((1).to_bytes(2, "big"))
    assert qemu_img("check", disk, status=None).status == 3
    ran = kho("img", "check", "disk.qcow2", status=14)
    assert "1 leaked clusters" in ran.out
    assert kho.json("img", "check", "-r", "leaks", "disk.qcow2")["leaks-fixed"] == 1
    assert qemu_img("check", disk).status == 0


def table_words(disk):
    """(offset of the L1 table, offset of the first L2 table)"""
    data = disk.read_bytes()
    l1 = int.from_bytes(data[40:48], "big")
    return l1, int.from_bytes(data[l1:l1 + 8], "big") & ~(1 << 63)


def write_word(disk, off, value):
    with open(disk, "r+b") as file:
        file.seek(off)
        file.write(value.to_bytes(8, "big"))


def test_contradictions_are_marked_for_all(kho, disk):
    """A writer that meets data mapped to where a table lies marks the image corrupt, as QEMU does: QEMU then refuses to
    write too. Nothing else changes; the mark goes with the repair that leaves nothing to find."""
    kho("img", "resize", "--shrink", "disk.qcow2", "--", "-512")
    _, l2 = table_words(disk)
    write_word(disk, l2 + 8 * 159, l2 | 1 << 63)  # the last cluster, whose rest growing must clean
    before = disk.read_bytes()
    kho.refuses("img", "resize", "disk.qcow2", "10M", status=CORRUPT, says=["disk.qcow2", "where metadata lies"])
    after = disk.read_bytes()
    assert after[79] == before[79] | 2
    assert after[:79] + after[80:] == before[:79] + before[80:]
    assert qemu_img("info", disk).out.count("corrupt: true") == 1
    refused = harness.run(["qemu-io", "-f", "qcow2", "-c", "write 0 512", disk], status=None)
    assert "corrupt" in refused.out + refused.err and disk.read_bytes() == after
    kho.refuses("img", "resize", "disk.qcow2", "11M", status=CORRUPT, says=["marked corrupt", "repair"])
    kho("img", "check", "-r", "all", "disk.qcow2", status=CORRUPT)
    assert kho.json("img", "info", "disk.qcow2")["format-specific"]["data"]["corrupt"] is True
    _, l2 = table_words(disk)
    write_word(disk, l2 + 8 * 159, 0)
    kho("img", "check", "-r", "all", "disk.qcow2")
    assert kho.json("img", "info", "disk.qcow2")["format-specific"]["data"]["corrupt"] is False
    kho("img", "resize", "disk.qcow2", "10M")
    assert qemu_img("check", disk).status == 0


def test_bitmaps_are_not_dropped(kho, disk):
    """Rule: what would cost an image its persistent bitmaps is refused, and what does not touch them leaves them."""
    over = kho.tmp / "over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", over, "10M")
    qemu_io(over, ["write -P 2 1M 64k"])
    qemu_img("bitmap", "--add", disk, "b0")
    qemu_img("bitmap", "--add", over, "b1")
    before = listing(kho.tmp)
    with_bitmaps = KhoIo(kho)
    for words, name in ((("mergedown", over, disk, "qcow2"), "b1"), (("mergeup", over, disk, "qcow2"), "b0"),
                        (("mergecost", over, disk, "qcow2"), "b1")):
        answer = with_bitmaps.try_(*words)
        assert answer and f"persistent bitmap '{name}'" in answer and "img bitmap --remove" in answer, (words, answer)
    with_bitmaps.end()
    assert listing(kho.tmp) == before
    kho("img", "check", "-r", "all", disk)
    kho("img", "convert", "-O", "qcow2", over, "copy")
    assert [b["name"] for b in qemu_json("info", disk)["format-specific"]["data"]["bitmaps"]] == ["b0"]
    assert_clean(disk)
    qemu_img("bitmap", "--remove", disk, "b0")
    kho("img", "resize", "disk.qcow2", "+1M")
    assert_clean(disk)
