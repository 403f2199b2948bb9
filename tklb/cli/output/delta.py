"""The delta, as lines for people and as one JSON object. Both stream: there may be millions of files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from tklb.base.measure import format_size
from tklb.cli.output.json_forms import path_fields
from tklb.databases.filter import spell_item
from tklb.diff.packages import delta_names
from tklb.errors import printable
from tklb.model.files import Change, FileChange

if TYPE_CHECKING:
    from tklb.model.accounts import AccountDelta
    from tklb.model.databases import Database
    from tklb.model.packages import PackageDelta
    from tklb.model.registries.decisions import RegistryItem

_SIGNS = {Change.NEW: "+", Change.EDITED: "~", Change.METADATA: "m", Change.DELETED: "-"}

_LISTED = 10  # deleted files of one folder that are listed one by one
_NOUNS = {
    "architectures": "architecture",
    "diversions": "diversion",
    "stat-overrides": "statoverride",
    "alternatives": "alternative",
    "debconf": "answer",
    "flags": "flags",
}


def delta_lines(
    changes: Iterable[FileChange],
    packages: PackageDelta,
    accounts: AccountDelta,
    registries: Iterable[RegistryItem],
    databases: Iterable[Database],
) -> Iterator[str]:
    """Give the lines for people: files, packages, users and groups, registries, databases, then a summary."""
    counts = dict.fromkeys(Change, 0)
    total = 0
    for count, change in _fold_deleted(changes):
        counts[change.change] += count
        amount = change.now.size if change.now else None
        total += amount or 0
        more = f"  {count:,} files" if count > 1 else f"  {format_size(amount)}" if amount else ""
        yield f"{_SIGNS[change.change]} {printable(change.path)}{more}"
    yield from _package_lines(packages)
    yield from _account_lines(accounts)
    yield from map(_format_decision, registries)
    yield from (f"  database {printable(spell_item(d.engine, d.name))}  {format_size(d.bytes)}" for d in databases)
    listed = ", ".join(f"{count} {change}" for change, count in counts.items() if count) or "no changes"
    yield f"files: {listed}, {format_size(total)}"


def _fold_deleted(changes: Iterable[FileChange]) -> Iterator[tuple[int, FileChange]]:
    """Give each change with the number it stands for: many deleted files of one folder like /usr/share/locale are one.

    It holds the first few of them only.
    """
    for top, group in groupby(changes, key=_find_deleted_top):
        if not top:
            yield from ((1, change) for change in group)
            continue
        first: list[FileChange] = []
        rest = 0
        for change in group:
            first, rest = ([*first, change], 0) if len(first) < _LISTED else (first, rest + 1)
        folded = [(len(first) + rest, first[0]._replace(path=top + b"/"))]
        yield from folded if rest else ((1, change) for change in first)


def _find_deleted_top(change: FileChange) -> bytes:
    """Give the folder of a deleted file, at most three names deep; b"" for another change."""
    is_deleted = change.change is Change.DELETED and change.path.startswith(b"/usr/")
    return b"/".join(change.path.split(b"/")[:4]) if is_deleted else b""


def _format_decision(one: RegistryItem) -> str:
    sign = "-" if one.is_removed else "+"
    return f"{sign} {_NOUNS[one.registry]} {printable(one.item)}  {one.detail}".rstrip()


def write_delta_json(
    changes: Iterable[FileChange],
    packages: PackageDelta,
    native: str,
    accounts: AccountDelta,
    registries: Iterable[RegistryItem],
    databases: Iterable[Database],
) -> None:
    """Write the JSON object to stdout, the files one by one."""
    out = sys.stdout
    out.write('{"files": [')
    for number, change in enumerate(changes):
        fields = {**path_fields(change.path), "change": change.change, "size": _size(change)}
        out.write((",\n" if number else "\n") + json.dumps(fields))
    rest = {
        "packages": delta_names(packages, native),
        **account_fields(accounts),
        "registries": [
            {
                "registry": one.registry,
                **path_fields(one.item, "item"),
                "change": "removed" if one.is_removed else "added",
                "detail": one.detail,
            }
            for one in registries
        ],
        "databases": [{"engine": d.engine, "name": d.name, "bytes": d.bytes} for d in databases],
    }
    out.write("\n], " + json.dumps(rest)[1:] + "\n")


def account_fields(delta: AccountDelta) -> dict[str, dict[str, list[str]]]:
    def names(found: tuple[bytes, ...]) -> list[str]:
        return [printable(name) for name in found]

    return {
        "users": {
            "added": names(delta.users_added),
            "changed": names(delta.users_changed),
            "removed": names(delta.users_removed),
        },
        "groups": {
            "added": names(delta.groups_added),
            "changed": names(delta.groups_changed),
            "removed": names(delta.groups_removed),
        },
    }


def _size(change: FileChange) -> int:
    entry = change.now or change.base
    return (entry.size or 0) if entry else 0


def _package_lines(delta: PackageDelta) -> Iterator[str]:
    yield from (f"+ package {package.name} {package.version}" for package in delta.added)
    yield from (f"- package {package.name}" for package in delta.removed)
    yield from (f"~ package {now.name} {base.version} -> {now.version}" for base, now in delta.upgraded)
    yield from (
        f"m package {now.name} {'auto' if now.auto else 'manual'}{', held' if now.held else ''}"
        for _, now in delta.marked
    )


def _account_lines(delta: AccountDelta) -> Iterator[str]:
    for sign, noun, names in (
        ("+", "user", delta.users_added),
        ("~", "user", delta.users_changed),
        ("-", "user", delta.users_removed),
        ("+", "group", delta.groups_added),
        ("~", "group", delta.groups_changed),
        ("-", "group", delta.groups_removed),
    ):
        yield from (f"{sign} {noun} {printable(name)}" for name in names)
