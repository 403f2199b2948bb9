"""Merge the account files of two machines, line by line.

Takes tables of the backed-up machine (old) and of this one (new) and the id maps; gives the merged lines and warnings.
Pure. Lines of this machine keep their place; lines that it lacks come after them, before its NIS compat lines.
A second merge of the result with the same old tables changes nothing.
"""

from collections.abc import Callable, Iterable, Mapping

from tklb.diff.accounts.homonyms import MemberRule, PrimaryGroups
from tklb.diff.accounts.id_map import IdMap
from tklb.diff.accounts.lines import (
    AccountLine,
    AccountTable,
    is_special,
    parse,
    read_loosely,
    replace_id,
)
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class MergedLines:
    """The lines of a merged file. Warnings give the number of a line, never its content: it may hold a password."""

    lines: tuple[bytes, ...]
    warnings: tuple[str, ...] = ()


def merge_passwd(
    old: AccountTable,
    new: AccountTable,
    uids: IdMap,
    gids: tuple[IdMap, PrimaryGroups],
    keeps: tuple[frozenset[bytes], frozenset[bytes]],
) -> MergedLines:
    """Merge passwd(5). `keeps` are the names whose password field of this machine stays, and those whose line does."""

    def merge_entry(entry: AccountLine) -> bytes:
        name, password, uid, gid, *rest = entry.fields
        here = new.entries.get(name)
        if here and name in keeps[1]:
            return new.lines[here.row]
        if here and name in keeps[0]:
            password = here.fields[1]
        primary = gids[1].choose(entry, here, gids[0](int(gid)))
        ids = replace_id(uid, uids.names[name]), replace_id(gid, primary)
        return b":".join((name, password, *ids, *rest))

    return _order_aliases(_merge_names(old, new, merge_entry), old, new)


def merge_group(
    old: AccountTable, new: AccountTable, gids: IdMap, members: MemberRule, keeps: frozenset[bytes]
) -> MergedLines:
    """Merge group(5): the members are the union, as far as the rule allows. The lines in `keeps` stay."""

    def merge_entry(entry: AccountLine) -> bytes:
        name, password, gid, _ = entry.fields
        here = new.entries.get(name)
        if here and name in keeps:
            return new.lines[here.row]
        return b":".join((name, password, replace_id(gid, gids.names[name]), members.join(entry, here, 3)))

    def keep_entry(entry: AccountLine) -> bytes:
        return b":".join((*entry.fields[:3], members.keep(entry, 3)))

    return _order_aliases(_merge_names(old, new, merge_entry, keep_entry), old, new)


def merge_shadow(
    old: AccountTable,
    new: AccountTable,
    passwd: tuple[AccountTable, AccountTable, AccountTable],
    keeps: frozenset[bytes],
) -> MergedLines:
    """Merge shadow(5). `passwd` is that of old, new and merged. For the names in `keeps`, this machine's line stays."""

    def lock(name: bytes) -> bytes:
        return name + b":!:::::::"

    def take(theirs: AccountLine, _: AccountLine | None) -> bytes:
        return b":".join(theirs.fields)

    chosen = _choose_secrets(old, new, passwd, keeps, (take, lambda ours: new.lines[ours.row]))
    return _merge_secrets(old, new, chosen, passwd, lock)


def merge_gshadow(
    old: AccountTable,
    new: AccountTable,
    group: tuple[AccountTable, AccountTable, AccountTable],
    members: MemberRule,
    keeps: frozenset[bytes],
) -> MergedLines:
    """Merge gshadow(5): administrators and members are the union. `group` is that of old, new and merged."""

    def join(theirs: AccountLine, ours: AccountLine | None) -> bytes:
        return b":".join((*theirs.fields[:2], *(members.join(theirs, ours, index) for index in (2, 3))))

    def keep(ours: AccountLine) -> bytes:
        return b":".join((*ours.fields[:2], *(members.keep(ours, index) for index in (2, 3))))

    def lock(name: bytes) -> bytes:
        return name + b":!::" + group[2].entries[name].fields[3]

    return _merge_secrets(old, new, _choose_secrets(old, new, group, keeps, (join, keep)), group, lock)


def _choose_secrets(
    old: AccountTable,
    new: AccountTable,
    names: tuple[AccountTable, AccountTable, AccountTable],
    keeps: frozenset[bytes],
    make: tuple[Callable[[AccountLine, AccountLine | None], bytes], Callable[[AccountLine], bytes]],
) -> dict[bytes, bytes]:
    """Give the secret line of each merged name: of the backed-up machine for its names, else of this machine."""
    chosen: dict[bytes, bytes] = {}
    for name in names[2].entries:
        ours = new.entries.get(name) if name in names[1].entries else None
        stays = name in keeps and name in names[1].entries
        theirs = old.entries.get(name) if name in names[0].entries and not stays else None
        if theirs:
            chosen[name] = make[0](theirs, ours)
        elif ours:
            chosen[name] = new.lines[ours.row] if stays else make[1](ours)
    return chosen


