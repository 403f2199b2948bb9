"""Find what this machine has and the snapshot does not know: what came after an older snapshot, or was always here.

Takes the differences of this machine from its own install state and the manifest, both in path order. Pure. It streams,
so memory does not grow with the number of files; the tally keeps a bounded list and counts.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from tklb.diff.packages import is_bound_to_machine, label, native_architecture
from tklb.diff.rules import Rule, Rules, parse_rules
from tklb.diff.sqlite_names import sidecars
from tklb.errors import RestoreRefused
from tklb.model.files import Change, FileChange
from tklb.model.packages import Package
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped, Unknown, UnknownItems
from tklb.restore.plan.inputs import PlanInputs
from tklb.restore.plan.packages.sources import find_unknown_apt_files, find_unknown_sources
from tklb.restore.plan.part import PlanPart

MOST_LISTED = 10_000
_KINDS = {Change.EDITED: "edited", Change.METADATA: "edited", Change.DELETED: "missing"}
_NEEDED = frozenset(("python3", "gnupg", "gpg", "apt", "dpkg"))  # tklb runs on them


class UnknownSearch:
    """Looks for files, packages and accounts that the snapshot does not know."""

    def __init__(self, restore: PlanInputs) -> None:
        self._restore = restore
        contents = restore.saved.contents
        self._deleted = tuple(sorted(contents.deleted))
        beside = (name for path, _ in contents.copies for name in sidecars(path))
        self._elsewhere = frozenset((*beside, *(entry.path for entry in contents.packaged)))

    def read_files(self, keeps: Callable[[bytes], bool]) -> Iterator[FileChange]:
        """Stream the differences at unknown paths, except those that a restore keeps anyway."""
        own, rules = self._restore.here.own, self._read_scope()
        if own is None or rules is None or not self._restore.wants("files"):
            return
        paths = (entry.path for entry in self._restore.saved.manifest())
        found = skip_known(own.stream_changes(rules), paths, self._is_known)
        yield from (change for change in found if not keeps(change.path))

    def list_packages(self) -> tuple[Package, ...]:
        """List packages that somebody installed here and that the backed-up machine had not. Sorted."""
        own, contents = self._restore.here.own, self._restore.saved.contents
        if own is None or not self._restore.wants("packages"):
            return ()
        native = native_architecture(contents.packages)
        there = {label(package, native) for package in contents.packages}
        is_same_release = contents.machine.release == self._restore.here.machine.release
        return tuple(
            package
            for package in sorted(own.packages)
            if label(package, native_architecture(self._restore.here.packages)) not in there
            and self._restore.choice.allows("package", package.name.encode())
            and (is_same_release or not package.auto)  # another release names its libraries differently
            and package.name not in _NEEDED
            and not is_bound_to_machine(package.name)
        )

    def list_accounts(self) -> Iterator[Unknown]:
        """Give users and groups that somebody added here and that the backed-up machine had not."""
        own, accounts = self._restore.here.own, self._restore.saved.contents.accounts
        if own is None or not self._restore.wants("users"):
            return
        for kind, lines, names in (("user", accounts.passwd, own.users), ("group", accounts.group, own.groups)):
            there = {line.split(b":", 1)[0] for line in lines}
            yield from (Unknown(name, kind) for name in sorted(names) if name not in there)

    def _read_scope(self) -> Rules | None:
        """The rules of the snapshot; of an older one without a record of them, those of its profile."""
        contents, profile = self._restore.saved.contents, self._restore.saved.profile_rules
        if contents.scope is None:
            return profile
        files = (Rule(True, path, is_literal=True) for path in contents.local_files)
        return Rules((*parse_rules(contents.scope), *files))

    def _is_known(self, change: FileChange) -> bool:
        path, base = change.path, self._restore.saved.base
        if not self._restore.wants_path(path) or path in self._elsewhere:
            return True
        place = bisect_left(self._deleted, path)
        if self._deleted[place : place + 1] == (path,) or _is_within(path, self._restore.saved.left_out):
            return True
        if base is None or change.change not in (Change.NEW, Change.DELETED):
            return False
        return (base(path) is not None) is (change.change is Change.NEW)  # its own profile says what it had


def skip_known(
    changes: Iterable[FileChange], manifest: Iterable[bytes], is_known: Callable[[FileChange], bool]
) -> Iterator[FileChange]:
    """Give the changes at paths that neither the manifest has nor `is_known` accepts. All are in path order."""
    paths = iter(manifest)
    ahead = next(paths, None)
    for change in join_replaced(changes):
        while ahead is not None and ahead < change.path:
            ahead = next(paths, None)
        if ahead != change.path and not is_known(change):
            yield change


def join_replaced(changes: Iterable[FileChange]) -> Iterator[FileChange]:
    """Give an object of the install state that another kind of object replaced as one edited object."""
    gone: FileChange | None = None
    for change in changes:
        if gone is not None and gone.path != change.path:
            yield gone
        if change.change is Change.DELETED:
            gone = change
            continue
        yield change._replace(change=Change.EDITED, base=gone.base) if gone and gone.path == change.path else change
        gone = None
    if gone is not None:
        yield gone


def _is_within(path: bytes, tops: frozenset[bytes]) -> bool:
    parts = path.split(b"/")
    return bool(tops) and any(b"/".join(parts[:depth]) in tops for depth in range(2, len(parts) + 1))


class UnknownTally:
    """Counts items, and keeps the first ones."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._listed: list[Unknown] = []

    def note_change(self, change: FileChange) -> None:
        if change.change is Change.NEW:
            self.note(Unknown(change.path, "folder" if change.now and change.now.kind == "dir" else "file"))
        else:
            self.note(Unknown(change.path, _KINDS[change.change]))

    def note(self, found: Unknown) -> None:
        self._counts[found.kind] += 1
        if len(self._listed) < MOST_LISTED:
            self._listed.append(found)

    def finish(self) -> UnknownItems:
        return UnknownItems(dict(self._counts), tuple(self._listed))


