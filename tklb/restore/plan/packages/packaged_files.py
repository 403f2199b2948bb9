"""Metadata of files that packages bring: set-id bits, capabilities, owners. Pure.

The content is that of the package here, whatever its version, so these files are no part of the manifest, which has the
content of its files.
"""

from collections.abc import Iterable, Iterator

from tklb.model.files import FileEntry
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.files.file_inputs import FileInputs
from tklb.restore.plan.files.present import find_differences
from tklb.restore.plan.part import PlanPart


def plan_packaged(entries: Iterable[FileEntry], inputs: FileInputs) -> PlanPart:
    """Give the steps that set the recorded metadata. A file that is not here is skipped, unless packages will come."""
    wanted = [entry for entry in entries if inputs.wanted(entry.path) and not inputs.keep_rules.find_rule(entry.path)]
    return PlanPart(
        steps=tuple(step for entry in wanted for step in _plan_entry(entry, inputs)),
        skipped=tuple(item for entry in wanted for item in _check_entry(entry, inputs)),
    )


def plan_packaged_flags(entries: Iterable[FileEntry], inputs: FileInputs) -> tuple[Step, ...]:
    """Give the steps that set the recorded flags of chattr(1), which come last."""
    wanted = (entry for entry in entries if entry.flags and inputs.wanted(entry.path))
    found = ((entry, inputs.present.entry(entry.path)) for entry in wanted)
    return tuple(
        Step(StepKind.FLAGS, entry.path, f"+{entry.flags}", entry)
        for entry, have in found
        if have is not None and have.kind == entry.kind and have.flags != entry.flags
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
