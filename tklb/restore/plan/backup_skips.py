"""Name again, at a restore, what the backup of the snapshot skipped: else it would be missing here without a word.

Takes the skipped items of the snapshot, this machine and the filter of the user; gives a PlanPart. Pure. Every item in
scope is a skipped item of the restore too, with its status, and says what this machine has in its place.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace

from tklb.databases.filter import build_filter, parse_item
from tklb.diff.path_names import is_plain_path
from tklb.model.databases import SavedDatabase, find_engine
from tklb.model.report import Skipped, fold_skipped
from tklb.restore.plan.files.present import is_at_or_below
from tklb.restore.plan.filter import RestoreFilter
from tklb.restore.plan.inputs import PlanInputs
from tklb.restore.plan.part import PlanPart

_SKIPPED = "the backup skipped it: "
_ALL = "*"  # in the place of a database: the whole server
_PARTS = {"package": "packages", "user": "users", "group": "users"}
_STORED = "what the snapshot has of it comes back"
_APT = b"/etc/apt/"


def plan_backup_skips(restore: PlanInputs, stored: Container[bytes]) -> PlanPart:
    """Name the skipped items of the snapshot that are in scope. `stored` are those paths that the manifest has."""
    wanted = (item for item in restore.saved.skipped if _is_wanted(restore, item.item))
    skipped = tuple(name_backup_skip(item, _describe_place(restore, item.item, stored)) for item in wanted)
    return PlanPart(warnings=tuple(f"{item}: {reason}" for item, reason, _ in fold_skipped(skipped)), skipped=skipped)


def name_backup_skip(item: Skipped, place: str = "") -> Skipped:
    """Word a skipped item of a backup for a restore; `place` says what this machine has."""
    return replace(item, reason=_SKIPPED + item.reason + (f"; {place}" if place else ""))


def is_backup_skip(text: str) -> bool:
    """Whether a warning or a reason is about an item that the backup skipped."""
    return _SKIPPED in text


def select_backup_skips(skipped: Iterable[Skipped], choice: RestoreFilter, parts: Container[str]) -> Iterator[Skipped]:
    """Select the skipped items of a backup that a filter has in scope. `parts` are those that the snapshot has."""
    return (item for item in skipped if _selects(choice, item.item, parts))


def list_unexplained(asked: Iterable[bytes], skipped: Iterable[Skipped]) -> list[bytes]:
    """Of items that the user named and the snapshot does not have, give those that no skipped item explains."""
    known = [item.item for item in skipped]
    return [name for name in asked if not any(_explains(item, name) for item in known)]


def _explains(item: bytes, asked: bytes) -> bool:
    if item.startswith(b"/"):
        return is_at_or_below(asked, item) or is_at_or_below(item, asked)
    if find_engine(parse_item(item)[0]) is None:
        return item == asked
    (engine, database, _), (other, name, _) = parse_item(item), parse_item(asked)
    return engine == other and database in (name, _ALL)


# ---------------------------------------------------------------- scope


def _is_wanted(restore: PlanInputs, item: bytes) -> bool:
    is_apart = any(is_at_or_below(item, top) for top in restore.apart)
    return not is_apart and _selects(restore.choice, item, restore.saved.contents.machine.parts)


def _selects(choice: RestoreFilter, item: bytes, parts: Container[str]) -> bool:
    def wants(part: str) -> bool:
        return choice.wants_part(part) and part in parts

    if item.startswith(b"/"):
        is_of_apt = item.startswith(_APT) and wants("packages") and not choice.is_limited
        is_asked = choice.allows("path", item) or any(is_at_or_below(path, item) for path in choice.asked_paths)
        return is_of_apt or (wants("files") and is_asked)
    kind, _, name = item.partition(b":")
    word = kind.decode("utf-8", "replace")
    if find_engine(word):
        return wants("databases") and _selects_database(choice, item)
    if word not in _PARTS:
        return not choice.is_limited
    return wants(_PARTS[word]) and (choice.allows(word, name) if word != "group" else not choice.is_limited)


def _selects_database(choice: RestoreFilter, item: bytes) -> bool:
    engine, database, table = parse_item(item)
    scope = build_filter(engine, choice.limit, limited=choice.is_limited)
    if database == _ALL:
        return scope.has_any()
    if not table:
        return scope.has_database(database)
    found = find_engine(engine)
    bare = table.partition(".")[2] if found and found.has_schemas else ""
    return scope.has_rows(database, *filter(None, (table, bare)))


# ---------------------------------------------------------------- in words, for this machine


def _describe_place(restore: PlanInputs, item: bytes, stored: Container[bytes]) -> str:
    if item.startswith(b"/"):
        return _describe_path(restore, item, stored)
    kind, _, name = item.partition(b":")
    if find_engine(kind.decode("utf-8", "replace")):
        return _describe_database(restore, item)
    if kind == b"package":
        is_here = any(package.name.encode() == name for package in restore.here.packages)
        return "this machine has it" if is_here else "this machine has none either"
    return "it does not come back"


def _describe_path(restore: PlanInputs, path: bytes, stored: Container[bytes]) -> str:
    if path in stored:
        return _STORED
    if not is_plain_path(path):
        return "it does not come back"
    return "what is here stays as it is" if restore.here.files.entry(path) else "there is none here"


def _describe_database(restore: PlanInputs, item: bytes) -> str:
    engine, database, table = parse_item(item)
    offer = restore.here.offers.get(engine)
    here = {found.name for found in offer.databases} if offer else set()
    if database == _ALL:
        return _describe_server(sorted(here), is_known=offer is not None)
    saved = next(
        (each for server in restore.saved.servers for each in server.databases
         if (each.engine, each.name) == (engine, database)), None
    )  # fmt: skip
    if saved is None:
        return "the one here stays as it is" if database in here else "there is none here"
    return _describe_table(restore, saved, table, item) if table else _STORED


def _describe_server(here: list[str], *, is_known: bool) -> str:
    if not is_known:
        return "none of its databases comes back, and no such server answers here"
    if not here:
        return "none of its databases comes back, and the server here has none"
    return f"none of its databases comes back; the server here keeps its own: {', '.join(here)}"


def _describe_table(restore: PlanInputs, saved: SavedDatabase, table: str, item: bytes) -> str:
    found = next((each for each in saved.tables if each.name == table), None)
    if found is None:
        return "it does not come back"
    if found.rows is not None:
        return _STORED
    choice = restore.choice
    scope = build_filter(saved.engine, choice.limit, limited=choice.is_limited)
    comes = not choice.is_limited or scope.is_whole(saved.name)
    is_same = choice.name_of(saved.engine, saved.name) == saved.name
    has_rows = restore.here.rows_here.get(item) if is_same else None
    if has_rows:
        return "the rows that are here stay"
    if has_rows is None and not comes:
        return "there is no such table here"
    return "the table here is empty" if has_rows is False else "the table comes back empty"
