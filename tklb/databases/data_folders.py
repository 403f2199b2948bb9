"""Make the folders that the configuration of a database server names, and move its data to the one that it names.

Touches folders of this machine. A folder is made or filled only where root alone decides what stands above it.
"""

import os
import pwd
import stat
from collections.abc import Iterator

from tklb.base.process import run
from tklb.errors import ProgramFailed

_MOST_NAMES = 500  # arguments of one call
_PASSING = ("/run", "/tmp", "/dev", "/proc", "/sys")  # noqa: S108 - where nothing is to be made


def make_folder(path: str, account: str, mode: int = 0o750) -> bool:
    """Make a folder that is missing, for an account of this machine; whether it was made."""
    if not path.startswith("/") or os.path.lexists(path) or path.startswith(_PASSING) or not _is_safe(path):
        return False
    try:
        entry = pwd.getpwnam(account)
        _make(path, entry.pw_uid, entry.pw_gid, mode)
    except (KeyError, OSError):
        return False  # the server says what it lacks
    return True


def move_data(old: str, new: str) -> str:
    """Move all that a data folder holds into another one that is empty; give why that fails, or nothing.

    The server must be down. What was moved before a failure moves back.
    """
    if os.path.isdir(new) and any(not _is_bare(name) for name in os.listdir(new)):
        return f"{new} is not empty"
    moved: list[str] = []
    account = ""
    try:
        status = os.stat(old)
        account = pwd.getpwuid(status.st_uid).pw_name
        if reason := _prepare(new, status):
            return reason
        for names in _batches([name for name in sorted(os.listdir(old)) if not _is_bare(name)]):
            moved += names
            # by the account of the server: in folders of its own it can plant links, and root would follow them
            run(["mv", "-t", new, "--", *(f"{old}/{name}" for name in names)], user=account)
    except (KeyError, OSError, ProgramFailed) as exc:
        _move_back(moved, old, new, account)
        return f"its data cannot move from {old} to {new}: {exc}"
    return ""


def _prepare(path: str, wanted: os.stat_result) -> str:
    """Make a folder with the owner and mode of another one, or give it those; say why that must not be."""
    is_there = os.path.isdir(path)
    if is_there and os.stat(path).st_uid == wanted.st_uid:
        return ""
    if not _is_safe(path):
        return f"somebody else than root can change what stands above {path}"
    if is_there:
        os.chown(path, wanted.st_uid, wanted.st_gid)
        os.chmod(path, stat.S_IMODE(wanted.st_mode))
    else:
        _make(path, wanted.st_uid, wanted.st_gid, stat.S_IMODE(wanted.st_mode))
    return ""


def _move_back(names: list[str], old: str, new: str, account: str) -> None:
    for name in names:
        if os.path.lexists(f"{new}/{name}"):
            run(["mv", "-f", "-t", old, "--", f"{new}/{name}"], accept=range(256), user=account)


def _make(path: str, uid: int, gid: int, mode: int) -> None:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    os.mkdir(path, 0o700)
    os.chown(path, uid, gid)
    os.chmod(path, mode)


def _is_bare(name: str) -> bool:
    """Whether a name says nothing about data: every new file system has it."""
    return name == "lost+found"


def _is_safe(path: str) -> bool:
    """Whether the folders above a path are root's alone, or are missing, and no link is among them."""
    if os.path.realpath(path) != os.path.normpath(path):
        return False
    parts = path.strip("/").split("/")[:-1]
    above = ("/" + "/".join(parts[: depth + 1]) for depth in range(len(parts)))
    return all(_is_of_root(folder) for folder in above if os.path.lexists(folder))


def _is_of_root(folder: str) -> bool:
    status = os.stat(folder)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _batches(names: list[str]) -> Iterator[list[str]]:
    yield from (names[at : at + _MOST_NAMES] for at in range(0, len(names), _MOST_NAMES))
