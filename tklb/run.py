"""The only door to other programs.

Takes an argument list, never a shell string; gives what the program printed. The child gets a clean environment
(`LC_ALL=C`, a fixed PATH and what the caller names), a closed standard input unless fed, and a process group
of its own, which is ended as a whole on a time-out or an interruption.
"""

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tklb.errors import ProgramFailed, ProgramMissing
from tklb.model import Secret

log = logging.getLogger(__name__)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Argument = str | bytes


@dataclass(frozen=True, slots=True)
class Result:
    status: int
    stdout: bytes
    stderr: bytes


def run(
    argv: Sequence[Argument],
    *,
    stdin: bytes | None = None,
    environment: Mapping[str, str | Secret] | None = None,
    accept: Sequence[int] = (0,),
    timeout: float | None = None,
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
    watch: Callable[[], None] | None = None,
) -> Result:
    """Run `argv` to its end.

    `accept` lists the exit statuses that are no failure; `timeout` is in seconds. `watch` is called about twice
    a second while the program runs (progress). Raises ProgramMissing, ProgramFailed.
    """
    program = os.fsdecode(argv[0])
    log.debug("run: %s", " ".join(repr(os.fsdecode(word)) for word in argv))
    child = _start(argv, stdin is not None, environment or {}, tuple(pass_fds), cwd)
    try:
        stdout, stderr = _communicate(child, stdin, timeout, watch)
    except subprocess.TimeoutExpired as exc:
        raise ProgramFailed(program=program, reason=f"no end after {timeout:g} seconds") from exc
    finally:
        end_group(child)
        for stream in filter(None, (child.stdin, child.stdout, child.stderr)):
            stream.close()
    if stderr:
        log.debug("%s said: %s", program, stderr.decode("utf-8", "backslashreplace").rstrip())
    if child.returncode not in accept:
        raise ProgramFailed(program=program, reason=_reason(child.returncode, stderr or stdout))
    return Result(child.returncode, stdout, stderr)


def _start(
    argv: Sequence[Argument],
    is_fed: bool,
    environment: Mapping[str, str | Secret],
    pass_fds: tuple[int, ...],
    cwd: str | None,
) -> subprocess.Popen[bytes]:
    program = os.fsdecode(argv[0])
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if is_fed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(environment),
            pass_fds=pass_fds,
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        raise ProgramMissing(program=program) from exc
    except OSError as exc:
        raise ProgramFailed(program=program, reason=exc.strerror) from exc


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, with all of its process group, and reap it."""
    if child.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
                child.wait(timeout=5)
                return
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        child.wait()


def _communicate(
    child: subprocess.Popen[bytes], stdin: bytes | None, timeout: float | None, watch: Callable[[], None] | None
) -> tuple[bytes, bytes]:
    if watch is None:
        return child.communicate(stdin, timeout=timeout)
    waited, fed = 0.0, stdin
    while True:
        try:
            return child.communicate(fed, timeout=0.5)
        except subprocess.TimeoutExpired:
            fed = None
            waited += 0.5
            if timeout is not None and waited >= timeout:
                raise
            watch()


def _environment(extra: Mapping[str, str | Secret]) -> dict[str, str]:
    plain = {name: value.reveal() if isinstance(value, Secret) else value for name, value in extra.items()}
    return {"PATH": PATH, "LC_ALL": "C", "LANG": "C", "HOME": "/root", **plain}


def _reason(status: int, said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    ending = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"{ending}: {' / '.join(lines[-3:])}" if lines else ending
