"""Entries of registries that packages make and the owner removed: choices, diversions, overrides of owner and mode.

Takes a root and its registries; gives what is missing. Reads the scripts of packages and the log of
update-alternatives(1), which tells of choices that programs make for scripts. What a script makes only under some
condition, or removes itself, is not missing; neither is an entry whose file is gone.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from tklb.host.registries.database import Script, has_word, join_root, list_names, read_file, read_scripts
from tklb.host.registries.script_calls import list_calls, read_plain_text
from tklb.model.registries.decisions import AlternativeGroup, Diversion, RemovedEntry, StatOverride

FindListed = Callable[[Iterable[bytes], frozenset[str] | None], frozenset[bytes]]

_LOGS = b"/var/log"
_LOG = re.compile(rb"alternatives\.log(?:\.[0-9]+)?")
_RUN = re.compile(rb"^update-alternatives [^\n]*?: run with (.*)$", re.MULTILINE)
_OVERRIDE = re.compile(
    rb"(?<![\w#:.-])([A-Za-z_][\w-]*)['\"]?\s+['\"]?([A-Za-z_][\w-]*)['\"]?\s+(0?[0-7]{3,4})\s+['\"]?(/[\w./+-]+)"
)
_MERGING = b".usr-is-merged"  # temporary, while /usr is merged
_CALLERS = (b"update-alternatives", b"dpkg-divert", b"dpkg-statoverride")


def read_removed(
    root: bytes,
    alternatives: Iterable[AlternativeGroup],
    diversions: Iterable[Diversion],
    overrides: Iterable[StatOverride],
    find_listed: FindListed,
) -> tuple[RemovedEntry, ...]:
    """Give what the scripts of the installed packages make and the registries lack. Sorted."""
    every = (one for one in read_scripts(root) if any(word in one.text for word in _CALLERS))
    scripts = [Script(one.package, read_plain_text(one.text)) for one in every]
    there = {(group.name, choice.path) for group in alternatives for choice in group.choices}
    diverted, overridden = {one.path for one in diversions}, {one.path for one in overrides}
    found = {
        *_find_choices(root, scripts, there, find_listed),
        *(one for one in _find_diversions(scripts) if one.path not in diverted),
        *(one for one in _find_overrides(root, scripts) if one.path not in overridden),
    }
    return tuple(sorted(found))


def _find_choices(
    root: bytes, scripts: list[Script], there: set[tuple[bytes, bytes]], find_listed: FindListed
) -> Iterator[RemovedEntry]:
    known = _list_choices(scripts)
    missing = {choice for choice in {*known, *_read_log(root)} - there if _exists(root, choice[1])}
    callers = frozenset(script.package for script in scripts if b"--install" in script.text)
    listed = find_listed((path for _, path in missing), callers) if missing else frozenset()
    return (RemovedEntry("alternatives", *choice) for choice in missing if choice[1] in listed)


def _list_choices(scripts: Iterable[Script]) -> set[tuple[bytes, bytes]]:
    """Give the choices that scripts install and no script of the same package removes."""
    made: set[tuple[str, bytes, bytes]] = set()
    removed: set[tuple[str, bytes, bytes]] = set()
    for script in scripts:
        for words in list_calls(script.text, b"update-alternatives"):
            made |= {(script.package, *choice) for choice in _read_words(words, b"--install", (2, 3))}
            removed |= {(script.package, *choice) for choice in _read_words(words, b"--remove", (1, 2))}
    return {(group, path) for _, group, path in made - removed}


def _read_words(words: tuple[bytes, ...], option: bytes, places: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Give group and path of a call, which stand behind its option."""
    at = words.index(option) if option in words else len(words)
    if at + places[1] < len(words):
        yield words[at + places[0]], words[at + places[1]]


def _read_log(root: bytes) -> set[tuple[bytes, bytes]]:
    """Give the choices whose last mention in the logs is their removal."""
    names = sorted((name for name in list_names(root, _LOGS) if _LOG.fullmatch(name)), key=_rank_log)
    removed: set[tuple[bytes, bytes]] = set()
    seen: set[tuple[bytes, bytes]] = set()
    for call in (call for name in names for call in _RUN.findall(read_file(root, _LOGS + b"/" + name))):
        words = tuple(call.split(b" "))
        came, went = {*_read_words(words, b"--install", (2, 3))}, {*_read_words(words, b"--remove", (1, 2))}
        if b"--remove-all" in words[:-1]:
            went = {one for one in seen if one[0] == words[words.index(b"--remove-all") + 1]}
        seen |= came
        removed = (removed | went) - came
    return removed


def _rank_log(name: bytes) -> int:
    """Sort by age: `.2` is older than `.1`, and the one without a number is the newest."""
    return -int(name.rpartition(b".")[2]) if name[-1:].isdigit() else 0


def _find_diversions(scripts: Iterable[Script]) -> Iterator[RemovedEntry]:
    """Give what packages divert when they come, and do not give back themselves afterwards."""
    packages = {script.package for script in scripts}
    calls = [(script.package, words) for script in scripts for words in list_calls(script.text, b"dpkg-divert")]
    removed = {words[-1] for _, words in calls if b"--remove" in words}
    for package, words in calls:
        options = dict(pairwise(words))
        owner, target = options.get(b"--package", package.encode()), options.get(b"--divert", b"")
        is_lasting = b"--add" in words and words[-1].startswith(b"/") and not target.endswith(_MERGING)
        if is_lasting and words[-1] not in removed and owner.decode("ascii", "replace") in packages:
            yield RemovedEntry("diversions", owner, words[-1])


def _find_overrides(root: bytes, scripts: Iterable[Script]) -> Iterator[RemovedEntry]:
    """Give the overrides that packages make as Debian Policy 10.9.1 has it: where `--list` does not know the path."""
    for text in (script.text for script in scripts if b"dpkg-statoverride" in script.text and b"--add" in script.text):
        calls = [*list_calls(text, b"dpkg-statoverride")]
        removed = {word for words in calls if b"--remove" in words for word in words}
        asked = {word for words in calls if b"--list" in words for word in words}
        made = {found[4] for found in _OVERRIDE.finditer(text)} - removed
        made = made if has_word(text, b"set --") else made & asked  # the script goes through a list of its own
        yield from (RemovedEntry("stat-overrides", b"", path) for path in made if _exists(root, path))


def _exists(root: bytes, path: bytes) -> bool:
    return os.path.lexists(join_root(root, path))
