"""Programs that start a server which keeps their output open: dovecot, pg_ctl and others do."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tklb.base.process import run
from tklb.errors import ProgramFailed

# Prints, starts a server in a session of its own that keeps both outputs, and ends with a status.
LEAVE = """
echo out; echo err >&2
setsid sh -c 'echo $$ >{place}; exec sleep 60' &
while ! test -s {place}; do sleep 0.01; done
exit {status}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "pid"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("watch", [None, lambda: None])
def test_the_output_of_a_program_ends_with_it_though_its_server_keeps_it_open(
    place: Path, watch: Callable[[], None] | None
) -> None:
    started = time.monotonic()
    done = run(["sh", "-c", LEAVE.format(place=place, status=3)], accept=(3,), may_leave_server=True, watch=watch)
    assert (done.status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert time.monotonic() - started < 20


def test_a_failure_of_such_a_program_has_its_reason(place: Path) -> None:
    with pytest.raises(ProgramFailed, match="exit status 4: err"):
        run(["sh", "-c", LEAVE.format(place=place, status=4)], may_leave_server=True)


def test_nothing_of_a_long_output_is_lost(place: Path) -> None:
    script = "head -c 3000000 /dev/zero; " + LEAVE.format(place=place, status=0)
    assert len(run(["sh", "-c", script], may_leave_server=True).stdout) == 3_000_004


def test_a_program_that_is_fed_and_leaves_a_server_gets_all(place: Path) -> None:
    script = "wc -c; " + LEAVE.format(place=place, status=0)
    assert run(["sh", "-c", script], stdin=bytes(2_000_000), may_leave_server=True).stdout == b"2000000\nout\n"
