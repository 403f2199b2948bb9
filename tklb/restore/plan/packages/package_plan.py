"""The packages of a plan: sources first, then packages that come, go or replace others, and their marks.

Takes the packages of both machines with their relations; gives steps, warnings and skipped items. Pure.

The plan compares the whole sets, not the delta: a package that "every Debian has" may be missing on a minimal machine.
On another release, packages that came automatically there have other names. There a package of the install state is
missing only if no package here provides its name and a source here offers it.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field

from tklb.diff.apt_sources import is_source
from tklb.diff.packages import (
    choose_version,
    compare_versions,
    diff_packages,
    is_bound_to_machine,
    label,
    native_architecture,
)
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass
from tklb.model.packages import LocalPackage, Package, PackageHistory, PackageOffer, PackageOrder, PackageRelations
from tklb.model.plan import Role, Step, StepKind
from tklb.model.report import Skipped
from tklb.model.snapshot_metadata import SnapshotMetadata
from tklb.restore.plan.inputs import PackageState, PlanInputs
from tklb.restore.plan.packages.sources import find_support, plan_sources
from tklb.restore.plan.part import PlanPart

# Libraries and interpreters have the number of their release in their names.
_OF_ONE_RELEASE = re.compile(r"lib.+|.*[0-9]\.[0-9].*|(cpp|g\+\+|gcc)-[0-9]+.*")
_NONE = PackageRelations()
HOSTS = b"/etc/hosts"


@dataclass(frozen=True, slots=True)
class SavedPackages:
    """The packages of the backed-up machine."""

    packages: tuple[Package, ...]
    base: tuple[Package, ...] = ()  # of its install state
    local: frozenset[str] = frozenset()  # labels that no source offers
    records: tuple[LocalPackage, ...] = ()  # what dpkg knew of them there
    history: PackageHistory = field(default_factory=PackageHistory)


@dataclass(frozen=True, slots=True)
class PackagePlan:
    """The steps of a restore for packages. Names in the form of apt (`name` or `name:architecture`), sorted."""

    architectures: tuple[str, ...] = ()  # foreign ones of what comes
    install: tuple[PackageOrder, ...] = ()  # missing here, or here in another version than it has to be
    removals: tuple[str, ...] = ()  # installed here, removed there: shown, and removed only on request
    marks: tuple[tuple[str, bool, bool], ...] = ()  # name, auto, held: as on the backed-up machine
    warnings: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def plan_machine_packages(restore: PlanInputs) -> PlanPart:
    """Plan the sources and packages of a restore."""
    contents, here, choice = restore.saved.contents, restore.here, restore.choice
    takes_hosts = choice.role is Role.REPLACEMENT and restore.wants("files") and restore.wants_path(HOSTS)
    sources = plan_sources(
        contents.sources,
        here.sources,
        there=contents.machine.release,
        here=here.machine.release,
        wanted=lambda path: path != HOSTS or takes_hosts,
    )
    planned = () if choice.is_limited else contents.registries.architectures  # they come with the registries
    known = {*here.registries.architectures, *planned}
    has_lists = any(is_source(source.path) for source in sources.add)
    plan = plan_packages(
        _gather_saved(contents),
        here.packages,
        here.package_state,
        wanted=lambda name: choice.allows("package", name.encode()),
        is_other_release=contents.machine.release != here.machine.release,
        sources_come=has_lists,
    )
    support = frozenset() if plan.install or has_lists else find_support(contents.sources)
    comes = plan.install or not choice.is_limited
    add = [source for source in sources.add if comes and source.path not in support]
    stay = () if choice.remove_packages else plan.removals
    return PlanPart(
        steps=(
            *(Step(StepKind.ARCHITECTURE, name.encode()) for name in plan.architectures if name not in known),
            *(Step(StepKind.SOURCE, source.path, source=source) for source in add),
            *sorted(map(_make_order_step, plan.install), key=lambda step: step.kind is StepKind.REPLACE),
            *(Step(StepKind.REMOVE, name.encode()) for name in plan.removals if choice.remove_packages),
            *(_make_mark_step(*mark) for mark in plan.marks),
        ),
        warnings=(*plan.warnings, *_warn(restore, stay, installs=bool(plan.install))),
        skipped=(*sources.skipped, *plan.skipped),
    )


def _warn(restore: PlanInputs, stay: tuple[str, ...], *, installs: bool) -> Iterator[str]:
    if installs:
        yield from _warn_of_excluded(restore)
    if stay:
        yield f"packages that were removed there stay here: {' '.join(stay)}"


def _warn_of_excluded(restore: PlanInputs) -> list[str]:
    """Name what dpkg leaves out of packages here. If the other machine had the same settings, nothing differs."""
    excluded = restore.here.package_state.excluded
    there = {entry.path for entry in restore.saved.manifest() if entry.path in excluded} if excluded else ()
    return [
        f"dpkg leaves out parts of packages here: {' '.join(patterns)} ({printable(file)})"
        for file, patterns in excluded.items()
        if file not in there
    ]


def _gather_saved(contents: SnapshotMetadata) -> SavedPackages:
    local = frozenset(contents.local)
    return SavedPackages(contents.packages, contents.packages_base, local, contents.local_packages, contents.history)


def _make_order_step(order: PackageOrder) -> Step:
    version = f"version {order.version}, held there" if order.held and not order.local else ""
    version = f"version {order.version}, built again: no package source offers it" if order.local else version
    if order.replaces:
        swap = f"replace {' '.join(order.replaces)} by {order.label}"
        return Step(StepKind.REPLACE, order.label.encode(), "; ".join(filter(None, (swap, version))), order=order)
    return Step(StepKind.INSTALL, order.label.encode(), version, order=order)


def _make_mark_step(name: str, auto: bool, held: bool) -> Step:
    detail = ("auto" if auto else "manual") + (" held" if held else "")
    return Step(StepKind.MARK, name.encode(), detail, package=Package(name, "", "", auto, held))


def plan_packages(
    saved: SavedPackages,
    present: tuple[Package, ...],
    state: PackageState,
    *,
    wanted: Callable[[str], bool] = lambda _name: True,
    is_other_release: bool = False,
    sources_come: bool = False,
) -> PackagePlan:
    """Plan how to bring the packages of `saved` onto this machine, which has `present`.

    `wanted` selects names. `sources_come`: the plan adds package sources, which may offer more.
    """
    return _Comparison(saved, present, state, wanted, is_other_release, sources_come).plan()


class _Comparison:
    """Both package sets by label, while the plan is made."""

    def __init__(
        self,
        saved: SavedPackages,
        present: tuple[Package, ...],
        state: PackageState,
        wanted: Callable[[str], bool],
        is_other_release: bool,
        sources_come: bool,
    ) -> None:
        self._saved, self._here, self._is_other, self._sources_come = saved, state, is_other_release, sources_come
        self._wanted = wanted
        native = native_architecture(saved.packages)
        self._native = native_architecture(present) or native
        self._all_there = {self._label(package, native): package for package in saved.packages}
        self._there = {name: package for name, package in self._all_there.items() if wanted(package.name)}
        self._present = {label(package, self._native): package for package in present}
        self._unfinished = {name for name, package in self._present.items() if package.name in state.unfinished}
        delta = diff_packages(saved.base, saved.packages)
        changed = (now for base, now in (*delta.upgraded, *delta.marked) if _marks(base) != _marks(now))
        self._added = {self._label(package, native) for package in delta.added}
        self._chosen = self._added | {self._label(package, native) for package in changed}
        self._removed = {self._label(package, native) for package in delta.removed if wanted(package.name)}
        self._missing = self._there.keys() - (self._present.keys() - self._unfinished)
        self._records = {one.label: one for one in saved.records if self._fits(one)}
        self._bound = {name: why for name in self._there if (why := is_bound_to_machine(self._there[name].name))}

    def plan(self) -> PackagePlan:
        missing = self._missing - self._bound.keys() - (self._saved.local - self._records.keys())
        renamed = self._find_renamed(missing)
        order = {name: self._order(name) for name in sorted(missing - renamed.keys())}
        changed, differences = self._plan_versions()
        order |= {name: self._order(name) for name in changed}
        removals = self._find_removals(order.values())
        return PackagePlan(
            architectures=self._find_architectures(order),
            install=tuple(order[name] for name in sorted(order)),
            removals=removals,
            marks=(*self._plan_marks(order), *self._plan_absent_holds()),
            warnings=(*self._warn_of_bound(), *_warn_of_renamed(renamed), *differences),
            skipped=tuple(self._skip_local()),
        )

    def _label(self, package: Package, native: str) -> str:
        """Give the label on this machine: a foreign package there may be a native one here."""
        return package.name if package.architecture == self._native else label(package, native)

    def _fits(self, record: LocalPackage) -> bool:
        """Whether a package can be built again for this machine. A foreign one brings its architecture."""
        is_there = record.label in self._saved.local and record.label in self._there
        return is_there and (":" in record.label or record.architecture in ("all", self._native))

    # ------------------------------------------------------------ what comes

    def _find_renamed(self, missing: set[str]) -> dict[str, bool]:
        """Find packages that another release does not need or have; True if one here provides the name."""
        if not self._is_other:
            return {}
        provided = {name for one in self._here.relations.values() for name in one.provides}
        found = {name: name.partition(":")[0] in provided for name in missing - self._records.keys()}
        renamed = {
            name: is_provided
            for name, is_provided in found.items()
            if (is_provided and self._is_optional(name)) or (name not in self._added and _is_of_one_release(name))
        }
        asked = sorted(name for name in found.keys() - renamed.keys() if self._is_optional(name))
        offers = {} if self._sources_come else self._here.find_offers(asked)
        absent = {name: False for name in asked if offers and not offers.get(name, PackageOffer()).versions}
        return renamed | absent

    def _is_optional(self, name: str) -> bool:
        return self._is_other and (name not in self._added or self._there[name].auto)

    def _order(self, name: str) -> PackageOrder:
        package = self._there[name]
        local = self._records.get(name)
        is_optional = self._is_optional(name) and local is None
        return PackageOrder(name, package.version, package.held, self._find_replaced(name), is_optional, local)

    def _find_architectures(self, order: Iterable[str]) -> tuple[str, ...]:
        foreign = {name.partition(":")[2] for name in order} - {""}
        return tuple(sorted(foreign))

    # ------------------------------------------------------------ versions

    def _plan_versions(self) -> tuple[list[str], list[str]]:
        """Give the packages that both machines have and that have to change their version, and warnings."""
        newer = set(self._saved.history.newer)
        both = {name: package for name, package in self._there.items() if name in self._present}
        both = {name: package for name, package in both.items() if name not in self._unfinished}
        asked = sorted(
            name for name, package in both.items()
            if name not in self._bound and self._has_to_change(package, self._present[name], is_newer=name in newer)
        )  # fmt: skip
        offers = self._here.find_offers(asked) if asked else {}
        local = {name for name in asked if name in self._records}
        coming = [
            name
            for name in asked
            if name in local or self._can_come(both[name], offers.get(name), knows_offers=bool(offers))
        ]
        return coming, [
            f"package {name} has version {self._present[name].version} here and {both[name].version} there"
            + (", where it is held" if both[name].held else "")
            for name in asked
            if name not in coming
        ]

    def _has_to_change(self, there: Package, here: Package, *, is_newer: bool) -> bool:
        if there.held or self._label(there, self._native) in self._records:  # its files are those of that version
            return there.version != here.version
        return is_newer and not self._is_other and compare_versions(there.version, here.version) > 0

    def _can_come(self, there: Package, offer: PackageOffer | None, *, knows_offers: bool) -> bool:
        """Whether a source here offers the version. If sources come or apt has no lists, only apt can tell later."""
        if self._sources_come or not knows_offers or self._label(there, self._native) in self._records:
            return True
        if offer is None:
            return False
        chosen = choose_version(there.version, offer.versions, offer.candidate, held=there.held) or offer.candidate
        return chosen == there.version or (not there.held and compare_versions(chosen, there.version) > 0)

    # ------------------------------------------------------------ replacements and removals

    def _find_replaced(self, name: str) -> tuple[str, ...]:
        """Find packages here, and not there, that exclude the package `name`, and those that need them."""
        relations = self._saved.history.relations
        if relations is None:
            return ()
        coming = relations.get(name, _NONE)
        own = self._present.keys() - self._all_there.keys()
        rivals = {other for other in own if excludes(name, coming, other, self._here.relations.get(other, _NONE))}
        return tuple(sorted(other for other in self._add_family(rivals, own) if self._may_go(other)))

    def _add_family(self, rivals: set[str], own: set[str]) -> set[str]:
        """Add packages of the same source that are of no use without the rivals."""
        relations = self._here.relations
        sources = {relations[name].source for name in rivals if name in relations}
        family = {name for name in own if name in relations and relations[name].source in sources}
        found, size = set(rivals), -1
        while len(found) != size:
            size = len(found)
            found |= {name for name in family if found.intersection(relations[name].needs)}
        return found

    def _may_go(self, name: str) -> bool:
        return not self._here.relations.get(name, _NONE).is_essential and not is_bound_to_machine(name)

    def _find_removals(self, order: Iterable[PackageOrder]) -> tuple[str, ...]:
        replaced = {name for one in order for name in one.replaces}
        return tuple(sorted(filter(self._may_go, (self._removed & self._present.keys()) - replaced)))

    # ------------------------------------------------------------ marks

    def _plan_marks(self, order: Mapping[str, PackageOrder]) -> Iterator[tuple[str, bool, bool]]:
        """Give the marks that differ. On another release, only the owner's choices count for what both have."""
        lacking = (self._saved.local & self._there.keys()) - self._records.keys()
        needed = set(self._saved.history.needed_by_local if lacking else ())
        for name, package in sorted(self._there.items()):
            here = self._present.get(name)
            is_counted = name in order if here is None else not self._is_other or name in self._chosen or package.held
            auto = package.auto and name not in needed
            if name not in self._bound and is_counted and (here is None or _marks(here) != (auto, package.held)):
                yield name, auto, package.held

    def _plan_absent_holds(self) -> Iterator[tuple[str, bool, bool]]:
        """Hold packages that neither machine has, as there: the owner does not want them."""
        known = {*self._here.absent_holds, *self._present, *self._there}
        holds = (name for name in self._saved.history.absent_holds if self._wanted(name.partition(":")[0]))
        yield from ((name, False, True) for name in holds if name not in known)

    # ------------------------------------------------------------ what is named

    def _warn_of_bound(self) -> Iterator[str]:
        reasons: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._bound.keys() & self._missing):
            reasons[self._bound[name]].append(name)
        for why, names in sorted(reasons.items()):
            yield f"{'packages stay' if names[1:] else 'package stays'} with that machine, {why}: {' '.join(names)}"

    def _skip_local(self) -> Iterator[Skipped]:
        known = {one.label: one.architecture for one in self._saved.records}
        for name in sorted((self._missing & self._saved.local) - self._bound.keys() - self._records.keys()):
            why = f"it is for {known[name]} only" if name in known else "no package source offers it"
            yield Skipped(f"package:{name}".encode(), f"{why}; its files are restored as files")


