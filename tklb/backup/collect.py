"""Collect the state of this machine: the delta of files, packages, users and groups.

Touches nothing. The files stream, so memory does not grow with their number; everything else is small.
"""

import heapq
import logging
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from tklb.backup.scope.found_scope import ScopeInputs, complete_scope
from tklb.base.measure import format_count
from tklb.config.paths import ROOT
from tklb.diff import mtree
from tklb.diff.accounts.merge import diff_accounts
from tklb.diff.files import compare
from tklb.diff.packages import diff_packages, label, native_architecture
from tklb.diff.registries.difference import select_owned
from tklb.diff.rules import Override, Rules, Selection, parse_override
from tklb.errors import ConfigInvalid, UsageWrong
from tklb.host.accounts import read_accounts
from tklb.host.apt.offers import PackageOrigins, find_origins
from tklb.host.dpkg import list_absent_holds, list_installed, listed_files
from tklb.host.files.digest import file_digest
from tklb.host.files.scan import scan
from tklb.host.files.walk import find_identities
from tklb.host.mounts import is_within
from tklb.host.own_traces import OwnTraces, read_own_traces
from tklb.host.package_relations import find_needs_of, read_relations
from tklb.host.registries.diversions import list_own_files
from tklb.host.registries.inventory import read_registries
from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import AccountDelta, Accounts
from tklb.model.files import Change, FileChange, FileEntry
from tklb.model.packages import Package, PackageDelta, PackageHistory
from tklb.model.registries.decisions import Registries
from tklb.model.report import FoundScope, Skipped, SkippedItems
from tklb.profile.state import read_install_state
from tklb.session import Session
from tklb.snapshot import metadata

log = logging.getLogger(__name__)

Watch = Callable[[Iterator[FileEntry]], Iterator[FileEntry]]


@dataclass(frozen=True, slots=True)
class MachineState:
    """The state of this machine without its files; `rules` decide which files are in scope."""

    overrides: tuple[Override, ...]
    rules: Rules
    installed: tuple[Package, ...]
    packages: tuple[Package, ...]  # without those that overrides leave out, as all below
    packages_base: tuple[Package, ...]
    package_delta: PackageDelta
    local: frozenset[str]  # packages that no source offers
    local_files: tuple[bytes, ...]  # their files: nothing else brings them back, so they count wherever they lie
    registries: Registries  # what the owner decided in them
    history: PackageHistory
    unmet: tuple[Skipped, ...]  # what overrides name and no backup can take
    accounts: Accounts
    account_delta: AccountDelta
    found: FoundScope  # what `rules` include beyond profile and overrides


def collect_state(session: Session, overrides: Iterable[str] = (), *, keep: bool = False) -> MachineState:
    """Ask for packages and accounts, and build the rules for the files; with `keep`, help the next run by caches.

    Raises UsageWrong for a malformed override, ConfigInvalid for one of the configuration.
    """
    wanted = [*_read_overrides(session), *map(parse_override, overrides)]
    selection = Selection(wanted)
    here, traces = list_installed(ROOT), read_own_traces(ROOT)
    base = _base_without(session.profile.packages(), selection)
    packages = _packages_without(_leave_out_brought(here, base, traces, selection), selection)
    delta = diff_packages(base, packages)
    origins = find_origins(ROOT, packages, delta, session.paths.cache)
    local = frozenset(origins.local)
    local_files = _local_files(session, local, selection)
    left_out = {package.name for package in here} - {package.name for package in packages}
    registries = select_owned(read_registries(ROOT, here, lambda name: _counts(name, left_out, selection)))
    accounts = _accounts_without(read_accounts(ROOT), selection)
    account_delta = diff_accounts(_accounts_without(session.profile.accounts(), selection), accounts)
    _log_counts(packages, delta, account_delta)
    rules = _build_rules(session, (*local_files, *list_own_files(registries.diversions)), traces.folders, wanted)
    rules, found = complete_scope(
        session, ScopeInputs(rules, selection, accounts, account_delta, keep=keep, local_files=local_files)
    )
    return MachineState(
        overrides=tuple(wanted),
        rules=rules,
        installed=here,
        packages=packages,
        packages_base=base,
        package_delta=delta,
        local=local,
        local_files=local_files,
        registries=registries,
        history=_describe_history(packages, origins, selection),
        unmet=(*_find_unmet(wanted, here), *_find_barred(wanted, found)),
        accounts=accounts,
        account_delta=account_delta,
        found=found,
    )


def _leave_out_brought(
    here: tuple[Package, ...], base: tuple[Package, ...], traces: OwnTraces, selection: Selection
) -> tuple[Package, ...]:
    """Leave out what only tklb's own installation brought, unless an override names it."""
    known = {package.name for package in base}
    return tuple(
        package
        for package in here
        if package.name in known
        or not traces.is_brought(package)
        or selection.says("package", package.name.encode()) is True
    )


def _counts(name: str, left_out: Container[str], selection: Selection) -> bool:
    """Whether a package counts, installed or not."""
    return name not in left_out and selection.says("package", name.encode()) is not False


def _build_rules(
    session: Session, more: Iterable[bytes], left_out: Iterable[bytes], overrides: Iterable[Override]
) -> Rules:
    """Give the rules of the profile, `more` paths, those that are left out, and the overrides."""
    rules = session.profile.rules_with(more, left_out)
    return rules.add_overrides(override.rule for override in overrides if override.kind == "path")


