"""Distant targets on servers of the lab, each server shared by all tests of a process.

Takes a folder of a test's own; touches that folder and the server, which ends with the process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.lab.sshd import Sshd
from tests.lab.webdav import WebDav
from tklb.config.schema import Config, SftpConfig
from tklb.storage.backend import Backend
from tklb.storage.kinds import make_backend


@cache
def _open() -> tuple[contextlib.ExitStack, Path]:
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = tempfile.mkdtemp(prefix="servers-")  # a TemporaryDirectory would end before the servers do
    stack.callback(shutil.rmtree, folder)
    return stack, Path(folder)


@cache
def shared_sshd() -> Sshd:
    stack, folder = _open()
    return stack.enter_context(Sshd(folder / "sshd"))


def config_of(server: Sshd) -> Config:
    return Config(sftp=SftpConfig(os.fspath(server.identity), os.fspath(server.known_hosts)))


def on_sshd(folder: Path) -> Backend:
    return make_backend(shared_sshd().address(folder / "target"), config_of(shared_sshd()))


@cache
def shared_webdav() -> WebDav:
    stack, folder = _open()
    return stack.enter_context(WebDav(folder / "webdav", folder / "webdav.log"))


def on_webdav(folder: Path) -> Backend:
    file = written(folder / "environment", f"BACKEND_PASSWORD={shared_webdav().password}\n")
    address = shared_webdav().address(f"{folder.parent.name}/{folder.name}/target")
    return make_backend(address, Config(environment_file=str(file)))


def written(file: Path, text: str) -> Path:
    """A private file."""
    file.touch(0o600)
    file.write_text(text)
    return file
