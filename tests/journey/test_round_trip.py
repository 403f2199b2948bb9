"""The main job, end to end: a lived-in server, backed up, and brought back on a fresh machine that differs.

Every comparison is the lab checker's, which has its own code; tklb is only run, never imported.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab import accounts, checker
from tests.lab.appliance import Answer, Appliance, clone
from tests.lab.fresh_server import identity, make_fresh_server
from tests.lab.repository import repository_layer
from tests.lab.roots import POLICY
from tests.lab.soak import some
from tests.lab.used_server import OWNERS_PAGE, used_server

pytestmark = pytest.mark.lab

TARGET, KEY = "file:///mnt/share/target", "/mnt/share/key"
AGENT = ("/usr/bin/acme-agent", "/usr/share/doc/acme-agent/copyright")  # of a package that no source offers
SCOPE = ("/etc", "/home", "/root", "/srv", "/opt", "/usr/local", "/var/www", "/var/spool", "/var/mail", "/var/local",
         "/var/lib/wordpress", *AGENT)  # fmt: skip
STATIC = "/blog/wp-includes/css/buttons.css"
ACCOUNT_FILES = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
ALLOWED = (
    *identity(),
    # accounts are merged, not copied; another test looks at them
    *(f"/etc/{name}{end}" for name in ACCOUNT_FILES for end in ("", "-")),
    "/etc/.pwd.lock",
    # A had removed nano, which stays on B; so do the links of its alternatives
    "/etc/alternatives/editor*", "/etc/alternatives/pico*",
    # lines of A's sources.list travel as a file of their own
    "/etc/apt/sources.list.d/tklb-restored.list",
    # made by package scripts and ldconfig, on each machine in its own time
    *((path, "mtime") for path in ("/etc/emacs", "/etc/emacs/site-start.d", "/etc/ld.so.cache")),
    # touched, not changed: times alone are no part of the install state
    ("/etc/profile", "mtime"),
    # tklb itself
    "/opt/tklb/**", "/opt/tklb", "/usr/local/bin/tklb", "/usr/local/share/man/**",
)  # fmt: skip


class Journey(NamedTuple):
    """What was seen on A, on a clean machine of B's kind, and on B."""

    a: checker.Facts
    clean: checker.Facts
    b: checker.Facts
    delta_a: dict[str, Any]
    delta_b: dict[str, Any]
    report: dict[str, Any]
    again: dict[str, Any]
    accounts: tuple[accounts.Books, accounts.Books, accounts.Books]  # of A, of B before, of B after
    served: dict[str, Answer]


class Lived(NamedTuple):
    """A lived-in machine when its backup was taken; `share` has its target and key."""

    share: Path
    facts: checker.Facts
    delta: dict[str, Any]
    books: accounts.Books


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Lived]:
    """The machine of a profile, backed up once for all that go from it to another."""
    return functools.cache(lambda source: back_up(source, tmp_path_factory.mktemp("share")))


@pytest.fixture(scope="module", params=some(["core core", "lamp lamp", "trixie-core trixie-core"], 3))
def journey(request: pytest.FixtureRequest, lived: Callable[[str], Lived]) -> Journey:
    """From one lived-in machine to a fresh one of the same profile; the blog of test_databases.py is of a `lamp`."""
    source, target = request.param.split()
    return travel(lived(source), source, target)


@pytest.fixture(scope="module")
def upgrade(lived: Callable[[str], Lived]) -> Journey:
    """From a lived-in bookworm to a fresh trixie."""
    return travel(lived("core"), "core", "trixie-core")


def back_up(source: str, share: Path) -> Lived:
    with used_server(source, tklb=True, binds={share: "/mnt/share"}) as a:
        a.run(["tklb", "init", "--target", TARGET])
        start_databases(a, source)
        told(a, "backup")
        a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
        return Lived(share, checker.record(a.root, SCOPE), told(a, "delta"), accounts.read_books(a.root))


def travel(a: Lived, source: str, target: str) -> Journey:
    with clone(target, hostname="b") as fresh:
        clean = checker.record(fresh.root, SCOPE)
    binds = {a.share: "/mnt/share"}
    with clone(target, hostname="b", tklb=True, binds=binds, layers=[repository_layer()]) as b:
        make_fresh_server(b)
        start_databases(b, target)
        before = accounts.read_books(b.root)
        way = ["restore", "--target", TARGET, "--key", KEY]
        report = told(b, *way, "--yes")
        again = told(b, *way, "--yes")
        served = {}
        if source == "lamp":
            b.start("apache2")
            served = {path: b.http_get(path) for path in ("/shop.html", STATIC)}
        return Journey(
            a=a.facts,
            clean=clean,
            b=checker.record(b.root, SCOPE),
            delta_a=a.delta,
            delta_b=told(b, "delta"),
            report=report,
            again=again,
            accounts=(a.books, before, accounts.read_books(b.root)),
            served=served,
        )


