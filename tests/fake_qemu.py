#!/usr/bin/python3
"""A QEMU that says what a test wants: fake_qemu.py MODE, the monitor's listening socket on descriptor 20.

    ok          greets, takes every command, answers {}; query-status says running
    mute        accepts, never greets             deaf       greets, then reads nothing more
    garbage     greets with what is not QMP
    slow FIFO [LOG]  answers `wait`, and all after it, only when FIFO is written to; LOG gets the commands it reads
    big         answers query-big with 3 MiB      flood      sends an event of 32 KiB for each command `flood`
    backwards   answers commands two at a time, the later one first
    exit N TEXT writes TEXT to stderr and ends with status N, before any greeting
    refuse      answers every command but qmp_capabilities with an error
    hold        ok, but ends neither on quit nor on SIGTERM
    restless LOG  a migration never comes to its end, pass after pass, until the guest is stopped; LOG gets the commands
"""

import json
import os
import signal
import socket
import sys

mode = sys.argv[1]
if mode == "exit":
    sys.stderr.write(sys.argv[3])
    sys.exit(int(sys.argv[2]))
if mode == "hold":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

passes = 0  # of a restless guest's migration; None: it is stopped
listener = socket.socket(fileno=20)
listener.setblocking(True)
GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "fake"}, "capabilities": []}}


def answer_to(message):
    command, reply = message["execute"], {"return": {}, "id": message["id"]}
    if command == "query-status":
        reply["return"] = {"status": "running", "running": True, "singlestep": False}
    elif command == "query-big":
        reply["return"] = {"big": "x" * (3 << 20)}
    elif command == "echo":
        reply["return"] = {"arguments": message.get("arguments"), "id-seen": message["id"]}
    elif command == "query-balloon":
        return b'{"return": {"actual": 18446744073709551615}, "id": %d}\r\n' % message["id"]
    elif command in ("query-chardev", "query-vnc"):
        reply["return"] = []
    elif mode == "restless" and command in ("query-migrate", "stop"):
        reply["return"] = restless(command)
    if mode == "refuse" and command != "qmp_capabilities":
        del reply["return"]
        reply["error"] = {"class": "GenericError", "desc": "fake refuses\nin two lines"}
    return json.dumps(reply).encode() + b"\r\n"


def restless(command):
    global passes
    if command == "stop":
        passes = None
        return {}
    if passes is None:
        return {"status": "completed"}
    passes += 1
    return {"status": "active", "ram": {"total": 100, "remaining": 50, "dirty-sync-count": passes}}


def serve(peer):
    if mode == "garbage":
        peer.sendall(b"\x00\x01 this is no QMP\n")
    elif mode != "mute":
        peer.sendall(json.dumps(GREETING).encode() + b"\r\n")
    if mode in ("mute", "deaf"):
        signal.pause()
    held = []
    for line in peer.makefile("rb"):
        message = json.loads(line)
        command = message["execute"]
        if mode == "restless" or (mode == "slow" and len(sys.argv) > 3):
            with open(sys.argv[-1], "a") as log:
                log.write(command + "\n")
        if command == "quit" and mode != "hold":
            os._exit(0)
        if command == "flood":
            event = {"event": "FLOOD", "data": {"text": "y" * 32768}, "timestamp": {"seconds": 1, "microseconds": 2}}
            peer.sendall(json.dumps(event).encode() + b"\r\n")
        if mode == "slow" and command == "wait":
            with open(sys.argv[2]) as fifo:  # until the test writes to it
                fifo.read()
        held.append(answer_to(message))
        if mode == "backwards" and command == "echo" and len(held) < 2:
            continue
        for text in reversed(held):
            peer.sendall(text)
        held = []


while True:
    serve(listener.accept()[0])
