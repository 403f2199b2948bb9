"""The plan of a restore: the steps that make this machine match a snapshot, in order, and what is left out and why.

Takes the contents of a snapshot, a view of this machine and the filter of the user; gives a Plan. Pure: it asks the
machine through `CurrentMachine` and `Present`. `--dry-run` shows exactly the steps that a restore applies. Only if
packages are installed, the rest is planned again, because their scripts make users and files.

The order, and the reasons:
  0. an interrupted installation is finished first, and then all else is planned again;
  1. packages first: their scripts make the system users whose ids win, and files that the delta overwrites;
     Answers of debconf and foreign architectures come before them;
  2. users and groups: before files, so that no file ever belongs to the number of another user;
  3. files, parents before their contents: owners mapped from the recorded ids, each once;
  4. deletions: after files, when their replacements are in place; a folder after its contents;
     but a log that SQLite would replay into a restored file goes right before that file comes. What is in the way
     and this machine's own moves aside right before its place is needed (files/obstacles.py);
     Diversions come before the files, overrides of owner and mode and alternatives after them, flags last;
  5. commands that make caches and maps of this machine anew: from files that are complete by then, and before the
     programs start that read them;
  6. databases: their servers have users and packages by then. Accounts come before the objects that they own. The
     servers load them with the configuration that this machine has: that of another machine may keep a server from
     starting, or its administrator from logging in. A server that restarts for another reason does it before, because
     data in memory do not survive that;
  7. the configuration of database servers: each server tries it, and goes on without what keeps it from running;
  8. services last: they start on a complete machine.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256

from tklb.diff.accounts.homonyms import (
    find_ambiguous_words,
    find_homonyms,
    list_ambiguous_words,
    list_private_paths,
)
from tklb.diff.accounts.merge import diff_accounts, merge_accounts
from tklb.diff.path_names import is_plain_path
from tklb.diff.sqlite_names import is_sidecar
from tklb.errors import RestoreRefused, printable
from tklb.model.accounts import AccountMerge, Accounts
from tklb.model.files import FileEntry
from tklb.model.plan import COMING, Plan, Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.backup_skips import list_unexplained, plan_backup_skips
from tklb.restore.plan.databases import RowGaps, list_items, plan_databases, split_restarts, split_settings
from tklb.restore.plan.files.above import FoldersAbove
from tklb.restore.plan.files.boot_settings import find_portable, is_boot_setting
from tklb.restore.plan.files.file_inputs import FileInputs
from tklb.restore.plan.files.obstacles import KEPT_SUFFIX
from tklb.restore.plan.files.planner import FilePlanner, FolderTimes
from tklb.restore.plan.files.present import is_at_or_below, make_link_groups
from tklb.restore.plan.files.unknown import Strangers
from tklb.restore.plan.filter import RestoreFilter, select_accounts
from tklb.restore.plan.inputs import CurrentMachine, PlanInputs, SnapshotContents
from tklb.restore.plan.keep_rules import KeepRules
from tklb.restore.plan.owners import OwnerMap, OwnerWatch, find_nameless_ids, read_ids
from tklb.restore.plan.packages.package_plan import plan_machine_packages
from tklb.restore.plan.packages.packaged_files import plan_packaged, plan_packaged_flags
from tklb.restore.plan.part import PlanPart, join_parts
from tklb.restore.plan.registries.decisions import RegistryPlan, plan_registries
from tklb.restore.plan.remake import plan_remakes
from tklb.restore.plan.services import find_replaced_links, is_runlevel_link, plan_services
from tklb.restore.plan.tally import Tally

HOSTNAME = b"/etc/hostname"


class _ManifestWatch:
    """Notes facts about the whole manifest while another reader streams it."""

    def __init__(self, restore: PlanInputs) -> None:
        self._restore = restore
        self.groups = make_link_groups(restore.saved.contents.hard_links)
        self.unmet: set[bytes] = set()  # items that the user named and the snapshot does not have
        self.standing: set[bytes] = set()  # names of hard links that the restore itself brings back
        self.logs: set[bytes] = set()  # files with the names of SQLite's logs
        self.runlevel_links: set[bytes] = set()
        self.boot_settings: set[bytes] = set()
        self.stored: set[bytes] = set()  # paths that the backup skipped, and that are there all the same
        self.reserved: set[bytes] = set()  # names as those of objects that a restore moved aside

    def read(self) -> Iterator[FileEntry]:
        """Give the entries of the manifest. The facts are complete at the end."""
        saved = self._restore.saved
        known = {b"package:" + package.name.encode() for package in saved.contents.packages}
        known |= {b"user:" + line.split(b":", 1)[0] for line in saved.contents.accounts.passwd}
        known.update(list_items(saved.servers))
        self.unmet = {name for name in self._restore.choice.asked_items if name not in known}
        for path in (*saved.contents.deleted, *(entry.path for entry in saved.contents.packaged)):
            self._meet(path)
        for entry in saved.manifest():
            self._meet(entry.path)
            if entry.path in self.groups and self._restore.wants_path(entry.path):
                self.standing.add(entry.path)
            if is_sidecar(entry.path):
                self.logs.add(entry.path)
            if is_runlevel_link(entry.path):
                self.runlevel_links.add(entry.path)
            if entry.kind == "file" and is_boot_setting(entry.path):  # a rule for a folder would hold for all in it
                self.boot_settings.add(entry.path)
            if entry.path in saved.left_out:
                self.stored.add(entry.path)
            if KEPT_SUFFIX in entry.path:
                self.reserved.add(entry.path)
            yield entry

    def _meet(self, path: bytes) -> None:
        if self.unmet:
            self.unmet -= {name for name in self.unmet if path == name or path.startswith(name.rstrip(b"/") + b"/")}


def make_plan(saved: SnapshotContents, here: CurrentMachine, choice: RestoreFilter) -> Plan:
    """Plan the restore of `saved` onto `here`. An empty plan means that this machine matches already.

    Raises RestoreRefused if the accounts of both machines cannot be merged.
    """
    restore, apart = _keep_apart(PlanInputs(saved, here, choice))
    watch = _ManifestWatch(restore)
    merge = _merge_accounts(restore, watch)
    packages = plan_machine_packages(restore) if restore.wants("packages") else PlanPart()
    wanted = select_accounts(choice, merge.accounts, here.accounts) if restore.wants("users") else here.accounts
    accounts = _plan_accounts(here.accounts, wanted)
    installs = any(step.kind in COMING for step in packages.steps)
    files, flags = PlanPart(), PlanPart()
    folder_times: FolderTimes = ()
    strangers = Strangers(restore)
    if restore.wants("files"):
        owners = OwnerWatch(wanted, merge.uid_map.keys(), merge.gid_map.keys())
        files, flags, folder_times = _plan_files(restore, watch, merge, (owners, strangers), installs)
    remakes = plan_remakes(files.steps, here.remake, installs=installs)
    registries = _plan_registries(restore, merge)
    gone = strangers.plan_packages(packages)
    before = (_plan_finish(here), registries.before_packages, packages, gone, accounts, registries.before_files)
    after = (strangers.plan_sources(), registries.after_files, remakes, flags, registries.last, strangers.report())
    servers, services = plan_services(restore, join_parts((*before, files, *after)).steps)
    files, settings = split_settings(files)
    databases = _plan_databases(restore, servers, settings)
    rest = _report_rest(restore, merge, accounts, files, watch)
    early = (_compare_machines(restore), *before, files, *after)
    plan = join_parts((*early, databases, services, rest, apart))
    return Plan(
        snapshot=saved.snapshot,
        steps=plan.steps,
        warnings=tuple(dict.fromkeys(plan.warnings)),
        skipped=plan.skipped,
        merge=AccountMerge(wanted, merge.uid_map, merge.gid_map, merge.warnings),
        folder_times=folder_times,
        unknown=strangers.finish(),
        is_whole=choice.is_whole and not restore.apart,
        may_restart=not choice.is_limited,
    )


def _keep_apart(restore: PlanInputs) -> tuple[PlanInputs, PlanPart]:
    """Leave out the homes of other people with the same names, and rules that would give them privileges."""
    saved, here, same = restore.saved.contents.accounts, restore.here.accounts, restore.choice.same_users
    homonyms = find_homonyms(saved, here, same)
    private = list_private_paths(saved, homonyms)
    words = list_ambiguous_words(saved, here, homonyms)
    skipped = [
        Skipped(
            path,
            f"nothing comes there: this machine's {printable(name)} may be another account; see user:{printable(name)}",
        )
        for path, name in sorted(private.items())
        if restore.wants("files") and restore.wants_path(path)
    ]
    for path, rules in sorted(restore.saved.grants.items()):
        found = find_ambiguous_words(rules, words) if restore.wants("files") and restore.wants_path(path) else ()
        if found and restore.here.files.digest(path, "sha256") != sha256(rules).hexdigest():
            names = ", ".join(map(printable, found))
            reason = f"it gives privileges to {names}, and this machine may mean another account by that"
            skipped.append(Skipped(path, f"{reason}; --same-user NAME says that it is the same"))
    apart = frozenset((*private, *(item.item for item in skipped)))
    return replace(restore, apart=apart), PlanPart(skipped=tuple(skipped))


def _merge_accounts(restore: PlanInputs, watch: _ManifestWatch) -> AccountMerge:
    saved, here = restore.saved.contents.accounts, restore.here.accounts
    nameless = find_nameless_ids(watch.read(), saved)
    try:
        return merge_accounts(saved, here, restore.choice.role, nameless, restore.choice.same_users)
    except ValueError as exc:
        raise RestoreRefused(reason=f"the users and groups of both machines cannot be merged: {exc}") from exc


def _compare_machines(restore: PlanInputs) -> PlanPart:
    there, here = restore.saved.contents.machine, restore.here.machine
    facts = (
        ("release", there.release, here.release),
        ("architecture", there.architecture, here.architecture),
        ("profile", there.profile, here.profile),
    )
    return PlanPart(
        warnings=tuple(
            f"the snapshot is of another {fact}: {one}; this machine is {other}"
            for fact, one, other in facts
            if one != other
        )
    )


def _plan_finish(here: CurrentMachine) -> PlanPart:
    """Every restore begins with it where something is left halfway, whatever else it brings back."""
    faults = here.package_state.faults
    return PlanPart((Step(StepKind.FINISH, b"dpkg", "; ".join(faults)),)) if faults else PlanPart()


def _report_rest(
    restore: PlanInputs, merge: AccountMerge, accounts: PlanPart, files: PlanPart, watch: _ManifestWatch
) -> PlanPart:
    warnings = list(merge.warnings) if accounts.steps else []
    if any(step.item == HOSTNAME for step in files.steps):
        name = restore.saved.contents.machine.hostname
        warnings.append(f"this machine is called {name} from its next start on")
    skips = plan_backup_skips(restore, watch.stored)
    unmet = list_unexplained(sorted(watch.unmet), skips.skipped)
    absent = (Skipped(item, "the snapshot has no such item") for item in unmet)
    unread = (Skipped(path, f"it cannot be read here: {why}") for path, why in restore.here.files.list_problems())
    wants_users = restore.wants("users")
    ambiguous = (item for item in merge.skipped if wants_users and restore.choice.allows(*_split_item(item.item)))
    return join_parts((PlanPart(warnings=tuple(warnings), skipped=(*absent, *unread, *ambiguous)), skips))


def _split_item(item: bytes) -> tuple[str, bytes]:
    kind, _, name = item.partition(b":")
    return kind.decode(), name


def _plan_registries(restore: PlanInputs, merge: AccountMerge) -> RegistryPlan:
    if not restore.wants("packages") or restore.choice.is_limited:
        return RegistryPlan()
    owned, here = restore.saved.contents.registries, restore.here.registries
    return plan_registries(owned, here, merge.uid_map, merge.gid_map)


# ---------------------------------------------------------------- 2. users and groups


def _plan_accounts(here: Accounts, wanted: Accounts) -> PlanPart:
    if wanted == here:
        return PlanPart()
    return PlanPart((Step(StepKind.ACCOUNTS, b"users and groups", _describe_accounts(here, wanted)),))


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


def _plan_files(
    restore: PlanInputs,
    watch: _ManifestWatch,
    merge: AccountMerge,
    watches: tuple[OwnerWatch, Strangers],
    installs: bool,
) -> tuple[PlanPart, PlanPart, FolderTimes]:
    saved, (owners, strangers) = restore.saved, watches
    inputs = _gather_inputs(restore, watch, merge, installs)
    planner = FilePlanner(inputs)
    odd = [path for path in saved.contents.deleted if not is_plain_path(path)]
    above = FoldersAbove(inputs.present)
    for entry in saved.manifest():
        if not is_plain_path(entry.path):
            odd.append(entry.path)
            continue
        for wanted in above.select(entry, is_wanted=restore.wants_path(entry.path)):
            planner.want(wanted)
            owners.see(wanted)
    plan = planner.finish(strangers.read_files(inputs.keep_rules.is_own))
    changed = _describe_changed(restore)
    is_other_release = saved.contents.machine.release != restore.here.machine.release
    lost = (_describe_lost_default(restore, path) for path in (plan.replaced if is_other_release else ()))
    warnings = (
        *plan.warnings,
        *owners.lines(),
        *changed,
        *filter(None, lost),
    )
    skipped = (*plan.skipped, *(Skipped(path, "invalid path") for path in odd))
    packaged = plan_packaged(saved.contents.packaged, inputs)
    files = join_parts((PlanPart(plan.steps, warnings, skipped), packaged))
    flags = (*plan.flags, *plan_packaged_flags(saved.contents.packaged, inputs))
    return files, PlanPart(flags), plan.folder_times


def _describe_changed(restore: PlanInputs) -> Iterator[str]:
    """Name in one line the files that only grew while they were backed up; other changes are skipped items."""
    saved, grown = restore.saved, Tally[str]()
    for path in sorted(filter(restore.wants_path, saved.changed_while_read)):
        if path not in saved.left_out:
            grown.note("", path)
    if saved.changed_while_read and not saved.has_one_inode:
        yield "an older version took this snapshot: files that changed meanwhile come back for root alone (mode 0600)"
    yield from (f"grew while it was backed up: {paths}" for _, paths in grown.lines())


def _gather_inputs(restore: PlanInputs, watch: _ManifestWatch, merge: AccountMerge, installs: bool) -> FileInputs:
    saved, here, choice = restore.saved, restore.here, restore.choice
    portable = find_portable(watch.boot_settings, saved.boot_settings, here.remake.programs)
    replaced = find_replaced_links(filter(restore.wants_path, watch.runlevel_links), here.files.names)
    return FileInputs(
        present=here.files,
        ids=OwnerMap(merge.uid_map, merge.gid_map, read_ids(here.accounts.passwd), read_ids(here.accounts.group)),
        keep_rules=KeepRules(choice.role, (*choice.asked_paths, *portable), choice.own),
        deleted=tuple(sorted(filter(restore.wants_path, {*saved.contents.deleted, *replaced}))),
        groups=watch.groups,
        standing=watch.standing,
        changed_while_read=saved.changed_while_read,
        wanted=restore.wants_path,
        brought_logs=watch.logs,
        at_jobs=saved.at_jobs,
        packages_come=installs,
        comes=cache(lambda path: _comes(restore, path)),
        reserved=watch.reserved,
        has_one_inode=saved.has_one_inode,
        is_exact=choice.is_exact,
    )


def _comes(restore: PlanInputs, path: bytes) -> bool:
    """Whether this restore brings something at or below `path`. Reads the manifest: only rare questions need it."""
    entries = restore.saved.manifest()
    return any(is_at_or_below(entry.path, path) and restore.wants_path(entry.path) for entry in entries)


def _describe_lost_default(restore: PlanInputs, path: bytes) -> str | None:
    """Warn that a file edited on one release replaces the newer default of another; None if nothing is lost."""
    there, here = restore.saved.contents.machine.release, restore.here.machine.release
    if restore.saved.base is None:
        return f"{printable(path)} of {there} replaces that of {here}; whether its default changed is not known"
    base = restore.saved.base(path)
    if base is None:
        return f"{printable(path)} is the owner's on {there} and replaces the one that {here} brings"
    shipped = base.sha256 or base.md5
    if shipped and restore.here.files.digest(path, "sha256" if base.sha256 else "md5") == shipped:
        return None
    return f"{printable(path)} was edited on {there}, and {here} brings another default: the edited one replaces it"


# ---------------------------------------------------------------- 6. databases


def _plan_databases(restore: PlanInputs, servers: PlanPart, settings: PlanPart) -> PlanPart:
    """The loads, among the restarts of database servers and the steps on their configuration."""
    first, late = split_restarts(servers, settings)
    loads = _plan_loads(restore) if restore.wants("databases") else PlanPart()
    return join_parts((first, loads, settings, late))


def _plan_loads(restore: PlanInputs) -> PlanPart:
    saved, choice = restore.saved, restore.choice
    known = {database.name for server in saved.servers for database in server.databases}
    unknown = (rename.old for rename in choice.renames if rename.old not in known)
    reason = "the snapshot has no such database to rename"
    skipped = (Skipped(name.encode("utf-8", "surrogateescape"), reason) for name in unknown)
    named = frozenset(item.item for item in saved.skipped)
    lacks = RowGaps(restore.here.rows_here, named)
    plan = plan_databases(saved.servers, restore.here.offers, choice, saved.broken, lacks)
    return join_parts((plan, PlanPart(skipped=tuple(skipped))))
