"""The plan of a restore: what brings this machine to what the snapshot says, in order, and what is left out and why.

Takes a snapshot's records, a view of this machine and the wish of whoever restores; gives a Plan. Pure: the machine is
asked through `Here` and `Present`. What `--dry-run` shows is what is carried out; only when packages came in is the
rest planned anew, since their scripts make users and files.

The order, and why:
  1. packages first: their scripts make the system users whose ids then win, and files that the delta overwrites;
  2. users and groups: before files, so that no file ever belongs to a number that means somebody else;
  3. files, parents before what is in them: owners mapped from the recorded ids, each once;
  4. deletions: after files, when what replaces them is in place; a folder after what it holds;
     but a log that SQLite would replay into a restored file goes right before that file comes;
  5. databases: their servers have users, packages and configuration by then, and are restarted to heed it: it says
     where the data lie, and what is only in memory would not outlive a restart; accounts before what they own;
  6. services last: they start on a whole machine, never on half of one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tklb.diff.accounts.merge import diff_accounts, merge_accounts
from tklb.diff.apt_sources import plan_sources
from tklb.diff.packages import diff_packages, native_architecture, plan_packages, select
from tklb.diff.sqlite_names import is_sidecar
from tklb.errors import RestoreRefused, printable
from tklb.model.accounts import AccountMerge, Accounts
from tklb.model.databases import SavedServer, ServerFeatures
from tklb.model.files import FileEntry
from tklb.model.packages import Package, SourceFile
from tklb.model.plan import Plan, Step, StepKind
from tklb.model.report import Skipped
from tklb.model.snapshot_metadata import MachineFacts, SnapshotMetadata
from tklb.restore.plan.databases import list_items, plan_databases
from tklb.restore.plan.files import FilePlanner, LinkGroup, Present, is_plain, make_link_groups
from tklb.restore.plan.filter import RestoreFilter, select_accounts
from tklb.restore.plan.keep_rules import KeepRules
from tklb.restore.plan.owners import OwnerMap, OwnerWatch, find_nameless_ids, read_ids

HOSTNAME = b"/etc/hostname"
DATABASE_SERVERS = ("mariadb", "mysql", "postgresql")
Lookup = Callable[[bytes], FileEntry | None]


@dataclass(frozen=True, slots=True)
class SnapshotContents:
    """What a snapshot gives. `manifest` streams its entries in path order, as often as it is called."""

    snapshot: str
    contents: SnapshotMetadata
    manifest: Callable[[], Iterator[FileEntry]]
    amended: Mapping[bytes, str] = field(default_factory=dict)  # changed while being read: path, SHA-256 as stored
    base: Lookup | None = None  # install state of the backed-up machine's profile, where it is at hand
    servers: tuple[SavedServer, ...] = ()
    broken: frozenset[bytes] = frozenset()  # databases (`mysql:DB`) whose dumps are not whole


@dataclass(frozen=True, slots=True)
class CurrentMachine:
    """This machine."""

    machine: MachineFacts
    accounts: Accounts
    packages: tuple[Package, ...]
    files: Present
    sources: tuple[SourceFile, ...] = ()  # all that apt reads its sources from
    offers: Mapping[str, ServerFeatures] = field(default_factory=dict)  # what the database servers that answer can take


@dataclass(slots=True)
class _PlanBuilder:
    """A plan in the making."""

    saved: SnapshotContents
    here: CurrentMachine
    choice: RestoreFilter
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    folder_times: tuple[tuple[bytes, int], ...] = ()
    groups: dict[bytes, LinkGroup] = field(init=False)
    unmet: set[bytes] = field(default_factory=set)  # asked for by name, and not in the snapshot
    standing: set[bytes] = field(default_factory=set)  # names of hard links that the restore brings back itself
    logs: set[bytes] = field(default_factory=set)  # what the snapshot has beside SQLite databases, by its names

    def __post_init__(self) -> None:
        self.groups = make_link_groups(self.saved.contents.hard_links)

    def meet(self, path: bytes) -> None:
        """Take note that the snapshot has `path`."""
        if self.unmet:
            self.unmet -= {name for name in self.unmet if path == name or path.startswith(name.rstrip(b"/") + b"/")}

    def wants(self, part: str) -> bool:
        return self.choice.wants_part(part) and part in self.saved.contents.machine.parts

    def wants_path(self, path: bytes) -> bool:
        return is_plain(path) and self.choice.allows("path", path)


def make_plan(saved: SnapshotContents, here: CurrentMachine, choice: RestoreFilter) -> Plan:
    """Plan the restore of `saved` onto `here`. An empty plan says that all is as it should be already."""
    draft = _PlanBuilder(saved, here, choice)
    nameless = find_nameless_ids(_watch_manifest(draft), saved.contents.accounts)
    try:
        merge = merge_accounts(saved.contents.accounts, here.accounts, choice.role, *nameless)
    except ValueError as exc:
        raise RestoreRefused(reason=f"the users and groups of both machines cannot be one: {exc}") from exc
    _compare_machines(draft)
    if draft.wants("packages"):
        _plan_packages(draft)
    accounts = _plan_accounts(draft, merge) if draft.wants("users") else here.accounts
    if draft.wants("files"):
        _plan_files(draft, merge, OwnerWatch(accounts))
    services = _plan_services(draft)
    draft.steps += [Step(StepKind.SERVICE, name.encode()) for name in services if name in DATABASE_SERVERS]
    if draft.wants("databases"):
        _plan_databases(draft)
    draft.steps += [Step(StepKind.SERVICE, name.encode()) for name in services if name not in DATABASE_SERVERS]
    if any(step.kind is StepKind.ACCOUNTS for step in draft.steps):
        draft.warnings += merge.warnings
    if any(step.item == HOSTNAME for step in draft.steps):
        draft.warnings.append(f"this machine is called {saved.contents.machine.hostname} from its next start on")
    draft.skipped += [Skipped(item, "the snapshot has no such item") for item in sorted(draft.unmet)]
    return Plan(
        snapshot=saved.snapshot,
        steps=tuple(draft.steps),
        warnings=tuple(dict.fromkeys(draft.warnings)),
        skipped=tuple(draft.skipped),
        merge=AccountMerge(accounts, merge.uid_map, merge.gid_map, merge.warnings),
        folder_times=draft.folder_times,
    )


def _watch_manifest(draft: _PlanBuilder) -> Iterator[FileEntry]:
    contents = draft.saved.contents
    met = {b"package:" + package.name.encode() for package in contents.packages}
    met |= {b"user:" + line.split(b":", 1)[0] for line in contents.accounts.passwd}
    met.update(list_items(draft.saved.servers))
    draft.unmet = {name for name in draft.choice.asked_items if name not in met}
    for path in contents.deleted:
        draft.meet(path)
    for entry in draft.saved.manifest():
        draft.meet(entry.path)
        if entry.path in draft.groups and draft.wants_path(entry.path):
            draft.standing.add(entry.path)
        if is_sidecar(entry.path):
            draft.logs.add(entry.path)
        yield entry


def _compare_machines(draft: _PlanBuilder) -> None:
    there, here = draft.saved.contents.machine, draft.here.machine
    for what, one, other in (
        ("release", there.release, here.release),
        ("architecture", there.architecture, here.architecture),
        ("profile", there.profile, here.profile),
    ):
        if one != other:
            draft.warnings.append(f"the snapshot is of another {what}: {one}; this machine is {other}")


# ---------------------------------------------------------------- 1. packages


def _plan_packages(draft: _PlanBuilder) -> None:
    contents, choice = draft.saved.contents, draft.choice
    delta = diff_packages(contents.packages_base, contents.packages)
    wanted = select(delta, lambda name: choice.allows("package", name.encode()))
    native = native_architecture(contents.packages)
    plan = plan_packages(wanted, draft.here.packages, native, frozenset(contents.local))
    sources = plan_sources(contents.sources, draft.here.sources, draft.here.machine.release)
    if plan.install or not choice.is_limited:
        draft.steps += [Step(StepKind.SOURCE, source.path) for source in sources.add]
    draft.steps += [Step(StepKind.INSTALL, name.encode()) for name in plan.install]
    if choice.remove_packages:
        draft.steps += [Step(StepKind.REMOVE, name.encode()) for name in plan.removals]
    else:
        draft.warnings += [f"package {name} was removed there and stays here" for name in plan.removals]
    draft.steps += [_make_mark_step(*mark) for mark in plan.marks]
    draft.warnings += [f"package {name} stays with its machine: {why}" for name, why in plan.bound]
    draft.skipped += (*sources.skipped, *plan.left_out)


def _make_mark_step(name: str, auto: bool, held: bool) -> Step:
    detail = ("auto" if auto else "manual") + (" held" if held else "")
    return Step(StepKind.MARK, name.encode(), detail, package=Package(name, "", "", auto, held))


# ---------------------------------------------------------------- 2. users and groups


def _plan_accounts(draft: _PlanBuilder, merge: AccountMerge) -> Accounts:
    accounts = select_accounts(draft.choice, merge.accounts, draft.here.accounts)
    if accounts != draft.here.accounts:
        draft.steps.append(
            Step(StepKind.ACCOUNTS, b"users and groups", _describe_accounts(draft.here.accounts, accounts))
        )
    return accounts


def _describe_accounts(here: Accounts, merged: Accounts) -> str:
    delta = diff_accounts(here, merged)
    lists = (
        ("new users", delta.users_added),
        ("users changed", delta.users_changed),
        ("new groups", delta.groups_added),
        ("groups changed", delta.groups_changed),
    )
    return "; ".join(f"{words}: {' '.join(map(printable, names))}" for words, names in lists if names)


# ---------------------------------------------------------------- 3. and 4. files and deletions


def _plan_files(draft: _PlanBuilder, merge: AccountMerge, owners: OwnerWatch) -> None:
    saved, here, choice = draft.saved, draft.here, draft.choice
    odd = [path for path in saved.contents.deleted if not is_plain(path)]
    planner = FilePlanner(
        present=here.files,
        ids=OwnerMap(merge.uid_map, merge.gid_map, read_ids(here.accounts.passwd), read_ids(here.accounts.group)),
        identity=KeepRules(choice.role, choice.asked_paths, choice.own),
        deleted=tuple(sorted(filter(draft.wants_path, set(saved.contents.deleted)))),
        groups=draft.groups,
        standing=draft.standing,
        amended=saved.amended,
        wanted=draft.wants_path,
        brought_logs=draft.logs,
        packages_come=any(step.kind is StepKind.INSTALL for step in draft.steps),
    )
    for entry in saved.manifest():
        if draft.wants_path(entry.path):
            planner.want(entry)
            owners.see(entry)
        elif not is_plain(entry.path):
            odd.append(entry.path)
    draft.folder_times = planner.finish()
    draft.steps += planner.steps
    draft.skipped += planner.skipped
    draft.skipped += [Skipped(path, "no path of a machine reads like this") for path in odd]
    draft.warnings += planner.warnings
    draft.warnings += [f"kept: {paths} {guard.reason}" for guard, paths in planner.kept.lines()]
    draft.warnings += owners.lines()
    draft.warnings += [
        f"{printable(path)} changed while it was backed up" for path in sorted(filter(draft.wants_path, saved.amended))
    ]
    if saved.contents.machine.release != here.machine.release:
        draft.warnings += [line for step in planner.replaced if (line := _describe_lost_default(draft, step.item))]


def _describe_lost_default(draft: _PlanBuilder, path: bytes) -> str | None:
    """Say what is lost when a file edited on one release lands on another: the change the newer default brought."""
    there, here = draft.saved.contents.machine.release, draft.here.machine.release
    if draft.saved.base is None:
        return f"{printable(path)} of {there} replaces that of {here}; whether its default changed is not known"
    base = draft.saved.base(path)
    if base is None:
        return f"{printable(path)} is the owner's on {there} and replaces the one that {here} brings"
    shipped = base.sha256 or base.md5
    if shipped and draft.here.files.digest(path, "sha256" if base.sha256 else "md5") == shipped:
        return None
    return f"{printable(path)} was edited on {there}, and {here} brings another default: the edited one replaces it"


# ---------------------------------------------------------------- 5. databases


def _plan_databases(draft: _PlanBuilder) -> None:
    planned = plan_databases(draft.saved.servers, draft.here.offers, draft.choice, draft.saved.broken)
    draft.steps += planned.steps
    draft.warnings += planned.warnings
    draft.skipped += planned.skipped
    known = {database.name for server in draft.saved.servers for database in server.databases}
    draft.skipped += [
        Skipped(rename.old.encode("utf-8", "surrogateescape"), "the snapshot has no such database to rename")
        for rename in draft.choice.renames
        if rename.old not in known
    ]


# ---------------------------------------------------------------- 6. services


def _plan_services(draft: _PlanBuilder) -> tuple[str, ...]:
    """What is restarted for what the plan has so far; whoever uses a database connects to it anew."""
    services = draft.saved.contents.machine.services
    if not draft.steps or not services:
        return ()
    if draft.choice.is_limited:
        draft.warnings.append(f"not restarted, as only a part is restored: {', '.join(services)}")
        return ()
    return services
