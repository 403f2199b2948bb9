"""The environment of duplicity's backends: NAME=VALUE lines of a private file, secrets among them.

Takes a file that only its owner can read; gives names and values. It is hostile until parsed; no shell ever reads it.
"""

import os
import re
import stat
from pathlib import Path

from tklb.base.fs import is_plain
from tklb.errors import AccessRefused, ConfigInvalid
from tklb.model.secret import Secret

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_environment(file: Path) -> dict[str, Secret]:
    """The NAME=VALUE lines of a private file. Raises AccessRefused where it is not private, ConfigInvalid."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not is_plain(status) or status.st_uid != os.geteuid():
                raise AccessRefused(address=file, reason="it must be a plain file of one's own")
            if status.st_mode & 0o077:
                mode = f"{stat.S_IMODE(status.st_mode):04o}"
                raise AccessRefused(address=file, reason=f"others can read these secrets (mode {mode}): `chmod 600` it")
            content = stream.read()
    except OSError as exc:
        raise ConfigInvalid(file=str(file), reason=exc.strerror) from exc
    return parse_environment(str(file), content)


def parse_environment(file: str, content: bytes) -> dict[str, Secret]:
    """Parse lines of NAME=VALUE: no quotes, no shell; empty lines and those that begin with `#` are ignored.

    Raises ConfigInvalid.
    """
    found: dict[str, Secret] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            name, mark, value = line.removesuffix(b"\r").decode("utf-8").partition("=")
        except UnicodeDecodeError:
            name, mark, value = "", "", ""
        if not mark or not _NAME.fullmatch(name) or "\0" in value:
            raise ConfigInvalid(file=file, reason=f"line {number} is not NAME=VALUE")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            raise ConfigInvalid(file=file, reason=f"line {number}: a value stands as it is, without quotes")
        if name in found:
            raise ConfigInvalid(file=file, reason=f"line {number}: {name} is there twice")
        found[name] = Secret(value)
    return found
