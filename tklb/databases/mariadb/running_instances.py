"""The instances that run beside the default server, restarted with it when another configuration is tried.

Takes the login of the default server; asks /proc which instances run, and restarts them. An instance whose groups no
option file has any more is left as it is. Sources: systemd(1) of "mariadb@.service", mysqld_multi(1).
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tklb.base.process import run
from tklb.databases.data_folders import NoteMove, move_data, stop_servers
from tklb.databases.foreign_servers import list_own_servers
from tklb.databases.mariadb import DATA, Login
from tklb.databases.mariadb.instances import PROGRAMS, find_instances
from tklb.databases.mariadb.locations import read_group_options
from tklb.databases.mariadb.new_instance import start_instance
from tklb.databases.mariadb.settings import find_left_behind
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing

__all__ = ["RunningInstances"]

_SUFFIX = b"--defaults-group-suffix="
_SYSTEMD = "/run/systemd/system"
_STOP = 300  # seconds


class RunningInstances:
    """Remembers which instances ran at the first look, and where their data are."""

    def __init__(self) -> None:
        self._folders: dict[str, str] | None = None

    def look(self, login: Login) -> None:
        """Look which instances run, before the first of them is stopped."""
        if self._folders is None:
            self._folders = dict(_list_running(login))

    def restart(self, login: Login, note: NoteMove) -> str:
        """Restart all of them; give why one does not run, or nothing."""
        known = find_instances(login.defaults_file)
        for name, data in (self._folders or {}).items():
            if name not in known:
                continue
            own = replace(login, socket=known[name]["socket"], defaults_file="", instance=name)
            try:
                self._restart(own, data, note)
            except (DatabaseFailed, ProgramFailed, ProgramMissing) as exc:
                return str(exc.facts.get("reason", exc))
        return ""

    def _restart(self, login: Login, data: str, note: NoteMove) -> None:
        options = read_group_options(login.group_suffix)
        new = os.path.normpath(options.get("datadir", DATA))
        _stop(login.instance, data)
        reason = find_left_behind(options, data)
        if not reason and new != data:
            reason = move_data(data, new, note)
        if reason:
            raise DatabaseFailed(item=login.instance, reason=f"the instance {login.instance}: {reason}")
        if self._folders is not None:
            self._folders[login.instance] = new
        start_instance(login)


def _stop(name: str, data: str) -> None:
    """Stop an instance, wherever it was started from."""
    if os.path.isdir(_SYSTEMD) and not name.isdecimal():
        run(["systemctl", "stop", "--", f"mariadb@{name}.service"], timeout=_STOP)
    stop_servers({data})


def _list_running(login: Login) -> Iterator[tuple[str, str]]:
    """The instances that run, each with the folder that its server works in."""
    groups = find_instances(login.defaults_file)
    folders = {os.path.realpath(options["datadir"]): name for name, options in groups.items() if "datadir" in options}
    for process in list_own_servers(PROGRAMS):
        with contextlib.suppress(OSError):  # it has ended
            folder = os.readlink(process / "cwd")
            name = _read_suffix(process).removeprefix(".") or folders.get(folder, "")
            if name in groups:
                yield name, folder


def _read_suffix(process: Path) -> str:
    """What the groups of a server end with, as its arguments say."""
    words = (process / "cmdline").read_bytes().split(b"\0")
    found = (word.removeprefix(_SUFFIX) for word in words if word.startswith(_SUFFIX))
    return next(found, b"").decode("utf-8", "replace")
