"""What a start refuses, in which words: images, files and ports that are missing, wrong or in use."""

import os
import socket

import harness
import machine
from machine import make_image

NOT_FOUND, INVALID, CORRUPT, BUSY = 3, 5, 7, 8


def bad_images(tmp):
    """{what: (disk XML, status, words of the error)}"""
    truncated = make_image(tmp / "truncated.qcow2")
    os.truncate(truncated, 100)
    raw = make_image(tmp / "raw.img", format="raw")
    base = make_image(tmp / "base.qcow2")
    orphan = make_image(tmp / "orphan.qcow2", "-b", base, "-F", "qcow2")
    base.unlink()
    one, two = make_image(tmp / "one.qcow2"), tmp / "two.qcow2"
    make_image(two, "-b", one, "-F", "qcow2")
    harness.run(["qemu-img", "rebase", "-u", "-b", two, "-F", "qcow2", one])
    return {
        "missing": (machine.disk(tmp / "none.qcow2"), NOT_FOUND, ["none.qcow2", "vda", "web1"]),
        "truncated": (machine.disk(truncated), CORRUPT, ["truncated.qcow2", "vda", "100 bytes", "was it truncated?"]),
        "another format": (machine.disk(raw), INVALID, ["raw.img", "qcow2"]),
        "backing missing": (machine.disk(orphan), NOT_FOUND, ["base.qcow2"]),
        "backing loops": (machine.disk(two), INVALID, ["two.qcow2", "loops"]),
        "a folder": (machine.disk(tmp, format="raw"), None, [str(tmp)]),
    }


def test_bad_images_are_refused_at_start(kho, tmp):
    for what, (disk, status, says) in bad_images(tmp).items():
        machine.define(kho, "web1", disk)
        before = machine.kept(kho), {path: path.read_bytes() for path in tmp.iterdir()}
        ran = kho.refuses("start", "web1", says=says)
        assert status in (None, ran.status), f"{what}: {ran}"
        assert (machine.kept(kho), {path: path.read_bytes() for path in tmp.iterdir()}) == before, what
        assert kho("domstate", "web1").out == "shut off\n", what
        kho("undefine", "web1")


def test_an_image_in_use_is_refused_naming_its_holder(kho, tmp):
    image = make_image(tmp / "a.qcow2")
    machine.define(kho, "one", machine.disk(image))
    machine.define(kho, "two", machine.disk(image))
    kho("start", "one", "--paused")
    ran = kho.refuses("start", "two", status=BUSY, says=["a.qcow2", "'one'", str(machine.qemu_pid(kho, "one"))])
    assert "vda" in ran.err
    assert kho("domstate", "two").out == "shut off\n"
    kho("destroy", "one")
    kho("start", "two", "--paused")
    kho("destroy", "two")


def test_one_image_twice_in_a_machine_is_refused(kho, tmp):
    image = make_image(tmp / "a.img", format="raw")
    os.link(image, tmp / "b.img")
    machine.define(kho, "web1", machine.disk(image, "vda", "raw"), machine.disk(tmp / "b.img", "vdb", "raw"))
    kho.refuses("start", "web1", status=INVALID, says=["vda", "vdb", "b.img"])


def test_a_file_that_one_disk_writes_is_in_no_other_disks_chain(kho, tmp):
    """Whichever comes first, by whatever name. What both only read may be shared."""
    base, raw, alias = make_image(tmp / "base.qcow2"), make_image(tmp / "base.img", format="raw"), tmp / "alias.qcow2"
    os.link(base, alias)
    one, two = [make_image(tmp / f"{name}.qcow2", "-b", base, "-F", "qcow2") for name in ("one", "two")]
    top = make_image(tmp / "top.qcow2", "-b", one, "-F", "qcow2")
    over_raw = make_image(tmp / "over-raw.qcow2", "-b", raw, "-F", "raw")
    pairs = [((alias, "qcow2"), (one, "qcow2"), alias), ((raw, "raw"), (over_raw, "qcow2"), raw),
             ((base, "qcow2"), (top, "qcow2"), base), ((one, "qcow2"), (top, "qcow2"), one)]
    for writer, reader, shared in pairs:
        for first, second, writes, reads in [(writer, reader, "vda", "vdb"), (reader, writer, "vdb", "vda")]:
            machine.define(kho, "web1", machine.disk(first[0], "vda", first[1]), machine.disk(second[0], "vdb", second[1]))
            kho.refuses("start", "web1", status=INVALID, says=[f"disk {writes} of machine 'web1' writes to {tmp}/",
                                                               f"which disk {reads} reads"])
            kho("undefine", "web1")
    for first, second in [(one, two), (one, base)]:
        machine.define(kho, "web1", machine.disk(first, "vda"),
                       machine.disk(second, "vdb", more="<readonly/>" if second == base else ""))
        kho("start", "web1", "--paused")
        kho("destroy", "web1")
        kho("undefine", "web1")


# Takes the image's locks as QEMU is about to, then becomes QEMU.
LATE_HOLDER = """#!/usr/bin/python3
import os, subprocess, sys, time
holder = subprocess.Popen(["qemu-io", "-f", "qcow2", "-c", "sleep 600000", {image!r}], close_fds=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open({pid!r}, "w").write(str(holder.pid))
while subprocess.run(["qemu-img", "info", {image!r}], capture_output=True).returncode == 0:
    time.sleep(0.02)
os.execv("/usr/bin/qemu-system-x86_64", ["/usr/bin/qemu-system-x86_64", *sys.argv[1:]])
"""


