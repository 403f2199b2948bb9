"""Mallory, uid 1500: a user without rights who tries to become root, or to read root's files, by way of tklb.

`move_in(box)` gives her an account and a home with things of root in it. `attack(box, how)` runs one of her programs
while the block runs. `find_gains(box, …)` says what she has gained; an empty list is what must hold. Touches the box.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tests.lab.box import Box

UID = 1500
HOME = "/home/mallory"
MARK, SECRET = b"THIS IS MALLORY'S", b"ONLY ROOT MAY READ THIS"
COUNT = 12  # files of each kind
CAPABILITY = bytes.fromhex("0100000280000000000000000000000000000000")  # cap_setuid+ep
_AS_HER = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
ID_BITS = stat.S_ISUID | stat.S_ISGID

# Waits until somebody reads her files and does no more, and then changes all of them for their twins.
_ONCE = """
import ctypes, os, select, struct, sys, time
libc = ctypes.CDLL(None)
folders = sys.argv[1:]
pairs = [(f"{folder}/{name}", f"{folder}/.{name}") for folder in folders
         for name in sorted(os.listdir(folder)) if not name.startswith(".")]
watch = libc.inotify_init1(0)
for folder in folders:
    libc.inotify_add_watch(watch, folder.encode(), 0x20)  # IN_OPEN
print("ready", flush=True)
opened = 0
while opened < len(pairs) // 2 or select.select([watch], [], [], 0.2)[0]:
    events = os.read(watch, 1 << 16)
    while events:
        _, mask, _, length = struct.unpack("iIII", events[:16])
        opened += not mask & 0x40000000  # IN_ISDIR
        events = events[16 + length:]
for one, other in pairs:
    libc.renameat2(-100, one.encode(), -100, other.encode(), 2)  # RENAME_EXCHANGE
print("done", flush=True)
time.sleep(600)
"""
# The same for ever, at any moment.
_LOOP = """
import ctypes, os, random, sys, time
libc = ctypes.CDLL(None)
folders = sys.argv[1:]
pairs = [(f"{folder}/{name}", f"{folder}/.{name}") for folder in folders
         for name in sorted(os.listdir(folder)) if not name.startswith(".")]
