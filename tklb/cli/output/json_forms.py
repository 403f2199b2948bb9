"""Values that several commands give as JSON."""

import base64
from collections.abc import Iterable

from tklb.errors import printable
from tklb.model.plan import Step
from tklb.model.report import Skipped

Json = dict[str, object]


def path_fields(path: bytes, key: str = "path") -> dict[str, str]:
    """Give the fields of a path: exact under `path` if it is UTF-8, else printable with `path_b64` beside it."""
    try:
        return {key: path.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: printable(path), f"{key}_b64": base64.b64encode(path).decode("ascii")}


def skipped_json(skipped: Iterable[Skipped]) -> list[dict[str, str]]:
    return [{**path_fields(item.item, "item"), "reason": item.reason} for item in skipped]


def step_json(step: Step) -> Json:
    return {"step": step.kind, **path_fields(step.item, "item"), "detail": step.detail}
