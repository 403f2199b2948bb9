"""Check the folder of a profile and list every problem. Reads only; the folder may come from a stranger."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from tklb.diff.rules import Rules, split_path
from tklb.errors import ProfileInvalid
from tklb.profile.folder import LIMITS, Profile, load_profile
from tklb.profile.system_paths import is_covered, is_system_path

_ALLOWED = (*LIMITS, "recipe.toml", "README.md")
_ACCOUNT = {
    "passwd": re.compile(rb"[^:\s]+:[x*]?:\d+:\d+:[^:]*:[^:]*:[^:]*"),
    "group": re.compile(rb"[^:\s]+:[x*]?:\d+:[^:]*"),
}
_MOST_LISTED = 20  # problems of one file that are listed


def lint_profile(folder: Path) -> tuple[str, ...]:
    """List every problem of the profile in `folder`; none if it is well-formed."""
    try:
        profile = load_profile(folder)
    except ProfileInvalid as exc:
        return (str(exc),)
    problems = [*_find_strangers(folder), *_check_files(profile), *_check_packages(profile), *_check_accounts(profile)]
    return tuple(problems)


def describe_profile(profile: Profile) -> Mapping[str, object]:
    """Give the rules of a profile and the counts of what it holds, as JSON values."""
    return {
        "id": profile.id,
        "summary": profile.summary,
        "release": profile.release,
        "folder": str(profile.folder),
        "digest": profile.digest,
        "files": sum(1 for _ in profile.entries()),
        "packages": len(profile.recorded_packages()),
        "include": [path.decode() for path in profile.recipe.include],
        "exclude": [path.decode() for path in profile.recipe.exclude],
        "services": list(profile.services),
        "databases": list(profile.recipe.engines),
    }


def _find_strangers(folder: Path) -> Iterator[str]:
    for item in sorted(folder.iterdir()):
        if item.name not in _ALLOWED or item.is_symlink() or not item.is_file():
            yield f"{item.name}: not part of a profile"


def _check_files(profile: Profile) -> Iterator[str]:
    problems = _list_file_problems(profile)
    try:
        yield from islice(problems, _MOST_LISTED)
        if next(problems, ""):
            yield "files.mtree: more problems are not listed"
    except (ProfileInvalid, ValueError) as exc:
        yield str(exc)


def _list_file_problems(profile: Profile) -> Iterator[str]:
    rules, last = profile.rules, b""
    for entry in profile.entries():
        split_path(entry.path)
        problems = (
            "not in the order of paths" if entry.path <= last else "",
            "excluded by the rules" if not _is_in_place(rules, entry.path) else "",
            "a file without SHA-256" if entry.kind == "file" and entry.sha256 is None else "",
            "a link without target" if entry.kind == "link" and entry.link is None else "",
            "times are not part of an install state" if (entry.mtime_ns, entry.ctime_ns) != (None, None) else "",
            "no name of an owner" if None in (entry.uname, entry.gname) else "",
            "no mode" if entry.kind != "link" and entry.mode is None else "",
        )
        shown = entry.path.decode("utf-8", "backslashreplace")
        yield from (f"files.mtree: {shown}: {problem}" for problem in problems if problem)
        last = entry.path


def _is_in_place(rules: Rules, path: bytes) -> bool:
    return rules.decide(path).included or (is_system_path(path) and not is_covered(rules, path))


def _check_packages(profile: Profile) -> Iterator[str]:
    try:
        recorded = {package.name for package in profile.recorded_packages()}
    except ProfileInvalid as exc:
        yield str(exc)
        return
    if not profile.recipe.derived:
        yield from (f"packages: {name} is missing" for name in profile.recipe.packages if name not in recorded)


def _check_accounts(profile: Profile) -> Iterator[str]:
    for name, pattern in _ACCOUNT.items():
        lines = enumerate((profile.folder / name).read_bytes().splitlines(), 1)
        malformed = (number for number, line in lines if not pattern.fullmatch(line))
        yield from (f"{name}: line {number} is malformed, or holds a password" for number in malformed)
