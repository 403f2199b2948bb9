"""What is in scope, what is left out and what lies outside, as lines for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tklb.base.measure import format_size
from tklb.cli.output.json_forms import Json, path_fields
from tklb.errors import printable

if TYPE_CHECKING:
    from tklb.commands.scope import LeftOutPath, ScopeReport, TakenRule
    from tklb.model.report import MountPoint, OutsideItem


def scope_json(report: ScopeReport) -> Json:
    return {
        "profile": report.profile,
        "taken": [_rule_json(item) for item in report.taken],
        "left_out": [_path_json(item) for item in report.left_out],
        "mounts": mounts_json(report.mounts),
        "outside": outside_json(report.outside),
    }


def scope_lines(report: ScopeReport) -> Iterator[str]:
    """Give the lines for people: what is taken, what is left out, the mount points. What lies outside comes apart."""
    yield f"taken (profile {report.profile}):"
    yield from (f"  {printable(item.pattern)}  {item.reason}" for item in report.taken)
    yield "left out:"
    yield from (
        f"  {printable(item.path)}{_format_size(item.bytes, item.is_whole)}  {item.reason}" for item in report.left_out
    )
    if report.mounts:
        yield "mount points:"
        yield from (f"  {line}" for line in mount_lines(report.mounts))


def mount_lines(mounts: Iterable[MountPoint]) -> Iterator[str]:
    for mount in mounts:
        state = "taken" if mount.taken else "not taken"
        yield f"{printable(mount.path)} ({mount.kind}{_format_use(mount.bytes)}): {state}, {mount.reason}"


def mounts_json(mounts: Iterable[MountPoint]) -> list[Json]:
    return [
        {**path_fields(m.path), "kind": m.kind, "bytes": m.bytes, "taken": m.taken, "reason": m.reason} for m in mounts
    ]


def outside_json(items: Iterable[OutsideItem]) -> list[Json]:
    return [
        {
            **path_fields(item.path),
            "bytes": item.bytes,
            "files": item.files,
            "whole": item.is_whole,
            "owner": printable(item.owner),
            "reason": item.reason,
        }
        for item in items
    ]


def _rule_json(item: TakenRule) -> Json:
    return {**path_fields(item.pattern), "rule": item.origin, "reason": item.reason}


def _path_json(item: LeftOutPath) -> Json:
    fields = path_fields(item.path)
    return {**fields, "rule": printable(item.pattern), "class": item.kind, "reason": item.reason, "bytes": item.bytes}


def _format_size(count: int | None, is_whole: bool) -> str:
    least = "" if is_whole else "more than "
    return "" if count is None else f" ({least}{format_size(count)})"


def _format_use(count: int | None) -> str:
    return "" if count is None else f", {format_size(count)} in use"
