"""Packages that no source offers: dpkg of the restored machine knows them as that of the backed-up one did.

Judged by dpkg and apt. Takes the lab's machines; touches clones and folders of its own.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.boundary import repository
from tests.lab.appliance import Appliance, clone
from tests.lab.soak import some

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
ONLY_ON_A = 'test "$(hostname)" = a || { echo "this is not a" >&2; exit 9; }'
POSTINST = """set -e
getent group vendor >/dev/null || groupadd --system vendor
chgrp vendor /usr/lib/vendor/queue && chmod 2755 /usr/lib/vendor/queue
install -d /var/lib/vendor && date +%N >/var/lib/vendor/installed-at
rm -f /usr/share/vendor/once
"""
FILES = {
    "/etc/vendor/edited.conf": "as shipped\n",
    "/etc/vendor/plain.conf": "as shipped\n",
    "/etc/vendor/gone.conf": "as shipped\n",
    "/usr/bin/vendor-agent": "#!/bin/sh\necho agent\n",
    "/usr/lib/vendor/queue": "#!/bin/sh\nexit 0\n",
    "/usr/lib/vendor/patched": "#!/bin/sh\nexit 1\n",
    "/usr/share/vendor/once": "read by the postinst\n",
    "/usr/share/vendor/deleted": "not wanted\n",
    "/opt/vendor/with space/ünïcode": "odd name\n",
}
OFF = "Enabled: no\nTypes: deb\nURIs: https://off.example.org/\nSuites: ./\n"
PRESEED = "later later/question string yes please\nlater later/password password secret word\n"
CONFFILES = tuple(path for path in FILES if path.startswith("/etc/"))
LOCAL = ("vendor-agent", "vendor-plugin", "vendor-needy", "vendor-broken", "vendor-old:i386")


class Trip(NamedTuple):
    """What was seen on A, the machine after the restore, its plan and its report."""

    there: dict[str, Any]
    b: Appliance
    plan: dict[str, Any]
    report: dict[str, Any]
    deltas: tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("share")
    (top / "archive").mkdir()
    loose = top / "loose"
    loose.mkdir()
    for name in ("lib-dep", "lib-lone"):
        repository.deb(top / "archive", name)
    repository.deb(top / "archive", "dpkg", "0.1")  # every archive of a release has it
    repository.deb(
        loose, "vendor-agent", "1:2.0-1", files=FILES, conffiles=CONFFILES,
        scripts={"postinst": POSTINST, "prerm": "exit 0"}, fields="Depends: lib-dep\nHomepage: https://vendor.example\n",
    )  # fmt: skip
    repository.deb(loose, "vendor-plugin", fields="Depends: vendor-agent (>= 1:2)\nEnhances: vendor-agent\n")
    repository.deb(loose, "vendor-needy", scripts={"postinst": "test -e /srv/licence"})
    repository.deb(loose, "vendor-broken", scripts={"preinst": ONLY_ON_A}, fields="Depends: lib-lone\n")
    repository.deb(loose, "vendor-old", architecture="i386")
    repository.deb(loose, "vendor-past", files={"/etc/past.conf": "as shipped\n"}, conffiles=("/etc/past.conf",))
    repository.deb(top / "archive", "lib-unwanted")
    repository.index(top / "archive")
    (top / "repo").mkdir()
    repository.deb(top / "repo", "in-repo")
    repository.index(top / "repo")
    return top


def forget_debian(machine: Appliance) -> None:
    """Take Debian's archive away: nothing here needs it, and its lists are large."""
    (machine.root / "etc/apt/sources.list").write_text("")
    for lists in (machine.root / "etc/apt/sources.list.d").iterdir():
        lists.unlink()


