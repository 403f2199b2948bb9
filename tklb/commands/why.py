"""Explain why a path is part of the delta, or is not: rule, package, install state, difference."""

from dataclasses import dataclass

from tklb.backup.collect import MachineState, collect_state, digest_of
from tklb.config.paths import ROOT
from tklb.diff.files import compare_pair
from tklb.diff.rules import Decision, Rule, Rules
from tklb.errors import printable
from tklb.host.dpkg import find_owner
from tklb.host.files.scan import scan
from tklb.host.own_traces import read_own_traces
from tklb.model.files import FileEntry
from tklb.model.report import SkippedItems
from tklb.profile.builtin import ELSEWHERE
from tklb.profile.state import read_install_state
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
    reasons = [_explain_rule(decision)]
    package = find_owner(ROOT, path)
    if package:
        reasons.append(f"package {package} brings it")
    if not decision.included:
        return Explanation(path, False, tuple(reasons))
    base, now = _find_installed(session, state, path), _find_present(path)
    changes = [change.change for change in compare_pair(base, now, digest_of, ())] if base or now else []
    reasons.append("the install state has it" if base else "the install state does not have it")
    reasons.append("it is not there now" if now is None else f"it is there now, a {now.kind}")
    reasons += [f"compared: {change}" for change in changes] or ["compared: no difference"]
    return Explanation(path, bool(changes), tuple(reasons))


def _explain_rule(decision: Decision) -> str:
    if decision.rule is None:
        return "no rule covers it"
    if not decision.included and decision.rule.pattern in read_own_traces(ROOT).folders:
        return f"left out: tklb was installed from {printable(decision.rule.pattern)}; an override can take it"
    if decision.rule.pattern in ELSEWHERE and not decision.included:
        return f"not taken as a file: {ELSEWHERE[decision.rule.pattern]}"
    return f"{'included' if decision.rule.include else 'left out'} by the rule {printable(decision.rule.pattern)}"


def _find_installed(session: Session, state: MachineState, path: bytes) -> FileEntry | None:
    states = read_install_state(session.profile, ROOT, state.installed, state.local, state.rules)
    return next((entry for entry in states if entry.path == path), None)


def _find_present(path: bytes) -> FileEntry | None:
    found = scan(ROOT, Rules((Rule(True, path),)), skipped=SkippedItems(), own=())
    return next((entry for entry in found if entry.path == path), None)
