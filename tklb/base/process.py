"""The only door to other programs.

Takes an argument list, never a shell string; gives what the program printed. The child gets a clean environment:
`LC_ALL=C`, a fixed PATH, and what the caller adds. Its standard input is empty unless the caller feeds it. It leads a
process group of its own, and a time-out or an interruption ends the whole group.
"""

import contextlib
import fcntl
import logging
import os
import pwd
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from tklb.errors import ProgramFailed, ProgramMissing
from tklb.lazy_dataclass import dataclass
from tklb.model.secret import Secret

log = logging.getLogger(__name__)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Argument = str | bytes
_PIPE_SIZE = 1 << 20  # bytes; what an account may have by pipe(7)
_MOST_ERRORS = 1 << 20  # bytes of stderr that are kept
_LOOK = 0.5  # seconds between two calls of `watch`


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """How a program ended, and its whole output. `status` is its exit status, negative for a signal."""

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
    user: str | None = None,
    may_leave_server: bool = False,
    outlives: bool = False,
) -> ProcessResult:
    """Run a program to its end and give its output. Several threads may call this at once.

    `argv` is the program, found by the fixed PATH, and its arguments; no secret may be among them, because every local
    user can read them. Secrets go into `environment`, into `stdin`, or through a descriptor in `pass_fds`. `accept`
    lists the exit statuses that are no failure. After `timeout` seconds the program is ended; None waits for ever.
    `watch` is called about twice a second while the program runs, and may raise to end it. It runs in `cwd`, else in /,
    not in the folder of the caller. As `user` it has the rights and the home of that account, and none of root's.
    `may_leave_server`: it may start a server that keeps its output open. The output then ends soon after the program.
    A program that `outlives` us has no pipe to us that could break: where we are killed, it runs to its end.
    The output is held in memory. When this returns or raises, no process of the group is left. Raises ProgramMissing,
    and ProgramFailed for a start that fails, a time-out or another status; it repeats the last lines of stderr.
    """
    program = os.fsdecode(argv[0])
    outputs = _open_outputs() if outlives else ()
    child = _start(argv, stdin is not None, environment or {}, tuple(pass_fds), cwd, user, outputs)
    try:
        stdout, stderr = _communicate(child, stdin, timeout, watch, may_leave_server)
        stdout, stderr = map(_read_whole, outputs) if outputs else (stdout, stderr)
    except subprocess.TimeoutExpired as exc:
        raise ProgramFailed(program=program, reason=f"no end after {timeout:g} seconds") from exc
    finally:
        _end_child(child, outputs)
    _log_errors(program, stderr)
    if child.returncode not in accept:
        raise ProgramFailed(program=program, reason=_reason(child.returncode, stderr or stdout))
    return ProcessResult(child.returncode, stdout, stderr)


def _log_errors(program: str, stderr: bytes) -> None:
    if stderr:
        log.debug("%s wrote to stderr: %s", program, stderr.decode("utf-8", "backslashreplace").rstrip())


def _end_child(child: subprocess.Popen[bytes], outputs: Sequence[IO[bytes]]) -> None:
    end_group(child)
    for stream in filter(None, (child.stdin, child.stdout, child.stderr, *outputs)):
        stream.close()


def _open_outputs() -> tuple[IO[bytes], ...]:
    """Open a file in memory for each output. It has no name, and lives as long as somebody has it open."""
    return tuple(os.fdopen(os.memfd_create(name), "r+b", buffering=0) for name in ("stdout", "stderr"))


def _read_whole(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read()


def _start(
    argv: Sequence[Argument],
    is_fed: bool,
    environment: Mapping[str, str | Secret],
    pass_fds: tuple[int, ...],
    cwd: str | None,
    user: str | None = None,
    outputs: Sequence[IO[bytes]] = (),
) -> subprocess.Popen[bytes]:
    program = os.fsdecode(argv[0])
    log.debug("run%s: %s", f" as {user}" if user else "", " ".join(repr(os.fsdecode(word)) for word in argv))
    account = _account(user) if user else None
    home = {"HOME": account.pw_dir} if account else {}
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if is_fed else subprocess.DEVNULL,
            stdout=outputs[0] if outputs else subprocess.PIPE,
            stderr=outputs[1] if outputs else subprocess.PIPE,
            env=_environment({**home, **environment}),
            pass_fds=pass_fds,
            cwd="/" if cwd is None else cwd,
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=os.getgrouplist(account.pw_name, account.pw_gid) if account else None,
        )
    except FileNotFoundError as exc:
        raise ProgramMissing(program=program) from exc
    except OSError as exc:
        raise ProgramFailed(program=program, reason=exc.strerror) from exc


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError as exc:
        raise ProgramFailed(program=f"a program of {user}", reason="there is no such account") from exc


