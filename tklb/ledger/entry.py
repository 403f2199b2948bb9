"""One ledger entry: its bytes, and the LedgerEntry they mean. Pure.

An entry is two lines of JSON. The first line has a public part (sequence, label, volumes, digest of the entry before)
and an encrypted part (host, profile, counts, names). The second line has the HMAC-SHA256 of the first. Everything read
is hostile until that is checked: sizes have limits, types are strict, names of volumes follow a pattern.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, NoReturn

import tklb
from tklb.errors import INCOMPLETE, DatabaseFailed, printable
from tklb.lazy_dataclass import dataclass
from tklb.model.report import Skipped
from tklb.model.secret import Secret
from tklb.model.snapshot import (
    Counts,
    Excuse,
    Kind,
    LedgerEntry,
    Shard,
    Stray,
    Volume,
    snapshot_id,
    snapshot_time,
)
from tklb.model.volume_names import VOLUME_NAME

FORMAT = 2
LONGEST_ENTRY = 64 << 20
LONGEST_SEALED = 256 << 20
ENTRY_NAME = re.compile(r"ledger/([0-9]{8})-([0-9]{8}T[0-9]{6}Z)(?:-[0-9a-f]{8})?")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{32}|")
_WHY = re.compile(r"dropped|elsewhere|void")
_SECRET = re.compile(r"[A-Z2-7-]{16,128}")
_PREFIX = re.compile(r"([b-z]-)?")
_KEY_NAMED = re.compile(rb'"key":"([0-9a-f]{16})"')
_LARGEST_VOLUME = 1 << 50
_MOST_VOLUMES = 1_000_000

Json = Mapping[str, Any]


class ForeignEntry(ValueError):
    """The entry was sealed with another key, or claims so."""


class NewerEntry(ValueError):
    """The entry is authentic, and of a format that this version does not know."""


@dataclass(frozen=True, slots=True)
class OpenedEntry:
    """An authenticated entry: its public part `plain`, and the OpenPGP message `sealed` with the rest.

    `digest` is the SHA-256 of its bytes, in lowercase hex.
    """

    digest: str
    plain: Json
    sealed: bytes

    @property
    def sequence(self) -> int:
        return int(self.plain["sequence"])

    @property
    def previous(self) -> str:
        return str(self.plain["previous"])

    @property
    def snapshot(self) -> str:
        return str(self.plain["snapshot"])

    @property
    def key(self) -> str:
        return str(self.plain["key"])


def entry_name(entry: LedgerEntry) -> str:
    """The name of the object that holds an entry at a target. No two installations can write the same name."""
    return _name(entry.sequence, entry.snapshot, entry.installation)


def name_in(plain: Json) -> str:
    """The name that an entry must have, by its public part. Raises ValueError."""
    return _name(_number(plain.get("sequence")), plain.get("snapshot"), parse_installation(plain))


def _name(sequence: int, snapshot: object, installation: str) -> str:
    return f"ledger/{sequence:08}-{snapshot}" + (f"-{installation[:8]}" if installation else "")


def authentication_key(secret: Secret) -> bytes:
    """Derive the key that authenticates entries: one block of HKDF-Expand (RFC 5869), 32 bytes.

    It decrypts nothing. The derivation must never change: a change would lock people out of their ledgers.
    """
    return hmac.digest(secret.reveal().encode("ascii"), b"tklb 1 ledger mac\x01", hashlib.sha256)


def key_name(key: bytes) -> str:
    """A name for an authentication key, 16 hex digits, that reveals nothing about the key."""
    return hmac.digest(key, b"name", hashlib.sha256).hex()[:16]


def format_entry(entry: LedgerEntry, key: bytes, encrypt: Callable[[bytes], bytes]) -> bytes:
    """Give the bytes of an entry, authenticated with `key`.

    `encrypt` turns the bytes of the hidden part into an OpenPGP message. The same entry, key and message give the same
    bytes, for ever: entries name each other by the digest of these bytes.
    """
    plain = {
        "format": FORMAT,
        "key": key_name(key),
        "sequence": entry.sequence,
        "snapshot": entry.snapshot,
        "previous": entry.previous,
        "volumes": [[volume.name, volume.size, volume.sha256] for volume in entry.volumes],
        "shards": [[shard.prefix, snapshot_id(shard.time)] for shard in entry.shards],
        "lineage": entry.lineage,
        "installation": entry.installation,
        "excused": entry.excused,
        "strays": entry.strays,
        "tklb": tklb.__version__,
        "sealed": base64.b64encode(encrypt(_format_sealed(entry))).decode("ascii"),
    }
    first = _dump(plain) + b"\n"
    return first + _seal(key, first)


def open_entry(name: str, content: bytes, key: bytes) -> OpenedEntry:
    """Authenticate the entry that was found under `name`.

    Nothing is parsed before that: a few bytes from a stranger could fill the memory. Raises ForeignEntry where another
    key sealed it, ValueError with the reason where it is damaged, forged, moved or of an unknown format.
    """
    first, newline, second = content.partition(b"\n")
    # to the byte: an entry is named by its digest, so there must be no second way to write it
    if not hmac.compare_digest(second, _seal(key, first + newline)):
        _refuse(first, second, key)
    plain = _parse(first)
    if plain.get("key") != key_name(key):
        raise ForeignEntry("it was sealed with another key")
    if plain.get("format") not in range(1, FORMAT + 1):
        reader = printable(str(plain.get("tklb", "a newer version")))
        raise NewerEntry(f"it has format {plain.get('format')!r}; tklb {reader} sealed it and reads it")
    if name_in(plain) != name:
        raise ValueError("it was moved there from another place")
    sealed = base64.b64decode(plain["sealed"], validate=True)
    return OpenedEntry(hashlib.sha256(content).hexdigest(), plain, sealed)


def _refuse(first: bytes, second: bytes, key: bytes) -> NoReturn:
    """Say what is wrong with an entry that this key did not seal, by what it looks like."""
    named = _KEY_NAMED.search(first)
    if not first.endswith(b"}") or not second.endswith(b"}\n") or named is None:
        raise ValueError("it is damaged")
    if named[1].decode("ascii") != key_name(key):
        raise ForeignEntry("it was sealed with another key")
    raise ValueError("it is not what was sealed")


def parse_closed_entry(name: str, content: bytes) -> OpenedEntry:
    """Parse the public part of an entry whose key is not at hand.

    The caller must have authenticated `content`: an authentic entry after it names its digest. Raises ValueError.
    """
    plain = _parse(content.partition(b"\n")[0])
    if not ENTRY_NAME.fullmatch(name) or name_in(plain) != name:
        raise ValueError("it was moved there from another place")
    return OpenedEntry(hashlib.sha256(content).hexdigest(), plain, b"")


def parse_volumes(opened: OpenedEntry) -> tuple[Volume, ...]:
    """Parse the volumes that an entry names: sizes in bytes, digests in lowercase hex. Raises ValueError."""
    try:
        return tuple(_volume(*volume) for volume in opened.plain["volumes"])
    except (KeyError, TypeError) as exc:
        raise ValueError(f"it lacks what it should have: {exc}") from exc


def parse_installation(plain: Json) -> str:
    """The installation that sealed an entry; "" for one of format 1. Raises ValueError."""
    return _match(_ID, plain.get("installation", ""))


def parse_excused(plain: Json) -> tuple[Excuse, ...]:
    """The holes that an entry explains, in order. Raises ValueError."""
    excused = tuple(
        Excuse(_number(first), _number(last), _match(_WHY, why)) for first, last, why in _items(plain, "excused", 3)
    )
    ends = [0, *(number for one in excused for number in (one.first, one.last)), _number(plain.get("sequence"))]
    if any(ends[at] >= ends[at + 1] for at in range(0, len(ends) - 1, 2)) or any(
        one.first > one.last for one in excused
    ):
        raise ValueError("what it excuses is not in order")
    return excused


def parse_strays(plain: Json) -> tuple[Stray, ...]:
    """The side entries that an entry knows. Raises ValueError."""
    return tuple(Stray(_number(number), _match(_SHA256, digest)) for number, digest in _items(plain, "strays", 2))


def _items(plain: Json, name: str, length: int) -> list[list[Any]]:
    items = plain.get(name, [])
    if not isinstance(items, list) or not all(isinstance(item, list) and len(item) == length for item in items):
        raise ValueError(f"its {name} have another form")
    return items


def parse_entry(opened: OpenedEntry, decrypted: bytes) -> LedgerEntry:
    """Parse an authenticated entry; `decrypted` is the content of its `sealed` part.

    Raises ValueError where a part of it has the wrong type or form, or where its volumes contradict each other.
    """
    plain, hidden = opened.plain, _parse(decrypted)
    try:
        volumes = parse_volumes(opened)
        entry = LedgerEntry(
            sequence=_number(plain["sequence"]),
            snapshot=snapshot_id(snapshot_time(plain["snapshot"])),
            previous=_match(_SHA256, plain["previous"]) if plain["previous"] else "",
            volumes=volumes,
            shards=tuple(Shard(_match(_PREFIX, prefix), snapshot_time(time)) for prefix, time in plain["shards"]),
            kind=Kind(hidden["kind"]),
            own_volumes=tuple(map(_text, hidden["own_volumes"])),
            counts=Counts(**{field.name: _number(hidden["counts"][field.name]) for field in fields(Counts)}),
            changed_while_read=tuple(
                (_parse_path(path), _match(_SHA256, sha256)) for path, sha256 in hidden["amended"]
            ),
            has_one_inode=hidden.get("one_inode") is True,
            skipped=_parse_skipped(hidden["skipped"], hidden.get("skipped_status")),
            marks=tuple(map(_text, hidden["marks"])),
            key=_text(plain["key"]),
            older=tuple(Secret(_match(_SECRET, secret)) for secret in hidden.get("older_keys", ())),
            lineage=_match(_ID, plain.get("lineage", "")),
            installation=parse_installation(plain),
            excused=parse_excused(plain),
            strays=parse_strays(plain),
            **{name: _text(hidden[name]) for name in _TEXTS},
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"it lacks what it should have: {exc}") from exc
    names = {volume.name for volume in volumes}
    if len(names) != len(volumes) or len(names) > _MOST_VOLUMES or not names.issuperset(entry.own_volumes):
        raise ValueError("its volumes contradict each other")
    return entry


_TEXTS = ("host", "hostname", "profile", "profile_digest", "release", "stage", "content_digest")


def _format_sealed(entry: LedgerEntry) -> bytes:
    texts = {name: getattr(entry, name) for name in _TEXTS}
    return _dump(
        {
            **texts,
            "kind": entry.kind,
            "own_volumes": entry.own_volumes,
            "counts": asdict(entry.counts),
            "amended": [[_format_path(path), sha256] for path, sha256 in entry.changed_while_read],
            "one_inode": entry.has_one_inode,
            "skipped": [[_format_path(skipped.item), _describe_reason(skipped)] for skipped in entry.skipped],
            "marks": entry.marks,
            "older_keys": [secret.reveal() for secret in entry.older],
            **_format_statuses(entry.skipped),
        }
    )


def _format_statuses(skipped: tuple[Skipped, ...]) -> Json:
    """The exit status of each skipped item, where one differs from what its name says: older entries have none."""
    statuses = [item.status for item in skipped]
    return {} if statuses == [_guess_status(item.item) for item in skipped] else {"skipped_status": statuses}


def _parse_skipped(items: Sequence[tuple[object, object]], statuses: Sequence[object] | None) -> tuple[Skipped, ...]:
    """Parse the skipped items. Where no status is there, `ENGINE:*` still says that a server failed."""
    parsed = tuple(Skipped(_parse_path(item), _text(reason)) for item, reason in items)
    if statuses is None:
        return tuple(replace(item, status=_guess_status(item.item)) for item in parsed)
    return tuple(replace(item, status=_number(status)) for item, status in zip(parsed, statuses, strict=True))


def _guess_status(item: bytes) -> int:
    return DatabaseFailed.code if item.endswith(b":*") and not item.startswith(b"/") else INCOMPLETE


def _describe_reason(skipped: Skipped) -> str:
    return skipped.reason if skipped.count == 1 else f"{skipped.reason} ({skipped.count:,} files below)"


def _seal(key: bytes, first: bytes) -> bytes:
    """The second line of an entry."""
    return _dump({"mac": hmac.digest(key, first, hashlib.sha256).hex()}) + b"\n"


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")


def _parse(content: bytes) -> Json:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise ValueError("it is damaged") from exc
    if isinstance(value, dict):
        return value
    raise ValueError("it is damaged")


def _volume(name: object, size: object, sha256: object) -> Volume:
    volume = Volume(_match(VOLUME_NAME, name), _number(size), _match(_SHA256, sha256))
    if volume.size > _LARGEST_VOLUME:
        raise ValueError(f"no volume is {volume.size} bytes long")
    return volume


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no number")
    return value


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{value!r} is no text")


def _match(pattern: re.Pattern[str], value: object) -> str:
    if not pattern.fullmatch(_text(value)):
        raise ValueError(f"{value!r} is not of the right form")
    return _text(value)


def _format_path(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _parse_path(value: object) -> bytes:
    return _text(value).encode("utf-8", "surrogateescape")
