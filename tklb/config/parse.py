"""/etc/tklb as one frozen Config: what schema.py allows, and nothing else.

Unknown keys and wrong values are errors that name file and key. Only session.py and `tklb init` read the file.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tklb.config.paths import Paths
from tklb.config.schema import Config, Key, Value, list_keys
from tklb.errors import ConfigInvalid, NotInitialised


def read_config(paths: Paths, schema: type[Config] = Config) -> Config:
    """Read the configuration of an initialised machine. Raises NotInitialised, ConfigInvalid."""
    if not paths.toml.exists():
        raise NotInitialised(reason=f"there is no {paths.toml}")
    overrides = read_overrides(paths.overrides)
    try:
        return parse_config(paths.toml.read_text("utf-8"), overrides, schema)
    except (ValueError, OSError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigInvalid(file=str(paths.toml), reason=reason) from exc


def read_config_or_default(paths: Paths) -> Config:
    """Read the configuration; where there is none, give the defaults. Raises ConfigInvalid."""
    return read_config(paths) if paths.toml.exists() else Config()


def read_overrides(path: Path) -> tuple[str, ...]:
    """The override lines of a file, without empty lines and comments; an absent file has none."""
    if not path.exists():
        return ()
    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    return tuple(line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#"))


def parse_config(text: str, overrides: tuple[str, ...] = (), schema: type[Config] = Config) -> Config:
    """Take the text of a tklb.toml. Raises ValueError, which names the key and says what is wrong with it."""
    keys = {key.path: key for key in list_keys(schema)}
    said = {path: _check(keys[path], value) for path, value in _flatten(tomllib.loads(text), keys).items()}
    values: dict[str, dict[str, Any]] = {key.part: {} for key in keys.values()}
    for path, value in said.items():
        values[keys[path].part][keys[path].attribute] = value
    own, default = values.pop(""), schema()
    parts = {name: type(getattr(default, name))(**part) for name, part in values.items()}
    return schema(**own, **parts, overrides=overrides)


def _flatten(parsed: Mapping[str, object], keys: Mapping[str, Key]) -> dict[str, object]:
    """The values by `section.name`. Raises ValueError for a key that is not in the schema."""
    sections = {key.section for key in keys.values()}
    values: dict[str, object] = {}
    for section, content in parsed.items():
        if section not in sections:
            raise ValueError(f"unknown key `{section}`")
        match content:
            case dict():
                values |= {f"{section}.{name}": value for name, value in content.items()}
            case _:
                raise ValueError(f"`{section}` must be a table")
    if unknown := [path for path in values if path not in keys]:
        raise ValueError(f"unknown key `{unknown[0]}`")
    return values


def _check(key: Key, value: object) -> Value:
    match value:
        case list() if isinstance(key.default, tuple):
            return _check_list(key, value)
        case bool() | int() | str() if type(value) is type(key.default):
            if isinstance(value, str):
                _check_text(key, value)
            elif key.between and not key.between[0] <= value <= key.between[1]:
                raise ValueError(f"`{key.path}` must be between {key.between[0]} and {key.between[1]}")
            return value
    raise ValueError(f"`{key.path}` must be of type {key.kind}")


def _check_list(key: Key, value: list[object]) -> tuple[str, ...]:
    texts = tuple(item for item in value if isinstance(item, str))
    if len(texts) < len(value):
        raise ValueError(f"`{key.path}` must be a {key.kind}")
    for text in texts:
        _check_text(key, text)
    return texts


def _check_text(key: Key, value: str) -> None:
    if key.choices and value not in key.choices:
        choices = ", ".join(word or '""' for word in key.choices)
        raise ValueError(f"`{key.path}` must be one of {choices}")
    if key.is_file and value and not value.startswith("/"):
        raise ValueError(f"`{key.path}` must be an absolute path")
    if key.check and value:
        try:
            key.check(value)
        except ValueError as exc:
            raise ValueError(f"`{key.path}`: {exc}") from exc
