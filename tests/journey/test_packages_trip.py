"""Packages whose scripts fail on the fresh machine: all else comes back, and what did not is named.

Their source is a folder that apt copies; another one has its key inside, and one is on a disk.

Takes the lab's machines and an archive of packages of our own; touches clones and folders of its own.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.boundary import repository
from tests.lab.appliance import Appliance, clone
from tests.lab.repository import repository_layer

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
ONLY_ON_A = 'test "$(hostname)" = a || { echo "this is not a" >&2; exit 9; }'
BAD = {"bad-post", "bad-pre", "needs-bad"}
GOOD = {"good", "needs-good", "acme-tools"}
INLINE = "Types: deb\nURIs: file:/usr/share/acme\nSuites: stable/\nSigned-By:\n"
DISK = "deb cdrom:[Debian GNU/Linux 12 _Bookworm_ DVD]/ bookworm main\n"


class Trip(NamedTuple):
    """The machine after the restore, the restore's report and its exit status."""

    b: Appliance
    report: dict[str, Any]
    status: int


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages that come in on A; some of their scripts fail on any other machine."""
    share = tmp_path_factory.mktemp("share")
    folder = share / "archive"
    folder.mkdir()
    settings = {"/etc/bad-post.conf": "as shipped\n"}
    repository.deb(
        folder, "bad-post", files=settings, conffiles=("/etc/bad-post.conf",), scripts={"postinst": ONLY_ON_A}
    )
    repository.deb(folder, "needs-bad", fields="Depends: bad-post\n")
    repository.deb(folder, "bad-pre", scripts={"preinst": ONLY_ON_A})
    repository.deb(folder, "good", files={"/etc/good.conf": "as shipped\n"}, conffiles=("/etc/good.conf",))
    repository.deb(folder, "needs-good", fields="Depends: good\n")
    repository.index(folder)
    return share


@pytest.fixture(scope="module")
def trip(archive: Path) -> Iterator[Trip]:
    binds = {archive: SHARE}
    layers = [repository_layer()]
    with clone("core", tklb=True, binds=binds, layers=layers) as a:
        (a.root / "etc/apt/sources.list.d/own.list").write_text(f"deb [trusted=yes] copy:{SHARE}/archive ./\n")
        (a.root / "etc/apt/sources.list.d/inline.sources").write_text(
            INLINE + show_key(a.root / "usr/share/acme/acme.asc")
        )
        (a.root / "etc/apt/sources.list").write_text("")
        a.run(["apt-get", "-q", "update"])
        (a.root / "etc/apt/sources.list").write_text(DISK)
        a.run(["apt-get", "-qy", "install", *BAD, *GOOD])
        for name in ("bad-post", "good"):
            (a.root / f"etc/{name}.conf").write_text("the owner's\n")
        (a.root / "srv/page").write_text("the owner's\n")
        a.run(["useradd", "--create-home", "alice"])
        a.run(["tklb", "init", "--target", f"file://{SHARE}/target"])
        a.run(["tklb", "backup"])
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key"])
    with clone("core", hostname="b", tklb=True, binds=binds, layers=layers) as b:
        (b.root / "etc/apt/sources.list").write_text("")
        way = ["tklb", "restore", "--json", "--yes", "--target", f"file://{SHARE}/target", "--key", f"{SHARE}/key"]
        done = b.run(way, check=False)
        yield Trip(b, json.loads(done.stdout), done.returncode)


def show_key(path: Path) -> str:
    """A key as deb822 has it in a field."""
    return "".join(f" {line or '.'}\n" for line in path.read_text().splitlines())


def states(machine: Appliance) -> dict[str, str]:
    """How dpkg has each of our packages; those it does not know are left out."""
    asked = machine.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *BAD, *GOOD], check=False)
    return dict(line.split() for line in asked.stdout.splitlines())


def named(report: dict[str, Any]) -> dict[str, str]:
    """The reasons by package: the first one is that of its installation, another one that of its mark."""
    packages = [item for item in report["skipped"] if not item["item"].startswith("/")]
    return {item["item"].removeprefix("package:"): item["reason"] for item in reversed(packages)}


def test_all_else_comes_back_where_a_package_fails(trip: Trip) -> None:
    assert {name for name, state in states(trip.b).items() if state == "installed"} == GOOD
    for path in ("etc/good.conf", "etc/bad-post.conf", "srv/page"):
        assert (trip.b.root / path).read_text() == "the owner's\n"
    assert trip.b.run(["stat", "--format=%U", "/home/alice"]).stdout == "alice\n"


def test_packages_that_failed_are_named_at_the_end_with_their_reason(trip: Trip) -> None:
    assert trip.status == 3
    assert named(trip.report).keys() == BAD
    reasons = named(trip.report)
    assert "exit status 9" in reasons["bad-post"]
    assert "exit status 9" in reasons["bad-pre"]
    assert "dependency problems" in reasons["needs-bad"]


def test_sources_that_are_copied_or_have_their_key_inside_work_and_one_on_a_disk_is_named(trip: Trip) -> None:
    offered = trip.b.run(["apt-cache", "policy", "good", "acme-tools"]).stdout
    assert f"copy:{SHARE}/archive" in offered
    assert "file:/usr/share/acme stable/" in offered
    assert trip.b.run(["apt-get", "-q", "update"]).stderr == ""
    assert [item["item"] for item in trip.report["skipped"] if "cdrom:[" in item["reason"]] == [
        "/etc/apt/sources.list.d/tklb-restored.list"
    ]


def test_all_that_dpkg_complains_of_was_named(trip: Trip) -> None:
    audit = trip.b.run(["dpkg", "--audit"]).stdout
    complained = {line.split()[0] for line in audit.splitlines() if line.startswith(" ") and line.split()[0] in BAD}
    assert complained == {"bad-post", "needs-bad"}
    assert complained <= named(trip.report).keys()


def test_rest_comes_by_repeating_it_even_where_a_package_still_fails(trip: Trip) -> None:
    (trip.b.root / "srv/page").unlink()
    again = ["tklb", "restore", "--json", "--yes"]
    still = trip.b.run(again, check=False)
    assert still.returncode == 3
    assert "exit status 9" in named(json.loads(still.stdout))["bad-post"]
    assert (trip.b.root / "srv/page").exists()
    trip.b.run(["hostname", "a"])
    done = trip.b.run(again)
    assert named(json.loads(done.stdout)) == {}
    assert set(states(trip.b).values()) == {"installed"}
    assert trip.b.run(["dpkg", "--audit"]).stdout == ""
