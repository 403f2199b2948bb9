"""The packages of a plan: sources first, then what comes, what goes, and how it is marked. Pure."""

from tklb.diff.apt_sources import plan_sources
from tklb.diff.packages import diff_packages, native_architecture, plan_packages, select
from tklb.model.packages import Package
from tklb.model.plan import Step, StepKind
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
