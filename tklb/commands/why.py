"""Explain why a path is part of the delta, or is not: rule, package, install state, difference."""

from tklb.backup.collect import MachineState, collect_state, digest_of, read_base
from tklb.commands.scope import explain_include, name_reasons
from tklb.config.paths import ROOT
from tklb.diff.files import compare_pair
from tklb.diff.rules import Decision, Rule, Rules
from tklb.errors import printable
from tklb.host.dpkg import find_owner
from tklb.host.files.scan import scan
from tklb.host.mounts import is_within
from tklb.host.own_traces import read_own_traces
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.model.report import SkippedItems
from tklb.profile.left_out import LEFT_OUT
from tklb.session import Session


@dataclass(frozen=True, slots=True)
class Explanation:
    path: bytes
    in_delta: bool
    reasons: tuple[str, ...]


def explain(session: Session, path: bytes) -> Explanation:
    """Decide about one absolute path as a backup would, and give the reasons."""
    state = collect_state(session)
    decision = state.rules.decide(path)
    reasons = [_explain_rule(state, decision)]
    package = find_owner(ROOT, path)
    if package:
        reasons.append(f"package {package} brings it")
    if path in state.found.missing:
        return Explanation(path, True, (*reasons[1:], "it is not there now: somebody deleted it"))
    if decision.included and (obstacle := _find_mount(state, path)):
        return Explanation(path, False, (*reasons, obstacle))
    if not decision.included:
        return Explanation(path, False, tuple(reasons))
    base, now = _find_installed(session, state, path), _find_present(path)
    changes = [change.change for change in compare_pair(base, now, digest_of, ())] if base or now else []
    reasons.append("the install state has it" if base else "the install state does not have it")
    reasons.append("it is not there now" if now is None else f"it is there now, a {now.kind}")
    reasons += [f"compared: {change}" for change in changes] or ["compared: no difference"]
    return Explanation(path, bool(changes), tuple(reasons))


def _explain_rule(state: MachineState, decision: Decision) -> str:
    rule = decision.rule
    if rule is None:
        return "no rule covers it"
    if not rule.include and rule.pattern in read_own_traces(ROOT).folders:
        return f"left out: tklb was installed from {printable(rule.pattern)}; an override can take it"
    if rule.include:
        return f"included by the rule {printable(rule.pattern)}: {explain_include(rule, name_reasons(state))[1]}"
    if rule.pattern in LEFT_OUT and not rule.is_override:
        return f"left out by the rule {printable(rule.pattern)}: {LEFT_OUT[rule.pattern].reason}"
    reasons = {found.path: f": {found.reason}" for found in state.found.servers if not rule.is_override}
    return f"left out by the rule {printable(rule.pattern)}{reasons.get(rule.pattern, '')}"


def _find_mount(state: MachineState, path: bytes) -> str | None:
    """Say why a walk does not reach a path that the rules include; None if it does."""
    for mount in state.found.mounts:
        if not mount.taken and is_within(path, mount.path):
            return f"not read: {printable(mount.path)} is a mount point: {mount.reason}"
    return next((f"not read: {own.reason}" for own in state.found.own if is_within(path, own.path)), None)


def _find_installed(session: Session, state: MachineState, path: bytes) -> FileEntry | None:
    return next((entry for entry in read_base(session, state) if entry.path == path), None)


def _find_present(path: bytes) -> FileEntry | None:
    found = scan(ROOT, Rules((Rule(True, path),)), skipped=SkippedItems(), own=())
    return next((entry for entry in found if entry.path == path), None)
