"""The results of `tklb key`, as lines for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from tklb.base.measure import format_count
from tklb.cli.output.text import describe_age, format_time, table

if TYPE_CHECKING:
    from tklb.cli.output.json_forms import Json
    from tklb.commands.key.kit import Kit
    from tklb.commands.key.passphrase import PassphraseChange
    from tklb.commands.key.rotate import Rotation
    from tklb.crypto.key_copies import KeyCopy
    from tklb.crypto.key_state import KeyState, OlderKey
    from tklb.errors import TklbError
    from tklb.model.secret import Secret

_OPENED_BY = {"bare": "nothing else", "passphrase": "a passphrase", "public-key": "OpenPGP keys"}


def passphrase_json(change: PassphraseChange, made: Secret | None) -> Json:
    return {
        "fingerprint": change.fingerprint,
        "has_passphrase": change.has_passphrase,
        "target": change.address,
        "on_target": change.is_on_target,
        "reason": str(change.failure) if change.failure else None,
        **_made_json(made),
    }


def passphrase_lines(change: PassphraseChange, made: Secret | None) -> Iterator[str]:
    yield from _made_lines(made)
    if not change.has_passphrase:
        yield f"key {change.fingerprint} has no passphrase, and {change.address} has no key file"
        yield "Only a copy of the key can now bring the snapshots back: `tklb key escrow`."
        return
    yield f"key {change.fingerprint} has this passphrase now"
    if change.is_on_target:
        yield f"The key file is on {change.address}: its address and the passphrase bring the snapshots back."
    elif change.failure:
        yield f"The key file is not on {change.address} yet: {change.failure}"
        yield "The next backup uploads it; until then the key file that was there stays valid."
    else:
        yield f"The snapshots on {change.address} are of an older key; the next backup uploads the key file."


def copy_json(copy: KeyCopy) -> Json:
    return {
        "where": copy.where,
        "kind": copy.kind,
        "fingerprint": copy.fingerprint,
        "time": copy.time.isoformat() if copy.time else None,
        "away": copy.is_away,
        "machine": copy.machine,
    }


def escrow_json(copy: KeyCopy, made: Secret | None) -> Json:
    return {"file": copy.where, **copy_json(copy), **_made_json(made)}


def escrow_lines(copy: KeyCopy, made: Secret | None) -> Iterator[str]:
    yield from _made_lines(made)
    yield f"key {copy.fingerprint} written to {copy.where}, opened by {_OPENED_BY[copy.kind]}"
    yield "Keep it away from this machine, in a place that few people can reach."


def kit_json(kit: Kit, made: Secret | None) -> Json:
    return {"files": [str(path) for path in kit.files], **copy_json(kit.copy), **_made_json(made)}


def kit_lines(kit: Kit, made: Secret | None) -> Iterator[str]:
    yield from _made_lines(made)
    yield f"recovery sheet of key {kit.copy.fingerprint} written to {' and '.join(map(str, kit.files))}"
    yield f"The key on it is opened by {_OPENED_BY[kit.copy.kind]}. Print it, and keep it away from this machine."


def rotation_json(rotation: Rotation, made: Secret | None) -> Json:
    return {
        "fingerprint": rotation.new,
        "older": rotation.old,
        "has_passphrase": rotation.has_passphrase,
        "snapshots": list(rotation.snapshots) if rotation.failure is None else None,
        "reason": str(rotation.failure) if rotation.failure else None,
        **_made_json(made),
    }


def rotation_lines(rotation: Rotation, made: Secret | None) -> Iterator[str]:
    yield from _made_lines(made)
    yield f"new key {rotation.new}; the next backup starts a new chain with it"
    if rotation.failure:
        yield f"The old key {rotation.old} is kept here. The snapshots that need it are not known: {rotation.failure}"
    elif rotation.snapshots:
        yield f"The old key {rotation.old} is kept here, for {format_count(len(rotation.snapshots), 'snapshot')}:"
        yield from (f"  {snapshot}" for snapshot in rotation.snapshots)
    else:
        yield f"No snapshot needs the old key {rotation.old}."
    yield "Existing key files and recovery sheets open only these; after the next backup the new key opens all."
    yield "Make copies of the new key now: `tklb key escrow`, `tklb key kit`."


def state_json(state: KeyState) -> Json:
    return {
        "fingerprint": state.fingerprint,
        "made": state.made.isoformat(),
        "has_passphrase": state.has_passphrase,
        "target": state.target,
        "target_copy": state.target_copy,
        "copies": [copy_json(copy) for copy in state.copies],
        "away": state.has_left,
        "older": [
            {"fingerprint": older.fingerprint, "snapshots": None if older.snapshots is None else list(older.snapshots)}
            for older in state.older
        ],
        "problems": list(state.problems),
        "warnings": list(_warnings(state)),
    }


def state_lines(state: KeyState, now: datetime) -> Iterator[str]:
    yield f"key         {state.fingerprint}"
    yield f"made        {format_time(state.made)}, {describe_age(now - state.made)}"
    yield f"passphrase  {'yes' if state.has_passphrase else 'no'}"
    yield f"target      {state.target}, key file there: {state.target_copy}"
    if state.copies:
        rows = [
            (copy.where, _OPENED_BY[copy.kind], format_time(copy.time) if copy.time else "unknown", _locate(copy))
            for copy in state.copies
        ]
        yield ""
        yield from table(("COPY", "OPENED BY", "WRITTEN", "ON"), rows)
    for older in state.older:
        yield ""
        yield f"older key   {older.fingerprint}, needed for {_need_words(older)}"
        yield from (f"  {snapshot}" for snapshot in older.snapshots or ())
    for line in (*state.problems, *_warnings(state)):
        yield ""
        yield f"warning: {line}"


def _locate(copy: KeyCopy) -> str:
    return "elsewhere" if copy.is_away else copy.machine or "this machine"


def _need_words(older: OlderKey) -> str:
    if older.snapshots is None:
        return "unknown snapshots (the target cannot be read)"
    return format_count(len(older.snapshots), "snapshot") if older.snapshots else "no snapshot"


def _warnings(state: KeyState) -> Iterator[str]:
    if not state.has_left:
        yield "no copy of this key is elsewhere: if this machine dies, its snapshots are lost (`tklb key escrow`)"


def _made_json(made: Secret | None) -> Json:
    return {"passphrase": made.reveal()} if made else {}


def _made_lines(made: Secret | None) -> Iterator[str]:
    if made:
        yield f"passphrase  {made.reveal()}"
        yield "Write it down: tklb shows it only this once, and keeps it nowhere."


def failure_code(failure: TklbError | None) -> int:
    return failure.code if failure else 0
