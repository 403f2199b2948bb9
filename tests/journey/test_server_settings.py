"""The configuration of A's database servers comes to B, and B's servers survive it: judged by the servers themselves.

Takes the lab's machines; touches clones and a folder of its own. One pair of machines has several settings at once.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab.appliance import Appliance
from tests.lab.box import Box
from tests.lab.databases import database_clone
from tests.lab.roots import POLICY

pytestmark = pytest.mark.lab

TARGET, KEY = "file:///mnt/share/target", "/mnt/share/key"
FROM_A = ("restore", "--target", TARGET, "--key", KEY, "--skip", "packages", "--yes")
MARIADB = "/etc/mysql/mariadb.conf.d"


class Arrival(NamedTuple):
    """B after the restore, and what the restore reported."""

    b: Appliance
    report: dict[str, Any]

    def reason(self, item: str) -> str:
        return "; ".join(skipped["reason"] for skipped in self.report["skipped"] if skipped["item"] == item)


def write(machine: Box, path: str, text: str, owner: str = "root:root") -> None:
    machine.run(["sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1" && chown "$2" "$1"', "sh", path, owner], input=text)


def travel(engine: str, share: Path, prepare: Callable[[Appliance], None]) -> Iterator[Arrival]:
    binds = {share: "/mnt/share"}
    with database_clone("bookworm", engine, tklb=True, binds=binds) as a:
        prepare(a)
        a.run(["tklb", "init", "--target", TARGET])
        a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
        a.run(["tklb", "backup"])
    with database_clone("bookworm", engine, tklb=True, hostname="b", binds=binds, start=False) as b:
        (b.root / POLICY).unlink()
        done = b.run(["tklb", "--json", *FROM_A], check=False, timeout=900)
        assert done.returncode == 3, done.stdout + done.stderr
        yield Arrival(b, json.loads(done.stdout))


# ---------------------------------------------------------------- MariaDB


def ask(machine: Box, sql: str) -> str:
    return machine.run(["mariadb", "--batch", "--skip-column-names"], input=sql).stdout.strip()


def prepare_mariadb(a: Appliance) -> None:
    """Settings that were written and not yet read: A's server need not survive them."""
    ask(a, "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY); INSERT INTO shop.t VALUES (1), (2)")
    for name, line in {
        "60-good": "max_connections = 77",
        "61-word": "query_cach_size = 1M",
        "62-page": "innodb_page_size = 32k",
        "63-language": "lc_messages = de_DE.UTF-8",
    }.items():
        write(a, f"{MARIADB}/{name}.cnf", f"[mysqld]\n{line}\n")


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrival]:
    yield from travel("mariadb", tmp_path_factory.mktemp("share"), prepare_mariadb)


def test_mariadb_runs_with_all_databases_and_the_settings_it_can_run_with(mariadb: Arrival) -> None:
    assert ask(mariadb.b, "SELECT COUNT(*) FROM shop.t; SELECT @@max_connections") == "2\n77"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("61-word", "unknown variable 'query_cach_size=1M'"),
        ("62-page", "uses page size 16384"),
        ("63-language", "de_DE.UTF-8"),
    ],
)
def test_setting_that_mariadb_does_not_survive_is_beside_and_named_in_its_words(
    mariadb: Arrival, name: str, words: str
) -> None:
    path = f"{MARIADB}/{name}.cnf"
    assert words in mariadb.reason(path)
    assert not (mariadb.b.root / path[1:]).exists()
    assert (mariadb.b.root / f"{path[1:]}.tklb-snapshot").exists()


# ---------------------------------------------------------------- PostgreSQL

CLUSTER = "/etc/postgresql/15/main"


def query(machine: Box, sql: str) -> str:
    return machine.run(["runuser", "-u", "postgres", "--", "psql", "-XAtc", sql], cwd="/").stdout.strip()


def prepare_postgresql(a: Appliance) -> None:
    query(a, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
    for name, line in {
        "10-good": "work_mem = 7MB",
        "20-language": "lc_messages = 'de_DE.UTF-8'",
        "30-library": "shared_preload_libraries = 'pg_nowhere'",
        "40-word": "serch_path = 'x'",
    }.items():
        write(a, f"{CLUSTER}/conf.d/{name}.conf", f"{line}\n", "postgres:postgres")
    write(a, f"{CLUSTER}/pg_hba.conf", "local all all scram-sha-256\n", "postgres:postgres")


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrival]:
    yield from travel("postgresql", tmp_path_factory.mktemp("share"), prepare_postgresql)


def test_postgresql_runs_with_all_databases_and_the_settings_it_can_run_with(postgresql: Arrival) -> None:
    assert query(postgresql.b, "SELECT COUNT(*) FROM t; SHOW work_mem") == "2\n7MB"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conf.d/20-language.conf", "lc_messages"),
        ("conf.d/30-library.conf", "pg_nowhere"),
        ("conf.d/40-word.conf", 'unrecognized configuration parameter "serch_path"'),
        ("pg_hba.conf", "no password supplied"),
    ],
)
def test_setting_that_postgresql_does_not_survive_is_beside_and_named_in_its_words(
    postgresql: Arrival, name: str, words: str
) -> None:
    path = f"{CLUSTER}/{name}"
    assert words in postgresql.reason(path)
    assert (postgresql.b.root / f"{path[1:]}.tklb-snapshot").exists()
