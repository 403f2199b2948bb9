"""Rules that include or exclude paths. Pure: rules and names in, decisions out; it never looks at the disk.

A rule includes or excludes the paths that its pattern matches, and all below. A pattern is an absolute path. Within a
component `*`, `?` and `[...]` stand for characters (never for a slash), and the component `**` for any number of
components. A backslash makes the next character plain. A pattern also matches the path that it spells, so a file named
`a[1]` needs no backslash.

The nearest rule above a path decides: the rule that matches the longest leading part of the path, in components. At
equal depth an override beats a rule of the profile, an exact path beats a glob, and exclude beats include. The order of
rules never matters. A path that no rule matches is excluded.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from tklb.diff.keywords import escape, unescape
from tklb.errors import UsageWrong
from tklb.model.databases import ENGINES, find_engine

_GLOB_SIGNS = re.compile(rb"[*?\[\\]")
_MOST_FOLDERS = 1000
_BACKSLASHED = re.compile(r"\\(.)", re.DOTALL)
Component = bytes | re.Pattern[str] | None  # None: any number of components


class Rule(NamedTuple):
    """Include or exclude all that `pattern` matches, and all below. `is_literal`: no sign in it is special."""

    include: bool
    pattern: bytes
    is_override: bool = False
    is_literal: bool = False


class Decision(NamedTuple):
    included: bool
    rule: Rule | None  # None: no rule matches


class _Lead(NamedTuple):
    """A rule, and the rest of its pattern that must match below some folder."""

    rest: tuple[Component, ...]
    rank: tuple[bool, bool, bool]  # override, exact, exclude: the greater decides
    rule: Rule


class Folder:
    """The decision of the rules about one folder, and the rules that may decide about paths in it.

    Rules match component by component on the way down, so nothing matches twice. A folder that a rule spells is kept by
    the folder above it: a machine may have a rule for each of a hundred thousand files.
    """

    __slots__ = ("_globs", "_kept", "_names", "decision")

    def __init__(self, decision: Decision, leads: Iterable[_Lead]) -> None:
        self.decision = decision
        self._kept: dict[bytes, Folder] = {}
        self._names: dict[bytes, list[_Lead]] = {}
        self._globs: list[_Lead] = []
        for lead in leads:
            if isinstance(head := lead.rest[0], bytes):
                self._names.setdefault(head, []).append(lead)
            else:
                self._globs.append(lead)

    @property
    def is_uniform(self) -> bool:
        """Whether the decision about the folder holds for everything below it."""
        return not self._names and not self._globs

    @property
    def may_hold(self) -> bool:
        """Whether the rules include the folder, or may include something below it at any depth."""
        return self.decision.included or any(lead.rule.include for lead in self._leads())

    @property
    def only_names(self) -> tuple[bytes, ...] | None:
        """The only names in it that the rules may include, sorted; None if any name may be included."""
        if self.decision.included or any(lead.rule.include for lead in self._globs):
            return None
        return tuple(sorted(self._names))

    def rules_below(self) -> Iterator[Rule]:
        """Give the rules that may decide about paths in the folder."""
        return (lead.rule for lead in self._leads())

    def enter(self, name: bytes) -> "Folder":
        """Give the folder `name` in this folder."""
        if not self._globs and name not in self._names:
            return self if self.is_uniform else Folder(self.decision, ())
        if (kept := self._kept.get(name)) is not None:
            return kept
        best: _Lead | None = None
        further = []
        for lead in self._match(name):
            if lead.rest:
                further.append(lead)
            elif best is None or lead.rank > best.rank:
                best = lead
        decision = self.decision if best is None else Decision(best.rule.include, best.rule)
        folder = Folder(decision, dict.fromkeys(further))
        if further and name in self._names:
            self._kept[name] = folder
        return folder

    def _leads(self) -> Iterator[_Lead]:
        for leads in self._names.values():
            yield from leads
        yield from self._globs

    def _match(self, name: bytes) -> Iterator[_Lead]:
        """Give the leads that match `name`; those whose pattern ends there have no rest."""
        for lead in self._names.get(name, ()):
            yield lead._replace(rest=lead.rest[1:])
        if not self._globs:
            return
        text = name.decode("utf-8", "surrogateescape")
        for lead in self._globs:
            yield from _match_component(lead, name, text)


class Rules:
    """All rules of a run. `rules` may come in any order."""

    __slots__ = ("_folders", "_root", "rules")

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(sorted(set(rules)))
        leads = [lead for rule in self.rules for lead in _read_leads(rule)]
        own = [lead for lead in leads if not lead.rest]
        best = max(own, key=lambda lead: lead.rank, default=None)
        decision = Decision(False, None) if best is None else Decision(best.rule.include, best.rule)
        self._root = Folder(decision, [lead for lead in leads if lead.rest])
        self._folders: dict[bytes, Folder] = {}  # recent ones: neighbours are asked for together

    def root(self) -> Folder:
        """Give the folder /, where a walk begins."""
        return self._root

    def decide(self, path: bytes) -> Decision:
        """Decide about an absolute path, and give the rule that decides."""
        parent, slash, name = path.rpartition(b"/")
        if not slash or not name:
            return self.find_folder(path).decision
        folder = self._folders.get(parent)
        if folder is None:
            folder = self.find_folder(parent or b"/")
            if len(self._folders) >= _MOST_FOLDERS:
                self._folders.clear()
            self._folders[parent] = folder
        return folder.enter(name).decision

    def may_hold(self, path: bytes) -> bool:
        """Whether the rules include the folder `path`, or may include something below it."""
        return self.find_folder(path).may_hold

    def find_folder(self, path: bytes) -> Folder:
        folder = self._root
        for name in split_path(path):
            folder = folder.enter(name)
        return folder

    def add_overrides(self, overrides: Iterable[Rule]) -> Self:
        """Give these rules and the `overrides`, which beat them."""
        added = tuple(rule._replace(is_override=True) for rule in overrides)
        return type(self)((*self.rules, *added)) if added else self


def split_path(path: bytes) -> tuple[bytes, ...]:
    """Split an absolute path; double slashes and one at the end do not count. Raises ValueError for other paths."""
    parts = tuple(part for part in path.split(b"/") if part)
    if not path.startswith(b"/") or b"\0" in path or b"." in parts or b".." in parts:
        raise ValueError(f"not an absolute path: {path.decode('utf-8', 'backslashreplace')}")
    return parts


def translate_glob(glob: bytes) -> re.Pattern[str]:
    """Give the regular expression of one component. `?` is one character of UTF-8, or one byte that is not UTF-8."""
    text = glob.decode("utf-8", "surrogateescape")
    return re.compile(fnmatch.translate(_BACKSLASHED.sub(_escape_glob_sign, text)))


def _escape_glob_sign(match: re.Match[str]) -> str:
    sign = match[1]
    return f"[{sign}]" if sign in "*?[\\" else sign


def _read_leads(rule: Rule) -> Iterator[_Lead]:
    """Give the readings of a pattern: as the path that it spells, and as a glob if it has glob signs."""
    names = split_path(rule.pattern)
    yield _Lead(names, (rule.is_override, True, not rule.include), rule)
    if rule.is_literal or not _GLOB_SIGNS.search(rule.pattern):
        return
    if names[-1] == b"**":  # a rule holds for all below, so this means everything in the folder
        names = (*names[:-1], b"*")
    yield _Lead(tuple(map(_parse_component, names)), (rule.is_override, False, not rule.include), rule)


def _parse_component(part: bytes) -> Component:
    if part == b"**":
        return None
    return translate_glob(part) if _GLOB_SIGNS.search(part) else part


def _match_component(lead: _Lead, name: bytes, text: str) -> Iterator[_Lead]:
    """Match one name against the first component of a pattern; `**` may match it or not."""
    head, rest = lead.rest[0], lead.rest[1:]
    if head is None:
        yield lead
        yield from _match_component(lead._replace(rest=rest), name, text)
    elif head == name if isinstance(head, bytes) else head.fullmatch(text):
        yield lead._replace(rest=rest)


# ---------------------------------------------------------------- rules as lines


def format_rules(rules: Iterable[Rule]) -> tuple[bytes, ...]:
    """Write each rule as a line of words: include or exclude, profile or override, glob or path, and the pattern."""
    return tuple(_format_rule(rule) for rule in sorted(set(rules)))


def _format_rule(rule: Rule) -> bytes:
    words = (
        b"include" if rule.include else b"exclude",
        b"override" if rule.is_override else b"profile",
        b"path" if rule.is_literal else b"glob",
    )
    return b" ".join((*words, escape(rule.pattern)))


def parse_rules(lines: Iterable[bytes]) -> tuple[Rule, ...]:
    """Read the lines that format_rules() wrote. Raises ValueError."""
    return tuple(map(_parse_rule, lines))


def _parse_rule(line: bytes) -> Rule:
    include, origin, form, pattern = line.split(b" ")
    known = include in (b"include", b"exclude") and origin in (b"override", b"profile") and form in (b"path", b"glob")
    if not known:
        raise ValueError(f"not a rule: {line.decode('utf-8', 'backslashreplace')}")
    rule = Rule(include == b"include", unescape(pattern), origin == b"override", form == b"path")
    split_path(rule.pattern)
    return rule


# ---------------------------------------------------------------- overrides

_DATABASE = re.compile(r"[^/\0]+(/[^/\0]+)?")
_NAMES = {
    "package": re.compile(r"[a-z0-9*?\[][a-z0-9+.:*?\[\]!-]*"),
    "user": re.compile(r"[^-/:\s\0][^/:\s\0]*"),
}


class Override(NamedTuple):
    """One override of the owner. `kind` is path, package, user or the word of a database server."""

    kind: str
    include: bool
    value: bytes

    @property
    def rule(self) -> Rule:
        """The override as a rule. Items that are no paths match like paths: `DB/TABLE` as /DB/TABLE."""
        return Rule(self.include, self.value if self.kind == "path" else b"/" + self.value, is_override=True)


def parse_override(text: str | bytes) -> Override:
    """Read `/path`, `ENGINE:DB[/TABLE]`, `package:NAME` or `user:NAME`, or one of them after a `-`.

    All may be globs. Raises UsageWrong.
    """
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    include, body = not raw.startswith(b"-"), raw.removeprefix(b"-")
    if body.startswith(b"/"):
        try:
            return Override("path", include, b"/" + b"/".join(split_path(body)))
        except ValueError as exc:
            raise UsageWrong(reason=str(exc)) from None
    kind, _, value = body.decode("utf-8", "surrogateescape").partition(":")
    patterns = _list_patterns()
    pattern = _DATABASE if find_engine(kind) else patterns.get(kind)
    if pattern is None or not pattern.fullmatch(value) or {".", ".."} & set(value.split("/")):
        shown = raw.decode("utf-8", "backslashreplace")
        raise UsageWrong(reason=f"`{shown}` is not an override: give a path, {':NAME, '.join(patterns)}:NAME")
    return Override(kind, include, value.encode("utf-8", "surrogateescape"))


def _list_patterns() -> dict[str, re.Pattern[str]]:
    """The names of each kind of item that is no path."""
    return {**dict.fromkeys(ENGINES, _DATABASE), **_NAMES}


class Selection:
    """A list of overrides that decides about items of every kind."""

    __slots__ = ("_has_includes", "_rules")

    def __init__(self, overrides: Iterable[Override]) -> None:
        overrides = tuple(overrides)
        self._has_includes = any(override.include for override in overrides)
        self._rules = {
            kind: Rules(override.rule for override in overrides if override.kind == kind)
            for kind in ("path", *_list_patterns())
        }

    def says(self, kind: str, name: bytes) -> bool | None:
        """Whether an override includes `name` or excludes it; None if no override matches."""
        decision = self._rules[kind].decide(name if kind == "path" else b"/" + name)
        return None if decision.rule is None else decision.included

    def allows(self, kind: str, name: bytes) -> bool:
        """Whether `name` is allowed. If no override includes anything, all is allowed that none excludes."""
        is_included = self.says(kind, name)
        return not self._has_includes if is_included is None else is_included
