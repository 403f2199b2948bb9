"""What of the owner's lies outside the scope: no rule takes it, no rule leaves it out, and no package brings it.

Of what a rule leaves out, layers, images and quotas count too, since nothing of a restore makes them again, and so do
the files of a database server that is not there any more. An override acknowledges an item, whether it includes or
excludes it.
"""

import glob
import os
import stat
from collections.abc import Iterable, Iterator

from tklb.backup.scope.homes import SHARED_FOLDERS
from tklb.backup.scope.sizes import SizeCache
from tklb.crypto.key_copies import read_copies
from tklb.databases.servers import find_server
from tklb.diff.rules import Rules
from tklb.errors import DatabaseFailed
from tklb.host.files.scan import OwnerNames, read_owner_names
from tklb.host.files.walk import list_folder
from tklb.host.mounts import NETWORK, PASSING, PSEUDO, Mount, is_within, read_mounts
from tklb.host.owned_paths import OwnedPaths, read_owned_paths
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import ENGINES
from tklb.model.report import OutsideItem
from tklb.profile.left_out import LEFT_OUT, LOST, LeftOut, LeftOutKind
from tklb.session import Session

_ROOT = b"/"
_DEEPEST = 6  # folders on the way down through those that packages bring


@dataclass(frozen=True, slots=True)
class OutsideSearch:
    """What the search needs to know. `closed` are places that are named elsewhere: of tklb, and mounts."""

    rules: Rules
    owned: OwnedPaths
    mounts: dict[bytes, Mount]
    closed: frozenset[bytes]
    sizes: SizeCache
    names: OwnerNames
    key_copies: frozenset[bytes]  # files that tklb wrote, on a stick perhaps


def find_outside(
    session: Session, rules: Rules, closed: Iterable[bytes], *, keep: bool = False
) -> tuple[OutsideItem, ...]:
    """Give what is outside, with size and owner. Sorted by path. Folders without a file are left out.

    With `keep`, the sizes are kept for the next run.
    """
    sizes = SizeCache.load(session.paths.cache / "outside.json", session.clock())
    search = OutsideSearch(
        rules=rules,
        owned=read_owned_paths(_ROOT, session.paths.cache / "owned-paths"),
        mounts={mount.point: mount for mount in read_mounts()},
        closed=frozenset((*closed, *session.paths.own)),
        sizes=sizes,
        names=read_owner_names(_ROOT),
        key_copies=frozenset(os.fsencode(copy.where) for copy in read_copies(session.paths.key_copies)),
    )
    found = (*_list_loose(search, b"", _DEEPEST), *_list_lost(search), *_list_deserted(session, search))
    if keep:
        sizes.save()
    return tuple(sorted(found))


def _list_loose(search: OutsideSearch, folder: bytes, deepest: int) -> Iterator[OutsideItem]:
    """Give what no rule covers in a folder (b"" is the root) that packages bring, or that is in scope in part."""
    try:
        entries = sorted(list_folder(folder or _ROOT), key=lambda entry: entry.name)
    except OSError as exc:
        yield OutsideItem(folder, f"it cannot be read: {exc.strerror}", _read_owner(search.names, folder), 0, 0, False)
        return
    for entry in entries:
        path = folder + b"/" + entry.name
        if path in search.closed or search.rules.decide(path).rule is not None or _is_passing(search, path):
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and deepest and _is_shared(search, path):
            yield from _list_loose(search, path, deepest - 1)
        elif path not in search.owned and not is_target(path):
            yield from _describe(search, path, "no rule takes it")


def _is_shared(search: OutsideSearch, path: bytes) -> bool:
    """Whether the contents of a folder are looked at one by one: they are not all of one owner, or not all outside."""
    is_divided = search.rules.may_hold(path) or any(is_within(closed, path) for closed in search.closed)
    return is_divided or path in SHARED_FOLDERS or path in search.owned


def _is_passing(search: OutsideSearch, path: bytes) -> bool:
    """Whether a file system is mounted there whose content is not on this machine, or does not last."""
    mount = search.mounts.get(path)
    return mount is not None and mount.kind in PSEUDO | PASSING | NETWORK


def is_target(folder: bytes) -> bool:
    """Whether a folder is a target of tklb: it has snapshots, and is nobody's loss."""
    try:
        return all(stat.S_ISDIR(os.lstat(folder + name).st_mode) for name in (b"/volumes", b"/ledger"))
    except OSError:
        return False


def _list_lost(search: OutsideSearch) -> Iterator[OutsideItem]:
    for item in (item for item in LEFT_OUT.values() if item.kind in LOST):
        for path in find_present(search.rules, item):
            yield from _describe(search, path, item.reason)


def _list_deserted(session: Session, search: OutsideSearch) -> Iterator[OutsideItem]:
    """Give the folders of database servers that this machine does not have any more."""
    for item in (item for item in LEFT_OUT.values() if item.kind is LeftOutKind.SERVER):
        engine = next((e.word for e in ENGINES.values() if e.data and item.pattern.startswith(e.data)), "")
        paths = tuple(find_present(search.rules, item))
        if engine and paths and not _has_server(session, engine):
            yield from (found for path in paths for found in _describe(search, path, "its database server is not here"))


def _has_server(session: Session, engine: str) -> bool:
    try:
        return find_server(engine, session.config.databases) is not None
    except DatabaseFailed:
        return True


def find_present(rules: Rules, item: LeftOut) -> Iterator[bytes]:
    """Give the paths on this machine that an item of the table is about, and that its rule decides about."""
    for path in sorted(glob.glob(item.pattern)):
        rule = rules.decide(path).rule
        if rule is not None and rule.pattern == item.pattern and not rule.is_override:
            yield path


def _describe(search: OutsideSearch, path: bytes, reason: str) -> Iterator[OutsideItem]:
    size = search.sizes.measure(path)
    copies = sum(1 for copy in search.key_copies if is_within(copy, path) and os.path.isfile(copy))
    if size.files > copies or not size.is_whole:
        yield OutsideItem(path, reason, _read_owner(search.names, path), *size)


def _read_owner(names: OwnerNames, path: bytes) -> bytes:
    try:
        number = os.lstat(path).st_uid
    except OSError:
        return b""
    return names.users.get(number, b"%d" % number)
