"""OpenSSH's sshd as a `with`: its own keys and configuration, one authorized key, SFTP only; neither PAM nor systemd.

Takes a folder of its own, gives where it listens and what a client needs; touches that folder and the processes it
starts. With a box it listens in the box's network, so that what runs inside can reach it; the files are the host's.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.box import Box

_CONFIG = """\
ListenAddress {listen}
{host_keys}
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
Subsystem sftp {subsystem}
"""


@dataclass
class Sshd:
    """`host` is the address it listens on. `subsystem` serves SFTP: sshd itself, or a command.

    `identity`, `known_hosts` and `port` are for the client, who logs in as the account that runs this. `key_types` are
    those of its host keys, of which `known_hosts` has the last.
    """

    folder: Path
    host: str = "127.0.0.1"
    subsystem: str = "internal-sftp"
    box: Box | None = None
    port: int = 0
    key_types: tuple[str, ...] = ("ed25519",)
    known_hosts: Path = field(init=False)
    identity: Path = field(init=False)
    _server: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.known_hosts, self.identity = self.folder / "known_hosts", self.folder / "identity"
        for key, kind in ((self.identity, "ed25519"), *((self._host_key(kind), kind) for kind in self.key_types)):
            if not key.exists():
                make_key(key, kind)
        (self.folder / "authorized_keys").write_bytes(public(self.identity))
        self.port = self.port or self._free_port()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {self.host_key}\n")
        listen = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        config = self.folder / "sshd_config"
        host_keys = "\n".join(f"HostKey {self._host_key(kind)}" for kind in self.key_types)
        config.write_text(
            _CONFIG.format(listen=listen, folder=self.folder, subsystem=self.subsystem, host_keys=host_keys)
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host_key(self) -> str:
        return " ".join(public(self._host_key(self.key_types[-1])).decode().split()[:2])

    def address(self, folder: Path | str) -> str:
        """The address of a folder, absolute where `folder` is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"sftp://{pwd.getpwuid(os.geteuid()).pw_name}@{host}:{self.port}/{folder}"

    def let_in(self, machine: Box) -> None:
        """Give root of a machine the key and the host key."""
        folder = machine.root / "root/.ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, path in (("id_ed25519", self.identity), ("known_hosts", self.known_hosts)):
            (folder / name).write_bytes(path.read_bytes())
            (folder / name).chmod(0o600)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", os.fspath(self.folder / "sshd_config")]
        if self.box:
            command = ["nsenter", f"--net=/proc/{self.box.pid}/ns/net", "--", *command]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(200):
            if self._server.poll() is not None:
                raise OSError((self.folder / "log").read_text())
            if f"port {self.port}." in (self.folder / "log").read_text():
                return
            time.sleep(0.05)
        raise OSError("sshd does not listen")

    def sessions(self) -> list[int]:
        """The processes that serve those who are connected now."""
        assert self._server
        return _below(self._server.pid)

    def end_sessions(self) -> None:
        """Cut off everybody who is connected; the server stays."""
        for pid in self.sessions():
            _kill(pid)

    def freeze(self) -> None:
        """Let the server and its sessions answer nobody any more; connections stay, and new ones are taken."""
        assert self._server
        for pid in (self._server.pid, *self.sessions()):
            os.kill(pid, signal.SIGSTOP)

    def stop(self) -> None:
        """End the server and all it started, by their numbers."""
        if self._server:
            pids = self.sessions()
            self._server.kill()
            self._server.wait()
            for pid in pids:
                _kill(pid)
            (self.folder / "log").write_bytes(b"")
            self._server = None

    def _host_key(self, kind: str) -> Path:
        return self.folder / f"host_key_{kind}"

    def _free_port(self) -> int:
        if self.box:
            return 2222  # in a network of its own
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((self.host, 0))
            return int(probe.getsockname()[1])


def make_key(path: Path, key_type: str = "ed25519", passphrase: str = "") -> None:
    """A new pair of keys, `path` and `path`.pub."""
    command = ["ssh-keygen", "-q", "-t", key_type, "-N", passphrase, "-C", "lab", "-f", os.fspath(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def public(path: Path) -> bytes:
    return path.with_name(f"{path.name}.pub").read_bytes()


def _below(pid: int) -> list[int]:
    """All processes that a process has started, directly or not."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it has just ended
        parents[int(stat.parent.name)] = int(text.rpartition(")")[2].split()[1])
    found, left = [], [pid]
    while left:
        one = left.pop()
        children = [child for child, parent in parents.items() if parent == one]
        found += children
        left += children
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