def excludes(name: str, one: PackageRelations, other_name: str, other: PackageRelations) -> bool:
    """Whether two packages cannot be installed together, because one of them says so."""
    bare, other_bare = name.partition(":")[0], other_name.partition(":")[0]
    if bare == other_bare:
        return False
    names, other_names = {bare, *one.provides}, {other_bare, *other.provides}
    return not other_names.isdisjoint(one.conflicts) or not names.isdisjoint(other.conflicts)


def find_replacement(
    name: str,
    failed: Iterable[str],
    here: Mapping[str, PackageRelations],
    there: Mapping[str, PackageRelations] | None,
) -> str | None:
    """Find a package that failed to come and that `name` was to make room for, by what both say of others.

    If the snapshot has no relations, it may be any of those that failed.
    """
    if there is None:
        return next(iter(failed), None)
    own = here.get(name, _NONE)
    return next((other for other in failed if _serve_the_same(name, own, other, there.get(other, _NONE))), None)


def _serve_the_same(name: str, one: PackageRelations, other_name: str, other: PackageRelations) -> bool:
    shared = {name, *one.provides} & {other_name, *other.provides}
    return bool(shared) or excludes(name, one, other_name, other)


def _warn_of_renamed(renamed: Mapping[str, bool]) -> Iterator[str]:
    lost = sorted(name for name, is_provided in renamed.items() if not is_provided)
    if lost:
        yield f"packages of the other release that this one does not need or have: {' '.join(lost)}"


def _is_of_one_release(name: str) -> bool:
    return _OF_ONE_RELEASE.fullmatch(name) is not None


def _marks(package: Package) -> tuple[bool, bool]:
    return package.auto, package.held