print("ready", flush=True)
while True:
    for one, other in random.sample(pairs, len(pairs) // 2):
        libc.renameat2(-100, one.encode(), -100, other.encode(), 2)
    time.sleep(random.choice((0, 0, 0.002, 0.03, 0.2, 0.5)))
"""
# Writes a program of hers into each of her files as soon as somebody has read it.
_OVERWRITE = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
evil = open("/usr/bin/dash", "rb").read() + b"THIS IS MALLORY'S"
watch = libc.inotify_init1(0)
folders = {libc.inotify_add_watch(watch, folder.encode(), 0x10): folder for folder in sys.argv[1:]}  # IN_CLOSE_NOWRITE
print("ready", flush=True)
while True:
    events = os.read(watch, 1 << 16)
    while events:
        number, _, _, length = struct.unpack("iIII", events[:16])
        name, events = events[16:16 + length].rstrip(b"\\0"), events[16 + length:]
        try:
            file = os.open(os.path.join(folders[number].encode(), name), os.O_WRONLY)
        except OSError:
            continue
        os.ftruncate(file, os.write(file, evil))
        os.close(file)
"""
# Moves root's folders in hers away for ever, puts her own in their places, and holds on to all that she gets.
_MOVE = """
import os, sys
folders, number = sys.argv[1:], 0
print("ready", flush=True)
while True:
    for folder in folders:
        number += 1
        try:
            if os.lstat(folder + "/private").st_uid == 0:
                os.rename(folder + "/private", f"{folder}/gone{number}")
                os.mkdir(folder + "/private")
        except OSError:
            pass
"""
# Exchanges her files, puts links in their places, and moves her folders away: at any moment, for ever.
_CHAOS = """
import ctypes, os, random, sys
libc = ctypes.CDLL(None)
folders, number = sys.argv[1:], 0
print("ready", flush=True)
while True:
    for folder in folders:
        number += 1
        try:
            names = os.listdir(folder)
            one, other = (f"{folder}/{name}" for name in random.sample(names, 2))
            libc.renameat2(-100, one.encode(), -100, other.encode(), 2)
            if number % 50 == 0:
                os.symlink(random.choice(("/etc/passwd", "/etc", "/root")), f"{folder}/link")
                os.rename(f"{folder}/link", one)
            if number % 400 == 0:
                os.rename(folder, f"{folder}.{number}")
                os.mkdir(folder)
        except (OSError, ValueError):
            pass
"""
# Holds a lease of each of her files; an honest holder gives it up when somebody opens the file.
_LEASE = """
import fcntl, os, signal, sys, time
files = [open(f"{sys.argv[1]}/{name}", "r+b") for name in sorted(os.listdir(sys.argv[1]))]
def give_up(*_):
    for file in files:
        if fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_WRLCK:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
signal.signal(signal.SIGIO, give_up if sys.argv[2:] else signal.SIG_IGN)
for file in files:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("ready", flush=True)
while True:
    time.sleep(600)
"""
# Touches each of her files for ever.
_TOUCH = """
import os, sys
files = [f"{sys.argv[1]}/{name}" for name in os.listdir(sys.argv[1])]
print("ready", flush=True)
while True:
    for file in files:
        os.utime(file)
"""
# Keeps each of her databases locked.
_LOCK = """
import os, sqlite3, sys, time
held = [sqlite3.connect(f"{sys.argv[1]}/{name}") for name in sorted(os.listdir(sys.argv[1])) if name.endswith(".db")]
for one in held:
    one.execute("BEGIN EXCLUSIVE")
print("ready", flush=True)
time.sleep(600)
"""
# Keeps her databases locked, and stops each process with her rights that waits to copy one.
_STOP = """
import os, signal, sqlite3, sys
held = [sqlite3.connect(f"{sys.argv[1]}/{name}") for name in sorted(os.listdir(sys.argv[1])) if name.endswith(".db")]
for one in held:
    one.execute("BEGIN EXCLUSIVE")
print("ready", flush=True)
while True:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(pid) != os.getpid() and b"sqlite/reader.py" in open(f"/proc/{pid}/cmdline", "rb").read():
                os.kill(int(pid), signal.SIGSTOP)
        except OSError:
            pass
"""
PROGRAMS = {
    "once": _ONCE, "loop": _LOOP, "overwrite": _OVERWRITE, "move": _MOVE, "chaos": _CHAOS, "lease": _LEASE,
    "touch": _TOUCH, "lock": _LOCK, "stop": _STOP,
}  # fmt: skip
BOXES = tuple(f"{HOME}/box/{number:02}" for number in range(5 * COUNT))
FOLDERS = tuple(f"{HOME}/{name}" for name in ("tools", "capable", "papers", "linked"))


def move_in(box: Box) -> None:
    """Give her an account, and a home in which root left tools with set-id bits and capabilities, and papers."""
    box.run(["useradd", "--uid", str(UID), "--create-home", "--shell", "/bin/bash", "mallory"])
    for folder in FOLDERS:
        place = box.root / folder[1:]
        place.mkdir()
        os.chown(place, UID, UID)
    for number in range(COUNT):
        _plant(box, f"tools/{number:02}", b"#!/bin/true of root", 0, 0o4755)
        _plant(box, f"tools/.{number:02}", _shell(box), UID, 0o755)
        _plant(box, f"capable/{number:02}", b"#!/bin/true of root", 0, 0o755, CAPABILITY)
        _plant(box, f"capable/.{number:02}", _shell(box), UID, 0o755)
        _plant(box, f"papers/{number:02}", b"my shopping list %d" % number, UID, 0o644)
        _plant(box, f"papers/.{number:02}", SECRET + b" %d" % number, 0, 0o600)
        _plant(box, f"linked/{number:02}", b"#!/bin/true of root, with two names", 0, 0o6755)
        os.link(_at(box, f"linked/{number:02}"), _at(box, f"linked/{number:02}-again"))
        _plant(box, f"linked/.{number:02}", _shell(box), UID, 0o755)
        _plant(box, f"linked/.{number:02}-again", _shell(box), UID, 0o755)


def leave_boxes(box: Box) -> None:
    """Make folders of hers with a folder of root in each, and in that what nobody else may read."""
    for folder in BOXES:
        private = box.root / folder[1:] / "private"
        (private / "inner").mkdir(parents=True)
        for path in (private.parents[1], private.parent):
            os.chown(path, UID, UID)
        private.chmod(0o700)
        for path in (private / "secret", private / "inner/secret"):
            path.write_bytes(SECRET)
            path.chmod(0o644)


def copy_as_hers(source: Box, box: Box) -> None:
    """Give her, on another machine, files of her own with the content of root's tools on the source."""
    for folder in FOLDERS:
        place = box.root / folder[1:]
        place.mkdir(parents=True, exist_ok=True)
        for path in (place.parent, place):
            os.chown(path, UID, UID)
        for path in sorted((source.root / folder[1:]).iterdir()):
            if path.lstat().st_uid == 0 and SECRET not in path.read_bytes():
                hers = place / path.name
                hers.write_bytes(path.read_bytes())
                os.chown(hers, UID, UID)
                hers.chmod(0o755)


def edit(box: Box) -> None:
    """Let root change the content of the tools and papers, so that an increment has them; even while she attacks."""
    for folder in FOLDERS:
        for path in sorted((box.root / folder[1:]).iterdir()):
            with open(os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW), "ab") as file:
                if os.fstat(file.fileno()).st_uid == 0:
                    _append(file, b" edited")


