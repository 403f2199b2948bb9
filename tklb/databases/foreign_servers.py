"""Database servers that run on this machine with another root: in containers and chroots.

Reads /proc and the states of Docker and Podman; asks no server. A container can write what it likes into its own
files, so a name that comes from there is cut to plain signs.
"""

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_DOCKER = Path("/var/lib/docker/containers")
_PODMAN = Path("/var/lib/containers/storage/overlay-containers/containers.json")
_MOST = 4 << 20
_ID = re.compile(r"\b[0-9a-f]{64}\b")
_ODD = re.compile(r"[^A-Za-z0-9_.-]+")
_LACK = "it runs in a container: give its login in tklb.toml, databases.servers, or leave it out by an override"


def list_foreign_servers(programs: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Give the servers of these programs that run with another root: the name of each, and why it is not asked."""
    own = _read_root(_PROC / "self")
    found = (process for process in _list_processes(programs) if _read_root(process) not in (None, own))
    return tuple(sorted({(_find_name(process), _LACK) for process in found}))


def list_own_servers(programs: Collection[str]) -> tuple[Path, ...]:
    """Give the processes in /proc that are servers of these programs on this machine itself."""
    own = _read_root(_PROC / "self")
    return tuple(process for process in _list_processes(programs) if _read_root(process) == own)


def _list_processes(programs: Collection[str]) -> Iterator[Path]:
    """Give the main processes of servers: those of PostgreSQL start one for each session."""
    names = {process: _read(process / "comm").strip().decode("utf-8", "replace") for process in _PROC.glob("[0-9]*")}
    servers = {process for process, name in names.items() if name in programs}
    yield from (process for process in sorted(servers) if _PROC / _read_parent(process) not in servers)


def _read_parent(process: Path) -> str:
    fields = _read(process / "stat").rpartition(b")")[2].split()
    return fields[1].decode() if len(fields) > 1 else "0"


def _read_root(process: Path) -> tuple[int, int] | None:
    """Which folder the process has as its root; None where it has ended."""
    try:
        status = os.stat(process / "root")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _find_name(process: Path) -> str:
    """The name of the container; without one, that of the folder which is the root of the process."""
    match = _ID.search(_read(process / "cgroup").decode("utf-8", "replace"))
    known = _read_container_names()
    if match and (name := known.get(match[0])):
        return name
    root = ""
    with contextlib.suppress(OSError):
        root = os.readlink(process / "root").rpartition("/")[2]
    words = (match[0][:12] if match else "", root, _read(process / "root/etc/hostname").decode("utf-8", "replace"))
    plain = (_ODD.sub("-", word.strip()).strip("-.")[:60] for word in words)
    return next(filter(None, plain), "container")


@cache
def _read_container_names() -> dict[str, str]:
    """The names of the containers of Docker and Podman, by their ids."""
    found = {}
    for place in _DOCKER.glob("*/config.v2.json") if _DOCKER.is_dir() else ():
        state = _read_json(place)
        if isinstance(state, dict):
            found[place.parent.name] = str(state.get("Name", ""))
    listed = _read_json(_PODMAN)
    for state in listed if isinstance(listed, list) else ():
        if isinstance(state, dict) and isinstance(names := state.get("names"), list) and names:
            found[str(state.get("id", ""))] = str(names[0])
    return {key: _ODD.sub("-", name).strip("-.")[:60] for key, name in found.items()}


def _read_json(path: Path) -> Any:  # noqa: ANN401 - JSON has no type yet
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(_read(path) or b"null")
    return None


def _read(path: Path) -> bytes:
    """The beginning of a file that may be gone; follows no link in its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            return stream.read(_MOST)
    except OSError:
        return b""
