"""Read what dpkg knows of the packages that no source offers, so that another machine can build them again.

Takes a root and labels; gives values. Reads the database of dpkg and what kind each path is; changes nothing. The files
themselves travel as files.
"""

import os
import re
from collections.abc import Collection, Iterator

from tklb.diff.packages import is_bound_to_machine, label, native_architecture
from tklb.host import dpkg
from tklb.model.packages import LocalPackage, Package, ShippedPath

# fields that the status file has beside those of the package: dpkg(1), lib/dpkg/parse.c
_OF_STATUS = frozenset(
    b"status conffiles config-version triggers-pending triggers-awaited want eflag revision recommended".split()
)
_OF_LISTS = frozenset((b"list", b"conffiles"))  # made anew from the paths
_FIELD = re.compile(rb"(?m)^([A-Za-z0-9-]+):.*\n(?:[ \t].*\n)*")


def read_local_packages(root: bytes, labels: Collection[str]) -> tuple[LocalPackage, ...]:
    """Read the records of some installed packages, but not of those that stay with their machine. Sorted by label."""
    if not labels:
        return ()
    installed = dpkg.list_installed(root)
    native, translator = native_architecture(installed), dpkg.PathTranslator(root)
    chosen = {label(package, native): package for package in installed if not is_bound_to_machine(package.name)}
    wanted = sorted(chosen.keys() & set(labels))
    return tuple(_read_package(root, name, chosen[name], translator) for name in wanted)


def _read_package(root: bytes, name: str, package: Package, translator: dpkg.PathTranslator) -> LocalPackage:
    stanza, stem = dpkg.find_stanza(root, package), dpkg.locate_info(root, package)
    fields = (match for match in _FIELD.finditer(stanza + b"\n") if match[1].lower() not in _OF_STATUS)
    conffiles = ((path, digest) for path, digest, is_obsolete in dpkg.parse_conffiles(stanza) if not is_obsolete)
    listed = [line for line in _read(stem + b".list").split(b"\n") if line.startswith(b"/") and line != b"/."]
    folders = {path.rpartition(b"/")[0] for path in listed}
    places = ((path, translator.locate(path, package.name)) for path in listed)
    return LocalPackage(
        label=name,
        architecture=package.architecture,
        control=b"".join(match[0] for match in fields),
        conffiles=tuple(conffiles),
        members=tuple(sorted(_read_members(stem))),
        paths=tuple(sorted(ShippedPath(path, at, _find_kind(root, at, path in folders)) for path, at in places)),
    )


def _read_members(stem: bytes) -> Iterator[tuple[str, bytes]]:
    folder, start = os.path.dirname(stem), os.path.basename(stem) + b"."
    for name in (name for name in os.listdir(folder) if name.startswith(start)):
        member = name.removeprefix(start)
        if member not in _OF_LISTS and re.fullmatch(rb"[a-z0-9]+", member):
            yield member.decode("ascii"), _read(os.path.join(folder, name))


def _find_kind(root: bytes, place: bytes, is_parent: bool) -> str:
    here = os.path.join(root, place.lstrip(b"/"))
    if is_parent or (os.path.isdir(here) and not os.path.islink(here)):
        return "dir"
    return "file" if os.path.lexists(here) else "gone"


def _read(path: bytes) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""
