"""Targets of symbolic links that lead out of the scope: without them a link comes back to nothing.

A first walk over the scope looks for links only. It asks for no status: the kernel gives the kind of an entry with its
name. A link counts if root made it, or if it belongs to the owner of its target: nobody can bring the files of somebody
else into a backup.
"""

import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from tklb.backup.scope.homes import is_own_folder
from tklb.diff.rules import Folder, Rule, Rules
from tklb.errors import printable
from tklb.host.files.walk import list_folder
from tklb.host.mounts import NETWORK, PASSING, PSEUDO, Mount
from tklb.host.owned_paths import OwnedPaths
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress, ignore_progress
from tklb.model.report import FoundPath

_MOST_LINKS = 40  # on the way to one target, as in the kernel
_ELSEWHERE = PSEUDO | PASSING | NETWORK  # file systems without files of this machine
_SHOWN = 200  # bytes of a path in a reason


@dataclass(frozen=True, slots=True)
class LinkSearch:
    """What the search for links needs to know of this machine."""

    rules: Rules
    owned: OwnedPaths
    mounts: tuple[Mount, ...]
    unwalked: frozenset[bytes]  # not to be entered: the folders of tklb
    progress: Progress = ignore_progress


def find_link_targets(search: LinkSearch) -> tuple[FoundPath, ...]:
    """Give the targets outside the scope, with the links on the way there, to a fixpoint. Sorted by path."""
    found: dict[bytes, FoundPath] = {}
    rules = search.rules
    starts = [(b"", rules.root())]
    while starts:
        links = [link for start in starts for link in _list_links(search, *start)]
        fresh = {target.path: target for link in links for target in _follow(search, rules, link)}
        fresh = {path: target for path, target in fresh.items() if path not in found}
        found |= fresh
        rules = Rules((*rules.rules, *(Rule(True, path, is_literal=True) for path in fresh)))
        starts = [(path, rules.find_folder(path)) for path in fresh if not os.path.islink(path)]
    return tuple(found[path] for path in sorted(found))


def _list_links(search: LinkSearch, top: bytes, rules: Folder) -> Iterator[bytes]:
    """Give the links in scope at and below a folder (b"" is the root)."""
    closed = search.unwalked | {mount.point for mount in search.mounts if mount.kind in PSEUDO}
    waiting, count = [(top, rules)], 0
    while waiting:
        path, folder = waiting.pop()
        entries = [(entry, folder if folder.is_uniform else folder.enter(entry.name)) for entry in _list_entries(path)]
        count += len(entries)
        search.progress("looking for links", count, 0)
        yield from (entry.path for entry, below in entries if below.decision.included and entry.is_symlink())
        waiting += [
            (entry.path, below)
            for entry, below in entries
            if entry.is_dir(follow_symlinks=False) and below.may_hold and entry.path not in closed
        ]


def _list_entries(path: bytes) -> Sequence[os.DirEntry[bytes]]:
    try:
        return list_folder(path or b"/")
    except OSError:  # the walk names what cannot be read
        return ()


def _follow(search: LinkSearch, rules: Rules, link: bytes) -> Iterator[FoundPath]:
    """Give what is outside the scope on the way of one link, and at its end."""
    reason = f"target of the link {printable(link[:_SHOWN])}"
    path = _read_target(link)
    if path is None or rules.decide(path).rule is not None:
        return
    closed = {
        mount.point for mount in search.mounts if mount.kind in PSEUDO | PASSING | NETWORK and mount.point != b"/"
    }
    way = _walk_way(path, closed)
    end = way[-1] if way else b""
    if not end or not _is_trusted(link, end):
        return
    for step in way:
        if _is_loose(search, rules, step):
            yield FoundPath(step, reason)


def _read_target(link: bytes) -> bytes | None:
    """Give the target of a link as an absolute path; None where it is none."""
    try:
        target = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
    except (OSError, ValueError):
        return None
    return target.replace(b"//", b"/") if target.startswith(b"/") else None


def _walk_way(path: bytes, closed: AbstractSet[bytes]) -> tuple[bytes, ...]:
    """Give the links on the way to `path`, then the real path; nothing if it does not exist.

    It touches no `closed` mount point: a server that is gone would hold up the run.
    """
    way: list[bytes] = []
    done, rest = b"", path.split(b"/")[1:]
    while rest and len(way) <= _MOST_LINKS:
        done, rest = done + b"/" + rest[0], rest[1:]
        if done in closed or not os.path.lexists(done):
            return ()
        target = _read_target(done) if os.path.islink(done) else None
        if target is not None:
            way.append(done)
            done, rest = b"", [*filter(None, target.split(b"/")), *rest]
    return (*way, done) if done and not rest else ()


def _is_trusted(link: bytes, end: bytes) -> bool:
    try:
        owner = os.lstat(link).st_uid
        return owner in (0, os.lstat(end).st_uid)
    except OSError:
        return False


def _is_loose(search: LinkSearch, rules: Rules, path: bytes) -> bool:
    """Whether a path is outside the scope by no decision, and no folder of the system."""
    return is_own_folder(path, search.owned) and rules.decide(path).rule is None
