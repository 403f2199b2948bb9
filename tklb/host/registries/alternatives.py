"""Alternatives of dpkg: read the groups, tell who made each choice, and add or choose one.

Source: update-alternatives(1). /var/lib/dpkg/alternatives/NAME has the mode, the link, names and links of the slaves up
to an empty line, then for each choice its path, its priority and the paths of its slaves, up to an empty line. The
choice of a manual group is the target of /etc/alternatives/NAME.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tklb.diff.registries.forms import can_write
from tklb.errors import ProgramFailed
from tklb.host.registries.database import (
    ADMIN,
    Script,
    has_word,
    list_names,
    read_lines,
    read_link,
    read_scripts,
    run_tool,
)
from tklb.model.registries.decisions import AlternativeGroup, Choice, RemovedEntry, SlaveLink

log = logging.getLogger(__name__)

CHOSEN = b"/etc/alternatives/"
_CALL = b"update-alternatives"
FindListed = Callable[[Iterable[bytes], frozenset[str] | None], frozenset[bytes]]


def read_alternatives(root: bytes, find_listed: FindListed) -> tuple[AlternativeGroup, ...]:
    """Give all groups. A choice is the package's if a package ships its file, or if a script names it.

    `find_listed` gives those of some paths that some packages (None: all) ship. It is asked for all packages only if
    those that register alternatives do not ship everything.
    """
    groups = [group for name in list_names(root, ADMIN + b"alternatives") if (group := _read_group(root, name))]
    scripts = [script for script in read_scripts(root) if _CALL in script.text] if groups else []
    paths = {choice.path for group in groups for choice in group.choices}
    listed = find_listed(paths, frozenset(script.package for script in scripts))
    if paths - listed:
        listed |= find_listed(paths - listed, None)
    return tuple(sorted(_mark_packaged(group, listed, scripts) for group in groups))


def _mark_packaged(group: AlternativeGroup, listed: frozenset[bytes], scripts: Iterable[Script]) -> AlternativeGroup:
    def is_packaged(path: bytes) -> bool:
        return path in listed or any(has_word(one.text, path) and has_word(one.text, group.name) for one in scripts)

    return replace(group, choices=tuple(replace(one, packaged=is_packaged(one.path)) for one in group.choices))


def _read_group(root: bytes, name: bytes) -> AlternativeGroup | None:
    group = parse_group(name, read_lines(root, ADMIN + b"alternatives/" + name))
    if group is not None and group.manual is not None:
        group = replace(group, manual=read_link(root, CHOSEN + name))
    if group is None or not can_write(group):
        log.warning("the group of alternatives %r has a form that tklb does not know", name)
        return None
    return group


def parse_group(name: bytes, lines: list[bytes]) -> AlternativeGroup | None:
    """Read the file of a group; None if it is malformed. The file does not have the choice: `manual` is empty then."""
    if len(lines) < 3 or lines[0] not in (b"auto", b"manual") or b"" not in lines[2:] or not lines[1].startswith(b"/"):
        return None
    end = lines.index(b"", 2)
    slaves = list(zip(lines[2:end:2], lines[3:end:2], strict=False))
    try:
        choices = tuple(sorted(_parse_choices(lines[end + 1 :], slaves)))
    except ValueError:
        return None
    return AlternativeGroup(name, lines[1], b"" if lines[0] == b"manual" else None, choices)


def _parse_choices(lines: list[bytes], slaves: list[tuple[bytes, bytes]]) -> Iterator[Choice]:
    for at in range(0, len(lines) - 1 - len(slaves), 2 + len(slaves)):
        if not lines[at]:
            return
        paths = zip(slaves, lines[at + 2 :], strict=False)
        links = tuple(SlaveLink(name, link, path) for (name, link), path in paths if path)
        yield Choice(lines[at], int(lines[at + 1]), links)


def set_alternative(group: AlternativeGroup, root: bytes) -> None:
    """Register the choices of a group, and choose as it says. Raises ProgramFailed."""
    said = [_run(root, _install_words(group, choice)) for choice in group.choices]
    said.append(_run(root, [b"--auto", group.name] if group.manual is None else [b"--set", group.name, group.manual]))
    refused = [line for text in said for line in text.splitlines() if "not replacing" in line or "not removing" in line]
    if refused:
        raise ProgramFailed(program="update-alternatives", reason=" / ".join(refused))


def remove_choice(entry: RemovedEntry, root: bytes) -> None:
    """Remove a choice of a package from its group. Raises ProgramFailed."""
    _run(root, [b"--remove", entry.name, entry.path])


def _install_words(group: AlternativeGroup, choice: Choice) -> list[bytes]:
    slaves = [word for slave in choice.slaves for word in (b"--slave", slave.link, slave.name, slave.path)]
    return [b"--install", group.link, group.name, choice.path, b"%d" % choice.priority, *slaves]


def _run(root: bytes, words: list[bytes]) -> str:
    return run_tool(root, [b"update-alternatives", *words])
