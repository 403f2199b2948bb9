"""Damage mended: what is missing or damaged on a target, and whole somewhere else, is put back.

Takes a target, what is sealed, and where copies may be; a copy counts when it is what was sealed, to the bit. Touches
the target, and a private folder that copies pass through.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tklb.durable import fresh_folder
from tklb.errors import TargetDamaged
from tklb.model import Secret, Volume
from tklb.store.damage import Damage
from tklb.store.entry import ENTRY_NAME, LONGEST_ENTRY, authentication_key, open_entry
from tklb.store.ledger import Ledger, kept_entry
from tklb.store.objects import Problem, check_objects, copy_checked, fetch_volumes
from tklb.store.target import KEY, LEDGER, Target
from tklb.store.upload import put_checked, upload


@dataclass(frozen=True, slots=True)
class Copies:
    """Where whole copies may be: folders of volumes, other targets, kept entries (`ledgers`), our own key file."""

    folders: tuple[Path, ...] = ()
    targets: tuple[Target, ...] = ()
    ledgers: Path | None = None
    key_file: Path | None = None


def mend(
    target: Target, ledger: Ledger, damages: Iterable[Damage], copies: Copies, work: Path, put: bool
) -> tuple[Damage, ...]:
    """The same damages, told where a whole copy is of what is missing or damaged; put back where `put` is said."""
    return tuple(_mended(target, ledger, damage, copies, work, put) for damage in damages)


def mend_chain(target: Target, volumes: Iterable[Volume], folders: tuple[Path, ...], work: Path) -> tuple[Problem, ...]:
    """Put back what a listing shows to be missing or of another size and `folders` have whole; give what remains.

    `work` must be a folder that is not there, or of ours. Raises what the target raises.
    """
    wanted = {volume.name: volume for volume in volumes}
    for problem in (found := check_objects(target, wanted.values())):
        with _copy_of(wanted[problem.volume], Copies(folders), work) as (folder, where):
            if where:
                upload(target, folder, (wanted[problem.volume],), 1)
    return check_objects(target, wanted.values()) if found else ()


def _mended(target: Target, ledger: Ledger, damage: Damage, copies: Copies, work: Path, put: bool) -> Damage:
    if damage.kind == "unexpected":
        return damage
    if damage.volume == KEY:
        return _mended_key(target, damage, copies.key_file, put)
    if damage.volume.startswith(LEDGER):
        return _mended_entry(target, ledger, damage, copies, work, put)
    volume = ledger.volumes.get(damage.volume)
    if volume is None:
        return damage
    with _copy_of(volume, copies, work) as (folder, where):
        if where and put:
            upload(target, folder, (volume,), 1)
        return replace(damage, copy=where, mended=bool(where) and put)


@contextmanager
def _copy_of(volume: Volume, copies: Copies, work: Path) -> Iterator[tuple[Path, str]]:
    """A folder with a checked copy of a volume, and where that came from; "" where there is none."""
    with fresh_folder(work) as folder:
        for place in copies.folders:
            try:
                copy_checked(place / volume.name, folder / volume.name, volume)
            except TargetDamaged:
                (folder / volume.name).unlink(missing_ok=True)
                continue
            yield folder, str(place / volume.name)
            return
        for other in copies.targets:
            try:
                fetch_volumes(other, (volume,), folder)
            except TargetDamaged:
                (folder / volume.name).unlink(missing_ok=True)
                continue
            yield folder, other.address
            return
        yield folder, ""


def _mended_key(target: Target, damage: Damage, key_file: Path | None, put: bool) -> Damage:
    if key_file is None or not key_file.exists():
        return damage
    if put:
        put_checked(target, KEY, key_file)
    return replace(damage, copy=str(key_file), mended=put)


def _mended_entry(target: Target, ledger: Ledger, damage: Damage, copies: Copies, work: Path, put: bool) -> Damage:
    for name, content, where in _entries(target, damage.volume, copies):
        if not _is_authentic(name, content, ledger.secrets):
            continue
        if put:
            with fresh_folder(work) as folder:
                (folder / "entry").write_bytes(content)
                put_checked(target, name, folder / "entry")
        return replace(damage, volume=name, copy=where, mended=put)
    return damage


def _entries(target: Target, name: str, copies: Copies) -> Iterator[tuple[str, bytes, str]]:
    """Copies of an entry: its name, of which the snapshot may not be known, content, and where it is."""
    if copies.ledgers:
        place = kept_entry(target, copies.ledgers, LEDGER)
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