def _read_overrides(session: Session) -> list[Override]:
    try:
        return [parse_override(text) for text in session.config.overrides]
    except UsageWrong as exc:
        raise ConfigInvalid(file=session.paths.overrides, reason=str(exc)) from exc


def stream_changes(
    session: Session, state: MachineState, skipped: SkippedItems, watch: Watch | None = None
) -> Iterator[FileChange]:
    """Stream the differences between install state and machine, in path order.

    `watch` sees every scanned entry on its way; with it every file is read, and has its digest. Files that cannot be
    read are in `skipped` afterwards, and do not count as deleted.
    """
    skipped.extend(state.found.unread)
    own, digest = state.found.unwalked, watch is not None
    known = read_listing(session.paths.index)
    barred = find_identities(found.path for found in state.found.own)
    now = scan(ROOT, state.rules, known=known, skipped=skipped, own=own, barred=barred, digest=digest)
    changes = compare(read_base(session, state), watch(now) if watch else now, digest_of, skipped)
    gone = (FileChange(path, Change.DELETED, FileEntry(path, "file"), None) for path in state.found.missing)
    return heapq.merge(changes, gone, key=attrgetter("path"))


def read_base(session: Session, state: MachineState) -> Iterator[FileEntry]:
    """Stream the install state of all that is in scope, without what lies in places that are not walked."""
    made, system = read_listing(session.paths.script_traces), state.found.system
    entries = read_install_state(session.profile, ROOT, state.installed, state.local, state.rules, system, made)
    closed = state.found.unwalked
    for entry in entries:
        if state.rules.decide(entry.path).included and not any(is_within(entry.path, path) for path in closed):
            yield entry


def read_listing(path: Path) -> Iterator[FileEntry]:
    """Stream a listing that tklb wrote; of a torn one, the part that can be read; nothing where it is absent."""
    try:
        with path.open("rb") as stream:
            yield from mtree.parse(stream)
    except (FileNotFoundError, ValueError):
        return


def digest_of(entry: FileEntry, algorithm: str) -> str | None:
    """The digest of a file as it is now, in lowercase hex; None where it cannot be read."""
    try:
        return file_digest(entry.path, algorithm)
    except OSError:
        return None  # not comparable, so it counts as edited; reading it for the snapshot names the reason


def _local_files(session: Session, local: frozenset[str], selection: Selection) -> tuple[bytes, ...]:
    """The files of local packages: those that dpkg lists, and those that a restore put here without dpkg."""
    restored = metadata.read_paths(session.paths.local_files) if session.paths.local_files.exists() else ()
    found = {*restored, *(listed_files(ROOT, local) if local else ())}
    return tuple(sorted(path for path in found if selection.says("path", path) is not False))


def _log_counts(packages: tuple[Package, ...], delta: PackageDelta, account_delta: AccountDelta) -> None:
    log.info(
        "collected %s (%d added, %d removed) and accounts (%s added, %d changed)",
        format_count(len(packages), "package"),
        len(delta.added),
        len(delta.removed),
        format_count(len(account_delta.users_added), "user"),
        len(account_delta.users_changed),
    )


def _describe_history(packages: tuple[Package, ...], origins: PackageOrigins, selection: Selection) -> PackageHistory:
    relations, native = read_relations(ROOT), native_architecture(packages)
    automatic = {label(package, native) for package in packages if package.auto}
    needed = find_needs_of(origins.local, relations) & automatic
    holds = tuple(name for name in list_absent_holds(ROOT) if _counts(name, (), selection))
    return PackageHistory(relations, tuple(sorted(needed)), origins.newer, holds)


def _packages_without(packages: tuple[Package, ...], selection: Selection) -> tuple[Package, ...]:
    return tuple(package for package in packages if selection.says("package", package.name.encode()) is not False)


def _base_without(packages: tuple[Package, ...], selection: Selection) -> tuple[Package, ...]:
    """Give the packages of the install state that no override names: one that it includes counts as added."""
    return tuple(package for package in packages if selection.says("package", package.name.encode()) is None)


def _find_unmet(overrides: Iterable[Override], packages: tuple[Package, ...]) -> Iterator[Skipped]:
    names = [package.name.encode() for package in packages]
    for override in (one for one in overrides if one.kind == "package" and one.include):
        only = Selection([override])
        if not any(only.says("package", name) for name in names):
            yield Skipped(b"package:" + override.value, "an override names it, and it is not installed")


def _find_barred(overrides: Iterable[Override], found: FoundScope) -> Iterator[Skipped]:
    """Give the paths of tklb's own folders and target that an override names: a snapshot never holds them."""
    for override in (one for one in overrides if one.kind == "path" and one.include):
        reason = next((own.reason for own in found.own if is_within(override.value, own.path)), "")
        if reason:
            yield Skipped(override.value, f"an override names it, and a snapshot never holds it: {reason}")


def _accounts_without(accounts: Accounts, selection: Selection) -> Accounts:
    """The account files without the users that overrides leave out; groups stay."""

    def select(lines: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(line for line in lines if selection.says("user", line.split(b":", 1)[0]) is not False)

    users = {name: select(getattr(accounts, name)) for name in ("passwd", "shadow", "subuid", "subgid")}
    return replace(accounts, **users)
