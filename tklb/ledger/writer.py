"""Which installation continues a history: the records of `tklb takeover` and of restores. Pure.

A record is two lines like an entry: JSON, and the HMAC-SHA256 of the first line. The one with the highest number
counts. Nothing ever changes or deletes a record, so a target that takes no second write under a name holds them too.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from tklb.lazy_dataclass import dataclass
from tklb.ledger.entry import key_name

WRITER_NAME = re.compile(r"ledger/writer-([0-9]{8})-([0-9a-f]{8})")
LONGEST_WRITER = 1 << 16
_ID = re.compile(r"[0-9a-f]{32}|")


@dataclass(frozen=True, slots=True)
class Writer:
    """The `number`-th takeover of a history: since `time`, `installation` is the one that continues it.

    `after` is the newest snapshot at that moment, "" for none. `why` is `takeover` or `restore`. `time` is aware UTC,
    as ISO 8601.
    """

    number: int
    lineage: str
    installation: str
    after: str
    time: str
    why: str


def writer_name(writer: Writer) -> str:
    """The name of the object that holds a record. No two installations can write the same name."""
    return f"ledger/writer-{writer.number:08}-{writer.installation[:8]}"


def format_writer(writer: Writer, key: bytes) -> bytes:
    """Give the bytes of a record, authenticated with `key`."""
    fields = {name: getattr(writer, name) for name in ("number", "lineage", "installation", "after", "time", "why")}
    first = json.dumps({"format": 2, "key": key_name(key), **fields}, sort_keys=True).encode("ascii") + b"\n"
    return first + hmac.digest(key, first, hashlib.sha256).hex().encode("ascii") + b"\n"


def parse_writer(name: str, content: bytes, key: bytes) -> Writer:
    """Authenticate and parse the record that was found under `name`. Raises ValueError."""
    first, newline, second = content.partition(b"\n")
    digest = hmac.digest(key, first + newline, hashlib.sha256).hex().encode("ascii") + b"\n"
    if not hmac.compare_digest(second, digest):
        raise ValueError("it is not authentic")
    writer = _parse(json.loads(first))
    if writer_name(writer) != name:
        raise ValueError("it was moved there from another place")
    return writer


def _parse(fields: Mapping[str, Any]) -> Writer:
    try:
        texts = {name: str(fields[name]) for name in ("lineage", "installation", "after", "time", "why")}
        writer = Writer(int(fields["number"]), **texts)
    except (KeyError, TypeError) as exc:
        raise ValueError(f"it lacks what it should have: {exc}") from exc
    if not _ID.fullmatch(writer.lineage) or not _ID.fullmatch(writer.installation):
        raise ValueError("its ids are not of the right form")
    return writer


def rank_writers(names: list[str]) -> list[str]:
    """The names of records, the one that counts first. Of two with one number, the later name counts."""
    return sorted(filter(WRITER_NAME.fullmatch, names), reverse=True)
