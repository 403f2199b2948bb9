"""What a backup skipped comes up wherever its snapshot is used: at every restore, in list, status and verify."""

import json
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.journey.test_databases import allow_services, ask, items, open_shop, told
from tests.lab.appliance import Appliance, clone, stack
from tests.lab.roots import layer

pytestmark = pytest.mark.lab

KEY = "/mnt/key"
FROM_A = ("restore", "--target", "file:///mnt/target", "--key", KEY)
HOLES = "/srv/holes"
PLAIN = {"mysql:shop/worn", HOLES, "package:nosuch", "pgsql:nosuch"}


class Seen(NamedTuple):
    """What tklb said on A and on B about one snapshot."""

    backup: dict[str, Any]
    again: dict[str, Any]
    plan: dict[str, Any]
    report: dict[str, Any]
    rows: str  # of the tables `orders` and `worn` on B


def wear_out(a: Appliance) -> None:
    """Make what cannot be taken: a crashed table, a file with too many holes, what overrides name and is not there."""
    ask(
        a, "CREATE TABLE shop.worn(id INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO shop.worn VALUES(1),(2); FLUSH TABLES"
    )
    (a.root / "var/lib/mysql/shop/worn.MYI").write_bytes(b"worn out")
    (a.root / "srv/holes").touch()
    with (a.root / "srv/holes").open("r+b") as holes:
        holes.truncate(1 << 40)
    with (a.root / "etc/tklb/overrides").open("a") as overrides:
        overrides.write("package:nosuch\npgsql:nosuch\n")


def bring(a: Appliance, b: Appliance) -> None:
    """Give B the target and the key of A."""
    for name in ("target", "key"):
        place = b.root / "mnt" / name
        shutil.rmtree(place, ignore_errors=True)
        place.unlink(missing_ok=True)
    shutil.copytree(a.root / "mnt/target", b.root / "mnt/target")
    shutil.copy(a.root / "mnt/key", b.root / "mnt/key")


@pytest.fixture(scope="module")
def a() -> Iterator[Appliance]:
    made = layer("shop", stack("lamp", "a", tklb=True), open_shop, "a")
    with clone("lamp", tklb=True, layers=[made]) as machine:
        machine.start("mariadb")
        machine.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
        wear_out(machine)
        yield machine


@pytest.fixture(scope="module")
def b() -> Iterator[Appliance]:
    with clone("lamp", hostname="b", tklb=True) as machine:
        allow_services(machine)
        machine.start("mariadb")
        yield machine


@pytest.fixture(scope="module")
def seen(a: Appliance, b: Appliance) -> Seen:
    backup, again = told(a, "backup", statuses=(3,)), told(a, "backup", statuses=(3,))
    bring(a, b)
    plan = told(b, *FROM_A, "--dry-run", "--skip", "packages", statuses=(3,))
    report = told(b, *FROM_A, "--yes", "--skip", "packages", statuses=(3,))
    rows = ask(b, "SELECT COUNT(*) FROM shop.orders") + ask(b, "SHOW TABLES FROM shop LIKE 'worn'")
    return Seen(backup, again, plan, report, rows)


def reasons(result: dict[str, Any]) -> dict[str, str]:
    return {item["item"]: item["reason"] for item in result["skipped"]}


def test_restore_names_all_that_the_backup_skipped_before_and_after(seen: Seen) -> None:
    assert items(seen.backup) == PLAIN
    assert (seen.again["kind"], items(seen.again)) == ("none", PLAIN)
    expected = PLAIN - {"package:nosuch"}
    assert items(seen.plan) == expected
    assert items(seen.report) == expected
    assert all(any(item in line for line in seen.plan["warnings"]) for item in expected)
    assert not any("skipped it" in line for line in seen.report["warnings"])