def test_an_image_taken_while_qemu_starts_is_told_as_any_other(kho, tmp):
    """QEMU finds it, and would name a number of its own."""
    image, pid = make_image(tmp / "a.qcow2"), tmp / "pid"
    emulator = tmp / "emulator"
    emulator.write_text(LATE_HOLDER.format(image=str(image), pid=str(pid)))
    emulator.chmod(0o755)
    kho("define", "-", input=machine.xml("web1", f"<emulator>{emulator}</emulator>", machine.disk(image)))
    try:
        ran = kho.refuses("start", "web1", status=BUSY, says=["disk vda of machine 'web1'", "a.qcow2", "qemu-io"])
        assert pid.read_text() in ran.err
    finally:
        machine.kill(int(pid.read_text()))
    assert kho("domstate", "web1", "--reason").out == "shut off (failed)\n"


def test_what_qemu_refuses_is_told_in_its_words_and_with_kho_names(kho, tmp):
    """Without what it says beside, and the numbers that only QEMU has."""
    fake = tmp / "emulator"
    fake.write_text("#!/bin/sh\necho 'char device redirected to /dev/pts/9 (label x)' >&2\n"
                    "echo 'qemu-system-x86_64: warning: never mind' >&2\n"
                    "echo 'qemu-system-x86_64: -x: cannot use [/dev/fdset/1] and [/dev/fdset/11]' >&2\n"
                    "echo 'Is it right?' >&2\nexit 1\n")
    fake.chmod(0o755)
    images = [make_image(tmp / f"{index}.qcow2") for index in range(12)]
    disks = [machine.disk(image, f"vd{chr(ord('a') + index)}") for index, image in enumerate(images)]
    kho("define", "-", input=machine.xml("web1", f"<emulator>{fake}</emulator>", *disks))
    ran = kho.refuses("start", "web1", status=INVALID)
    assert ran.err == (f"error: QEMU cannot run machine 'web1': -x: cannot use [{images[1]}] and [{images[11]}] "
                       "Is it right?\n")


def test_missing_kernel_and_emulator_are_named(kho, tmp):
    machine.define(kho, "web1", os_more=f"<kernel>{tmp}/vmlinuz</kernel>")
    kho.refuses("start", "web1", status=NOT_FOUND, says=["kernel", f"{tmp}/vmlinuz"])
    os.mkfifo(tmp / "vmlinuz")  # nobody will ever write to it
    kho.refuses("start", "web1", status=INVALID, says=["kernel", "not a regular file"])
    kho("undefine", "web1")
    kho("define", "-", input=machine.xml("web1").replace("<devices>", "<devices><emulator>/no/qemu</emulator>"))
    kho.refuses("start", "web1", status=NOT_FOUND, says="/no/qemu")
    assert kho("domstate", "web1").out == "shut off\n"


def paths_in_machines(tmp, path):
    """{what: machine XML that names @path there}"""
    over = tmp / f"over-{path.name}.qcow2"
    make_image(over, "-u", "-b", path, "-F", "raw")
    output = "<{0} type='file'><source path='{1}'/><target port='0'/></{0}>"
    return {
        "kernel": machine.xml("web1", os_more=f"<kernel>{path}</kernel>"),
        "initrd": machine.xml("web1", os_more=f"<kernel>{harness.__file__}</kernel><initrd>{path}</initrd>"),
        "raw disk": machine.xml("web1", machine.disk(path, format="raw")),
        "qcow2 disk": machine.xml("web1", machine.disk(path)),
        "cdrom": machine.xml("web1", machine.disk(path, "hdc", "raw", "cdrom")),
        "backing file": machine.xml("web1", machine.disk(over)),
        "serial port": machine.xml("web1", output.format("serial", path)).replace("<console type='pty'/>", ""),
        "console": machine.xml("web1").replace("<console type='pty'/>", output.format("console", path)),
        "emulator": machine.xml("web1", f"<emulator>{path}</emulator>"),
    }


def test_a_pipe_or_a_terminal_does_not_hold_up_a_start(kho, tmp):
    """Nobody is at its other end: whatever opens it without a look waits for ever."""
    fifo, terminal, folder = tmp / "fifo", tmp / "terminal", tmp / "folder"
    os.mkfifo(fifo)
    folder.mkdir()
    outer, inner = os.openpty()
    terminal.symlink_to(os.ttyname(inner))
    for path in (fifo, terminal, folder):
        for what, text in paths_in_machines(tmp, path).items():
            kho("define", "-", input=text)
            ran = kho.refuses("start", "web1", says=str(path), timeout=30)
            assert what in ("backing file", "emulator") or "web1" in ran.err, str(ran)
            assert kho("domstate", "web1").out == "shut off\n", what
            kho("undefine", "web1")
    os.close(outer)
    os.close(inner)


def test_a_console_may_write_to_a_file_or_to_nothing(kho, tmp):
    for path in (tmp / "new.log", tmp / "new.log", "/dev/null"):
        output = f"<serial type='file'><source path='{path}'/><target port='0'/></serial>"
        kho("define", "-", input=machine.xml("web1", output).replace("<console type='pty'/>", ""))
        kho("start", "web1", "--paused")
        kho("destroy", "web1")
        kho("undefine", "web1")
    kho("define", "-", input=machine.xml("web1", output.replace("/dev/null", f"{tmp}/none/a.log")))
    kho.refuses("start", "web1", status=NOT_FOUND, says=["web1", f"{tmp}/none/a.log", "folder"])


def test_a_vnc_port_that_is_taken_is_named(kho):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port >= 5900
        kho("define", "-", input=machine.xml("web1", f"<graphics type='vnc' port='{port}' autoport='no'/>"))
        kho.refuses("start", "web1", status=BUSY, says=["'web1'", f"VNC port {port}", "autoport"])
    kho("start", "web1", "--paused")
    kho("destroy", "web1")
