"""The text of a tklb.toml that says what a Config says: the keys every machine has, and those that differ."""

import logging
from itertools import groupby
from pathlib import Path

from tklb.base.fs import write_atomic
from tklb.config.schema import Config, Key, Value, list_keys

log = logging.getLogger(__name__)
_HEAD = "# Configuration of tklb; tklb.toml(5) lists every key.\n\n"


def render_config(config: Config) -> str:
    """Write the file. parse_config() reads the same configuration from it."""
    written = [key for key in list_keys(type(config)) if key.is_written or _value_of(config, key) != key.default]
    sections = groupby(written, lambda key: key.section)
    return _HEAD + "\n".join(f"[{section}]\n{_render_keys(config, list(keys))}" for section, keys in sections)


def write_config(path: Path, config: Config) -> None:
    """Write the file, durably, with its folder if that is missing."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomic(path, render_config(config).encode())
    log.info("wrote %s: target %s", path, config.target)


def _render_keys(config: Config, keys: list[Key]) -> str:
    comments = {key.name: f"# {key.comment}\n" for key in keys if key.comment}
    return "".join(
        f"{comments.get(key.name, '')}{key.name} = {_render_value(_value_of(config, key))}\n" for key in keys
    )


def _value_of(config: Config, key: Key) -> Value:
    part = getattr(config, key.part) if key.part else config
    value: Value = getattr(part, key.attribute)
    return value


def _render_value(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_quote, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _quote(value)


def _quote(text: str) -> str:
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{escaped}"'
