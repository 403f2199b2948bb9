"""Find what of this machine is in scope beyond its profile: homes, targets of links, files in /usr, mounts."""

import logging
import re
from collections.abc import Iterator
from dataclasses import replace

from tklb.backup.scope.homes import find_homes
from tklb.backup.scope.link_targets import LinkSearch, find_link_targets
from tklb.backup.scope.missing_files import find_missing_files
from tklb.backup.scope.mount_points import find_mount_points, list_closed
from tklb.base.measure import Stopwatch
from tklb.config.paths import ROOT
from tklb.databases.servers import list_locations
from tklb.diff.rules import Rule, Rules, Selection
from tklb.errors import UsageWrong
from tklb.host.mounts import Mount, find_all_paths, read_mounts
from tklb.host.owned_paths import OwnedPaths, read_owned_paths
from tklb.host.system_files import SystemFiles, find_system_files
from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import AccountDelta, Accounts
from tklb.model.report import FoundPath, FoundScope
from tklb.profile.derive import SET_ID
from tklb.profile.system_paths import is_covered, list_exact_rules
from tklb.session import Session
from tklb.storage.local import list_places
from tklb.storage.url import local_path

log = logging.getLogger(__name__)

_LATE = 1 << 62  # ns: nothing is younger


@dataclass(frozen=True, slots=True)
class ScopeInputs:
    """What is known of the machine when its scope is completed."""

    rules: Rules
    selection: Selection
    accounts: Accounts
    account_delta: AccountDelta
    keep: bool = False  # keep what was read for the next run
    local_files: tuple[bytes, ...] = ()  # of packages that no source offers; dpkg may not know them here


def complete_scope(session: Session, inputs: ScopeInputs) -> tuple[Rules, FoundScope]:
    """Give the rules with those for what was found, and what was found. Reads names and statuses only."""
    watch = Stopwatch()
    owned = _add_local(
        read_owned_paths(ROOT, session.paths.cache / "owned-paths", keep=inputs.keep), inputs.local_files
    )
    servers = list_locations(session.config.databases)
    inputs = replace(inputs, rules=add_rules(inputs.rules, tuple(Rule(False, found.path) for found in servers)))
    mounts = read_mounts()
    target = _list_target_paths(session, mounts)
    found_own = _list_own(session, mounts)
    own = frozenset(found.path for found in found_own)
    homes = _keep_wanted(inputs, find_homes(inputs.accounts, inputs.account_delta, inputs.rules, owned))
    files = find_system_files(ROOT, owned)
    swept, system = _find_system(session, inputs, owned, files)
    missing, damage = find_missing_files(ROOT, _list_missing(inputs, files, system))
    rules = add_rules(inputs.rules, (*_include(homes), *_include(swept), *list_exact_rules(system)))
    links = _keep_wanted(inputs, find_link_targets(LinkSearch(rules, owned, mounts, own, session.progress)))
    rules = add_rules(rules, _include(links))
    points = find_mount_points(rules, mounts, own, target)
    paths = tuple(sorted({found.path: found for found in (*links, *swept, *homes)}.values()))
    log.info(
        "completed the scope in %.1f s: %d homes, %d link targets, %d paths in /usr, %d missing there, %d mount points",
        watch.seconds,
        len(homes),
        len(links),
        len(swept) + len(system),
        len(missing),
        len(points),
    )
    unwalked = tuple(sorted({*list_closed(points), *own}))
    return rules, FoundScope(paths, system, points, unwalked, missing, (*files.unread, *damage), servers, found_own)


def _add_local(owned: OwnedPaths, files: tuple[bytes, ...]) -> OwnedPaths:
    """Give the owned paths, with local files and the folders above them: their package owns them elsewhere."""
    folders = {path[: at.start()] for path in files for at in re.finditer(rb"(?<!^)/", path)}
    return {**dict.fromkeys((*files, *folders), _LATE), **owned} if files else owned


def add_rules(rules: Rules, more: tuple[Rule, ...]) -> Rules:
    return Rules((*rules.rules, *more)) if more else rules


def _include(found: tuple[FoundPath, ...]) -> tuple[Rule, ...]:
    return tuple(Rule(True, path.path, is_literal=True) for path in found)


def _keep_wanted(inputs: ScopeInputs, found: Iterator[FoundPath] | tuple[FoundPath, ...]) -> tuple[FoundPath, ...]:
    """Leave out what an override excludes, also by a folder above."""
    return tuple(one for one in found if inputs.selection.says("path", one.path) is not False)


def _find_system(
    session: Session, inputs: ScopeInputs, owned: OwnedPaths, found: SystemFiles
) -> tuple[tuple[FoundPath, ...], tuple[bytes, ...]]:
    """Give what no package owns in /usr, and the paths of packages that are compared with the install state."""
    unowned = (FoundPath(path, "no package owns it") for path in found.unowned if not is_covered(inputs.rules, path))
    known = (path for path in SET_ID if path in owned)
    candidates = {*found.special, *found.edited, *known, *session.profile.recorded_system_paths()}
    system = (path for path in sorted(candidates) if not is_covered(inputs.rules, path))
    says = inputs.selection.says
    return _keep_wanted(inputs, unowned), tuple(path for path in system if says("path", path) is not False)


def _list_missing(inputs: ScopeInputs, found: SystemFiles, system: tuple[bytes, ...]) -> Iterator[bytes]:
    """Give the missing paths about which no other rule and no override decides, and which are not compared anyway."""
    compared, local = frozenset(system), frozenset(inputs.local_files)
    for path in found.missing:
        is_loose = path not in compared and path not in local and not is_covered(inputs.rules, path)
        if is_loose and inputs.selection.says("path", path) is not False:
            yield path


def _list_own(session: Session, mounts: tuple[Mount, ...]) -> tuple[FoundPath, ...]:
    """Give every path of tklb's folders and of its target on this machine: no snapshot holds them. Sorted."""
    target = list_places(session.config.target, mounts)
    state = (path for folder in session.paths.own for path in find_all_paths(folder, mounts))
    found = {**dict.fromkeys(state, "tklb keeps its state there"), **dict.fromkeys(target, "the target is there")}
    return tuple(FoundPath(path, found[path]) for path in sorted(found))


def _list_target_paths(session: Session, mounts: tuple[Mount, ...]) -> tuple[bytes, ...]:
    """Give every path of the target, if it is a folder of this machine."""
    try:
        return find_all_paths(local_path(session.config.target).encode("utf-8", "surrogateescape"), mounts)
    except UsageWrong:
        return ()
