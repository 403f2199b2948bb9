"""The configuration: what the table of keys says is what is parsed, checked, written and documented."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tklb.config.parse import parse_config, read_config
from tklb.config.paths import Paths
from tklb.config.render import render_config
from tklb.config.schema import Config, Key, S3Config, key, list_keys
from tklb.errors import ConfigInvalid

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class LongerConfig(Config):
    """A schema with three keys more: of a known section, a number within bounds; of a new one, a text and a list."""

    depth: int = key(3, "How deep.", path="backup.depth", between=(2, 5))
    colour: str = key("red", "Which colour.", path="look.colour", choices=("red", "blue"), is_written=True)
    names: tuple[str, ...] = key((), "Which names.", path="look.names")


def parse(text: str) -> LongerConfig:
    config = parse_config(text, schema=LongerConfig)
    assert isinstance(config, LongerConfig)
    return config


# ---------------------------------------------------------------- one table


def test_key_that_is_added_to_the_table_is_parsed_with_its_default() -> None:
    assert (parse("").depth, parse("").colour, parse("").names) == (3, "red", ())
    said = parse('[backup]\ndepth = 5\n[look]\ncolour = "blue"\nnames = ["a", "b"]\n')
    assert (said.depth, said.colour, said.names) == (5, "blue", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[backup]\ndepth = 6\n", "`backup.depth` must be between 2 and 5"),
        ("[backup]\ndepth = 1\n", "`backup.depth` must be between 2 and 5"),
        ("[backup]\ndepth = true\n", "`backup.depth` must be of type integer"),
        ("[look]\ncolour = 'green'\n", "`look.colour` must be one of red, blue"),
        ("[look]\nnames = [1]\n", "`look.names` must be a list of strings"),
        ("[look]\nsize = 1\n", "unknown key `look.size`"),
        ("[sound]\n", "unknown key `sound`"),
        ("look = 1\n", "`look` must be a table"),
    ],
)
def test_key_that_is_added_to_the_table_is_checked(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        parse(text)


def test_key_that_is_added_to_the_table_is_written() -> None:
    text = render_config(LongerConfig(depth=4, names=("a",)))
    assert "shards = 0\ndepth = 4\n" in text
    assert text.endswith('\n\n[look]\ncolour = "red"\nnames = ["a"]\n')
    assert parse(text) == LongerConfig(depth=4, names=("a",))
    assert render_config(LongerConfig()).endswith('\n\n[look]\ncolour = "red"\n')


# ---------------------------------------------------------------- the keys there are


def test_file_of_a_new_machine() -> None:
    assert render_config(replace(Config(), profile="debian-12-core")) == (
        "# Configuration of tklb; tklb.toml(5) lists every key.\n"
        "\n"
        "[target]\n"
        'url = "file:///var/backups/tklb"\n'
        "\n"
        "[profile]\n"
        'id = "debian-12-core"\n'
        "\n"
        "[backup]\n"
        "volume_megabytes = 100\n"
        "# duplicity processes side by side; 0: as many as pay\n"
        "shards = 0\n"
    )


@pytest.mark.parametrize("one", list_keys(), ids=lambda one: one.path)
def test_every_key_is_written_where_it_differs_and_read_again(one: Key) -> None:
    value = other_value(one)
    written = f"[{one.section}]\n{one.name} = {toml(value)}\n"
    config = parse_config(written)
    assert getattr(getattr(config, one.part) if one.part else config, one.attribute) == value
    assert f"\n{one.name} = {toml(value)}\n" in render_config(config)
    assert parse_config(render_config(config)) == config


def other_value(one: Key) -> object:
    """A right value that is not the default."""
    if one.between:
        return one.between[1]
    match one.default:
        case bool():
            return not one.default
        case tuple():
            return ("mysql@eu=/etc/eu",) if one.check else ("eu", '\x01"\\')
    choices = [choice for choice in one.choices if choice != one.default]
    return choices[0] if choices else "/some/file" if one.is_file else "2M"


def toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(map(toml, value))}]"
        case str():
            return (
                '"'
                + value.replace("\\", "\\U0000005C").replace('"', "\\U00000022").replace("\x01", "\\U00000001")
                + '"'
            )
    return str(value)


@pytest.mark.parametrize("one", [one for one in list_keys() if one.between], ids=lambda one: one.path)
def test_numbers_out_of_bounds_are_refused(one: Key) -> None:
    assert one.between
    for number in (one.between[0] - 1, one.between[1] + 1):
        with pytest.raises(ValueError, match=f"`{one.path}` must be between {one.between[0]} and {one.between[1]}"):
            parse_config(f"[{one.section}]\n{one.name} = {number}\n")


@pytest.mark.parametrize("one", [one for one in list_keys() if one.is_file], ids=lambda one: one.path)
def test_files_have_absolute_paths(one: Key) -> None:
    with pytest.raises(ValueError, match=f"`{one.path}` must be an absolute path"):
        parse_config(f"[{one.section}]\n{one.name} = 'a/file'\n")


def test_error_names_the_file_and_keeps_the_lines_of_overrides(tmp_path: Path) -> None:
    paths = Paths(config=tmp_path)
    paths.toml.write_text("[s3]\nregion = 'nearest'\n")
    paths.overrides.write_bytes(b"# a comment\n\n/srv\r\n-/srv/\xff\n")
    assert read_config(paths) == Config(s3=S3Config(region="nearest"), overrides=("/srv", "-/srv/\udcff"))
    paths.toml.write_bytes(b"[target]\nurl = \xff")
    with pytest.raises(ConfigInvalid, match=f"{paths.toml}.*utf-8"):
        read_config(paths)


# ---------------------------------------------------------------- the manual


def test_key_reference_in_the_manual_is_that_of_the_table() -> None:
    done = subprocess.run(
        [sys.executable, PROJECT / "scripts/manual", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
