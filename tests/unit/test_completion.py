"""Completion in bash, as the manual sets it up: commands, subcommands and options of the tree that users type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]


def complete(how: str, words: str = "", number: int = 0) -> list[str]:
    environment = {"_TKLB_COMPLETE": how, "COMP_WORDS": words, "COMP_CWORD": str(number), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "tklb"], env=environment, cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip().splitlines()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("tklb ver", ["plain,verify"]),
        ("tklb key ro", ["plain,rotate"]),
        ("tklb restore --limit-", ["plain,--limit-rate"]),
        ("tklb restore --as re", ["plain,replacement"]),
        ("tklb nothing", []),
    ],
)
def test_word_is_completed(words: str, completed: list[str]) -> None:
    assert complete("bash_complete", words, len(words.split()) - 1) == completed


def test_script_for_bash_is_printed_as_the_manual_says() -> None:
    assert 'eval "$(_TKLB_COMPLETE=bash_source tklb)"' in (HOUSE / "man/tklb.1").read_text()
    assert "_tklb_completion_setup" in complete("bash_source")[-1]
