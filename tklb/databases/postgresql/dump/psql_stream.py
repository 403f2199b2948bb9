"""psql as a stream of rows: it gives COPY's lines as they come, several times as fast as a call for each row.

It prints a random word after each statement. The word counts only at the end of all that there is to read, so no row
can be taken for it. psql forgets the number of rows of a COPY whose lines go where its own answers go: so answers go
nowhere, and its command \\copy sends the lines to standard output. Takes a connection, whose login and database psql
has; starts psql.
"""

import contextlib
import secrets
from collections.abc import Generator, Iterator

from tklb.base.process import Conversation, open_conversation
from tklb.databases.dump_format import PIPE
from tklb.databases.postgresql.connection import ServerConnection, ServerError, find_refusal
from tklb.databases.postgresql.session_settings import format_login
from tklb.errors import ProgramFailed

__all__ = ["PsqlStream", "open_psql"]

Blocks = Generator[bytes, None, int]  # whole lines; at the end the number of rows that the server counted
_TO = " TO STDOUT WITH "  # the last one in a COPY: options follow it
_ANSWER_SECONDS = 60  # beyond the wait for a lock: only a psql that hangs is silent for so long


@contextlib.contextmanager
def open_psql(connection: ServerConnection, *statements: str) -> Iterator["PsqlStream"]:
    """A psql that has run some statements. Raises ServerError, ProgramFailed, ProgramMissing."""
    login, major = connection.login, connection.version // 10000
    words = format_login(login, connection.database, major)
    psql = [*login.make_command("psql", major), "-X", "-q", "-A", "-t", "--no-password", f"--dbname={words}"]
    buffer = [] if login.container else ["stdbuf", f"--output={PIPE}"]  # else it writes 4 kB, and wakes us each time
    command = [*buffer, *psql]
    with open_conversation(command, user=login.account) as conversation:
        stream = PsqlStream(conversation, login.lock_seconds)
        stream.discard_answers()
        stream.run(f"SET client_encoding = '{connection.copy_encoding}'")
        for statement in statements:
            stream.run(statement)
        yield stream


def is_for_psql(copy: str) -> bool:
    """Whether psql can be given a COPY of Table.copy_out: its \\copy takes one line, and knows names but no queries."""
    return copy.startswith('COPY "') and copy.isprintable()


class PsqlStream:
    """A psql that gets statements and whose answers are read to their end."""

    def __init__(self, conversation: Conversation, lock_seconds: int) -> None:
        self._conversation = conversation
        self._patience = lock_seconds + _ANSWER_SECONDS
        self._mark = secrets.token_hex(16).encode()

    def discard_answers(self) -> None:
        """Let the answers to statements go nowhere; rows of a COPY do not go there."""
        self._conversation.say(b"\\o /dev/null\n")

    def run(self, statement: str) -> None:
        """Run a statement; what it gives is discarded. Raises ServerError, also where no answer comes."""
        for _ in self._stream(_encode(statement) + b";\n", self._patience):
            pass

    def copy_out(self, copy: str) -> Blocks:
        """Run a COPY that is for psql; its lines in blocks. Raises ServerError where it failed, after all it gave."""
        source, _, options = copy.removeprefix("COPY ").rpartition(_TO)
        return self._stream(_encode(f"\\copy {source} TO PSTDOUT WITH {options}\n"), None)

    def _stream(self, text: bytes, seconds: float | None) -> Blocks:
        """Say something; the lines that it gives in blocks. `seconds` is how long psql may be silent."""
        self._conversation.say(b"\\set ERROR none\n" + text)  # psql leaves it where it cannot read a line
        failed, state, count = yield from self._hear_lines(b":ERROR :SQLSTATE :ROW_COUNT", seconds)
        if (failed, state) == (b"false", b"00000"):
            return int(count)
        raise ServerError(self._ask(b":LAST_ERROR_MESSAGE"), state.decode())

    def _ask(self, variable: bytes) -> str:
        """The value of a variable of psql."""
        self._conversation.say(b"\\echo " + variable + b"\n")
        return b"".join(self._hear_lines(b"", self._patience)).decode("utf-8", "backslashreplace").strip()

    def _hear_lines(self, variables: bytes, seconds: float | None) -> Generator[bytes, None, list[bytes]]:
        """All lines to come, in blocks; at the end the values of variables. Raises ServerError where psql is gone."""
        self._conversation.say(b"\\echo " + self._mark + b" " + variables + b"\n")
        parts: list[bytes] = []  # of a line whose end is still to come
        while True:
            block = self._hear(seconds)
            cut = block.rfind(b"\n") + 1
            if not cut:
                parts.append(block)
                continue
            whole = b"".join((*parts, block[:cut]))
            parts = [block[cut:]] if cut < len(block) else []
            last = whole.rfind(b"\n", 0, len(whole) - 1) + 1
            if whole.startswith(self._mark, last):
                yield whole[:last]
                return whole[last:].split()[1:]
            yield whole

    def _hear(self, seconds: float | None) -> bytes:
        try:
            block = self._conversation.hear(PIPE, seconds)
        except ProgramFailed as exc:
            raise ServerError(str(exc)) from exc
        if not block:
            raise ServerError(f"psql ended: {find_refusal(self._conversation.last_errors()) or 'it gave no reason'}")
        return block


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
