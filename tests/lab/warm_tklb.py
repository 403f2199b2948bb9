"""Run the tklb of a machine without its start: a process that has imported tklb forks, and the child joins the machine.

A start imports for a quarter of a second, and tests start tklb thousands of times. The process that forks belongs to no
machine; one serves all machines with the same layer of tklb. Arguments, environment, folder, streams and status are
those of a start. Commands that are watched, killed or traced, or have another environment, start as usual, and all do
in a soak. Takes machines; touches what tklb touches there.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.lab.box import ENVIRONMENT, LAB, Box
from tests.lab.soak import SOAK

PROGRAM = Path(__file__).with_name("tklb_forks.py")
INSTALLED = ("opt/tklb", "usr/local/bin/tklb")
FULL_PIPE = 1 << 15  # bytes of input that a pipe holds, whoever reads it


def can_fork(box: Box, command: Sequence[object], env: Mapping[str, str], given: bytes | None) -> bool:
    """Whether a command is the layer's tklb as it is, with nothing in the environment that a start would obey."""
    return (
        not SOAK
        and command[0] == "tklb"
        and tklb_of(box) is not None
        and all(name.startswith("AWS_") for name in env)
        and len(given or b"") <= FULL_PIPE
        and not any(os.path.lexists(box.upper / name) for name in INSTALLED)
    )


def tklb_of(box: Box) -> Path | None:
    """The layer that a machine has tklb from, if it has it from a layer and nothing above has one, too."""
    for lower in box.lowers:
        if any(os.path.lexists(lower / name) for name in INSTALLED):
            return lower if lower.parent == LAB / "layers" and lower.name.startswith("tklb-") else None
    return None


def run(
    box: Box, words: Sequence[str], *, env: Mapping[str, str], cwd: str, given: bytes | None, timeout: float | None
) -> tuple[int, bytes, bytes]:
    """Give the status and both outputs of `tklb WORDS`; after `timeout` seconds it is killed, TimeoutExpired raised."""
    order = {"words": words, "env": ENVIRONMENT | dict(env), "cwd": cwd}
    ends = [os.pipe() for _ in range(4)]
    os.write(ends[0][1], given or b"")
    ours, theirs = [ends[0][1], *(read for read, _ in ends[1:])], [ends[0][0], *(write for _, write in ends[1:])]
    machine = os.pidfd_open(box.pid)
    try:
        socket.send_fds(_forks(box), [json.dumps(order).encode()], [machine, *theirs])
    finally:
        for descriptor in (machine, *theirs, ours.pop(0)):
            os.close(descriptor)
    limit = time.monotonic() + (timeout or 1e9)
    out, err, told = _read_all(ours, limit, lambda: subprocess.TimeoutExpired(["tklb", *words], timeout or 0))
    assert told.count(b"\n") == 2, (told, out, err)
    return int(told.split()[1]), out, err


def _read_all(descriptors: list[int], limit: float, fail: Callable[[], Exception]) -> list[bytes]:
    """Read pipes to their ends; the last tells first which process to kill where that takes too long."""
    found = {descriptor: bytearray() for descriptor in descriptors}
    found[descriptors[-1]] += os.read(descriptors[-1], 1 << 10)
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        try:
            while selector.get_map():
                ready = selector.select(max(0, limit - time.monotonic()))
                if not ready:
                    raise fail()
                for key, _ in ready:
                    block = os.read(key.fd, 1 << 16)
                    found[key.fd] += block
                    if not block:
                        selector.unregister(key.fd)
        except BaseException:
            os.killpg(int(found[descriptors[-1]].split()[0]), signal.SIGKILL)
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
    return [bytes(output) for output in found.values()]


def _forks(box: Box) -> socket.socket:
    """The socket of the process that forks for the tklb of this machine; it is started once."""
    tklb = tklb_of(box)
    assert tklb is not None
    if tklb not in _started:
        _started[tklb] = _start(_ended.enter_context(Box(box.lowers, hostname="forks")))
    return _started[tklb]


def _start(box: Box) -> socket.socket:
    """Nothing in the namespaces of that machine but its process numbers: from them is no way to those of others."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    enter = [word for word in box.argv(["/usr/bin/python3", "-IS", "-c"]) if word != "--pid"]
    command = [*enter, PROGRAM.read_text(), str(theirs.fileno())]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen(command, env=ENVIRONMENT, pass_fds=[theirs.fileno()], **options)
    theirs.close()
    _ended.callback(process.wait)
    _ended.callback(ours.close)  # it ends when nobody can give it orders
    return ours


_started: dict[Path, socket.socket] = {}  # by the layer that has tklb
_ended = contextlib.ExitStack()
atexit.register(_ended.close)
