"""The options that commands share, and how a command prints its result and reports skipped items.

--json, -v and -q work before and after the name of the command.
"""

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from tklb.cli.fingerprint_input import parse_fingerprint
from tklb.cli.terminal_log import show_log
from tklb.config.paths import Paths, paths_from
from tklb.errors import COMPLETE, INCOMPLETE, NotRoot, OutputFailed
from tklb.lazy_dataclass import dataclass
from tklb.model.report import OutsideItem, Skipped, fold_skipped, status_of

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class AbsolutePath(click.Path):
    """A path that holds in every folder: the programs that tklb starts run in /."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Give what click.Path gives, without a relative part."""
        path = super().convert(value, param, ctx)
        return os.path.abspath(path) if isinstance(path, bytes) else Path(os.path.abspath(path))


EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PARTS = ("files", "packages", "users", "databases")
skip_option = click.option("--skip", multiple=True, type=click.Choice(PARTS), help="Leave out this part; repeatable.")
limit_rate_option = click.option(
    "--limit-rate",
    metavar="RATE",
    default="",
    help="Limit the bytes a second to and from the target: 500K, 2M, or a timetable as in tklb.toml(5).",
)
target_option = click.option(
    "--target", metavar="URL", help="The address of the snapshots; the configured target if not given."
)
key_option = click.option(
    "--key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A key file of the backed-up machine; - is standard input.",
)
expect_key_option = click.option(
    "--expect-key",
    metavar="FINGERPRINT",
    default="",
    callback=lambda _ctx, _param, text: parse_fingerprint(text) if text else "",
    help="Refuse any other key: give the fingerprint on the recovery sheet or from `tklb key show`.",
)
root_option = click.option(
    "--root",
    type=AbsolutePath(exists=True, file_okay=False, path_type=bytes),
    default=b"/",
    help="The root file system to read, in place of /.",
)


@dataclass(frozen=True, slots=True)
class Output:
    """How to talk. `json`: one value on stdout. `verbosity`: -1 quiet, 0 plain, 1 and more verbose."""

    json: bool = False
    verbosity: int = 0

    def value(self, value: object, lines: Iterable[str], done: str = "the command has ended") -> None:
        """Print the result: the value for machines, the lines for people.

        Raises OutputFailed, which says what is `done`, where nobody can read it.
        """
        text = (json.dumps(value) + "\n",) if self.json else (line + "\n" for line in lines)
        try:
            sys.stdout.writelines(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OutputFailed(done=done, reason=exc.strerror) from exc

    def say(self, line: str) -> None:
        """Print a line on stderr, unless quiet. A line that cannot be written stops no work: the log has it too."""
        try:
            if self.verbosity >= 0:
                sys.stderr.write(line + "\n")
        except BrokenPipeError:
            raise
        except OSError as exc:
            log.debug("stderr: %s", exc.strerror)

    @property
    def progress(self) -> bool:
        return self.verbosity >= 0 and not self.json


def shared_options(function: Callable[P, R]) -> Callable[..., R]:
    """Add the options that every command takes. Those before the name of the command hold too."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout, all other text on stderr.")
    @click.option("-v", "--verbose", count=True, help="Print each stage on stderr; given twice, every program too.")
    @click.option("-q", "--quiet", is_flag=True, help="Print only the result and the problems.")
    @functools.wraps(function)
    def call_with_options(*args: Any, as_json: bool, verbose: int, quiet: bool, **kwargs: Any) -> R:
        context = click.get_current_context()
        above = context.find_object(Output) or Output()
        verbosity = -1 if quiet else max(above.verbosity, verbose)
        context.obj = replace(above, json=above.json or as_json, verbosity=verbosity)
        show_log(verbosity)
        return function(*args, **kwargs)

    return call_with_options


def example(*lines: str) -> str:
    """Give the epilog of a command: examples, each on a line of its own."""
    return "\b\nExample:\n" + "\n".join("  " + line for line in lines)


def read_paths() -> Paths:
    return paths_from(os.environ)


def now() -> datetime:
    return datetime.now(UTC)


def need_root() -> None:
    """Raise NotRoot unless this process may read and write everything."""
    if os.geteuid() != 0:
        raise NotRoot(command=click.get_current_context().command_path)


def report_skipped(output: Output, skipped: Iterable[Skipped]) -> int:
    """Report the skipped items, on stderr and in the log; give the exit status for them."""
    items = tuple(skipped)
    for item, reason, _ in fold_skipped(items):
        log.warning("skipped %s: %s", item, reason)
        output.say(f"skipped {item}: {reason}")
    return status_of(items)


def report_outside(output: Output, items: Iterable[OutsideItem]) -> int:
    """Report what of the owner's is not taken, on stderr and in the log; give the exit status for it."""
    from tklb.backup.scope.outside_lines import describe_outside

    lines = describe_outside(items)
    for line in lines:
        log.warning("not taken: %s", line)
        output.say(f"not taken: {line}")
    if lines:
        output.say("hint: add /path or -/path to /etc/tklb/overrides for each of them; `tklb scope` shows all")
    return INCOMPLETE if lines else COMPLETE
