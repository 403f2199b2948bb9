"""Diversions of dpkg: read them, and add a local one.

Source: dpkg-divert(1); /var/lib/dpkg/diversions has three lines for each: path, target, package (`:` for a local one).
"""

import os
from collections.abc import Iterable

from tklb.diff.registries.forms import parse_diversions
from tklb.host.registries.database import ADMIN, join_root, read_file, run_tool
from tklb.model.registries.decisions import Diversion, RemovedEntry


def read_diversions(root: bytes) -> tuple[Diversion, ...]:
    """Give all diversions; those of the owner have no package. Sorted."""
    return parse_diversions(read_file(root, ADMIN + b"diversions"))


def list_own_files(diversions: Iterable[Diversion]) -> tuple[bytes, ...]:
    """Give the paths where the owner's files are that take the place of a package's: /bin is a link into /usr."""
    owned = (one.path for one in diversions if not one.package)
    return tuple(os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in owned)


def add_diversion(one: Diversion, root: bytes) -> None:
    """Add a local diversion, and move the file of the package to its new name. Raises ProgramFailed."""
    run_tool(root, ["dpkg-divert", "--quiet", "--local", "--rename", "--divert", one.target, "--add", one.path])


def remove_diversion(entry: RemovedEntry, root: bytes) -> None:
    """Remove a diversion of a package. Its file moves back where nothing is in the way. Raises ProgramFailed."""
    rename = "--no-rename" if os.path.lexists(join_root(root, entry.path)) else "--rename"
    run_tool(root, ["dpkg-divert", "--quiet", "--package", entry.name, rename, "--remove", entry.path])
