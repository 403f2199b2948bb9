"""Show the scope of this machine: what is taken and why, what is left out and why, and what lies outside."""

from collections.abc import Iterable, Iterator

from tklb.backup.collect import MachineState, collect_state
from tklb.backup.scope.outside import find_outside, find_present
from tklb.backup.scope.sizes import measure_tree
from tklb.config.paths import ROOT
from tklb.diff.rules import Rule
from tklb.host.own_traces import read_own_traces
from tklb.lazy_dataclass import dataclass
from tklb.model.report import MountPoint, OutsideItem
from tklb.profile import builtin
from tklb.profile.left_out import LEFT_OUT, LOST, LeftOut, LeftOutKind
from tklb.session import Session

_MEASURED = LOST | {LeftOutKind.SERVER, LeftOutKind.MACHINE, LeftOutKind.LOGS}
_UNMEASURED = frozenset({b"/proc", b"/sys", b"/dev", b"/run", b"/boot", b"/usr/lib/modules"})


@dataclass(frozen=True, slots=True)
class TakenRule:
    """A rule that includes paths. `origin`: profile, built-in, override or found."""

    pattern: bytes
    origin: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOutPath:
    """A path of this machine that a rule leaves out. `bytes` is None where it was not measured."""

    path: bytes
    pattern: bytes
    kind: str
    reason: str
    bytes: int | None = None
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class ScopeReport:
    profile: str
    taken: tuple[TakenRule, ...]
    left_out: tuple[LeftOutPath, ...]
    mounts: tuple[MountPoint, ...]
    outside: tuple[OutsideItem, ...]


def explain_scope(session: Session, overrides: Iterable[str] = ()) -> ScopeReport:
    """Raises UsageWrong for a malformed override, ConfigInvalid for one of the configuration."""
    state = collect_state(session, overrides)
    return ScopeReport(
        profile=session.profile.id,
        taken=tuple(sorted(_list_taken(state), key=lambda item: item.pattern)),
        left_out=tuple(sorted(_list_left_out(session, state), key=lambda item: item.path)),
        mounts=state.found.mounts,
        outside=find_outside(session, state.rules, state.found.unwalked),
    )


def _list_taken(state: MachineState) -> Iterator[TakenRule]:
    reasons, system = name_reasons(state), frozenset(state.found.system)
    for rule in state.rules.rules:
        if rule.include and rule.pattern not in system:
            yield TakenRule(rule.pattern, *explain_include(rule, reasons))


def name_reasons(state: MachineState) -> dict[bytes, str]:
    """Give the reasons of the paths that were found, also of single ones of packages and local packages."""
    return {
        **dict.fromkeys(state.local_files, "no package source offers the package"),
        **dict.fromkeys(state.found.system, "compared with what its package brings"),
        **{found.path: found.reason for found in state.found.paths},
    }


def explain_include(rule: Rule, reasons: dict[bytes, str]) -> tuple[str, str]:
    """Give the origin of a rule, and the reason in words."""
    if rule.is_override:
        return "override", "an override"
    if rule.is_literal:
        return "found", reasons.get(rule.pattern, "found on this machine")
    if rule in builtin.INCLUDES:
        return "built-in", builtin.ALWAYS[rule.pattern]
    return "profile", "the profile"


def _list_left_out(session: Session, state: MachineState) -> Iterator[LeftOutPath]:
    servers = (LeftOut(found.path, LeftOutKind.SERVER, found.reason) for found in state.found.servers)
    for item in {**LEFT_OUT, **{item.pattern: item for item in servers}}.values():
        for path in find_present(state.rules, item):
            is_measured = item.kind in _MEASURED and path not in _UNMEASURED
            size = measure_tree(path) if is_measured else None
            count, is_whole = (size.bytes, size.is_whole) if size else (None, True)
            yield LeftOutPath(path, item.pattern, item.kind, item.reason, count, is_whole)
    for rule in (rule for rule in state.rules.rules if rule.is_override and not rule.include):
        yield LeftOutPath(rule.pattern, rule.pattern, "override", "an override")
    for folder in read_own_traces(ROOT).folders:
        yield LeftOutPath(folder, folder, "tklb", "tklb was installed from it")
    for own in (own for own in state.found.own if state.rules.decide(own.path).included):
        yield LeftOutPath(own.path, own.path, "tklb", own.reason)
    for pattern in session.profile.recipe.exclude:
        yield LeftOutPath(pattern, pattern, "profile", "the profile")
