"""The command group, and the boundary where every failure becomes one line, a hint and an exit status."""

import errno
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

import click

import tklb
from tklb.cli.options import Output, shared_options
from tklb.errors import AccessRefused, InternalError, Interrupted, NoSpace, TklbError, UsageWrong

log = logging.getLogger(__name__)

# name of a command -> module and function; imported only when called, so that every start is fast
COMMANDS = {
    "init": "daily:init",
    "delta": "daily:delta",
    "why": "daily:why",
    "backup": "daily:backup",
    "list": "daily:list_snapshots",
    "restore": "recovery:restore",
    "status": "daily:status",
    "verify": "verify:verify",
    "key": "keys:key",
    "profile": "admin:profile",
    "internal": "internal:internal",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(f"tklb.cli.{module}"), function)
        return command


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  tklb init\n  tklb backup\n  tklb restore --target file:///mnt/usb --key server.key",
)
@click.version_option(tklb.__version__, prog_name="tklb")
@shared_options
def cli() -> None:
    """Back up what makes this server this server, and bring it back on a fresh one."""


def run_command(arguments: Sequence[str]) -> int:
    """Carry out one command line; return the exit status."""
    os.umask(0o077)
    _leave_no_cores()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else nohup(1) has it ignored
        signal.signal(signal.SIGHUP, _interrupt)
    _open_standard_streams()
    _forget_libraries_settings()
    try:
        status = cli.main(list(arguments), prog_name="tklb", standalone_mode=False, obj=Output())
        sys.stdout.flush()
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.exceptions.NoArgsIsHelpError as exc:
        sys.stderr.write(exc.format_message() + "\n")
        return UsageWrong.code
    except click.ClickException as exc:
        return _tell(UsageWrong(reason=exc.format_message()), arguments)
    except (KeyboardInterrupt, click.Abort):
        return _tell(Interrupted(), arguments)
    except (BrokenPipeError, SystemExit):  # click makes the one of the other
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except TklbError as exc:
        log.debug("failed", exc_info=True)
        return _tell(exc, arguments)
    except Exception as exc:
        log.debug("failed", exc_info=True)
        return _tell(_understood(exc), arguments)
    return int(status or 0)


def _leave_no_cores() -> None:
    """This process and its children have the key in memory. A limit of one byte holds for pipes as well, zero not."""
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0 if most == 0 else 1, most))


def _forget_libraries_settings() -> None:
    """libpq reads a dozen variables: where a shell happens to have them must not decide what is backed up."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _open_standard_streams() -> None:
    """Where a caller closed one of them, the next file opened would take its number, and its place in children."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _understood(exc: Exception) -> TklbError:
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(path=exc.filename or "a file", reason=exc.strerror)
    if isinstance(exc, OSError) and exc.filename and exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessRefused(address=exc.filename, reason=exc.strerror)
    return InternalError(reason=f"{type(exc).__name__}: {exc}")


def _tell(error: TklbError, arguments: Sequence[str]) -> int:
    """Say what failed and what to do next: to people on stderr, to machines on stdout."""
    if "--json" in arguments:
        fields = {"code": error.code, "name": error.name, "message": str(error), "hint": error.hint}
        sys.stdout.write(json.dumps({"error": fields}) + "\n")
    sys.stderr.write(f"tklb: {error}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
    return error.code
