"""Run one command line. Here every failure becomes one line, a hint and an exit status."""

import contextlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from tklb.base.process import end_children
from tklb.cli.command_tree import cli
from tklb.cli.options import Output
from tklb.errors import Interrupted, OutputFailed, TklbError, UsageWrong, classify_failure

log = logging.getLogger(__name__)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and give the exit status."""
    os.umask(0o077)
    _prevent_core_dumps()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # under nohup(1) it is ignored, and stays so
        signal.signal(signal.SIGHUP, _interrupt)
    _open_standard_streams()
    _drop_library_variables()
    try:
        status = cli.main(list(arguments), prog_name="tklb", standalone_mode=False, obj=Output())
        sys.stdout.flush()
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.exceptions.NoArgsIsHelpError as exc:
        sys.stderr.write(exc.format_message() + "\n")
        return UsageWrong.code
    except click.ClickException as exc:
        return _report(UsageWrong(reason=exc.format_message()), arguments)
    except (KeyboardInterrupt, click.Abort):
        return _report(Interrupted(), arguments)
    except (BrokenPipeError, SystemExit) as exc:  # click turns a BrokenPipeError into a SystemExit
        if isinstance(exc, SystemExit) and exc.code == 0:  # so ends the completion of a shell
            return 0
        return 128 + signal.SIGPIPE
    except TklbError as exc:
        log.debug("failed", exc_info=True)
        return _report(exc, arguments)
    except Exception as exc:
        log.debug("failed", exc_info=True)
        return _report(classify_failure(exc), arguments)
    return int(status or 0)


def _prevent_core_dumps() -> None:
    """Keep the key out of core files. A limit of one byte also holds where cores go to a pipe; zero does not."""
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0 if most == 0 else 1, most))


def _drop_library_variables() -> None:
    """Drop the variables that libpq reads: the shell of the user must not decide which server is backed up."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _open_standard_streams() -> None:
    """Open those that the caller closed: else the next file would take the number of one, also in children."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _report(error: TklbError, arguments: Sequence[str]) -> int:
    """Print the failure and the next step: for people on stderr, for machines on stdout."""
    with contextlib.suppress(OSError):
        if "--json" in arguments and not isinstance(error, OutputFailed):
            fields = {"code": error.code, "name": error.name, "message": str(error), "hint": error.hint}
            sys.stdout.write(json.dumps({"error": fields}) + "\n")
    with contextlib.suppress(OSError):
        sys.stderr.write(f"tklb: {error}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
    return error.code


def give_up(error: TklbError) -> NoReturn:
    """Report a failure and end this process at once, with its children: a thread of it waits for what never comes."""
    status = _report(error, sys.argv)
    discard_unwritten()
    end_children()
    os._exit(status)


def discard_unwritten() -> None:
    """Drop what no output takes: Python would try once more at its end, and change the exit status to 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
