"""Plan the decisions that Debian keeps in registries: architectures, diversions, alternatives and more. Pure.

A decision of the owner wins over the entry of a package, and over one of this machine, which a warning then names. A
diversion that this machine has stays: two programs cannot both own a path.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tklb.diff.registries.difference import describe_group, describe_stat_override, find_missing
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.model.plan import Step, StepKind
from tklb.model.registries.decisions import Registries, StatOverride
from tklb.restore.plan.part import PlanPart

Ids = Mapping[int, int]
_REMOVALS = {
    "alternatives": StepKind.NO_ALTERNATIVE,
    "diversions": StepKind.NO_DIVERSION,
    "stat-overrides": StepKind.NO_STAT_OVERRIDE,
}


@dataclass(frozen=True, slots=True)
class RegistryPlan:
    """What comes before the packages, before the files, and after them."""

    before_packages: PlanPart = PlanPart()
    before_files: PlanPart = PlanPart()
    after_files: PlanPart = PlanPart()
    last: PlanPart = PlanPart()  # flags: nothing can follow


def plan_registries(owned: Registries, here: Registries, uids: Ids, gids: Ids) -> RegistryPlan:
    """Plan what this machine lacks; numbers of owners are mapped as those of files.

    Answers come before the packages that would ask. A diversion moves the file of a package before the owner's file
    comes to its place. Overrides need accounts and files, and a choice needs its file.
    """
    overrides = tuple(_map_owner(one, uids, gids) for one in owned.stat_overrides)
    found = find_missing(replace(owned, stat_overrides=overrides), here)
    steps = tuple(_list_steps(found.missing))
    early, middle = (StepKind.ARCHITECTURE, StepKind.PRESEED), (StepKind.DIVERSION, StepKind.NO_DIVERSION)
    return RegistryPlan(
        PlanPart(tuple(step for step in steps if step.kind in early), found.conflicts),
        PlanPart(tuple(step for step in steps if step.kind in middle)),
        PlanPart(tuple(step for step in steps if step.kind not in (*early, *middle))),
        PlanPart(
            tuple(
                Step(StepKind.FLAGS, one.path, f"+{one.flags}", FileEntry(one.path, "file", flags=one.flags))
                for one in found.missing.flags
            )
        ),
    )


def _list_steps(missing: Registries) -> Iterator[Step]:
    yield from (Step(StepKind.ARCHITECTURE, name.encode()) for name in missing.architectures)
    for answer in missing.answers:
        yield Step(StepKind.PRESEED, answer.question.encode(), f"of {answer.package}", decision=answer)
    for diversion in missing.diversions:
        detail = f"to {diversion.target.decode('utf-8', 'backslashreplace')}"
        yield Step(StepKind.DIVERSION, diversion.path, detail, decision=diversion)
    for override in missing.stat_overrides:
        yield Step(StepKind.STAT_OVERRIDE, override.path, describe_stat_override(override), decision=override)
    for group in missing.alternatives:
        yield Step(StepKind.ALTERNATIVE, group.name, describe_group(group), decision=group)

    for entry in missing.removed:
        named = entry.path if entry.registry == "alternatives" else entry.name
        detail = f"{named.decode('utf-8', 'backslashreplace')} was removed on the other machine".lstrip()
        item = entry.name if entry.registry == "alternatives" else entry.path
        yield Step(_REMOVALS[entry.registry], item, detail, decision=entry)


def _map_owner(one: StatOverride, uids: Ids, gids: Ids) -> StatOverride:
    return replace(one, user=_map_number(one.user, uids), group=_map_number(one.group, gids))


def _map_number(owner: bytes, ids: Ids) -> bytes:
    number = int(owner[1:]) if owner.startswith(b"#") else None
    return owner if number is None else b"#%d" % ids.get(number, number)
