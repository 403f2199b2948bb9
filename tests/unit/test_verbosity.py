"""The log of a run: every line in the file, the stages on stderr with -v, nothing there without it.

Starts Python for each case, because the handlers of logging are of the whole process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import logging, pathlib, sys
from datetime import UTC, datetime
import click
from tklb.cli.options import Output, report_skipped, shared_options
from tklb.cli.run_log import run_log
from tklb.config.paths import paths_from
from tklb.errors import ProgramMissing
from tklb.model.report import Skipped

@click.command()
@click.option("--fail", is_flag=True)
@shared_options
@click.pass_obj
def command(output, fail):
    log = logging.getLogger("tklb.backup.collect")
    with run_log(paths_from({"TKLB_LOG": sys.argv[1]}), "backup", datetime(2026, 1, 2, tzinfo=UTC)):
        log.info("walked 3 files")
        log.debug("started duplicity")
        if fail:
            raise ProgramMissing(program="gpg")
        output.value({"files": 3}, ["3 files"])
        report_skipped(output, [Skipped(b"/srv/x", "vanished")])

try:
    command.main(sys.argv[2:], standalone_mode=False, obj=Output())
except ProgramMissing:
    pass
"""
STAGE, DETAIL, SKIPPED = "walked 3 files", "started duplicity", "skipped /srv/x: vanished"


def run(folder: Path, *options: str) -> tuple[list[str], list[str]]:
    """Give the lines on stderr and in the log file."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, folder, *options],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    (file,) = folder.glob("*.log")
    return done.stderr.splitlines(), [line.partition(": ")[2] for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), [SKIPPED]),
        (("-q",), []),
        (("-v",), [STAGE, SKIPPED]),
        (("--json", "-v"), [STAGE, SKIPPED]),
        (("-vv",), [STAGE, DETAIL, SKIPPED]),
        (("-v", "-q"), []),
    ],
)
def test_stderr_has_as_much_as_was_asked_for_and_the_file_has_all(
    tmp_path: Path, options: tuple[str, ...], shown: list[str]
) -> None:
    stderr, file = run(tmp_path, *options)
    assert stderr == shown
    assert [line for line in file if line in (STAGE, DETAIL, SKIPPED)] == [STAGE, DETAIL, SKIPPED]
    assert file[-1] == "ended"


def test_file_has_the_failure_which_the_command_itself_prints(tmp_path: Path) -> None:
    stderr, file = run(tmp_path, "-v", "--fail")
    assert stderr == [STAGE]
    assert file[-1] == "failed: ProgramMissing: the program gpg is not installed"
