"""Machines with a guest that obeys (guest/): defined, started, its line opened."""

import re

import machine
from guest import serial


def xml(name, *devices, memory_mib=192, **keywords):
    serial.make()
    os_more = f"<kernel>{serial.KERNEL}</kernel><initrd>{serial.INITRAMFS}</initrd><cmdline>{serial.command_line()}</cmdline>"
    return machine.xml(name, *devices, memory_mib=memory_mib, os_more=os_more, more="<features><acpi/></features>", **keywords)


def define(kho, name, *devices, **keywords):
    kho("define", "-", input=xml(name, *devices, **keywords))


def line(kho, name):
    """The guest's line: a context. Waits for no prompt: see GuestSerial.wait_ready."""
    live = kho("dumpxml", name).out
    return serial.GuestSerial.over_pty(re.search(r"<source path='(/dev/pts/\d+)'/>", live).group(1))
