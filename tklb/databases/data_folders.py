"""Make the folders that the configuration of a database server names, and move its data to the one that it names.

Touches folders of this machine, and servers that use them. A folder is made or filled only where root alone decides
what stands above it. Each stage of a move is noted before it begins, so that the data of a killed one can come back:
on one file system every name is in one of the two folders; else one folder has all, and the note says which.
"""

import contextlib
import os
import pwd
import signal
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from tklb.base.process import run
from tklb.databases.foreign_servers import list_own_servers
from tklb.errors import ProgramFailed
from tklb.lazy_dataclass import dataclass

_MOST_NAMES = 500  # arguments of one call
_STOP, _LOOK = 300, 0.2  # seconds
# servers by the names of their processes, and what ends each without waiting for its sessions
_ENDS = {"mariadbd": signal.SIGTERM, "mysqld": signal.SIGTERM, "postgres": signal.SIGINT}
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


@dataclass(frozen=True, slots=True)
class DataMove:
    """A move of data from one folder to another. `is_copied`: the new one is on another file system and has all."""

    old: str
    new: str
    is_copied: bool = False


NoteMove = Callable[[DataMove], None]


def move_data(old: str, new: str, note: NoteMove) -> str:
    """Move all that a data folder holds into another one that is empty; give why that fails, or nothing.

    The server must be down. What was moved before a failure moves back.
    """
    if os.path.isdir(new) and _list_data(new):
        return f"{new} is not empty"
    account = ""
    try:
        status = os.stat(old)
        account = pwd.getpwuid(status.st_uid).pw_name
        if reason := _prepare(new, status):
            return reason
        note(DataMove(old, new))
        _carry(_list_data(old), DataMove(old, new), account, note)
    except (KeyError, OSError, ProgramFailed) as exc:
        with contextlib.suppress(OSError, ProgramFailed):
            _undo(DataMove(old, new), account)
        return f"its data cannot move from {old} to {new}: {exc}"
    return ""


def recover_data(moves: Sequence[DataMove], note: NoteMove) -> str:
    """Bring data back to where they were before some moves, of which the last may not have ended. Say why that fails.

    Servers that use them are ended before.
    """
    if not moves:
        return ""
    stop_servers({folder for move in moves for folder in (move.old, move.new)})
    last, home = moves[-1], moves[0].old
    try:
        account = pwd.getpwuid(os.stat(last.old).st_uid).pw_name
        place = _undo(last, account)
    except (KeyError, OSError, ProgramFailed) as exc:
        return f"its data are in {last.old} and {last.new}: {exc}"
    return move_data(place, home, note) if place != home else ""


def stop_servers(folders: Collection[str]) -> None:
    """End servers of this machine that work in some data folders, and wait for that."""
    own = ((program, process) for program in _ENDS for process in list_own_servers((program,)))
    pids = [(int(process.name), _ENDS[program]) for program, process in own if _find_folder(process) in folders]
    for pid, number in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    deadline = time.monotonic() + _STOP
    while any(os.path.exists(f"/proc/{pid}") for pid, _ in pids) and time.monotonic() < deadline:
        time.sleep(_LOOK)


def _find_folder(process: Path) -> str:
    """The folder in which a server works: that of its data."""
    try:
        return os.readlink(process / "cwd")
    except OSError:
        return ""


def _carry(names: Sequence[str], move: DataMove, account: str, note: NoteMove) -> None:
    """Carry names over, by the account of the server: in folders of its own it can plant links for root."""
    is_near = _is_near(move)
    for batch in _batches(names):
        program = ["mv", "-n"] if is_near else ["cp", "-a"]
        run([*program, "-t", move.new, "--", *(f"{move.old}/{name}" for name in batch)], user=account)
    if not is_near:
        note(DataMove(move.old, move.new, is_copied=True))
        _clear(move.old, account)


def _undo(move: DataMove, account: str) -> str:
    """Bring the data of a move that may not have ended into one folder, and give that: the old one where it can be."""
    if _is_near(move):
        names = [name for name in _list_data(move.new) if not os.path.lexists(f"{move.old}/{name}")]
        for batch in _batches(names):
            run(["mv", "-n", "-t", move.old, "--", *(f"{move.new}/{name}" for name in batch)], user=account)
        return move.old
    whole, rest = (move.new, move.old) if move.is_copied else (move.old, move.new)
    if _list_data(whole):
        _clear(rest, account)
    return whole


def _is_near(move: DataMove) -> bool:
    return os.stat(move.old).st_dev == os.stat(move.new).st_dev


def _clear(folder: str, account: str) -> None:
    for batch in _batches(_list_data(folder)):
        run(["rm", "-rf", "--", *(f"{folder}/{name}" for name in batch)], user=account)


def _list_data(folder: str) -> list[str]:
    """Names in a folder, but for one that says nothing about data: every new file system has it."""
    return [name for name in sorted(os.listdir(folder)) if name != "lost+found"]


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


def _make(path: str, uid: int, gid: int, mode: int) -> None:
    above = Path(path).parent
    for folder in reversed([each for each in (above, *above.parents) if not each.exists()]):
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask: the account has to get through
    os.mkdir(path, 0o700)
    os.chown(path, uid, gid)
    os.chmod(path, mode)


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


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    yield from (names[at : at + _MOST_NAMES] for at in range(0, len(names), _MOST_NAMES))
