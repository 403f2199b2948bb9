"""What the contract of databases must know of an engine: how to ask it in a box, and its words for a few things.

Takes a lab box whose server runs; touches that server through its stock client, as its administrator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any, Protocol

from tests.lab import mariadb, postgresql
from tests.lab.appliance import Appliance
from tests.lab.box import Box


class Engine(Protocol):
    """`word` is that of overrides, `package` that of the lab. Words for statements are for a database's session."""

    @property
    def word(self) -> str: ...
    @property
    def package(self) -> str: ...
    @property
    def system(self) -> frozenset[str]:
        """Databases that every server has."""

    @property
    def counted(self) -> str:
        """The type of a column that numbers its rows."""

    @property
    def next_number(self) -> str:
        """Ask the sequence `numbers` for its next."""

    @property
    def lock(self) -> str:
        """Keep everybody else off the table `cache`, for as long as the session lasts."""

    @property
    def begin(self) -> str: ...
    @property
    def transfers(self) -> tuple[str, ...]:
        """Move money between `accounts` and note it in `moves`, some 200 transactions a second; the last never ends."""

    @property
    def client(self) -> list[str]: ...
    @property
    def all_databases(self) -> str:
        """Ask for their names, in hexadecimal digits."""

    @property
    def own(self) -> tuple[str, ...]:
        """Give a new view `owned` to the account `gone`."""

    @property
    def who(self) -> str:
        """The number of one's own session, which `end` takes."""

    @property
    def administrator(self) -> str:
        """What there is to know of the administrator's own account."""

    @property
    def change_administrator(self) -> str: ...
    @property
    def reset_administrator(self) -> str: ...
    def ident(self, name: str) -> str: ...
    def table(self, name: str) -> str:
        """A table's name as a dump has it."""

    def numbers(self, last: int) -> str:
        """What to select `n` from, 1 to `last`."""

    def drop(self, name: str) -> str: ...
    def end(self, number: str) -> str:
        """End a session, if it is still there."""

    def make_account(self, name: str, password: str) -> str: ...
    def change_password(self, name: str, password: str) -> str: ...
    def drop_account(self, name: str) -> str: ...
    def can_log_in(self, box: Box, name: str, password: str) -> bool: ...
    def script(self, *statements: str) -> str: ...
    def in_database(self, name: str) -> tuple[list[str], dict[str, str]]:
        """The client's command and environment for a session with a database."""

    def stock_dump(self, box: Box, database: str) -> list[str]:
        """The lines of the stock tool's dump."""

    def programs(self, box: Box) -> tuple[str, ...]:
        """The programs that a dump runs."""


