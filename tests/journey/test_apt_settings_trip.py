"""Settings of apt that come before their packages, and proxies that the fresh machine cannot reach.

The archive is one that only a proxy knows, on Debian 12; on Debian 13, which is for a soak (TKLB_SOAK=1), it can be
reached without one, too. Judged by dpkg, apt and ucf. Takes the lab's machines; touches clones and folders of its own.
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
# a proxy, and a server for those who ask it themselves
SERVE = f"""
import functools, http.server, re
class Handler(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path):
        return super().translate_path(re.sub("^http://[^/]+", "", path))
handler = functools.partial(Handler, directory="{SHARE}/archive")
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), handler).serve_forever()
"""
BY_UCF = """set -e
ucf --three-way --debconf-ok /usr/share/by-ucf/50by-ucf /etc/apt/apt.conf.d/50by-ucf
ucfr by-ucf /etc/apt/apt.conf.d/50by-ucf
"""
SETTINGS = {
    "/etc/apt/apt.conf.d/50by-ucf": 'APT::Periodic::Unattended-Upgrade "1"; // the owner\'s\n',
    "/etc/apt/apt.conf.d/30by-dpkg": 'Acquire::Retries "2"; // the owner\'s\n',
    "/etc/apt/preferences.d/by-dpkg": "Package: nothing\nPin: release *\nPin-Priority: 5\n",
    "/etc/by-dpkg.conf": "the owner's\n",
    "/etc/apt/apt.conf.d/01proxy": 'Acquire::http::Proxy "http://anna:secret@127.0.0.1:9/";\n',
}
FINDER = '#!/bin/sh\necho "http://127.0.0.1:9/"\n'
PACKAGES = ("by-ucf", "by-dpkg")
ENDINGS = ("-dist", "-new", "-old")


class Trip(NamedTuple):
    """The machine after the restore, and its report."""

    b: Appliance
    report: dict[str, Any]


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("share")
    archive = top / "archive"
    archive.mkdir()
    repository.deb(
        archive, "by-ucf", files={"/usr/share/by-ucf/50by-ucf": "// as shipped\n"}, scripts={"postinst": BY_UCF}
    )
    shipped = {
        path: "# as shipped\n" if path.endswith(".conf") else ""
        for path in SETTINGS if "by-dpkg" in path
    }  # fmt: skip
    repository.deb(archive, "by-dpkg", files=shipped, conffiles=tuple(shipped))
    repository.deb(archive, "dpkg", "0.1")
    repository.index(archive)
    return top


def use_archive(machine: Appliance, place: str, *, has_proxy: bool) -> None:
    """Leave Debian's archive, which nothing here needs."""
    apt = machine.root / "etc/apt"
    (apt / "sources.list").write_text("")
    for lists in (apt / "sources.list.d").iterdir():
        lists.unlink()
    (apt / "sources.list.d/own.list").write_text(f"deb [trusted=yes] {place} ./\n")
    if has_proxy:
        (apt / "apt.conf.d/01proxy").write_text('Acquire::http::Proxy "http://127.0.0.1:8080/";\n')


def live(a: Appliance) -> None:
    """What the owner of A did; in the end, the proxy moved to where only A reaches it."""
    a.run(["apt-get", "-q", "update"])
    a.run(["apt-get", "-qy", "install", *PACKAGES])
    for path, text in SETTINGS.items():
        (a.root / path.lstrip("/")).write_text(text)
    (a.root / "usr/local/bin/find-proxy").write_text(FINDER)
    (a.root / "usr/local/bin/find-proxy").chmod(0o755)
    finder = 'Acquire::https::Proxy-Auto-Detect "/usr/local/bin/find-proxy";\n'
    (a.root / "etc/apt/apt.conf.d/02finder").write_text(finder)


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2))
def trip(request: pytest.FixtureRequest, share: Path) -> Iterator[Trip]:
    kind, binds = request.param, {share: SHARE}
    place = "http://archive.invalid/" if kind == "core" else "http://127.0.0.1:8080/"
    with clone(kind, tklb=True, binds=binds) as a, repository.serve(a, SERVE, 8080):
        use_archive(a, place, has_proxy=True)
        live(a)
        a.run(["tklb", "init", "--target", f"file://{SHARE}/target-{kind}"])
        a.run(["tklb", "backup"])
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key-{kind}"])
    with clone(kind, hostname="b", tklb=True, binds=binds) as b, repository.serve(b, SERVE, 8080):
        use_archive(b, place, has_proxy=kind == "core")
        way = ["tklb", "restore", "--json", "--target", f"file://{SHARE}/target-{kind}", "--key", f"{SHARE}/key-{kind}"]
        yield Trip(b, json.loads(b.run([*way, "--yes"]).stdout))


def test_packages_come_though_the_proxy_of_the_other_machine_is_out_of_reach(trip: Trip) -> None:
    shown = trip.b.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}\n", *PACKAGES]).stdout
    assert shown.split() == ["ii", "ii"]
    assert trip.report["skipped"] == []


def test_the_report_names_the_proxy_without_its_password_and_the_settings_come_back(trip: Trip) -> None:
    said = [line for line in trip.report["warnings"] if "proxy" in line]
    assert any("http://127.0.0.1:9/" in line and "refused" in line for line in said)
    assert any("/usr/local/bin/find-proxy" in line for line in said)
    assert "secret" not in json.dumps(trip.report)
    assert "secret" not in "".join(log.read_text() for log in trip.b.root.glob("var/log/tklb/*"))
    for path, text in SETTINGS.items():
        assert (trip.b.root / path.lstrip("/")).read_text() == text
    assert not list(trip.b.root.glob("tmp/tklb-apt-*"))


def test_nothing_lies_beside_a_file_that_came_before_its_package(trip: Trip) -> None:
    etc = trip.b.root / "etc"
    assert [path.name for path in etc.rglob("*") if path.name.endswith(ENDINGS) and "by-" in path.name] == []
    assert "Ignoring" not in trip.b.run(["apt-cache", "policy", "by-ucf"]).stderr


def test_dpkg_and_ucf_know_the_files_as_the_owners(trip: Trip) -> None:
    (line,) = trip.b.run(["ucfq", "--with-colons", "/etc/apt/apt.conf.d/50by-ucf"]).stdout.split()
    assert line == "/etc/apt/apt.conf.d/50by-ucf:by-ucf:Yes:Yes"  # it exists, and it is changed
    verified = trip.b.run(["dpkg", "-V", "by-dpkg"], check=False).stdout
    assert {row.split()[-1] for row in verified.splitlines()} == {path for path in SETTINGS if "by-dpkg" in path}


def test_second_restore_changes_nothing(trip: Trip) -> None:
    plan = json.loads(trip.b.run(["tklb", "restore", "--json", "--dry-run"]).stdout)
    assert [step for step in plan["steps"] if step["step"] != "restart-service"] == []
