"""What a cluster of PostgreSQL has beside its databases: settings of roles, judged by the logins of those roles.

And how it is named where it is down, or has no session left.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.test_database_postgres import dump, load, only
from tests.lab.appliance import Appliance
from tests.lab.databases import database_clone
from tests.lab.inside import TREE_INSIDE, call
from tests.lab.postgresql import BARE_PSQL, sql

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with database_clone("bookworm", "postgresql", binds=TREE_INSIDE) as machine:
        yield machine


SETTINGS = {
    "preloads": "session_preload_libraries = 'auto_explain', 'gone_library'",
    "plugs": "local_preload_libraries = 'gone_plugin'",
    "spaced": "default_tablespace = 'gone_space'",
    "temporary": "temp_tablespaces = 'pg_default', 'gone_space'",
    "acts": "role = 'gone_role'",
    "searches": "default_text_search_config = 'public.gone_words'",
    "dutch": "lc_time = 'nl_NL.UTF-8'",
    "speaks": "lc_messages = 'nl_NL.UTF-8'",
    "looks": "search_path = 'odd, one', \"$user\", public",
    "explains": "session_preload_libraries = 'auto_explain'",
}
NAMED = {
    "preloads": "this server has no library gone_library",
    "plugs": "this server has no library gone_plugin",
    "spaced": 'Tablespace "gone_space" does not exist',
    "temporary": 'tablespace "gone_space" does not exist',
    "acts": 'role "gone_role" does not exist',
    "searches": "gone_words",
}
LOCALE = "/usr/lib/locale/nl_NL.utf8"


@pytest.fixture(scope="module")
def loaded(box: Appliance) -> dict[str, str]:
    """The roles and a database come back to a server that lacks what their settings name; give what is named."""
    box.run(["localedef", "--no-archive", "-i", "nl_NL", "-c", "-f", "UTF-8", "nl_NL.UTF-8"])
    sql(box, "CREATE ROLE gone_role; CREATE DATABASE app TEMPLATE template0")
    for role, setting in SETTINGS.items():
        sql(box, f"CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET {setting}")
    sql(box, "ALTER ROLE looks IN DATABASE app SET session_preload_libraries = 'gone_too'")
    sql(box, "ALTER DATABASE app SET local_preload_libraries = '$libdir/plugins/gone_here'")
    sql(box, "DROP ROLE gone_role")
    dump(box, "/root/roles", overrides=only("app"))
    sql(box, "DROP DATABASE app")
    sql(box, "".join(f"DROP ROLE {role};" for role in SETTINGS))
    box.run(["rm", "-r", LOCALE])
    answer = load(box, "/root/roles", "app", accounts=True)
    assert answer["failed"] is None
    assert any("made the locale nl_NL.UTF-8" in note for note in answer["notes"])
    return dict(answer["skipped"])


def log_in(box: Appliance, role: str, query: str, database: str = "postgres") -> str:
    box.run(["sed", "-i", f"1i local all {role} trust", "/etc/postgresql/15/main/pg_hba.conf"])
    sql(box, "SELECT pg_reload_conf(), pg_sleep(0.2)")
    return box.run([*BARE_PSQL, "-XAt", "-U", role, "-d", database, "-c", query]).stdout.strip()


@pytest.mark.parametrize("role", SETTINGS)
def test_role_can_log_in_whatever_its_settings_name(box: Appliance, loaded: dict[str, str], role: str) -> None:
    name, _, value = SETTINGS[role].partition(" = ")
    shown = log_in(box, role, f"SHOW {name}")
    assert (shown.replace('"', "'") == value.replace('"', "'")) or role in NAMED or shown == value.strip("'")
    reason = loaded.get(f"pgsql:role {role}", "")
    assert NAMED.get(role, "") in reason
    assert bool(reason) is (role in NAMED)


def test_settings_of_a_database_that_would_refuse_every_login_are_named(box: Appliance, loaded: dict[str, str]) -> None:
    assert log_in(box, "looks", "SELECT 1", "app") == "1"
    assert "gone_" in loaded["pgsql:app"]


LISTED = """
from tklb.config.schema import DatabaseConfig
from tklb.databases.servers import list_servers
answer = [[each.word, each.lack, each.is_off] for each in list_servers(DatabaseConfig()) if each.word == "pgsql"]
"""


@pytest.mark.parametrize(("start", "is_off"), [("auto", False), ("manual", True), ("disabled", True)])
def test_only_cluster_of_a_machine_may_be_down_where_start_conf_says_so(
    box: Appliance, start: str, is_off: bool
) -> None:
    assert call(box, LISTED) == [["pgsql", "", False]]
    box.stop("postgresql")
    box.run(["sh", "-c", f"echo {start} >/etc/postgresql/15/main/start.conf"])  # which the service heeds, too
    ((_, lack, found),) = call(box, LISTED)
    assert found is is_off
    assert (f"{start} in start.conf" in lack) is is_off
    box.run(["sh", "-c", "echo auto >/etc/postgresql/15/main/start.conf"])
    box.start("postgresql")
