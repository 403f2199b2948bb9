"""profile.toml, the recipe of a profile: its keys, read strictly.

Takes TOML text; gives a frozen Recipe. Pure. A profile may come from a stranger, so unknown keys, wrong types, invalid
paths and large files are refused. `[root]` describes how the clean root was made; nothing here runs it.
"""

import re
import tomllib
from collections.abc import Mapping

from tklb.diff.rules import Rule, Rules, split_path
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import ENGINES
from tklb.profile.builtin import NEVER

LIMIT = 256 * 1024  # bytes of a profile.toml

_KEYS: Mapping[str, Mapping[str, type]] = {
    "": {"id": str, "summary": str, "release": str, "derived": bool},
    "root": {"suite": str, "base": str, "packages": list, "setup": list, "write": dict},
    "files": {"include": list, "exclude": list},
    "services": {"restart": list},
    "databases": {"engines": list},
}
_WORD = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """The description of a profile. `packages` are those that make the type of machine, without their dependencies."""

    id: str
    summary: str
    release: str  # os-release ID-VERSION_ID; "" fits every one
    include: tuple[bytes, ...]
    exclude: tuple[bytes, ...]
    services: tuple[str, ...]
    engines: tuple[str, ...]
    packages: tuple[str, ...]
    derived: bool  # no built install state: the package manager is the only source

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (*(Rule(True, path) for path in self.include), *(Rule(False, path) for path in self.exclude))


def parse_recipe(text: bytes) -> Recipe:
    """Read a recipe. Raises ValueError with the wrong key."""
    if len(text) > LIMIT:
        raise ValueError(f"larger than {LIMIT} bytes")
    try:
        parsed = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError(f"not TOML: {exc}") from exc
    _check_keys(parsed)
    recipe = Recipe(
        id=_read_word(parsed, "id"),
        summary=_read_line(parsed.get("summary", "")),
        release=_read_word(parsed, "release") if parsed.get("release") else "",
        include=_read_paths(parsed, "include"),
        exclude=_read_paths(parsed, "exclude"),
        services=_read_words(parsed, "services", "restart", _SERVICE),
        engines=_read_words(parsed, "databases", "engines", re.compile("|".join(ENGINES))),
        packages=_read_words(parsed, "root", "packages", _WORD),
        derived=parsed.get("derived", False),
    )
    _check_rules(recipe)
    return recipe


def _check_keys(parsed: Mapping[str, object]) -> None:
    tables = {name: value for name, value in parsed.items() if name in _KEYS and name}
    if unknown := sorted(parsed.keys() - tables.keys() - _KEYS[""].keys()):
        raise ValueError(f"unknown key `{unknown[0]}`")
    top = {name: value for name, value in parsed.items() if name not in tables}
    for table, content in {"": top, **tables}.items():
        if not isinstance(content, dict):
            raise ValueError(f"`{table}` must be a table")  # noqa: TRY004 - wrong input, not a wrong call
        for key, value in content.items():
            _check_key(".".join(filter(None, (table, key))), _KEYS[table].get(key), value)


def _check_key(name: str, kind: type | None, value: object) -> None:
    if kind is None:
        raise ValueError(f"unknown key `{name}`")
    if type(value) is not kind or not _holds_text(value):
        raise ValueError(f"`{name}` must be of type {kind.__name__}, and hold only text")


def _holds_text(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(item, str) for item in value.values())
    return not isinstance(value, list) or all(isinstance(item, str) for item in value)


def _read_word(parsed: Mapping[str, object], key: str) -> str:
    value = str(parsed.get(key, ""))
    if not _WORD.fullmatch(value):
        raise ValueError(f"`{key}` must be a word of a-z, 0-9, `.`, `+`, `-`")
    return value


def _read_line(value: object) -> str:
    text = str(value)
    if len(text) > 200 or not text.isprintable():
        raise ValueError("`summary` must be one line of at most 200 characters")
    return text


def _read_words(parsed: Mapping[str, object], table: str, key: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    values = _read_list(parsed, table, key)
    for value in values:
        if not pattern.fullmatch(value):
            raise ValueError(f"`{table}.{key}`: {value!r} is not allowed")
    return values


def _read_paths(parsed: Mapping[str, object], key: str) -> tuple[bytes, ...]:
    values = tuple(value.encode() for value in _read_list(parsed, "files", key))
    for value in values:
        try:
            split_path(value)
        except ValueError as exc:
            raise ValueError(f"`files.{key}`: {exc}") from exc
    return values


def _read_list(parsed: Mapping[str, object], table: str, key: str) -> tuple[str, ...]:
    content = parsed.get(table, {})
    assert isinstance(content, dict)
    return tuple(content.get(key, ()))


def _check_rules(recipe: Recipe) -> None:
    if not recipe.include:
        raise ValueError("`files.include` is empty, so a backup would have no files")
    rules = Rules(recipe.rules)
    for path in recipe.include:
        if any(path.startswith(never + b"/") or path == never for never in NEVER):
            raise ValueError(f"`files.include`: {path.decode()} never travels as a file")
        if not rules.decide(path).included:
            raise ValueError(f"`files.include`: {path.decode()} is excluded by another rule")
