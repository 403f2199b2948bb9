"""Run tklb for each order from a socket, in a process that is forked, in the namespaces that the order names.

A program of its own, see `warm_tklb`, and a child of no machine. An order is `{"words", "env", "cwd"}` in JSON, with
descriptors of the machine's first process, of three streams, and of a pipe for a process number and a status. The
program imports what commands have imported, so that the next one need not. Touches what tklb touches, in that machine.
Sources: setns(2), nsenter(1), unix(7).
"""

import ctypes
import gc
import importlib
import json
import os
import select
import socket
import sys
import time
from contextlib import suppress
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_MOUNTS, NEW_NAME, NEW_IPC, NEW_PROCESSES, NEW_NETWORK = 1 << 17, 1 << 26, 1 << 27, 1 << 29, 1 << 30
ALL = NEW_MOUNTS | NEW_NAME | NEW_IPC | NEW_PROCESSES | NEW_NETWORK
OF_MACHINES = ("psycopg",)  # it loads libpq
Order = dict[str, Any]


def wait_for_order(orders: socket.socket) -> tuple[Order, socket.socket]:
    """Give an order, and where to tell what it has imported. Comes back in children only: one runs one order."""
    modules, tell_modules = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        ready, _, _ = select.select([orders, modules], [], [])
        if modules in ready:
            import_all(json.loads(modules.recv(1 << 20)))
            continue
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 5, socket.MSG_CMSG_CLOEXEC)
        if not message:
            os._exit(0)
        gc.freeze()
        if not os.fork():
            orders.close()
            modules.close()
            enter(*descriptors)
            return json.loads(message), tell_modules
        for descriptor in descriptors:
            os.close(descriptor)


def import_all(names: list[str]) -> None:
    """Import modules of tklb and its libraries, and have the methods written that tklb writes late.

    Modules that need a library of the machine are left to the machine: another may lack it, or have another version.
    """
    sys.modules.update(dict.fromkeys(OF_MACHINES))  # so importing one fails
    for name in names:
        with suppress(Exception):
            for value in vars(importlib.import_module(name)).values():
                if isinstance(value, type) and value.__module__.startswith("tklb."):
                    getattr(value, "__dataclass_fields__", None)
    for name in OF_MACHINES:
        del sys.modules[name]


def enter(machine: int, stdin: int, stdout: int, stderr: int, told: int) -> None:
    """Join a machine. Only children enter a namespace of processes: one comes back, its parent waits and tells."""
    os.setsid()
    os.write(told, b"%d\n" % os.getpid())
    if LIBC.setns(machine, ALL):
        os._exit(255)
    child = os.fork()
    if not child:
        for number, descriptor in enumerate((stdin, stdout, stderr)):
            os.dup2(descriptor, number)
        for descriptor in (machine, stdin, stdout, stderr, told):
            os.close(descriptor)
        return
    for descriptor in (stdin, stdout, stderr, 0, 1, 2):
        os.close(descriptor)
    os.write(told, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(0)


def run(order: Order, tell_modules: socket.socket) -> None:
    """Be `tklb` with these words, as if it had been started."""
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.chdir(order["cwd"])
    with open("/proc/self/comm", "w") as name:
        name.write("tklb")
    sys.argv = ["/usr/local/bin/tklb", *order["words"]]
    known = set(sys.modules)
    try:
        start()
    finally:
        names = [name for name in sys.modules if name not in known]
        if names:
            with suppress(OSError):
                tell_modules.send(json.dumps(names).encode(), socket.MSG_DONTWAIT)


sys.path.insert(0, "/opt/tklb/lib")
from tklb.__main__ import main as start  # noqa: E402  # what `/usr/local/bin/tklb` does

run(*wait_for_order(socket.socket(fileno=int(sys.argv[1]))))
