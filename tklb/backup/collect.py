"""Look at the machine and say what is the owner's: the delta of files, packages, users and groups.

Touches nothing. The files stream, however many; everything else is small and held.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tklb.config.paths import ROOT
from tklb.diff import mtree
from tklb.diff.accounts.merge import diff_accounts
from tklb.diff.files import compare
from tklb.diff.packages import diff_packages
from tklb.diff.rules import Override, Rules, Selection, parse_override
from tklb.errors import ConfigInvalid, UsageWrong
from tklb.host.accounts import read_accounts
from tklb.host.apt import local_packages
from tklb.host.dpkg import list_installed, listed_files
from tklb.host.files.digest import file_digest
from tklb.host.files.scan import scan
from tklb.model.accounts import AccountDelta, Accounts
from tklb.model.files import FileChange, FileEntry
from tklb.model.packages import Package, PackageDelta
from tklb.model.report import SkippedItems
from tklb.profile.state import read_install_state
from tklb.session import Session
from tklb.snapshot import metadata

Watch = Callable[[Iterator[FileEntry]], Iterator[FileEntry]]


@dataclass(frozen=True, slots=True)
class MachineState:
    """What differs. `skipped` fills while the changes are read; `rules` decide what counts."""

    overrides: tuple[Override, ...]
    rules: Rules
    installed: tuple[Package, ...]
    packages: tuple[Package, ...]  # without those that overrides leave out, as all below
    packages_base: tuple[Package, ...]
    package_delta: PackageDelta
    local: frozenset[str]  # packages that no source offers
    local_files: tuple[bytes, ...]  # their files: nothing else brings them back, so they count wherever they lie
    accounts: Accounts
    account_delta: AccountDelta
    skipped: SkippedItems = field(default_factory=SkippedItems)


def collect_state(setting: Session, overrides: Iterable[str] = ()) -> MachineState:
    """Ask for packages and accounts, and settle the rules for the files.

    Raises UsageWrong for a malformed override, ConfigInvalid for one of the configuration.
    """
    wanted = [*_kept_overrides(setting), *map(parse_override, overrides)]
    selection = Selection(wanted)
    here = list_installed(ROOT)
    packages, base = _packages_without(here, selection), _packages_without(setting.profile.packages(), selection)
    delta = diff_packages(base, packages)
    local = local_packages(ROOT, delta, setting.paths.cache)
    local_files = _local_files(setting, local, selection)
    accounts = _accounts_without(read_accounts(ROOT), selection)
    accounts_base = _accounts_without(setting.profile.accounts(), selection)
    return MachineState(
        overrides=tuple(wanted),
        rules=setting.profile.rules_with(local_files).with_overrides(
            override.rule for override in wanted if override.kind == "path"
        ),
        installed=here,
        packages=packages,
        packages_base=base,
        package_delta=delta,
        local=local,
        local_files=local_files,
        accounts=accounts,
        account_delta=diff_accounts(accounts_base, accounts),
    )


def _kept_overrides(setting: Session) -> list[Override]:
    try:
        return [parse_override(text) for text in setting.config.overrides]
    except UsageWrong as exc:
        raise ConfigInvalid(file=setting.paths.overrides, reason=str(exc)) from exc


def file_changes(setting: Session, seen: MachineState, watch: Watch | None = None) -> Iterator[FileChange]:
    """Stream the differences between install state and machine, in path order.

    `watch` sees every scanned entry on its way; every file is read then, and has its digest. What could not be
    read is in `seen.skipped` and is not taken for deleted.
    """
    installed_state = read_install_state(setting.profile, ROOT, seen.installed, seen.local, seen.rules)
    base = (entry for entry in installed_state if seen.rules.decide(entry.path).included)
    known = read_listing(setting.paths.index)
    own, digest = setting.paths.own, watch is not None
    now = scan(ROOT, seen.rules, known=known, skipped=seen.skipped, own=own, digest=digest)
    return compare(base, watch(now) if watch else now, digest_of, seen.skipped)


def read_listing(path: Path) -> Iterator[FileEntry]:
    """Stream a listing of ours; an absent or torn one gives what can be read of it."""
    try:
        with path.open("rb") as stream:
            yield from mtree.parse(stream)
    except (FileNotFoundError, ValueError):
        return


def digest_of(entry: FileEntry, algorithm: str) -> str | None:
    try:
        return file_digest(entry.path, algorithm)
    except OSError:
        return None  # not comparable, so it counts as edited; reading it for the snapshot names the trouble


def _local_files(setting: Session, local: frozenset[str], selection: Selection) -> tuple[bytes, ...]:
    """The files of local packages: those that dpkg lists, and those a restore brought without dpkg's knowing."""
    restored = metadata.read_paths(setting.paths.local_files) if setting.paths.local_files.exists() else ()
    found = {*restored, *(listed_files(ROOT, local) if local else ())}
    return tuple(sorted(path for path in found if selection.says("path", path) is not False))


def _packages_without(packages: tuple[Package, ...], selection: Selection) -> tuple[Package, ...]:
    return tuple(package for package in packages if selection.says("package", package.name.encode()) is not False)


def _accounts_without(accounts: Accounts, selection: Selection) -> Accounts:
    """The account files without the users that were left out; groups stay."""

    def kept(lines: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(line for line in lines if selection.says("user", line.split(b":", 1)[0]) is not False)

    users = {name: kept(getattr(accounts, name)) for name in ("passwd", "shadow", "subuid", "subgid")}
    return replace(accounts, **users)
