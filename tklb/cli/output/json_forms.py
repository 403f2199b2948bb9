"""Values that several commands give as JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from tklb.errors import INCOMPLETE, printable

if TYPE_CHECKING:
    from tklb.model.plan import Step
    from tklb.model.report import Skipped, UnknownItems

Json = dict[str, object]
MOST_LISTED = 10_000  # items in one list


def path_fields(path: bytes, key: str = "path") -> dict[str, str]:
    """Give the fields of a path: exact under `path` if it is UTF-8, else printable with `path_b64` beside it."""
    try:
        return {key: path.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: printable(path), f"{key}_b64": base64.b64encode(path).decode("ascii")}


def skipped_json(skipped: Iterable[Skipped]) -> list[Json]:
    """Give the first skipped items, each with its exit status where that is another than of any skipped item.

    `skipped_count` beside them has the number of all.
    """
    return [
        {
            **path_fields(item.item, "item"),
            "reason": item.reason,
            **({} if item.status == INCOMPLETE else {"status": item.status}),
            **({"count": item.count} if item.count > 1 else {}),
        }
        for item in islice(skipped, MOST_LISTED)
    ]


def unknown_json(unknown: UnknownItems) -> Json:
    """Give what the snapshot does not know: the first items, and how many there are of each kind."""
    listed = [{**path_fields(found.item, "item"), "kind": found.kind} for found in unknown.listed]
    return {"unknown": listed, "unknown_count": dict(unknown.counts)}


def step_json(step: Step) -> Json:
    return {"step": step.kind, **path_fields(step.item, "item"), "detail": step.detail}
