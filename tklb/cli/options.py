"""What all commands share: --json, -v, -q before or after the command's name, and how results are printed."""

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import click

from tklb.config.paths import Paths, paths_from
from tklb.errors import NotRoot, printable
from tklb.model.report import Skipped, status_of

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Output:
    """How to talk: `json` one value on stdout, `loudness` -1 quiet, 0 plain, 1 and more verbose."""

    json: bool = False
    loudness: int = 0

    def value(self, value: object, lines: Iterable[str]) -> None:
        """Print the result: the value to machines, the lines to people."""
        if self.json:
            sys.stdout.write(json.dumps(value) + "\n")
        else:
            sys.stdout.writelines(line + "\n" for line in lines)

    def say(self, line: str) -> None:
        """Talk, on stderr; not when quiet."""
        if self.loudness >= 0:
            sys.stderr.write(line + "\n")

    @property
    def progress(self) -> bool:
        return self.loudness >= 0 and not self.json


def shared_options(function: Callable[P, R]) -> Callable[..., R]:
    """Add the options every command takes; what was said before the command's name holds too."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout; all talk goes to stderr.")
    @click.option("-v", "--verbose", count=True, help="Say more; twice for all that is run.")
    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but the result and what went wrong.")
    @functools.wraps(function)
    def with_options(*args: Any, as_json: bool, verbose: int, quiet: bool, **kwargs: Any) -> R:
        output = click.get_current_context().find_object(Output)
        assert output is not None
        output.json = output.json or as_json
        output.loudness = -1 if quiet else max(output.loudness, verbose)
        _listen(output.loudness)
        return function(*args, **kwargs)

    return with_options


def example(*lines: str) -> str:
    """The epilog of a command: examples, kept line by line."""
    return "\b\nExample:\n" + "\n".join("  " + line for line in lines)


def paths() -> Paths:
    return paths_from(os.environ)


def now() -> datetime:
    return datetime.now(UTC)


def need_root() -> None:
    """Raise NotRoot unless this process may read and write everything."""
    if os.geteuid() != 0:
        raise NotRoot(command=click.get_current_context().command_path)


def ending(output: Output, skipped: Iterable[Skipped]) -> int:
    """Name what was skipped; give the exit status that says so."""
    named = tuple(skipped)
    for item in named:
        log.warning("skipped %s: %s", printable(item.item), item.reason)
        output.say(f"skipped {printable(item.item)}: {item.reason}")
    return status_of(named)


def _listen(loudness: int) -> None:
    root = logging.getLogger("tklb")
    root.setLevel(logging.DEBUG)
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    # failures are told once, by the boundary; the log file of a run has everything
    level = {0: logging.CRITICAL, 1: logging.INFO}.get(max(loudness, 0), logging.DEBUG)
    root.handlers[0].setLevel(level)
