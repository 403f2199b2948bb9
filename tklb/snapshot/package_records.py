"""Records of packages that no source offers, in the snapshot metadata: `local/LABEL/`, with one folder a package.

    control     the fields of the package (deb-control(5))
    conffiles   MD5 as shipped (`-` unknown) and escaped path, one a line
    list        kind (dir, file, gone), escaped path in the package, and where it is on the machine, one a line
    info/       maintainer scripts and lists that dpkg keeps, under their own names

Gives and reads texts by file name; a snapshot of an older version of tklb has none. What is read is not trusted: names
and paths that dpkg would refuse make the metadata invalid.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tklb.diff import mtree
from tklb.diff.packages import ARCHITECTURE, NAME
from tklb.diff.path_names import is_plain_path
from tklb.model.packages import LocalPackage, ShippedPath

FOLDER = "local"
_MEMBER = re.compile(r"[a-z0-9]+")
_FIELD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*:.*|[ \t]+\S.*")
_FILES = ("control", "conffiles", "list")
_KINDS = ("dir", "file", "gone")


def format_records(packages: Iterable[LocalPackage]) -> Iterator[tuple[str, bytes]]:
    """Give the name and text of each file."""
    for package in packages:
        top = f"{FOLDER}/{package.label}"
        yield f"{top}/control", package.control
        lines = (digest.encode() + b" " + mtree.escape(path) for path, digest in _mark_unknown(package.conffiles))
        yield f"{top}/conffiles", _join(lines)
        yield f"{top}/list", _join(_format_path(path) for path in package.paths)
        for name, content in package.members:
            yield f"{top}/info/{name}", content


def read_records(folder: Path) -> tuple[LocalPackage, ...]:
    """Read the records of a snapshot. Raises OSError, ValueError."""
    top = folder / FOLDER
    return tuple(_read_record(place) for place in sorted(top.iterdir())) if top.is_dir() else ()


def _read_record(place: Path) -> LocalPackage:
    info = place / "info"
    members = sorted(info.iterdir()) if info.is_dir() else []
    for path in (place.parent, place, info, *members, *(place / name for name in _FILES)):
        _demand(not path.is_symlink(), path.name)
    control = (place / "control").read_bytes()
    name, architecture = (_read_field(control, field) for field in ("Package", "Architecture"))
    bare, colon, foreign = place.name.partition(":")
    _demand(NAME.fullmatch(bare) and name == bare, place.name)
    _demand(ARCHITECTURE.fullmatch(architecture) and (not colon or foreign == architecture), place.name)
    _demand(all(map(_FIELD.fullmatch, control.decode("utf-8", "replace").rstrip("\n").split("\n"))), "control")
    return LocalPackage(
        label=place.name,
        architecture=architecture,
        control=control,
        conffiles=tuple(map(_parse_conffile, _read_lines(place / "conffiles"))),
        members=tuple((member.name, member.read_bytes()) for member in members if _check_member(member.name)),
        paths=tuple(map(_parse_path, _read_lines(place / "list"))),
    )


def _read_field(control: bytes, name: str) -> str:
    found = re.findall(rb"(?mi)^" + name.encode() + rb":[ \t]*(\S*)[ \t]*$", control)
    _demand(len(found) == 1, name)
    return str(found[0].decode("ascii"))


def _check_member(name: str) -> bool:
    _demand(_MEMBER.fullmatch(name) and name not in _FILES, name)
    return True


def _parse_conffile(line: bytes) -> tuple[bytes, str]:
    digest, path = line.split(b" ")
    _demand(re.fullmatch(rb"-|[0-9a-f]{32}", digest), "conffiles")
    return _parse_plain(path), digest.decode("ascii").strip("-")


def _parse_path(line: bytes) -> ShippedPath:
    kind, *paths = line.split(b" ")
    path, place = map(_parse_plain, paths)
    _demand(kind.decode("ascii") in _KINDS, "list")
    return ShippedPath(path, place, kind.decode("ascii"))


def _parse_plain(escaped: bytes) -> bytes:
    path = mtree.unescape(escaped)
    _demand(is_plain_path(path) and b"\n" not in path, "a path")
    return path


def _demand(condition: object, name: str) -> None:
    if not condition:
        raise ValueError(f"the record of a package is malformed: {name!r}")


def _mark_unknown(conffiles: Iterable[tuple[bytes, str]]) -> Iterator[tuple[bytes, str]]:
    return ((path, digest or "-") for path, digest in conffiles)


def _format_path(path: ShippedPath) -> bytes:
    return b" ".join((path.kind.encode(), mtree.escape(path.path), mtree.escape(path.place)))


def _join(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _read_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]
