"""The traces that the installation of tklb left on this machine: packages that it brought, and where it came from.

Reads what `scripts/install` noted in /opt/tklb; changes nothing. These traces are nobody's decision about this machine,
and another machine has its own from its own installation. So they are no part of the delta, unless an override names
them.
"""

import os
import re

from tklb.base.fs import read_existing
from tklb.lazy_dataclass import dataclass
from tklb.model.packages import Package

_NOTES = b"opt/tklb"
# scripts/install asks for these by name, so apt marks them as manually installed; the others came with them
NEEDED = frozenset({"python3", "gpg", "gpg-agent", "ca-certificates"})
_PLAIN_PATH = re.compile(rb"(?:/[^/\n]+){2,}")  # never a folder at the top
_TREE = (b"scripts/install", b"requirements.txt", b"tklb/__main__.py")  # what a source tree of tklb has


@dataclass(frozen=True, slots=True)
class OwnTraces:
    """`packages` are names; `folders` are the source tree and the wheels that tklb was installed from."""

    packages: frozenset[str] = frozenset()
    folders: tuple[bytes, ...] = ()

    def is_brought(self, package: Package) -> bool:
        """Whether the installer brought a package, and nobody marked it as manually installed since."""
        return package.name in self.packages and (package.auto or package.name in NEEDED)


def read_own_traces(root: bytes = b"/") -> OwnTraces:
    """Read the notes of the installer. A folder counts only while it holds a source tree of tklb, or wheels."""
    names = frozenset(name.decode("ascii", "replace") for name in _read_lines(root, b"packages"))
    noted = {path for path in _read_lines(root, b"origin") if _PLAIN_PATH.fullmatch(path) and b"/../" not in path}
    folders = sorted(noted)
    return OwnTraces(names, tuple(path for path in folders if _is_origin(os.path.join(root, path[1:]))))


def _is_origin(folder: bytes) -> bool:
    if all(os.path.isfile(os.path.join(folder, name)) for name in _TREE):
        return True
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return bool(names) and all(re.fullmatch(rb"cp3[0-9]+-[a-z0-9_]+", name) for name in names)


def _read_lines(root: bytes, name: bytes) -> list[bytes]:
    return [line for line in read_existing(os.path.join(root, _NOTES, name)).split(b"\n") if line]
