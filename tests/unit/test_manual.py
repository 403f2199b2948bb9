"""The manual pages: well-formed, and true where they list keys, hints and rules.

Takes man/; runs groff's and mandoc's own checks. That options, commands and error codes are complete is test_shape's.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_shape import failures, manual
from tklb.config.schema import list_keys
from tklb.diff.rules import Rule, Rules
from tklb.profile import recipe

MAN = Path(__file__).parents[2] / "man"
PAGES = sorted(path.name for path in MAN.iterdir())


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("check", ["mandoc -T lint -W warning", "groff -ww -man -T utf8 -z"])
def test_page_is_well_formed(check: str, page: str) -> None:
    done = subprocess.run([*check.split(), MAN / page], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_pages_list_exactly_the_keys_there_are() -> None:
    assert listed("tklb.toml.5") == {key.path for key in list_keys()}
    keys_of_a_recipe = {f"{table}.{key}".lstrip(".") for table, keys in recipe._KEYS.items() for key in keys}
    assert listed("tklb-profile.5") == keys_of_a_recipe


def listed(page: str) -> set[str]:
    """`table.key` of every key that is explained: `.BR key ", " key " (type)"` below `.SS [table]`."""
    found, table = set(), ""
    for line in (MAN / page).read_text().splitlines():
        if line.startswith(".SS ["):
            table = line[5:-1] + "."
        elif heading := re.fullmatch(r"\.BR (.*)\((string|integer|boolean|list|table).*", line):
            found |= {table + key for key in re.findall(r"\w+", heading[1])}
    return found


@pytest.mark.parametrize("error", failures(), ids=lambda error: error.__name__)
def test_exit_status_table_gives_the_next_step_that_the_program_gives(error: type) -> None:
    table = manual("tklb.1").split("\nEXIT STATUS\n")[1].split("\nENVIRONMENT\n")[0]
    assert words(error.hint) in words(re.split(rf"^{error.code} {error.__name__}$", table, flags=re.MULTILINE)[1])


def words(text: str) -> str:
    return " ".join(re.sub(r"[^\w/.-]+", " ", re.sub(r"[.,;:]?(\s|`|\)|$)", " ", text)).split())


def rows() -> list[list[str]]:
    table = manual("tklb-overrides.5").split("\nprofile  ")[1].split("\n\n")[0]
    return [re.split(r" {2,}", line) for line in table.splitlines()[1:]]


@pytest.mark.parametrize(("profile", "overrides", "path", "verdict"), rows())
def test_table_of_rules_tells_what_the_rules_do(profile: str, overrides: str, path: str, verdict: str) -> None:
    rules = Rules(read(profile)).add_overrides(read(overrides))
    assert rules.decide(path.encode()).included == (verdict == "in")


def read(words: str) -> list[Rule]:
    return [Rule(word[0] == "+", word[1:].encode()) for word in words.split() if word != "none"]
