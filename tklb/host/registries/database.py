"""The doors to the registries: files of dpkg's database below a root, scripts of packages, and the tools.

Takes a root; gives contents and names. The folders belong to root, so links in them are root's own.
"""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from tklb.base.fs import list_existing, read_existing, read_existing_link
from tklb.base.process import Argument, run

ADMIN = b"/var/lib/dpkg/"
_SECONDS = 300


class Script(NamedTuple):
    """A script of a package, without the end of its name."""

    package: str
    text: bytes


def read_file(root: bytes, path: bytes) -> bytes:
    """Give the content of a file, b"" if there is none. Raises AccessRefused."""
    return read_existing(join_root(root, path))


def read_lines(root: bytes, path: bytes) -> list[bytes]:
    return read_file(root, path).split(b"\n")


def list_names(root: bytes, folder: bytes) -> list[bytes]:
    """Give the names in a folder, sorted; none if there is no such folder. Raises AccessRefused."""
    return list_existing(join_root(root, folder))


def read_link(root: bytes, path: bytes) -> bytes | None:
    """Give the target of a link, None if there is no link. Raises AccessRefused."""
    return read_existing_link(join_root(root, path))


def join_root(root: bytes, path: bytes) -> bytes:
    return os.path.join(root, path.lstrip(b"/"))


def read_scripts(root: bytes) -> tuple[Script, ...]:
    """Give the scripts that the packages run when they are installed."""
    folder = ADMIN + b"info"
    names = (name for name in list_names(root, folder) if name.endswith((b".preinst", b".postinst", b".config")))
    return tuple(Script(_name_package(name), read_file(root, folder + b"/" + name)) for name in names)


def _name_package(file: bytes) -> str:
    return file.rpartition(b".")[0].partition(b":")[0].decode("ascii", "replace")


def has_word(text: bytes, word: bytes) -> bool:
    """Whether `text` has `word`, and not only as a part of a longer word or path."""
    return re.search(rb"(?<![\w/.-])" + re.escape(word) + rb"(?![\w/.-])", text) is not None


def run_tool(root: bytes, argv: Sequence[Argument], stdin: bytes | None = None) -> str:
    """Run a tool of Debian on this machine, or inside another root; give its messages. Raises ProgramFailed."""
    inside: list[Argument] = [] if root == b"/" else ["chroot", root]
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    result = run([*inside, *argv], stdin=stdin, environment=environment, timeout=_SECONDS)
    return (result.stdout + result.stderr).decode("utf-8", "backslashreplace")