class Strangers:
    """What this machine has and the snapshot does not know: counted and kept, or removed by an exact restore."""

    def __init__(self, restore: PlanInputs) -> None:
        if restore.choice.is_exact and restore.saved.contents.scope is None:
            reason = "--exact needs a snapshot that records which files belong to it; this one is older than that"
            raise RestoreRefused(reason=reason)
        self._restore = restore
        self._search = UnknownSearch(restore)
        self._tally = UnknownTally()

    def read_files(self, keeps: Callable[[bytes], bool]) -> tuple[bytes, ...]:
        """Give the unknown paths that an exact restore deletes. All others are counted.

        `keeps` says whether a restore never deletes a path: such paths belong to this machine and count as known.
        """
        removed = []
        for change in self._search.read_files(keeps):
            if self._restore.choice.is_exact and change.change is Change.NEW:
                removed.append(change.path)
            else:
                self._tally.note_change(change)
        return tuple(removed)

    def plan_packages(self, planned: PlanPart) -> PlanPart:
        """Plan the removal of unknown packages and sources in an exact restore; otherwise count them.

        A package that goes for another one in the `planned` steps needs neither.
        """
        native = native_architecture(self._restore.here.packages)
        replaced = {name for step in planned.steps if step.order for name in step.order.replaces}
        names = [label(package, native) for package in self._search.list_packages()]
        unknown = [name.encode() for name in names if name not in replaced]
        if self._restore.choice.is_exact:
            return PlanPart(tuple(Step(StepKind.REMOVE, name, "the snapshot does not know it") for name in unknown))
        for name in unknown:
            self._tally.note(Unknown(name, "package"))
        return PlanPart()

    def plan_sources(self) -> PlanPart:
        """Do the same for package sources and their keyrings: the comparison of files does not see them."""
        restore = self._restore
        if restore.here.own is None or not restore.wants("packages") or restore.choice.is_limited:
            return PlanPart()
        carried, here = restore.saved.contents.sources, restore.here
        paths, stay = find_unknown_sources(carried, here.sources, here.machine.release)
        paths += find_unknown_apt_files(carried, here.sources, restore.here.own.apt_files, paths)
        if restore.choice.is_exact and stay:
            detail = "the snapshot does not know this package source"
            return PlanPart(tuple(Step(StepKind.DELETE, path, detail, was=here.files.entry(path)) for path in paths))
        for path in paths:
            self._tally.note(Unknown(path, "file"))
        return PlanPart()

    def report(self) -> PlanPart:
        """Name the files that could not be compared. One that is gone by now needs no comparison."""
        unseen = self._restore.here.own.unseen if self._restore.here.own else ()
        files = (item for item in unseen if not item.reason.startswith("vanished"))
        return PlanPart(skipped=tuple(Skipped(item.item, f"not compared: {item.reason}") for item in files))

    def finish(self) -> UnknownItems:
        for found in self._search.list_accounts():
            self._tally.note(found)
        return self._tally.finish()