def _append(file: BinaryIO, content: bytes) -> None:
    """Write through the open file alone: a name might lead to another file by now, which would get these rights."""
    number = file.fileno()
    mode = stat.S_IMODE(os.fstat(number).st_mode)
    capability = os.getxattr(number, "security.capability") if "security.capability" in os.listxattr(number) else None
    file.write(content)
    file.flush()
    os.fchmod(number, mode)
    if capability:
        os.setxattr(number, "security.capability", capability)


def _plant(box: Box, name: str, content: bytes, owner: int, mode: int, capability: bytes = b"") -> None:
    path = _at(box, name)
    path.write_bytes(content)
    os.chown(path, owner, owner)
    path.chmod(mode)
    if capability:
        os.setxattr(path, "security.capability", capability)


def _at(box: Box, name: str) -> Path:
    return box.root / HOME[1:] / name


def _shell(box: Box) -> bytes:
    """A program that, with root's set-id bit, is a shell of root."""
    return (box.root / "usr/bin/dash").read_bytes() + MARK


@contextlib.contextmanager
def attack(box: Box, program: str, *words: str) -> Iterator[None]:
    """Let her run a Python program while the block runs. She begins before the block does."""
    with as_mallory(box, program, *words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield


@contextlib.contextmanager
def as_mallory(box: Box, program: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*_AS_HER, "python3", "-I", "-c", program, *words]
    process = box.popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        box.run([*_AS_HER, "sh", "-c", "kill -KILL -1"], check=False)
        process.communicate()


def find_gains(box: Box, *tops: str) -> list[str]:
    """Look below `tops`: at her content with root's rights, and at root's secrets that she can read."""
    places = [box.root / top[1:] for top in tops]
    found = [str(path) for place in places for path in sorted(place.rglob("*")) if _is_gain(path)]
    search = ["grep", "-rlsaF", SECRET.decode(), *tops]
    hers = box.run([*_AS_HER, *search], check=False)
    return found + [f"she reads {line}" for line in hers.stdout.splitlines()]


def _is_gain(path: Path) -> bool:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return False
    is_hers = MARK in path.read_bytes()
    has_capability = "security.capability" in os.listxattr(path)
    if is_hers and (has_capability or (status.st_mode & ID_BITS and not UID == status.st_uid == status.st_gid)):
        return True
    is_roots = status.st_uid == 0 and not status.st_mode & 0o022
    return (is_hers and is_roots) or (status.st_uid == UID and SECRET in path.read_bytes())


def become_root(box: Box, path: str) -> bool:
    """Whether she is root by starting the program at `path`."""
    command = [path, "-p", "-c", "id -u"]
    hers = box.run([*_AS_HER, *command], check=False)
    return hers.stdout == "0\n"


def take_away(box: Box) -> None:
    """Remove her home."""
    shutil.rmtree(box.root / HOME[1:], ignore_errors=True)
