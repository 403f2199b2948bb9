"""All registries of a machine, and one decision carried out on it."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tklb.diff.packages import native_architecture
from tklb.diff.registries.forms import can_remove
from tklb.errors import ProgramFailed, ProgramMissing
from tklb.host.accounts import FILES
from tklb.host.dpkg import find_listed
from tklb.host.files.flags import FlagReader
from tklb.host.registries.alternatives import read_alternatives, remove_choice, set_alternative
from tklb.host.registries.architectures import add_architecture, read_architectures
from tklb.host.registries.debconf import give_answers, read_answers
from tklb.host.registries.diversions import add_diversion, read_diversions, remove_diversion
from tklb.host.registries.removed import read_removed
from tklb.host.registries.stat_overrides import add_stat_override, read_stat_overrides, remove_stat_override
from tklb.model.packages import Package
from tklb.model.plan import Step, StepKind
from tklb.model.registries.decisions import (
    AlternativeGroup,
    Answer,
    Diversion,
    FileFlags,
    Registries,
    RemovedEntry,
    StatOverride,
)
from tklb.model.report import Skipped


def read_registries(
    root: bytes, installed: Sequence[Package], wanted: Callable[[str], bool] = lambda _name: True
) -> Registries:
    """Give the registries below `root`. `wanted` says whether the answers of debconf to a package count."""
    find = partial(find_listed, root)
    groups, diversions, overrides = read_alternatives(root, find), read_diversions(root), read_stat_overrides(root)
    return Registries(
        architectures=read_architectures(root, native_architecture(installed)),
        diversions=diversions,
        stat_overrides=overrides,
        alternatives=groups,
        answers=read_answers(root, wanted),
        removed=tuple(filter(can_remove, read_removed(root, groups, diversions, overrides, find))),
        flags=tuple(_read_flags(root)),
    )


def _read_flags(root: bytes) -> Iterator[FileFlags]:
    """Give the flags of the account files, which travel account by account."""
    reader, descriptor = FlagReader(), os.open(os.path.join(root, b"etc"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = ((name, reader.read(descriptor, name.encode())) for name in sorted(FILES))
        yield from (FileFlags(b"/etc/" + name.encode(), letters) for name, letters in found if letters)
    finally:
        os.close(descriptor)


def apply_decisions(kind: StepKind, steps: Sequence[Step], root: bytes) -> tuple[Skipped, ...]:
    """Carry out steps of one kind; give those that failed."""
    if kind is StepKind.PRESEED:
        answers = [step.decision for step in steps if isinstance(step.decision, Answer)]
        reason = _try(lambda: give_answers(answers, root))
        return tuple(Skipped(step.item, reason) for step in steps if reason)
    tried = [(step.item, _apply(step, root)) for step in steps]
    return tuple(Skipped(item, reason) for item, reason in tried if reason)


def _apply(step: Step, root: bytes) -> str:
    match step.decision:
        case Diversion() as diversion:
            return _try(lambda: add_diversion(diversion, root))
        case StatOverride() as override:
            return _try(lambda: add_stat_override(override, root))
        case AlternativeGroup() as group:
            return _try(lambda: set_alternative(group, root))
        case RemovedEntry() as entry:
            return _try(lambda: _remove(entry, root))
    return _try(lambda: add_architecture(step.item.decode("ascii"), root))


def _remove(entry: RemovedEntry, root: bytes) -> None:
    match entry.registry:
        case "diversions":
            remove_diversion(entry, root)
        case "stat-overrides":
            remove_stat_override(entry, root)
        case _:
            remove_choice(entry, root)


def _try(action: Callable[[], None]) -> str:
    try:
        action()
    except (ProgramMissing, ProgramFailed) as exc:
        return str(exc)
    return ""
