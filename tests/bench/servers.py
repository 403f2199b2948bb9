"""The database servers that are measured: a machine for each, what it holds, and who dumps and loads it.

Takes a folder of the host's where dumps go; gives running machines and commands for `cost`. Touches the lab's cache.
mydumper comes from Debian, into a layer over the machine.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import content
from tests.bench.cost import Command
from tests.lab.appliance import Appliance, clone, stack
from tests.lab.box import ENVIRONMENT, Box
from tests.lab.inside import TREE_INSIDE
from tests.lab.roots import layer

INSIDE = "/mnt/bench"
DATABASE, COPY = "bench", "bench_copy"
TKLB = "tklb"
SMALL, HOW_MANY = "small_", 43  # how the names of small databases begin, and how many there are
OURS = ("/usr/bin/python3", "-IS", "-B", "/mnt/tree/tests/bench/engine.py")
# Seconds of CPU of all processes with a name, those included that they waited for; see proc(5).
SERVER_CPU = """
import glob, os, sys
ticks = 0
for path in glob.glob("/proc/[0-9]*/stat"):
    name, _, rest = open(path).read().partition("(")[2].rpartition(")")
    if name == sys.argv[1]:
        ticks += sum(map(int, rest.split()[11:15]))
print(ticks / os.sysconf("SC_CLK_TCK"))
"""
AS_POSTGRES = ("runuser", "-u", "postgres", "--")


@dataclass(frozen=True, slots=True)
class Program:
    """Who dumps DATABASE into `{folder}`, and may load it from there into COPY.

    `makes_copy`: that database must not be there for a load, else it is to be there and empty. `is_held_against`: tklb
    has a target that is told in this one's time, else it is there to be seen; the limits are what tklb may take, in
    this one's times.
    """

    name: str
    dump: tuple[str, ...]
    loader: str = ""
    load: tuple[str, ...] = ()
    is_held_against: bool = True
    makes_copy: bool = False
    dump_limit: float = 1.2
    load_limit: float = 1.2


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of server. `machine` is a root of the lab, `process` the server's name there, `others` the stock tools."""

    engine: str
    machine: str
    service: str
    process: str
    dialect: content.Dialect
    client: tuple[str, ...]
    in_database: str  # the option of the client that takes a database's name
    others: tuple[Program, ...]
    packages: tuple[str, ...] = ()

    @property
    def tklb(self) -> Program:
        dump, load = ((*OURS, deed, self.engine, DATABASE, "{folder}/dump") for deed in ("dump", "load"))
        return Program(TKLB, dump, TKLB, (*load, COPY), makes_copy=True)

    @property
    def dump_small(self) -> tuple[str, ...]:
        """The words of a dump of all small databases."""
        return (*OURS, "dump", self.engine, f"{SMALL}*", "{folder}/dump")

    @property
    def programs(self) -> tuple[Program, ...]:
        return self.tklb, *self.others


MARIADB = Kind(
    engine="mysql",
    machine="lamp",
    service="mariadb",
    process="mariadbd",
    dialect=content.MARIADB,
    client=("mariadb", "--batch", "--skip-column-names"),
    in_database="--database=",
    others=(
        Program(
            "mariadb-dump",
            ("sh", "-c", f"mariadb-dump --single-transaction {DATABASE} > {{folder}}/dump.sql"),
            "mariadb",
            ("sh", "-c", f"mariadb {COPY} < {{folder}}/dump.sql"),
        ),
        Program(
            "mydumper, 2 threads",
            ("mydumper", "--threads=2", f"--database={DATABASE}", "--outputdir={folder}/dump"),
            "myloader, 2 threads",
            ("myloader", "--threads=2", f"--database={COPY}", "--directory={folder}/dump"),
        ),
    ),
    packages=("mydumper",),
)
POSTGRESQL = Kind(
    engine="pgsql",
    machine="postgresql",
    service="postgresql",
    process="postgres",
    dialect=content.POSTGRESQL,
    client=(*AS_POSTGRES, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"),
    in_database="--dbname=",
    others=(
        Program(
            "pg_dump -Fd -j2 -Z0 --no-sync",
            (*AS_POSTGRES, "pg_dump", "-Fd", "-j2", "-Z0", "--no-sync", "--file={folder}/dump", DATABASE),
            is_held_against=False,
        ),
        Program(
            "pg_dump -Fd -j2",
            (*AS_POSTGRES, "pg_dump", "-Fd", "-j2", "--file={folder}/dump", DATABASE),
            "pg_restore -j2",
            (*AS_POSTGRES, "pg_restore", "-j2", f"--dbname={COPY}", "{folder}/dump"),
            dump_limit=1,
            load_limit=1.1,
        ),
    ),
)
KINDS = (MARIADB, POSTGRESQL)


class Server:
    """A running server of a kind. `scratch` is the folder of the host's that is INSIDE the machine."""

    def __init__(self, kind: Kind, machine: Appliance, scratch: Path) -> None:
        self.kind = kind
        self.machine = machine
        self.scratch = scratch

    def fill(self, rows: int) -> None:
        """Make DATABASE anew, with so many rows in each table."""
        self.renew(DATABASE)
        self.tell(content.fill(self.kind.dialect, rows), DATABASE)

    def fill_small(self) -> None:
        """Make the small databases."""
        for number in range(HOW_MANY):
            self.renew(f"{SMALL}{number}")
            self.tell(content.fill_small(self.kind.dialect), f"{SMALL}{number}")

    def renew(self, database: str) -> None:
        self.drop(database)
        self.tell(f"CREATE DATABASE {database};\n")

    def drop(self, database: str) -> None:
        self.tell(f"DROP DATABASE IF EXISTS {database};\n")

    def tell(self, statements: str, database: str = "") -> str:
        chosen = [f"{self.kind.in_database}{database}"] if database else []
        return str(self.machine.run([*self.kind.client, *chosen], input=statements, timeout=3600).stdout).strip()

    def cpu(self) -> float:
        return float(self.machine.run(["python3", "-c", SERVER_CPU, self.kind.process]).stdout)

    def command(self, words: Sequence[str], folder: str, output: Path | None = None) -> Command:
        """The words, for a folder of the scratch one, inside the machine."""
        placed = [word.replace("{folder}", f"{INSIDE}/{folder}") for word in words]
        return Command(tuple(self.machine.argv(placed)), ENVIRONMENT, output=output)


@contextlib.contextmanager
def running(kind: Kind, scratch: Path) -> Iterator[Server]:
    """A fresh machine with tklb, whose server runs."""
    layers = [_packages(kind)] if kind.packages else []
    binds = {scratch: INSIDE} | TREE_INSIDE
    scratch.chmod(0o755)
    with clone(kind.machine, tklb=True, on="disk", binds=binds, layers=layers) as machine:
        machine.start(kind.service)
        yield Server(kind, machine, scratch)


def _packages(kind: Kind) -> Path:
    def install(box: Box) -> None:
        box.run(["apt-get", "update"])
        box.run(["apt-get", "install", "-qy", "--no-install-recommends", *kind.packages], timeout=600)
        box.run(["apt-get", "clean"])

    return layer(f"bench-{'-'.join(kind.packages)}", stack(kind.machine, "a"), install)