def live(a: Appliance) -> None:
    """What the owner of A did."""
    forget_debian(a)
    (a.root / "etc/apt/sources.list.d/own.list").write_text(f"deb [trusted=yes] file:{SHARE}/archive ./\n")
    (a.root / "etc/apt/sources.list.d/off.sources").write_text(OFF)
    a.run(["cp", "-r", f"{SHARE}/repo", "/srv/repo"])
    (a.root / "etc/apt/sources.list.d/repo.list").write_text("deb [trusted=yes] file:/srv/repo ./\n")
    (a.root / "srv/licence").write_text("paid\n")
    a.run(["dpkg", "--add-architecture", "i386"])
    a.run(["apt-get", "-q", "update"])
    a.run(["apt-get", "-qy", "install", *(f"{SHARE}/loose/{path}" for path in (
        "vendor-agent_1:2.0-1_all.deb", "vendor-plugin_1_all.deb", "vendor-needy_1_all.deb",
        "vendor-broken_1_all.deb", "vendor-old_1_i386.deb",
    ))])  # fmt: skip
    a.run(["apt-get", "-qy", "install", "in-repo"])
    a.run(["dpkg", "-i", f"{SHARE}/loose/vendor-past_1_all.deb"])
    (a.root / "etc/past.conf").write_text("the owner's\n")
    a.run(["dpkg", "--remove", "vendor-past"])
    a.run(["apt-mark", "hold", "lib-unwanted"])
    a.run(["debconf-set-selections"], input=PRESEED)
    a.run(["apt-mark", "auto", "vendor-agent"])
    a.run(["apt-mark", "hold", "vendor-plugin"])
    for name in ("etc/vendor/edited.conf", "usr/lib/vendor/patched"):
        (a.root / name).write_text("the owner's\n")
    (a.root / "etc/vendor/gone.conf").unlink()
    (a.root / "usr/share/vendor/deleted").unlink()


def audit(machine: Appliance) -> dict[str, Any]:
    """Ask dpkg and apt about the packages."""
    form = "${binary:Package} ${Version} ${db:Status-Abbrev} ${Depends} ${Homepage} ${Maintainer}\n"
    lists = {name: machine.run(["dpkg", "-L", name], check=False).stdout.splitlines() for name in LOCAL}
    return {
        "known": set(machine.run(["dpkg-query", "-W", "-f", form, *LOCAL], check=False).stdout.splitlines()),
        "verified": set(machine.run(["dpkg", "-V", *LOCAL[:3]], check=False).stdout.splitlines()),
        "lists": {name: sorted(lines) for name, lines in lists.items()},
        "auto": {name for name in machine.run(["apt-mark", "showauto"]).stdout.split() if "vendor" in name},
        "needed": {name for name in machine.run(["apt-mark", "showauto"]).stdout.split() if name.startswith("lib-")},
        "held": machine.run(["apt-mark", "showhold"]).stdout.split(),
        "answers": machine.run(["debconf-show", "later"]).stdout,
        "sources": {path.name for path in machine.root.glob("etc/apt/sources.list.d/*")},
        "past": (machine.root / "etc/past.conf").read_text(),
        "queue": machine.run(["stat", "-c", "%U %G %a", "/usr/lib/vendor/queue"]).stdout,
        "owner": machine.run(["dpkg", "-S", "/opt/vendor/with space/ünïcode"]).stdout,
    }


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2, first=1))
def trip(request: pytest.FixtureRequest, share: Path) -> Iterator[Trip]:
    binds, place = {share: SHARE}, f"{SHARE}/target-{request.param}"
    with clone(request.param, tklb=True, binds=binds) as a:
        live(a)
        a.run(["tklb", "init", "--target", f"file://{place}"])
        a.run(["tklb", "backup"])
        assert json.loads(a.run(["tklb", "backup", "--json"]).stdout)["kind"] == "none"
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key-{request.param}"])
        there, delta_a = audit(a), json.loads(a.run(["tklb", "delta", "--json"]).stdout)
    with clone(request.param, hostname="b", tklb=True, binds=binds) as b:
        forget_debian(b)
        b.run(["groupadd", "--system", "first-here"])
        (b.root / "etc/dpkg/dpkg.cfg.d/small").write_text("path-exclude=/usr/share/in-repo/*\n")
        way = ["tklb", "restore", "--json", "--target", f"file://{place}", "--key", f"{SHARE}/key-{request.param}"]
        plan = json.loads(b.run([*way, "--dry-run"]).stdout)
        report = json.loads(b.run([*way, "--yes"], check=False).stdout)
        delta_b = json.loads(b.run(["tklb", "delta", "--json"]).stdout)
        yield Trip(there, b, plan, report, (delta_a, delta_b))


