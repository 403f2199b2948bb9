"""A running root file system: overlay over given lower folders, own namespaces, commands run inside.

Takes lower folders, gives a `Box` to be used in a `with`; touches one folder of its own below the lab's cache and
the processes and mounts of the supervisor it starts. `LAB` is the cache: `$TKLB_LAB_CACHE` or /var/cache/tklb-lab.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LAB = Path(os.environ.get("TKLB_LAB_CACHE", "/var/cache/tklb-lab"))
SUPERVISOR = Path(__file__).with_name("supervisor.py")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_MODE": "l",
}

_STARTING = 60  # seconds that may pass between the making of a folder and the start of its supervisor

Command = Sequence[str | bytes | os.PathLike[str]]


@dataclass
class Box:
    """`lowers` are read only, the topmost first; `binds` maps host folders to folders inside, shared and writable.

    `on` says where changes live: "memory" (tmpfs, gone at once) or "disk" (the cache's file system). `steady` keeps
    hard links and inode numbers as a real file system does; it is off only while a layer is made (overlay index
    entries must not end up in a lower folder). `keep` leaves `folder` (upper/, work/) behind. `ending` is closed when
    the box is, before anything else.
    """

    lowers: Sequence[Path]
    hostname: str = "box"
    on: str = "memory"
    binds: Mapping[Path, str] = field(default_factory=dict)
    steady: bool = True
    keep: bool = False
    folder: Path = field(init=False)
    pid: int = field(init=False, default=0)
    ending: contextlib.ExitStack = field(init=False, default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        (LAB / "clones").mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.hostname}-", dir=LAB / "clones"))
        command = [sys.executable, "-I", "-S", os.fspath(SUPERVISOR), repr(self._orders())]
        # A session of its own: Ctrl-C at the terminal must not end it before it has cleaned up.
        self._supervisor = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", start_new_session=True
        )
        assert self._supervisor.stdout is not None
        answer = self._supervisor.stdout.readline()
        if not answer:
            self.close()
            raise OSError("the appliance did not come up")
        self.pid = int(answer)
        return self

    def _orders(self) -> dict[str, Any]:
        return {
            "folder": os.fspath(self.folder),
            "lowers": [os.fspath(lower) for lower in self.lowers],
            "hostname": self.hostname,
            "on": self.on,
            "binds": {os.fspath(source): target for source, target in self.binds.items()},
            "steady": self.steady,
            "keep": self.keep,
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process inside, take the mounts away; may be called twice."""
        self.ending.close()
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            assert pipe is not None
            pipe.close()
        self._supervisor.wait()

    @property
    def root(self) -> Path:
        """The whole root as seen from the host (without /proc, /dev, /run and binds, which exist only inside)."""
        return self.folder / "root"

    @property
    def upper(self) -> Path:
        """What this box changed, in overlayfs's form; read only while the box is running."""
        return self.folder / "upper"

    def argv(self, command: Command, cwd: str = "/") -> list[str | bytes | os.PathLike[str]]:
        """The host's command line that runs `command` inside: for Popen, or behind strace."""
        enter = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", f"--wdns={cwd}"]
        return ["nsenter", f"--target={self.pid}", *enter, "--", *command]

    def popen(self, command: Command, *, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start `command` inside; it dies with the box at the latest."""
        return subprocess.Popen(self.argv(command), env=ENVIRONMENT | dict(env or {}), **options)

    def run(
        self,
        command: Command,
        *,
        check: bool = True,
        input: str | bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        timeout: float | None = 300,
        text: bool = True,
    ) -> subprocess.CompletedProcess[Any]:
        """Run `command` inside as root, stdin empty unless given, both outputs captured.

        Text is UTF-8 with surrogate escapes. With `check`, a failure raises AssertionError that shows the output.
        After `timeout` seconds the command and its process group are killed and TimeoutExpired is raised.
        """
        given = encode(input)
        process = subprocess.Popen(
            self.argv(command, cwd),
            env=ENVIRONMENT | dict(env or {}),
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(given, timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return end(command, process.returncode, out, err, check, text)


def encode(text: str | bytes | None) -> bytes | None:
    """The input of a command as bytes."""
    return text if isinstance(text, bytes) or text is None else text.encode("utf-8", "surrogateescape")


def end(
    command: Command, status: int, out: bytes, err: bytes, check: bool, text: bool
) -> subprocess.CompletedProcess[Any]:
    """Give how a command ended, or raise AssertionError with the output where it failed and should not."""
    if check and status:
        raise AssertionError(f"{command} ended with {status}\n{_text(out)}\n{_text(err)}")
    outputs = (_text(out), _text(err)) if text else (out, err)
    return subprocess.CompletedProcess(command, status, *outputs)


def stray_clones() -> list[Path]:
    """The folders of boxes whose supervisor was killed with them: no process is told their name any more.

    Others make and end boxes meanwhile. Processes are looked at first: a supervisor that is not among them has taken
    its folder away before, or, where it is kept, has made it look new.
    """
    told = b"".join(map(_arguments, Path("/proc").glob("[0-9]*")))
    return [path for path in (LAB / "clones").glob("*") if os.fsencode(path) not in told and _is_old(path)]


def remove_stray_clones() -> None:
    """Take away what is left of them, the mounts first."""
    for stray in stray_clones():
        for mounted in (stray / "root", stray):
            if mounted.is_mount():
                subprocess.run(["umount", "--lazy", mounted], check=True)
        shutil.rmtree(stray)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _STARTING
    except FileNotFoundError:
        return False  # it was taken away just now


def _arguments(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""  # it has ended


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape")