@contextlib.contextmanager
def open_conversation(
    argv: Sequence[Argument], *, user: str | None = None, environment: Mapping[str, str | Secret] | None = None
) -> Iterator["Conversation"]:
    """Run a program and exchange text with it while the block runs. The end of the block ends its process group.

    `user` and `environment` are as for run(). The caller has to call wait() and check the status, because nobody else
    does. Raises ProgramMissing, ProgramFailed.
    """
    child = _start(argv, True, environment or {}, (), None, user)
    spoken = Conversation(os.fsdecode(argv[0]), child)
    try:
        yield spoken
    finally:
        end_group(child)
        spoken.close()


class Conversation:
    """A running program. One thread writes to it and one reads from it; another may call close().

    A thread of its own gathers stderr, so that the program never blocks on that.
    """

    def __init__(self, program: str, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self.program, self._child = program, child
        self._stdin, self._stdout = child.stdin, child.stdout
        with contextlib.suppress(OSError):  # so that neither waits for the other at every turn
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._errors = bytearray()
        self._listener = threading.Thread(target=self._listen, args=(child.stderr,), daemon=True)
        self._listener.start()

    def say(self, text: bytes) -> None:
        """Write to its standard input. Raises ProgramFailed where the program has ended."""
        try:
            self._stdin.write(text)
            self._stdin.flush()
        except OSError as exc:
            raise ProgramFailed(program=self.program, reason=self.last_errors() or str(exc)) from exc

    def hear(self, size: int, seconds: float | None = None) -> bytes:
        """Give up to `size` bytes of its standard output as soon as there are any; b"" at the end.

        Raises ProgramFailed after `seconds` without output; None waits for ever.
        """
        if seconds is not None and not select.select([self._stdout], [], [], seconds)[0]:
            raise ProgramFailed(program=self.program, reason=f"it wrote nothing for {seconds:g} seconds")
        return os.read(self._stdout.fileno(), size)

    @property
    def pid(self) -> int:
        """The id of its process, which leads a group of its own."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    def wait(self, seconds: float | None = None) -> int:
        """Close its standard input, wait for its end, and give its exit status, negative for a signal.

        Raises ProgramFailed after `seconds`; None waits for ever.
        """
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            return self._child.wait(timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            raise ProgramFailed(program=self.program, reason=f"no end after {seconds:g} seconds") from exc

    @property
    def errors(self) -> str:
        """Its stderr so far, or the last of it."""
        return self._errors.decode("utf-8", "backslashreplace")

    def last_errors(self) -> str:
        """The last lines of its stderr so far, as one line."""
        self._listener.join(timeout=0.2)
        lines = self._errors.decode("utf-8", "backslashreplace").split("\n")
        return " / ".join(line.strip() for line in lines[-4:] if line.strip())

    def close(self) -> None:
        for stream in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                stream.close()
        self._listener.join(timeout=5)

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            while block := stream.read1(1 << 16):  # type: ignore[attr-defined]
                self._errors += block
                del self._errors[:-_MOST_ERRORS]


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, with its whole process group, and reap it."""
    if child.poll() is None and not (_signal(child, signal.SIGTERM) or _signal(child, signal.SIGKILL)):
        child.wait()


def end_children() -> None:
    """Kill the process groups of all children, and wait for none of them."""
    for file in Path("/proc/self/task").glob("*/children"):
        for pid in file.read_text("ascii").split():
            with contextlib.suppress(OSError):
                os.killpg(int(pid), signal.SIGKILL)


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Send a signal to the group of a child. Whether the child ended within some seconds, or was gone."""
    try:
        os.killpg(child.pid, number)
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return False
    except ProcessLookupError:
        child.wait()
    return True


def _communicate(
    child: subprocess.Popen[bytes],
    stdin: bytes | None,
    timeout: float | None,
    watch: Callable[[], None] | None,
    may_leave_server: bool,
) -> tuple[bytes, bytes]:
    if watch is None and not may_leave_server:
        return child.communicate(stdin, timeout=timeout)
    waited, feed = 0.0, stdin
    while timeout is None or waited + _LOOK < timeout:
        is_over = may_leave_server and child.poll() is not None
        output, is_whole = _read_output(child, feed)
        if is_whole or is_over:
            return output
        waited, feed = waited + _LOOK, None
        if watch is not None:
            watch()
    return child.communicate(feed, timeout=_LOOK)


def _read_output(child: subprocess.Popen[bytes], stdin: bytes | None) -> tuple[tuple[bytes, bytes], bool]:
    """Give all output so far, and whether that is the end of it."""
    try:
        return child.communicate(stdin, timeout=_LOOK), True
    except subprocess.TimeoutExpired as exc:
        return (exc.output or b"", exc.stderr or b""), False


def _environment(extra: Mapping[str, str | Secret]) -> dict[str, str]:
    plain = {name: value.reveal() if isinstance(value, Secret) else value for name, value in extra.items()}
    return {"PATH": PATH, "LC_ALL": "C", "LANG": "C", "HOME": "/root", **plain}


def _reason(status: int, output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    ending = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"{ending}: {' / '.join(lines[-3:])}" if lines else ending