def test_dpkg_knows_the_packages_as_it_did_there(trip: Trip) -> None:
    here = audit(trip.b)
    broken = {line for line in trip.there["known"] if line.startswith("vendor-broken")}
    assert len(trip.there["known"]) == len(LOCAL)
    assert trip.there["known"] - here["known"] == broken
    for fact in ("held", "auto", "queue", "owner", "answers", "sources", "past"):
        assert here[fact] == trip.there[fact]
    assert {n: lines for n, lines in here["lists"].items() if n != "vendor-broken"} == {
        n: lines for n, lines in trip.there["lists"].items() if n != "vendor-broken"
    }


def test_edited_and_deleted_files_of_packages_are_seen_as_such(trip: Trip) -> None:
    assert {line.split()[-1].rpartition("/")[2] for line in trip.there["verified"]} == {
        "edited.conf", "patched", "gone.conf", "deleted", "once",
    }  # fmt: skip
    assert audit(trip.b)["verified"] == trip.there["verified"]
    assert (trip.b.root / "etc/vendor/edited.conf").read_text() == "the owner's\n"
    assert not [path for path in trip.b.root.glob("etc/vendor/*") if ".dpkg-" in path.name]


def test_package_that_needs_a_file_of_the_owner_comes_too_and_one_that_fails_is_named(trip: Trip) -> None:
    reasons = {item["item"]: item["reason"] for item in reversed(trip.report["skipped"])}
    assert reasons.keys() == {"package:vendor-broken"}
    assert "exit status 9" in reasons["package:vendor-broken"]
    assert "its files are restored as files" in reasons["package:vendor-broken"]
    assert (trip.b.root / "usr/share/vendor-broken/README").exists()
    audited = trip.b.run(["dpkg", "--audit"]).stdout
    assert "vendor" not in audited


def test_what_a_package_needs_stays_automatic_unless_one_is_unknown_here(trip: Trip) -> None:
    assert {"lib-dep", "lib-lone"} <= trip.there["needed"]
    assert trip.there["needed"] - audit(trip.b)["needed"] == {"lib-lone"}  # dpkg does not know here what needs it
    assert "vendor" not in trip.b.run(["apt-get", "-s", "autoremove"]).stdout


def test_package_of_a_folder_that_comes_with_the_files_comes_after_them(trip: Trip) -> None:
    assert trip.b.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "in-repo"]).stdout == "ii "
    left_out = "dpkg leaves out parts of packages here: /usr/share/in-repo/* (/etc/dpkg/dpkg.cfg.d/small)"
    assert left_out in trip.plan["warnings"]


def test_decisions_about_packages_that_are_not_there_come_too(trip: Trip) -> None:
    assert "lib-unwanted" in trip.there["held"]
    assert "later/question: yes please" in trip.there["answers"]
    for fact in ("held", "answers"):
        assert audit(trip.b)[fact] == trip.there[fact]


def test_plan_says_how_they_come_and_the_deltas_agree(trip: Trip) -> None:
    steps = {step["item"]: step["detail"] for step in trip.plan["steps"] if step["step"] == "install-package"}
    assert steps.keys() >= set(LOCAL)
    assert steps["vendor-agent"] == "version 1:2.0-1, built again: no package source offers it"
    there, here = ({(file["path"], file["change"]) for file in delta["files"]} for delta in trip.deltas)
    assert here - there == {("/etc/dpkg/dpkg.cfg.d/small", "new")}  # of B
    assert there - here == set()
    added = [set(delta["packages"]["added"]) for delta in trip.deltas]
    assert added[0] - added[1] == {"vendor-broken"}


def test_second_restore_has_only_what_failed(trip: Trip) -> None:
    plan = json.loads(trip.b.run(["tklb", "restore", "--json", "--dry-run"]).stdout)
    steps = [step for step in plan["steps"] if step["detail"] != "if a package brings it"]
    assert {step["item"] for step in steps if step["step"] != "restart-service"} <= {"vendor-broken", "lib-lone"}


def test_removing_the_package_takes_its_files_away(trip: Trip) -> None:
    trip.b.run(["apt-mark", "unhold", "vendor-plugin"])
    trip.b.run(["apt-get", "-qy", "purge", "vendor-agent", "vendor-plugin"])
    assert not (trip.b.root / "usr/bin/vendor-agent").exists()
    assert not (trip.b.root / "opt/vendor").exists()