def test_restore_says_what_this_machine_has_in_its_place(seen: Seen) -> None:
    assert seen.rows.splitlines()[0] == "2"
    assert reasons(seen.plan)[HOLES].endswith("there is none here")
    assert reasons(seen.plan)["mysql:shop/worn"].endswith(
        "the table comes back empty" if "worn" in seen.rows else "it does not come back"
    )
    assert reasons(seen.plan)["mysql:shop/worn"].startswith(
        f"the backup skipped it: {reasons(seen.backup)['mysql:shop/worn']}"
    )
    details = {step["item"]: step["detail"] for step in seen.plan["steps"]}
    assert "stay as they are here" not in details["mysql:shop"]


def test_limit_of_skipped_items_is_no_success(seen: Seen, a: Appliance) -> None:
    asked = {"mysql:shop/worn", HOLES, "package:nosuch"}
    limits = [word for item in sorted(asked) for word in ("--limit", item)]
    result = told(a, "restore", "--yes", *limits, statuses=(3,))
    assert seen.backup["status"] == 3
    assert items(result) == asked
    assert all(reason.startswith("the backup skipped it: ") for reason in reasons(result).values())


def test_decoded_files_list_and_verify_name_it_too(seen: Seen, a: Appliance) -> None:
    decoded = told(a, "restore", "--into", "/var/cache/look", statuses=(3,))
    shutil.rmtree(a.root / "var/cache/look")
    assert items(decoded) == PLAIN
    listed = json.loads(a.run(["tklb", "list", "--json"]).stdout)
    assert [entry["skipped"] for entry in listed] == [0, 4]
    assert items({"skipped": listed[-1]["skipped_items"]}) == PLAIN
    assert "4 skipped" in a.run(["tklb", "list"]).stdout
    assert HOLES not in a.run(["tklb", "list"]).stdout
    assert all(f"skipped {item}: " in a.run(["tklb", "list", "--long"]).stdout for item in PLAIN)
    (found,) = told(a, "verify", "--quick", statuses=(0,))["skipped_by_backups"]
    assert (found["snapshot"], items(found)) == (seen.backup["snapshot"], PLAIN)
    (problem,) = [line for line in told(a, "status", statuses=(3,))["problems"] if "skipped" in line]
    assert HOLES in problem


def test_server_that_was_down_is_named_with_its_status(seen: Seen, a: Appliance, b: Appliance) -> None:
    assert seen.backup["status"] == 3
    a.stop("mariadb")
    taken = told(a, "backup", statuses=(50,))
    assert items(taken) == {*PLAIN - {"mysql:shop/worn"}, "mysql:*"}  # what was skipped before still is
    bring(a, b)
    plan = told(b, *FROM_A, "--dry-run", "--skip", "packages", statuses=(50,))
    assert "mysql:*" in items(plan)
    assert any("mysql:*" in line for line in plan["warnings"])
    assert reasons(plan)["mysql:*"].endswith("the server here keeps its own: a/b, shop, wiki")
    assert told(a, "status", statuses=(50,))["problems"]
    a.start("mariadb")


def test_what_is_taken_later_is_not_skipped_there_and_what_is_skipped_later_is(seen: Seen, a: Appliance) -> None:
    (a.root / "srv/holes").unlink()
    overrides = a.root / "etc/tklb/overrides"
    overrides.write_text(overrides.read_text().replace("package:nosuch\npgsql:nosuch\n", ""))
    ask(a, "REPAIR TABLE shop.worn USE_FRM")
    whole = told(a, "backup", statuses=(0,))
    assert (whole["kind"], whole["skipped"]) == ("incremental", [])
    old = told(a, "restore", seen.backup["snapshot"], "--dry-run", statuses=(3,))
    assert items(old) == PLAIN
    # else the newest snapshot would promise what it has not
    assert told(a, "backup", "mysql:gone", statuses=(3,))["kind"] == "incremental"
    assert items(told(a, "restore", "--dry-run", statuses=(3,))) == {"mysql:gone"}
