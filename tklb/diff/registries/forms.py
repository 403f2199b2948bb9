"""The registries as text, in the forms of Debian's own tools. Pure.

    architectures     one a line, as dpkg --print-foreign-architectures gives them
    diversions        three lines each, path, target and package, as in /var/lib/dpkg/diversions
    stat-overrides    `user group mode path`, as dpkg-statoverride --list gives them
    alternatives      stanzas as update-alternatives --query gives them, one more empty line between two groups
    debconf           `package question type value`, as debconf-set-selections reads them
    removed           `registry name path`: entries of packages that the owner removed; no name is `-`
    flags             `letters path`: flags of chattr(1) of files that travel otherwise, as accounts for example

The text may be hostile: parsers raise ValueError, or leave out what is malformed where they read this machine's files.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from tklb.diff.packages import ARCHITECTURE, NAME
from tklb.model.registries.decisions import (
    AlternativeGroup,
    Answer,
    Choice,
    Diversion,
    FileFlags,
    Registries,
    RemovedEntry,
    SlaveLink,
    StatOverride,
)
from tklb.model.secret import Secret

ANSWER_KINDS = ("select", "multiselect", "boolean", "string", "password")
LOCAL = b":"  # the package of a diversion of the owner
_OWNER = re.compile(rb"#[0-9]{1,10}|[^\s:#/-][^\s:/]*")
_MODE = re.compile(rb"[0-7]{1,5}")
_GROUP = re.compile(rb"[^\s/-][^\s/]*")
_PATH = re.compile(rb"/[^\n\0]*")
_QUESTION = re.compile(r"[!-~]+")

_LETTERS = re.compile(rb"a?i?")

REGISTRIES = ("architectures", "diversions", "stat-overrides", "alternatives", "debconf", "removed", "flags")
REMOVABLE = ("alternatives", "diversions", "stat-overrides")
T = TypeVar("T")


def format_registries(found: Registries) -> dict[str, bytes]:
    """Give the text of each registry that is not empty, by name."""
    texts = {
        "architectures": format_architectures(found.architectures),
        "diversions": format_diversions(found.diversions),
        "stat-overrides": format_stat_overrides(found.stat_overrides),
        "alternatives": format_alternatives(found.alternatives),
        "debconf": format_answers(found.answers),
        "removed": b"".join(b"%b %b %b\n" % (r.registry.encode(), r.name or b"-", r.path) for r in found.removed),
        "flags": b"".join(b"%b %b\n" % (one.flags.encode(), one.path) for one in found.flags),
    }
    return {name: text for name, text in texts.items() if text}


def parse_registries(texts: Mapping[str, bytes]) -> Registries:
    """Read what format_registries() gave; an absent text is an empty registry. Raises ValueError."""
    return Registries(
        parse_architectures(texts.get("architectures", b"")),
        parse_diversions(texts.get("diversions", b"")),
        parse_stat_overrides(texts.get("stat-overrides", b"")),
        parse_alternatives(texts.get("alternatives", b"")),
        parse_answers(texts.get("debconf", b"")),
        tuple(map(_parse_removed, texts.get("removed", b"").split(b"\n")[:-1])),
        tuple(map(_parse_flags, texts.get("flags", b"").split(b"\n")[:-1])),
    )


def format_architectures(names: Iterable[str]) -> bytes:
    return b"".join(name.encode() + b"\n" for name in names)


def parse_architectures(text: bytes) -> tuple[str, ...]:
    names = tuple(text.decode("ascii").split())
    return _check(names, all(map(ARCHITECTURE.fullmatch, names)), "architectures")


# ---------------------------------------------------------------- diversions


def format_diversions(diversions: Iterable[Diversion]) -> bytes:
    return b"".join(b"%b\n%b\n%b\n" % (one.path, one.target, one.package or LOCAL) for one in diversions)


def parse_diversions(text: bytes) -> tuple[Diversion, ...]:
    """Read all diversions; one of the owner has no package. Sorted. Leaves out what has no absolute paths."""
    lines = text.split(b"\n")
    every = (
        Diversion(path, target, b"" if package == LOCAL else package)
        for path, target, package in zip(lines[::3], lines[1::3], lines[2::3], strict=False)
    )
    return tuple(sorted(one for one in every if _PATH.fullmatch(one.path) and _PATH.fullmatch(one.target)))


# ---------------------------------------------------------------- overrides of owner and mode


def format_stat_overrides(overrides: Iterable[StatOverride]) -> bytes:
    return b"".join(b"%b %b %o %b\n" % (one.user, one.group, one.mode, one.path) for one in overrides)


def parse_stat_overrides(text: bytes) -> tuple[StatOverride, ...]:
    """Read lines `user group mode path`. Sorted. Leaves out malformed ones."""
    return tuple(sorted(filter(None, map(_parse_stat_override, text.split(b"\n")))))


def _parse_stat_override(line: bytes) -> StatOverride | None:
    words = line.split(b" ", 3)
    if len(words) < 4 or not all(map(_OWNER.fullmatch, words[:2])) or not _PATH.fullmatch(words[3]):
        return None
    mode = int(words[2], 8) if _MODE.fullmatch(words[2]) else -1
    return StatOverride(words[3], words[0], words[1], mode) if 0 <= mode <= 0o7777 else None


# ---------------------------------------------------------------- alternatives


def format_alternatives(groups: Iterable[AlternativeGroup]) -> bytes:
    return b"\n".join(map(_format_group, groups))


def _format_group(group: AlternativeGroup) -> bytes:
    """Write a group with the choices that it has here. `Value` is there in manual mode only."""
    mode = b"auto" if group.manual is None else b"manual\nValue: " + group.manual
    stanzas = [b"Name: %b\nLink: %b\nStatus: %b\n\n" % (group.name, group.link, mode)]
    for choice in group.choices:
        slaves = b"".join(b" %b %b %b\n" % (one.name, one.link, one.path) for one in choice.slaves)
        more = b"Slaves:\n" + slaves if slaves else b""
        stanzas.append(b"Alternative: %b\nPriority: %d\n%b\n" % (choice.path, choice.priority, more))
    return b"".join(stanzas)


def parse_alternatives(text: bytes) -> tuple[AlternativeGroup, ...]:
    """Read what format_alternatives() wrote. Raises ValueError for anything else."""
    return tuple(map(_parse_group, filter(None, text.split(b"\n\n\n"))))


def can_write(group: AlternativeGroup) -> bool:
    """Whether the form can hold the group: a name or path may have signs that it cannot."""
    try:
        return parse_alternatives(format_alternatives((group,))) == (group,)
    except ValueError:
        return False


def _parse_group(text: bytes) -> AlternativeGroup:
    head, *choices = filter(None, text.strip(b"\n").split(b"\n\n"))
    fields = _read_fields(head)
    name, link, manual = fields.get(b"Name", b""), fields.get(b"Link", b""), fields.get(b"Value")
    is_whole = (b"manual", b"auto")[manual is None] == fields.get(b"Status") and _is_path(link, manual or b"/")
    group = AlternativeGroup(name, link, manual, tuple(map(_parse_choice, choices)))
    return _check(group, bool(is_whole and _GROUP.fullmatch(name)), "alternatives")


def _parse_choice(text: bytes) -> Choice:
    fields = _read_fields(text)
    slaves = tuple(_parse_slave(line[1:]) for line in text.split(b"\n") if line.startswith(b" "))
    path = fields.get(b"Alternative", b"")
    return _check(Choice(path, int(fields.get(b"Priority", b"")), slaves), _is_path(path), "alternatives")


def _parse_slave(line: bytes) -> SlaveLink:
    """Read `name link path`: a link has no space before a slash."""
    name, _, rest = line.partition(b" ")
    link, _, path = rest.partition(b" /")
    slave = SlaveLink(name, link, b"/" + path)
    return _check(slave, bool(_GROUP.fullmatch(name)) and _is_path(link, slave.path), "alternatives")


def _read_fields(text: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b": ") for line in text.split(b"\n") if not line.startswith(b" "))
    return {key: value for key, colon, value in lines if colon}


# ---------------------------------------------------------------- answers of debconf


def format_answers(answers: Iterable[Answer]) -> bytes:
    lines = (f"{one.package} {one.question} {one.kind} {one.reveal()}\n" for one in answers)
    return "".join(lines).encode("utf-8", "surrogateescape")


def parse_answers(text: bytes) -> tuple[Answer, ...]:
    """Read what format_answers() wrote. Raises ValueError for anything else."""
    return tuple(map(_parse_answer, text.decode("utf-8", "surrogateescape").split("\n")[:-1]))


def _parse_answer(line: str) -> Answer:
    package, question, kind, value = (*line.split(" ", 3), "", "", "", "")[:4]
    answer = Answer(package, question, kind, Secret(value) if kind == "password" else value)
    return _check(answer, can_preseed(answer), "debconf")


def can_preseed(answer: Answer) -> bool:
    """Whether debconf-set-selections can take the answer: it is one line, and no continued one."""
    is_named = bool(NAME.fullmatch(answer.package) and _QUESTION.fullmatch(answer.question))
    value = answer.reveal()
    return is_named and answer.kind in ANSWER_KINDS and "\n" not in value and not value.endswith("\\")


# ---------------------------------------------------------------- removed entries, flags


def _parse_removed(line: bytes) -> RemovedEntry:
    registry, name, path = (*line.split(b" ", 2), b"", b"", b"")[:3]
    entry = RemovedEntry(registry.decode("ascii", "replace"), b"" if name == b"-" else name, path)
    return _check(entry, can_remove(entry), "removed")


def can_remove(entry: RemovedEntry) -> bool:
    """Whether the form can hold the entry, and a tool would take its words."""
    has_name = (entry.registry == "stat-overrides") == (not entry.name)
    is_named = has_name and (not entry.name or _GROUP.fullmatch(entry.name) is not None)
    return entry.registry in REMOVABLE and is_named and _is_path(entry.path)


def _parse_flags(line: bytes) -> FileFlags:
    letters, _, path = line.partition(b" ")
    is_whole = bool(letters) and _LETTERS.fullmatch(letters) is not None and _is_path(path)
    return _check(FileFlags(path, letters.decode("ascii", "replace")), is_whole, "flags")


def _is_path(*paths: bytes) -> bool:
    return all(map(_PATH.fullmatch, paths))


def _check(value: T, is_whole: bool, name: str) -> T:
    if not is_whole:
        raise ValueError(f"registries/{name} is malformed")
    return value
