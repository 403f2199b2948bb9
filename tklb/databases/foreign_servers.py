"""Database servers that run on this machine with another root: in containers and chroots.

Reads /proc and the states of Docker and Podman; asks no server. A container can write what it likes into its own
files, so a name that comes from there is cut to plain signs, and no link in it is followed. Sources: docker-exec(1),
podman-exec(1), podman-inspect(1), proc(5).
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tklb.base.process import ProcessResult, run
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.host.files.openat import is_guarded
from tklb.lazy_dataclass import dataclass

_PROC = Path("/proc")
_DOCKER = Path("/var/lib/docker/containers")
_PODMAN = Path("/var/lib/containers/storage/overlay-containers/containers.json")
_MOST = 4 << 20
_ID = re.compile(r"\b[0-9a-f]{64}\b")
_ODD = re.compile(r"[^A-Za-z0-9_.-]+")
_LACK = "it runs in a container: give its login in tklb.toml, databases.servers, or leave it out by an override"
_TOOLS = {"docker": "/usr/bin/docker", "podman": "/usr/bin/podman"}
_LOGIN = re.compile(r"(docker|podman):([A-Za-z0-9][\w.-]*)(?::(/.+))?", re.ASCII)
_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Container:
    """A container of this machine, whose client programs run in it. `login_file` has the password, on this machine."""

    tool: str
    name: str
    login_file: str = ""

    def enter(self, argv: Sequence[str], *variables: str) -> list[str]:
        """The command that runs a program in the container, with variables of our own environment."""
        names = [word for variable in variables for word in ("--env", variable)]
        return [_TOOLS[self.tool], "exec", "--interactive", *names, self.name, *argv]

    def find_program(self, *names: str) -> str:
        """The first of these programs that the container has; empty where it has none. Raises DatabaseFailed."""
        self.find_process()
        return next((name for name in names if not self._run("exec", self.name, name, "--version").status), "")

    def find_process(self) -> Path:
        """The main process of the container, in /proc. Raises DatabaseFailed where it does not run."""
        result = self._run("inspect", "--type", "container", "--format", "{{.State.Pid}}", self.name)
        pid = result.stdout.decode("ascii", "replace").strip()
        if result.status or not pid.isdecimal() or pid == "0":
            self.refuse("it does not run here")
        return _PROC / pid

    def open_socket(self, path: str, *, is_folder: bool = False) -> str:
        """A path of this process to a socket in the container, or to its folder. Raises DatabaseFailed."""
        return _open_socket(self, path, is_folder)

    def walk(self, path: str) -> int:
        """Open an object in the container, along folders only. Raises DatabaseFailed."""
        folder = os.open(self.find_process() / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in path.strip("/").split("/"):
                inner = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = inner
        except OSError as exc:
            os.close(folder)
            self.refuse(f"{path} in it: {exc.strerror}")
        return folder

    def _run(self, *words: str) -> ProcessResult:
        program = _TOOLS[self.tool]
        if not is_guarded(os.fsencode(os.path.dirname(program))):
            self.refuse(f"somebody else than root can replace {program}")
        try:
            return run([program, *words], timeout=_SECONDS, accept=range(256))
        except (ProgramFailed, ProgramMissing) as exc:
            self.refuse(str(exc))

    def refuse(self, reason: str) -> NoReturn:
        raise DatabaseFailed(item=f"the container {self.name}", reason=reason)


@cache
def _open_socket(container: Container, path: str, is_folder: bool) -> str:
    """It stays open as long as this process: there is one for each container."""
    found = container.walk(path)
    kind = os.fstat(found).st_mode
    if not (stat.S_ISDIR(kind) if is_folder else stat.S_ISSOCK(kind)):
        os.close(found)
        container.refuse(f"{path} in it is no {'folder' if is_folder else 'socket'}")
    return f"/proc/self/fd/{found}"


def parse_container(login: str) -> Container | None:
    """The container that a login of the configuration names; None where it names none."""
    match = _LOGIN.fullmatch(login)
    return Container(match[1], match[2], match[3] or "") if match else None


def list_foreign_servers(programs: Collection[str], entered: Iterable[Container] = ()) -> tuple[tuple[str, str], ...]:
    """Give the servers of these programs that run with another root: the name of each, and why it is not asked.

    Those in the containers that the configuration has `entered` are left out.
    """
    known = {None, _read_root(_PROC / "self"), *map(_find_root, entered)}
    found = (process for process in _list_processes(programs) if _read_root(process) not in known)
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


def _find_root(container: Container) -> tuple[int, int] | None:
    """Which folder the container has as its root; None where it does not run."""
    with contextlib.suppress(DatabaseFailed):
        return _read_root(container.find_process())
    return None


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
