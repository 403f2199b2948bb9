"""Damage mended: what is missing or damaged on a target, and whole somewhere else, is put back.

Takes a target, what is sealed, and where copies may be; a copy counts when it is what was sealed, to the bit. Touches
the target, and a private folder that copies pass through.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tklb.base.fs import fresh_folder
from tklb.ledger.entry import ENTRY_NAME, LONGEST_ENTRY, authentication_key, open_entry
from tklb.ledger.memory import copies_folder
from tklb.ledger.read import Ledger
from tklb.model.secret import Secret
from tklb.storage.backend import KEY, LEDGER, Backend
from tklb.storage.copies import CopySources, open_copy
from tklb.storage.upload import put_checked, upload
from tklb.verify.impact import Problem


def repair(
    target: Backend, ledger: Ledger, damages: Iterable[Problem], copies: CopySources, work: Path, put: bool
) -> tuple[Problem, ...]:
    """The same damages, told where a whole copy is of what is missing or damaged; put back where `put` is said."""
    return tuple(_mended(target, ledger, damage, copies, work, put) for damage in damages)


def _mended(target: Backend, ledger: Ledger, damage: Problem, copies: CopySources, work: Path, put: bool) -> Problem:
    if damage.kind == "unexpected":
        return damage
    if damage.volume == KEY:
        return _mended_key(target, damage, copies.key_file, put)
    if damage.volume.startswith(LEDGER):
        return _mended_entry(target, ledger, damage, copies, work, put)
    volume = ledger.volumes.get(damage.volume)
    if volume is None:
        return damage
    with open_copy(volume, copies, work) as (folder, where):
        if where and put:
            upload(target, folder, (volume,), 1)
        return replace(damage, copy=where, mended=bool(where) and put)


def _mended_key(target: Backend, damage: Problem, key_file: Path | None, put: bool) -> Problem:
    if key_file is None or not key_file.exists():
        return damage
    if put:
        put_checked(target, KEY, key_file)
    return replace(damage, copy=str(key_file), mended=put)


def _mended_entry(
    target: Backend, ledger: Ledger, damage: Problem, copies: CopySources, work: Path, put: bool
) -> Problem:
    for name, content, where in _entries(target, damage.volume, copies):
        if not _is_authentic(name, content, ledger.secrets):
            continue
        if put:
            with fresh_folder(work) as folder:
                (folder / "entry").write_bytes(content)
                put_checked(target, name, folder / "entry")
        return replace(damage, volume=name, copy=where, mended=put)
    return damage


def _entries(target: Backend, name: str, copies: CopySources) -> Iterator[tuple[str, bytes, str]]:
    """Copies of an entry: its name, of which the snapshot may not be known, content, and where it is."""
    if copies.ledgers:
        place = copies_folder(target, copies.ledgers)
        for path in sorted(place.glob(f"{name.removeprefix(LEDGER)}*")):
            yield LEDGER + path.name, path.read_bytes(), str(path)
    for other in copies.targets:
        for found in (one.name for one in other.list(LEDGER) if one.name.startswith(name)):
            yield found, other.read(found, LONGEST_ENTRY), other.address


def _is_authentic(name: str, content: bytes, secrets: Mapping[str, Secret]) -> bool:
    if not ENTRY_NAME.fullmatch(name):
        return False
    for secret in secrets.values():
        try:
            open_entry(name, content, authentication_key(secret))
            return True
        except (ValueError, KeyError, TypeError):
            continue
    return False
