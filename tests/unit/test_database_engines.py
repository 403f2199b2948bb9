"""An engine is a line in the table of engines: a new one can be named, listed, dumped, planned and loaded."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from tklb.backup.dump_databases import dump_databases, list_databases
from tklb.config.paths import Paths
from tklb.config.schema import Config, DatabaseConfig
from tklb.crypto.secret import make_secret
from tklb.databases.dump_format import DumpFolder, read_server, write_file
from tklb.databases.interface import DatabaseScope, DumpResult, LoadResult
from tklb.databases.load import DatabaseLoader
from tklb.databases.servers import find_server
from tklb.diff.rules import Selection, parse_override
from tklb.errors import UsageWrong
from tklb.model.callbacks import Progress, ignore_progress
from tklb.model.databases import (
    ENGINES,
    Database,
    DatabaseEngine,
    DatabaseLoad,
    SavedDatabase,
    SavedServer,
    SavedTable,
    ServerFeatures,
)
from tklb.profile.folder import find_profile
from tklb.profile.recipe import parse_recipe
from tklb.restore.plan.databases import list_items, plan_databases
from tklb.restore.plan.filter import RestoreFilter, parse_rename
from tklb.session import Session

HOUSE = Path(__file__).parents[2]
PAPER = DatabaseEngine("paper", "tests_paper_engine", ("paperd",), has_schemas=True)
Contents = dict[str, dict[str, bytes]]  # rows by database and table


@dataclass(slots=True)
class PaperServer:
    """Databases that are a dictionary; `log` has what was done to it."""

    contents: Contents
    log: list[str] = field(default_factory=list)
    engine: str = PAPER.word

    def start(self) -> None:
        self.log.append("start")

    def list_databases(self) -> tuple[Database, ...]:
        return tuple(Database(self.engine, name, len(tables)) for name, tables in sorted(self.contents.items()))

    def read_features(self) -> ServerFeatures:
        return ServerFeatures("Paper 2", (2,), self.list_databases())

    def dump_databases(self, scope: DatabaseScope, folder: Path, progress: Progress) -> DumpResult:
        progress("databases", 0, 1)
        wanted = [name for name in sorted(self.contents) if scope.has_database(name)]
        return DumpResult(
            SavedServer(self.engine, "Paper 1", tuple(self._dump(folder, name, scope) for name in wanted))
        )

    def _dump(self, folder: Path, name: str, scope: DatabaseScope) -> SavedDatabase:
        tables = {table: rows for table, rows in self.contents[name].items() if scope.has_rows(name, table)}
        for table, rows in tables.items():
            write_file(folder / name / table, rows)
        saved = tuple(SavedTable(table, rows.count(b"\n"), (table,)) for table, rows in tables.items())
        return SavedDatabase(self.engine, name, name, saved)

    def load_accounts(self, dump: DumpFolder, progress: Progress) -> LoadResult:
        self.log.append("accounts")
        return LoadResult()

    def load_database(self, dump: DumpFolder, load: DatabaseLoad, progress: Progress) -> LoadResult:
        below = dump.enter(load.saved.folder)
        tables = [table for table in load.saved.tables if load.tables is None or table.name in load.tables]
        self.contents[load.into] = {table.name: b"".join(below.blocks(table.files)) for table in tables}
        return LoadResult()

    def finish(self) -> LoadResult:
        return LoadResult()


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> PaperServer:
    """A server of an engine that only this test knows: a line in the table, a module that finds the server."""
    server = PaperServer({"shop": {"a.orders": b"1\n2\n", "a.cache": b"x\n"}, "wiki": {"a.page": b"home\n"}})
    module = ModuleType(PAPER.module)
    vars(module)["find_server"] = lambda config, _name, _login: server if isinstance(config, DatabaseConfig) else None
    monkeypatch.setitem(sys.modules, PAPER.module, module)
    instances = ModuleType(f"{PAPER.module}.instances")
    vars(instances).update(list_names=lambda _config: (), PROGRAMS=("paperd",))
    monkeypatch.setitem(sys.modules, instances.__name__, instances)
    for word in tuple(ENGINES):
        monkeypatch.delitem(ENGINES, word)
    monkeypatch.setitem(ENGINES, PAPER.word, PAPER)
    return server


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(
        paths=Paths(tmp_path / "etc", tmp_path / "state", tmp_path / "cache", tmp_path / "log"),
        config=Config(),
        secret=make_secret(bytes),
        host="a" * 32,
        profile=find_profile(None, "debian"),
        clock=lambda: datetime(2026, 5, 4, tzinfo=UTC),
        progress=ignore_progress,
    )


def test_new_engine_is_listed_dumped_planned_and_loaded(session: Session, paper: PaperServer, tmp_path: Path) -> None:
    overrides = [parse_override("-paper:shop/cache"), parse_override("-paper:wiki")]
    assert list(list_databases(session, overrides).databases) == [Database("paper", "shop", 2)]
    dumped = dump_databases(session, overrides, tmp_path)
    assert ([each.name for each in dumped.databases], list(dumped.skipped)) == (["shop"], [])
    dump = DumpFolder((tmp_path / "databases/paper",))
    saved = read_server(dump)
    choice = RestoreFilter(limit=(parse_override("paper:shop/orders"),), renames=(parse_rename("paper:shop=shop2"),))
    assert b"paper:shop/orders" in set(list_items((saved,)))
    plan = plan_databases((saved,), {"paper": paper.read_features()}, choice, frozenset())
    (step,) = plan.steps
    assert step.load
    assert (step.item, step.load.into, step.load.tables) == (b"paper:shop", "shop2", ("a.orders",))
    loader = DatabaseLoader(lambda engine: find_server(engine, DatabaseConfig()), {"paper": dump})
    assert loader.carry_out(step, ignore_progress) == ()
    assert paper.contents["shop2"] == {"a.orders": b"1\n2\n"}


@pytest.mark.usefixtures("paper")
def test_new_engine_is_known_wherever_its_word_can_be_written() -> None:
    recipe = b'id = "a"\nsummary = "b"\n[files]\ninclude = ["/"]\n[databases]\nengines = ["paper"]\n'
    assert parse_recipe(recipe).engines == ("paper",)
    assert parse_rename("paper:a=b").engine == "paper"
    assert Selection([parse_override("-paper:shop")]).allows("paper", b"shop") is False
    assert RestoreFilter(limit=(parse_override("paper:shop"),)).wants_part("databases")
    assert RestoreFilter(limit=(parse_override("paper:shop"),)).asked_items == (b"paper:shop",)
    with pytest.raises(UsageWrong, match="give a path, paper:NAME, package:NAME, user:NAME"):
        parse_override("mysql:shop")


def test_words_of_engines_stand_in_one_table() -> None:
    quoted = re.compile(rf"""["']({"|".join(ENGINES)})["']""")
    named = {
        path.relative_to(HOUSE).as_posix(): [line for line in path.read_text().splitlines() if quoted.search(line)]
        for path in (HOUSE / "tklb").rglob("*.py")
    }
    named = {module: lines for module, lines in named.items() if lines}
    own = named.pop("tklb/model/databases.py")
    assert [line.partition(" = ")[0] for line in own] == ["MARIADB", "POSTGRESQL"]
    # a schema and an account of MariaDB have the same name
    assert set(named) <= {f"tklb/databases/mariadb/{module}.py" for module in ("catalogue", "accounts", "settings")}
