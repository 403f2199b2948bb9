"""The packages of a plan: sources first, then what comes, what goes, and how it is marked. Pure."""

from collections.abc import Iterable, Iterator

from tklb.diff.apt_sources import plan_sources
from tklb.diff.packages import diff_packages, native_architecture, plan_packages, select
from tklb.model.files import FileEntry
from tklb.model.packages import Package
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.files import FileInputs, find_differences
from tklb.restore.plan.inputs import PlanInputs
from tklb.restore.plan.part import PlanPart


def plan_machine_packages(restore: PlanInputs) -> PlanPart:
    contents, here, choice = restore.saved.contents, restore.here, restore.choice
    delta = diff_packages(contents.packages_base, contents.packages)
    wanted = select(delta, lambda name: choice.allows("package", name.encode()))
    native = native_architecture(contents.packages)
    plan = plan_packages(wanted, here.packages, native, frozenset(contents.local))
    sources = plan_sources(contents.sources, here.sources, here.machine.release)
    add = sources.add if plan.install or not choice.is_limited else ()
    remove = plan.removals if choice.remove_packages else ()
    stay = () if choice.remove_packages else plan.removals
    return PlanPart(
        steps=(
            *(Step(StepKind.SOURCE, source.path) for source in add),
            *(Step(StepKind.INSTALL, name.encode()) for name in plan.install),
            *(Step(StepKind.REMOVE, name.encode()) for name in remove),
            *(_make_mark_step(*mark) for mark in plan.marks),
        ),
        warnings=(
            *(f"package {name} was removed there and stays here" for name in stay),
            *(f"package {name} stays with its machine: {why}" for name, why in plan.bound),
        ),
        skipped=(*sources.skipped, *plan.left_out),
    )


def _make_mark_step(name: str, auto: bool, held: bool) -> Step:
    detail = ("auto" if auto else "manual") + (" held" if held else "")
    return Step(StepKind.MARK, name.encode(), detail, package=Package(name, "", "", auto, held))


# ---------------------------------------------------------------- metadata of files that packages bring
# Set-id bits, capabilities, owners. The content is that of the package here, whatever its version, so these files are
# no part of the manifest, which has the content of its files.


def plan_packaged(entries: Iterable[FileEntry], inputs: FileInputs) -> PlanPart:
    """Give the steps that set the recorded metadata. A file that is not here is skipped, unless packages will come."""
    wanted = [entry for entry in entries if inputs.wanted(entry.path) and not inputs.keep_rules.find_rule(entry.path)]
    return PlanPart(
        steps=tuple(step for entry in wanted for step in _plan_entry(entry, inputs)),
        skipped=tuple(item for entry in wanted for item in _check_entry(entry, inputs)),
    )


def _plan_entry(entry: FileEntry, inputs: FileInputs) -> Iterator[Step]:
    have = inputs.present.entry(entry.path)
    if have is None or have.kind != entry.kind:
        return
    try:
        want = inputs.ids.map_entry(entry)
    except ValueError:  # _check_entry() reports it
        return
    if differing := find_differences(want, have):
        yield Step(StepKind.METADATA, entry.path, " ".join(differing), want, have)


def _check_entry(entry: FileEntry, inputs: FileInputs) -> Iterator[Skipped]:
    have = inputs.present.entry(entry.path)
    if have is None and not inputs.packages_come:
        yield Skipped(entry.path, "its package did not bring it, so its mode and owner cannot be set")
    try:
        inputs.ids.map_entry(entry)
    except ValueError as exc:
        yield Skipped(entry.path, f"its access control list is malformed: {exc}")
    if have is not None and have.kind != entry.kind:
        yield Skipped(entry.path, f"it is a {have.kind} here, and was a {entry.kind}")