def start_databases(machine: Appliance, kind: str) -> None:
    """A server that is installed and does not answer makes every backup incomplete."""
    if kind == "lamp":
        machine.start("mariadb")
        (machine.root / POLICY).unlink()  # it runs, so it is restarted


def told(machine: Appliance, *words: str) -> Any:
    """Run tklb and read what it gives as JSON; skipped items are no failure here."""
    done = machine.run(["tklb", *words, "--json"], check=False, timeout=600)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    return json.loads(done.stdout)


def changes(delta: dict[str, Any]) -> set[tuple[str, str]]:
    return {(file.get("path_b64", file["path"]), file["change"]) for file in delta["files"]}


def test_every_file_comes_back_with_all_its_metadata(journey: Journey) -> None:
    assert len(journey.a) > 4000
    touched = {path for path in journey.a if path not in journey.clean}
    found = checker.compare(journey.a, journey.b, allowed=ALLOWED, folder_times=touched.__contains__)
    assert [str(mismatch) for mismatch in found] == []


def test_delta_of_the_restored_machine_is_that_of_the_backed_up_one(journey: Journey) -> None:
    there, here = changes(journey.delta_a), changes(journey.delta_b)
    assert len(there) > 3000
    assert there - here == set()
    assert {path for path, _ in here - there if not path.startswith("/home/olga")} == set()


def test_packages_and_accounts_of_the_delta_come_back(journey: Journey) -> None:
    packages_a, packages_b = journey.delta_a["packages"], journey.delta_b["packages"]
    assert set(packages_a["added"]) == set(packages_b["added"])
    assert packages_a["held"] == packages_b["held"] != []
    assert set(journey.delta_a["users"]["added"]) <= set(journey.delta_b["users"]["added"])
    assert set(journey.delta_a["groups"]["added"]) <= set(journey.delta_b["groups"]["added"])


def test_accounts_are_merged_by_name(journey: Journey) -> None:
    a, before, after = journey.accounts
    assert accounts.check_merge(a, before, after, "replacement") == []


def test_nothing_is_skipped_and_what_nobody_offers_comes_too(journey: Journey) -> None:
    assert journey.report["skipped"] == []
    assert set(AGENT) <= journey.b.keys()


def test_second_restore_changes_nothing_and_says_so(journey: Journey) -> None:
    assert journey.report["steps"] != []
    assert journey.again["steps"] == []


def test_web_server_serves_what_the_owner_wrote_and_wordpress_its_static_part(journey: Journey) -> None:
    if not journey.served:
        pytest.skip("no web server on this machine")
    assert journey.served["/shop.html"].body == OWNERS_PAGE
    assert journey.served[STATIC].status == 200
    assert len(journey.served[STATIC].body) > 1000


# What B had of another kind in the place of a file of A moves aside: a link, in the place of A's file.
BROUGHT = {"/etc/default/locale.tklb-kept"}


def test_restore_on_a_newer_release_warns_by_name_and_brings_the_owners_files(upgrade: Journey) -> None:
    warnings = "\n".join(upgrade.report["warnings"])
    assert "another release: debian-12; this machine is debian-13" in warnings
    assert "/etc/ssh/sshd_config" in warnings
    owned = ("/home/", "/srv/", "/opt/site")
    theirs = {path: fact for path, fact in upgrade.a.items() if path.startswith(owned)}
    ours = {path: upgrade.b[path] for path in theirs if path in upgrade.b}
    found = checker.compare(theirs, ours, allowed=ALLOWED, folder_times=lambda path: path not in upgrade.clean)
    assert [str(mismatch) for mismatch in found] == []
    assert upgrade.again["steps"] == []
    # the delta is taken against what trixie has after installation
    there, here = ({path for path, _ in changes(delta)} for delta in (upgrade.delta_a, upgrade.delta_b))
    assert {path for path in here - there if not path.startswith("/home/olga")} <= BROUGHT
    assert not any(path.endswith("bookworm.sources") for path in upgrade.b)
