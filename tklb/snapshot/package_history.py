"""More facts about packages in the snapshot metadata: relations, needs of local packages, versions of other suites.

Gives and reads texts by file name. A snapshot of an older version of tklb has none of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tklb.diff.packages import ARCHITECTURE, NAME
from tklb.model.packages import PackageHistory, PackageRelations

_RELATIONS, _NEEDED, _NEWER = "packages.relations", "packages.needed", "packages.newer"
_ABSENT_HOLDS = "packages.absent-holds"


def format_history(history: PackageHistory) -> Mapping[str, bytes]:
    """Give the files: a label a line; for relations also what it provides and excludes, separated by tabs."""
    texts = {_NEEDED: _join(history.needed_by_local), _NEWER: _join(history.newer)}
    if history.absent_holds:
        texts[_ABSENT_HOLDS] = _join(history.absent_holds)
    if history.relations is not None:
        texts[_RELATIONS] = _join(_format_relations(history.relations))
    return texts


def read_history(folder: Path) -> PackageHistory:
    """Read the files of a snapshot. Raises OSError, ValueError."""
    return PackageHistory(
        relations=dict(_parse_relations(folder)) if (folder / _RELATIONS).exists() else None,
        needed_by_local=tuple(map(_check_label, _read_lines(folder / _NEEDED))),
        newer=tuple(map(_check_label, _read_lines(folder / _NEWER))),
        absent_holds=tuple(map(_check_label, _read_lines(folder / _ABSENT_HOLDS))),
    )


def _format_relations(relations: Mapping[str, PackageRelations]) -> Iterator[str]:
    for name, one in sorted(relations.items()):
        if one.provides or one.conflicts:
            yield "\t".join((name, ",".join(one.provides), ",".join(one.conflicts)))


def _parse_relations(folder: Path) -> Iterator[tuple[str, PackageRelations]]:
    for line in _read_lines(folder / _RELATIONS):
        name, provides, conflicts = line.split("\t")
        yield _check_label(name), PackageRelations(_split_names(provides), _split_names(conflicts))


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(map(_check_label, text.split(","))) if text else ()


def _check_label(name: str) -> str:
    package, colon, architecture = name.partition(":")
    if not NAME.fullmatch(package) or (colon and not ARCHITECTURE.fullmatch(architecture)):
        raise ValueError(f"{name!r} is not a valid package name")
    return name


def _join(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _read_lines(path: Path) -> list[str]:
    return path.read_text("ascii").split("\n")[:-1] if path.exists() else []
