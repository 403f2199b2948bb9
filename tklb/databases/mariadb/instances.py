"""The instances of MariaDB beside the default server: those of groups in option files, and those that only run.

Reads option files by MariaDB's own program, and /proc. `mariadb@NAME` has a group [mariadbd.NAME], mysqld_multi has
[mysqldN]. Sources: mysqld_multi(1), systemd(1) of "mariadb@.service".
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tklb.config.schema import DatabaseConfig
from tklb.databases.foreign_servers import list_own_servers
from tklb.databases.mariadb import SOCKETS
from tklb.databases.mariadb.locations import read_options
from tklb.model.databases import MARIADB, FoundServer

__all__ = ["list_names", "make_instance"]

PROGRAMS = ("mariadbd", "mysqld")  # as a process is called
_FILES = (Path("/etc/mysql"), Path("/etc/my.cnf"))
_GROUP = re.compile(r"^\[((?:mysqld|mariadbd|mariadb|server)(?:\.([A-Za-z0-9][\w.-]*)|([0-9]+)))\]\s*$", re.MULTILINE)
_ODD = re.compile(r"[^A-Za-z0-9_.-]+")
_LISTENING = "00010000"  # __SO_ACCEPTCON of linux/net.h, as /proc/net/unix has it
_PLAIN_NAMES = frozenset((*PROGRAMS, *MARIADB.services))


def list_names(config: DatabaseConfig) -> tuple[FoundServer, ...]:
    """Give all instances but the default server."""
    return tuple(FoundServer(name) for name in find_instances(config.mysql_defaults_file))


def make_instance(name: str) -> str:
    """Give the name of an instance that option files have: its data are made when it starts. Nothing without them."""
    return name if has_group(name) else ""


def has_group(name: str) -> bool:
    """Whether option files of this machine have a group of an instance."""
    return any(name == other for _, other in _list_groups())


def find_instances(defaults_file: str = "") -> dict[str, dict[str, str]]:
    """Give the options of each instance beside the default server, by its name; there is always a socket among them."""
    own = (f"--defaults-file={defaults_file}", "client") if defaults_file else ()
    default = {os.path.realpath(socket) for socket in (*SOCKETS, read_options(*own).get("socket", SOCKETS[0]))}
    groups = ((name, read_options(group)) for group, name in dict.fromkeys(_list_groups()))
    named = {
        name: options for name, options in groups if os.path.realpath(options.get("socket", SOCKETS[0])) not in default
    }
    known = {os.path.realpath(options["socket"]) for options in named.values()} | default
    for sockets in _list_running():
        if known.isdisjoint(map(os.path.realpath, sockets)):
            named.setdefault(_name_socket(sockets[0]), {"socket": sockets[0]})
    return named


def _list_groups() -> Iterator[tuple[str, str]]:
    """The groups of option files that are about one instance, each with the name of the instance."""
    for top in _FILES:
        places = sorted(top.rglob("*.cnf")) if top.is_dir() else [top] if top.is_file() else []
        for place in places:
            text = place.read_text("utf-8", "replace") if place.is_file() else ""
            yield from ((match[1], match[2] or match[3]) for match in _GROUP.finditer(text))


def _list_running() -> Iterator[list[str]]:
    """The sockets on which each server of this machine listens."""
    servers = [frozenset(_list_sockets(process)) for process in list_own_servers(PROGRAMS)]
    lines = Path("/proc/net/unix").read_text("utf-8", "surrogateescape").splitlines()[1:] if servers else []
    rows = [row for line in lines if len(row := line.split(maxsplit=7)) == 8 and row[3] == _LISTENING]
    for held in servers:
        if paths := sorted({row[7] for row in rows if row[6] in held and row[7].startswith("/")}):
            yield paths


def _list_sockets(process: Path) -> Iterator[str]:
    """The inodes of the sockets that a process has open."""
    with contextlib.suppress(OSError):  # it has ended
        for descriptor in list((process / "fd").iterdir()):
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                yield target[8:-1]


def _name_socket(socket: str) -> str:
    """The name of an instance that only its socket tells: of the file, or of the folder where the file has none."""
    folder, name = os.path.split(socket.removesuffix(".sock"))
    own = name if name not in _PLAIN_NAMES else os.path.basename(folder)
    return _ODD.sub("-", own).strip("-.") or "other"