@dataclass(frozen=True, slots=True)
class MariaDb:
    word: str = "mysql"
    package: str = "mariadb"
    system: frozenset[str] = frozenset({"information_schema", "performance_schema", "mysql", "sys"})
    counted: str = "INT AUTO_INCREMENT"
    next_number: str = "SELECT NEXTVAL(numbers)"
    lock: str = "LOCK TABLES cache WRITE"
    begin: str = "START TRANSACTION"
    who: str = "SELECT CONNECTION_ID()"
    all_databases: str = "SELECT HEX(SCHEMA_NAME) FROM information_schema.SCHEMATA"
    administrator: str = "SHOW CREATE USER root@localhost"
    change_administrator: str = (
        "ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING PASSWORD('here') OR unix_socket"
    )
    reset_administrator: str = (
        "ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING 'invalid' OR unix_socket"
    )
    own: tuple[str, ...] = ("CREATE DEFINER = gone@'%' VIEW owned AS SELECT 1 AS one",)
    transfers: tuple[str, ...] = (
        (
            "CREATE PROCEDURE work () LOOP START TRANSACTION;"
            " SET @n = 1 + FLOOR(RAND() * 90), @a = 1 + FLOOR(RAND() * 1000), @b = 1001 + FLOOR(RAND() * 1000);"
            " UPDATE accounts SET money = money - @n WHERE id = @a;"
            " INSERT INTO moves (giver, taker, amount) VALUES (@a, @b, @n);"
            " UPDATE accounts SET money = money + @n WHERE id = @b; COMMIT; DO SLEEP(0.003); END LOOP"
        ),
        "CALL work()",
    )

    @property
    def client(self) -> list[str]:
        return [*mariadb.CLIENT, "--skip-column-names", "--unbuffered", "--skip-reconnect"]

    def ident(self, name: str) -> str:
        return mariadb.name(name)

    def table(self, name: str) -> str:
        return name

    def numbers(self, last: int) -> str:
        return f"(SELECT seq AS n FROM seq_1_to_{last}) AS numbers"

    def drop(self, name: str) -> str:
        return f"DROP DATABASE IF EXISTS {self.ident(name)}"

    def end(self, number: str) -> str:
        return f"KILL {number}"

    def make_account(self, name: str, password: str) -> str:
        return f"CREATE OR REPLACE USER {name}@'%' IDENTIFIED BY '{password}'"

    def change_password(self, name: str, password: str) -> str:
        return f"ALTER USER {name}@'%' IDENTIFIED BY '{password}'"

    def drop_account(self, name: str) -> str:
        return f"DROP USER IF EXISTS {name}@'%'"

    def can_log_in(self, box: Box, name: str, password: str) -> bool:
        command = ["mariadb", "--no-defaults", f"--user={name}", f"--password={password}", "-e", "SELECT 1"]
        return box.run(command, check=False).returncode == 0

    def script(self, *statements: str) -> str:
        return "".join(f"{each}\n{mariadb.END.decode()}\n" for each in statements)

    def in_database(self, name: str) -> tuple[list[str], dict[str, str]]:
        return [*self.client, *([f"--database={name}"] if name else [])], {}

    def stock_dump(self, box: Box, database: str) -> list[str]:
        options = ["--no-defaults", "--skip-dump-date", "--skip-comments", "--skip-extended-insert", "--hex-blob"]
        return _lines(box, ["mariadb-dump", *options, "--routines", "--events", "--", database], {})

    def programs(self, box: Box) -> tuple[str, ...]:
        return ("/usr/bin/mariadb-dump",)


@dataclass(frozen=True, slots=True)
class PostgreSql:
    word: str = "pgsql"
    package: str = "postgresql"
    system: frozenset[str] = frozenset({"postgres", "template0", "template1"})
    counted: str = "INT GENERATED BY DEFAULT AS IDENTITY"
    next_number: str = "SELECT nextval('numbers')"
    lock: str = "BEGIN; LOCK TABLE cache"
    begin: str = "BEGIN"
    who: str = "SELECT pg_backend_pid()"
    all_databases: str = "SELECT encode(convert_to(datname, 'UTF8'), 'hex') FROM pg_database"
    administrator: str = "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'"
    change_administrator: str = "ALTER ROLE postgres PASSWORD 'here'"
    reset_administrator: str = "ALTER ROLE postgres PASSWORD NULL"
    own: tuple[str, ...] = ("CREATE VIEW owned AS SELECT 1 AS one", "ALTER VIEW owned OWNER TO gone")
    transfers: tuple[str, ...] = (
        (
            "DO $$ DECLARE n int; a int; b int; BEGIN LOOP"
            " n := 1 + floor(random() * 90); a := 1 + floor(random() * 1000); b := 1001 + floor(random() * 1000);"
            " UPDATE accounts SET money = money - n WHERE id = a;"
            " INSERT INTO moves (giver, taker, amount) VALUES (a, b, n);"
            " UPDATE accounts SET money = money + n WHERE id = b; COMMIT; PERFORM pg_sleep(0.003); END LOOP; END $$"
        ),
    )

    @property
    def client(self) -> list[str]:
        return list(postgresql.PSQL)

    def ident(self, name: str) -> str:
        return postgresql.ident(name)

    def table(self, name: str) -> str:
        return f"public.{name}"

    def numbers(self, last: int) -> str:
        return f"generate_series(1, {last}) AS n"

    def drop(self, name: str) -> str:
        return f"DROP DATABASE IF EXISTS {self.ident(name)} WITH (FORCE)"

    def end(self, number: str) -> str:
        return f"SELECT pg_terminate_backend({number})"

    def make_account(self, name: str, password: str) -> str:
        return f"CREATE ROLE {name} LOGIN PASSWORD '{password}'"

    def change_password(self, name: str, password: str) -> str:
        return f"ALTER ROLE {name} PASSWORD '{password}'"

    def drop_account(self, name: str) -> str:
        return f"DROP ROLE IF EXISTS {name}"

    def can_log_in(self, box: Box, name: str, password: str) -> bool:
        command = [*postgresql.BARE_PSQL, "-X", "-h", "127.0.0.1", "-U", name, "-d", "postgres", "-c", "SELECT 1"]
        return box.run(command, env={"PGPASSWORD": password}, check=False).returncode == 0

    def script(self, *statements: str) -> str:
        return "".join(f"{each};\n" for each in statements)

    def in_database(self, name: str) -> tuple[list[str], dict[str, str]]:
        options = "-c client_min_messages=error"
        return self.client, {"PGDATABASE": name or "postgres", "PGCLIENTENCODING": "UTF8", "PGOPTIONS": options}

    def stock_dump(self, box: Box, database: str) -> list[str]:
        # The name travels in the environment: as an argument it could be taken for more than a name.
        environment = {"PGDATABASE": database, "PGOPTIONS": "-c client_min_messages=error"}
        pg_dump, _ = self.programs(box)
        lines = _lines(box, ["runuser", "-u", "postgres", "--", pg_dump], environment)
        return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict", "--"))]

    def programs(self, box: Box) -> tuple[str, ...]:
        (folder,) = (box.root / "usr/lib/postgresql").glob("*/bin")
        inside = Path("/") / folder.relative_to(box.root)
        return (f"{inside}/pg_dump", f"{inside}/psql")


