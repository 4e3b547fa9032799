"""What a definition says of memory is what the guest has once it runs."""

import types

import harness
import supervised
from guest import serial

XML = """<domain type='qemu'>
  <name>mem</name>
  <memory unit='MiB'>256</memory>
  <currentMemory unit='MiB'>{current}</currentMemory>
  <os>
    <type>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initramfs}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  <devices><serial type='pty'/></devices>
</domain>
"""


def test_current_memory_is_left_by_the_balloon(kho):
    serial.make()
    (kho.tmp / "mem.xml").write_text(XML.format(current=192, kernel=serial.KERNEL, initramfs=serial.INITRAMFS,
                                                cmdline=serial.command_line()))
    kho("define", "mem.xml")
    kho("start", "mem")
    with supervised.Client(types.SimpleNamespace(run_path=kho.root / "run/qemu/mem")) as qmp:
        # The guest's driver gives back a quarter of the memory, as it comes to it.
        harness.wait_for("the balloon", lambda: qmp.ask("query-balloon")["actual"] == 192 << 20)
    kho("destroy", "mem")
