"""What a definition says and no argument of QEMU can: the guest has it once it runs."""

import re

import harness
import machine
from guest import serial

XML = """<domain type='qemu'>
  <name>guest</name>
  <memory unit='MiB'>256</memory>
  <currentMemory unit='MiB'>192</currentMemory>
  <os>
    <type>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initramfs}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <serial type='pty'/>
    <interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><link state='down'/></interface>
    <interface type='user'><mac address='52:54:00:00:00:02'/><model type='virtio'/></interface>
  </devices>
</domain>
"""


def test_balloon_and_links(kho):
    serial.make()
    (kho.tmp / "guest.xml").write_text(XML.format(kernel=serial.KERNEL, initramfs=serial.INITRAMFS,
                                                  cmdline=serial.command_line()))
    kho("define", "guest.xml")
    kho("start", "guest")
    live = kho("dumpxml", "guest").out
    with serial.GuestSerial.over_pty(re.search(r"<source path='(/dev/pts/\d+)'/>", live).group(1)) as line:
        line.wait_ready()
        carriers = {}
        for name in line.run("ls /sys/class/net").split():
            mac = line.run(f"cat /sys/class/net/{name}/address")
            line.run(f"ip link set {name} up")
            carriers[mac] = line.run(f"cat /sys/class/net/{name}/carrier")
        assert carriers["52:54:00:00:00:01"] == "0" and carriers["52:54:00:00:00:02"] == "1"
        with machine.qmp(kho, "guest") as qmp:
            # The guest's driver gives back a quarter of the memory, as it comes to it.
            harness.wait_for("the balloon", lambda: qmp.ask("query-balloon")["actual"] == 192 << 20)
    kho("destroy", "guest")