ENGINES: tuple[Engine, ...] = (MariaDb(), PostgreSql())


def _lines(box: Box, command: list[str], environment: dict[str, str]) -> list[str]:
    return str(box.run(command, env=environment).stdout).split("\n")


def sql(engine: Engine, box: Box, *statements: str, database: str = "") -> list[str]:
    """Run statements in one session; the lines they print, NULLs and columns as the client has them."""
    command, environment = engine.in_database(database)
    return str(box.run(command, input=engine.script(*statements), env=environment).stdout).splitlines()


@dataclass(slots=True)
class Session:
    """Somebody else's session, which stays open."""

    engine: Engine
    client: Popen[Any]

    def send(self, *statements: str) -> None:
        self.client.stdin.write(self.engine.script(*statements).encode())
        self.client.stdin.flush()

    def ask(self, statement: str) -> str:
        """The line that a statement gives; empty where the session is gone."""
        try:
            self.send(statement)
        except BrokenPipeError:
            return ""
        return str(self.client.stdout.readline().decode()).strip()


@contextmanager
def session(engine: Engine, box: Appliance, database: str, *statements: str, last: str = "") -> Iterator[Session]:
    """A session that has run `statements` and sits there, or is busy with `last`, until the end of the block."""
    command, environment = engine.in_database(database)
    with box.popen(command, env=environment, stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as client:
        one = Session(engine, client)
        number = one.ask(engine.who)
        assert number
        try:
            one.send(*statements)
            assert one.ask("SELECT 1") == "1"
            if last:
                one.send(last)
            yield one
        finally:
            client.stdin.close()
            command, environment = engine.in_database("")
            box.run(command, input=engine.script(engine.end(number)), env=environment, check=False)
            client.wait(60)


@contextmanager
def instead_of(box: Box, program: str, script: str) -> Iterator[None]:
    """Let a shell script be found where a program is; it calls the real one as $REAL."""
    path = box.root / program.lstrip("/")
    real = path.with_name(f"{path.name}.real")
    path.rename(real)
    try:
        path.write_text(f"#!/bin/bash\nREAL={program}.real\n{script}\n")
        path.chmod(0o755)
        yield
    finally:
        real.replace(path)