def _merge_secrets(
    old: AccountTable,
    new: AccountTable,
    chosen: Mapping[bytes, bytes],
    names: tuple[AccountTable, AccountTable, AccountTable],
    lock: Callable[[bytes], bytes],
) -> MergedLines:
    """Merge a secret file, which follows a file of names: shadow after passwd, gshadow after group."""
    form, merged = new.form, names[2]
    if not (old.lines or new.lines):
        return MergedLines(())
    unknown = [entry for name, entry in merged.entries.items() if name not in chosen]
    missing = [entry.name for entry in unknown if entry.fields[1] == b"x" or entry.name in new.entries]
    wanted = {**chosen, **{name: lock(name) for name in missing}}
    lines = [wanted.get(entry.name, new.lines[row]) if entry else new.lines[row] for row, entry in _rows(new)]
    added = [line for name, line in wanted.items() if name not in new.entries]
    warnings = [f"/etc/{form.file} had no line for {printable(name)}: the account is locked" for name in missing]
    warnings += [
        f"/etc/{form.file} of {whose} has {printable(name)}, who is not in its /etc/{merged.form.file}: {fate}"
        for table, own, whose, fate in (
            (old, names[0], "the backed-up machine", "left out"),
            (new, merged, "this machine", "kept"),
        )
        for name in table.entries
        if name not in own.entries
    ]
    return _place_lines(lines, added, old, new, warnings)


def _merge_names(
    old: AccountTable,
    new: AccountTable,
    merged: Callable[[AccountLine], bytes],
    kept: Callable[[AccountLine], bytes] | None = None,
) -> MergedLines:
    def make(row: int, entry: AccountLine | None) -> bytes:
        if entry and entry.name in old.entries:
            return merged(old.entries[entry.name])
        return kept(entry) if entry and kept else new.lines[row]

    lines = [make(row, entry) for row, entry in _rows(new)]
    added = [merged(entry) for name, entry in old.entries.items() if name not in new.entries]
    return _place_lines(lines, added, old, new, [])


def _rows(table: AccountTable) -> Iterable[tuple[int, AccountLine | None]]:
    entries = {entry.row: entry for entry in table.entries.values()}
    return ((row, entries.get(row)) for row in range(len(table.lines)))


def _place_lines(
    lines: list[bytes], added: list[bytes], old: AccountTable, new: AccountTable, warnings: list[str]
) -> MergedLines:
    """Add the lines that this machine lacks: accounts and odd lines before its NIS compat lines, compat lines after."""
    known = frozenset(new.lines)
    foreign = dict.fromkeys(old.lines[row] for row in old.odd if old.lines[row] not in known)
    refused = {line for line in foreign if _would_be_an_account(line, old, new)}
    kept = [line for line in foreign if line not in refused]
    compat = [line for line in kept if _is_compat(line)]
    added = added + [line for line in kept if not _is_compat(line)]
    stop = next((row for row, line in enumerate(lines) if _is_compat(line)), len(lines))
    warnings = (
        warnings + _odd_warnings(old, "the backed-up machine", refused) + _odd_warnings(new, "this machine", set())
    )
    return MergedLines((*lines[:stop], *added, *lines[stop:], *compat), tuple(warnings))


def _would_be_an_account(line: bytes, old: AccountTable, new: AccountTable) -> bool:
    """Whether the C library would take a malformed line for another account of a name, or of an id of this machine."""
    reading = read_loosely(new.form, line)
    if reading is None:
        return False
    name, number = reading
    return name in old.entries or name in new.entries or number in new.claimed_ids


def _odd_warnings(table: AccountTable, whose: str, refused: set[bytes]) -> list[str]:
    warnings = []
    for row in table.odd:
        line = table.lines[row]
        kind = "a comment or NIS line" if is_special(line) else "malformed"
        fate = "left out, because it would count as an account here" if line in refused else "kept"
        warnings.append(f"/etc/{table.form.file} of {whose}, line {row + 1}: {kind}, {fate}")
    return warnings + [
        f"/etc/{table.form.file} of {whose}, line {entry.row + 1} repeats {printable(entry.name)}, and has no effect"
        for entry in table.later
    ]


def _is_compat(line: bytes) -> bool:
    return line.startswith((b"+", b"-"))


def _order_aliases(merged: MergedLines, old: AccountTable, new: AccountTable) -> MergedLines:
    """Put names that share an id in the old order: the first of them is the owner that ls(1) shows."""
    table = parse(new.form, merged.lines)
    repeated = {entry.name for entry in new.later}
    sharing: dict[int, list[AccountLine]] = {}
    for entry in table.entries.values():
        sharing.setdefault(entry.id, []).append(entry)
    rank = {name: place for place, name in enumerate(old.entries)}
    lines = list(merged.lines)
    for entries in sharing.values():
        if any(entry.name in repeated for entry in entries):
            continue
        ordered = sorted(entries, key=lambda entry: rank.get(entry.name, len(rank)))
        for place, entry in zip(entries, ordered, strict=True):
            lines[place.row] = merged.lines[entry.row]
    return MergedLines(tuple(lines), merged.warnings)
