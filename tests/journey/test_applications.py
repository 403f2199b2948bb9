"""The databases of real applications, brought to a fresh machine: schema, rows, and what the application asks first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.journey.test_databases import FROM_A, KEY, TARGET, allow_services, told
from tests.lab import applications, mariadb_checker, postgresql_checker
from tests.lab.databases import database_clone
from tests.lab.soak import SOAK

pytestmark = [pytest.mark.lab, pytest.mark.skipif(not SOAK, reason="some thirty applications take their time")]

CHECKERS: dict[str, Any] = {"mariadb": mariadb_checker, "postgresql": postgresql_checker}
ALLOWED = {
    "mariadb": (mariadb_checker.administrators, mariadb_checker.counters, mariadb_checker.newer_server),
    # pg_get_constraintdef writes a cast of a list that it reads back as a list of casts: stock pg_dump has it, too
    "postgresql": (r"^database 'gammu': constraints 'public\.\w+ \"\w+_check\"': definition: .CHECK ",),
}


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
@pytest.mark.parametrize("engine", ["mariadb", "postgresql"])
def test_applications_find_their_databases_as_they_were(
    engine: str, release: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    binds = {tmp_path_factory.mktemp("share"): "/mnt/share"}
    checker = CHECKERS[engine]
    layers = [applications.scripts_layer(engine)]
    with database_clone("bookworm", engine, tklb=True, binds=binds, layers=layers) as a:
        applications.set_up(a, engine)
        a.run(["tklb", "init", "--target", TARGET])
        a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
        backup = told(a, "backup")
        before, questions = checker.record(a), applications.ask_as_applications(a, engine)
    assert all(questions.values()), questions
    assert backup["skipped"] == []
    with database_clone(release, engine, tklb=True, hostname="b", binds=binds, start=False) as b:
        allow_services(b)
        report = told(b, *FROM_A, "--skip", "packages", "--yes")
        after, answers = checker.record(b), applications.ask_as_applications(b, engine)
    assert report["skipped"] == []
    assert answers == questions
    assert list(checker.compare(before, after, allowed=ALLOWED[engine])) == []
