"""An older snapshot, and what came after it: counted, listed, kept, or removed on request."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.appliance import Appliance, clone
from tests.lab.fixture_fs import FixtureFs
from tests.lab.repository import repository_layer
from tests.lab.soak import some
from tests.lab.used_server import ACME_SOURCE

pytestmark = pytest.mark.lab

SHELL = "/srv/www/shell.php"
JOB = "/etc/cron.d/miner"
LATER = (SHELL, JOB, "/root/.ssh/authorized_keys", "/usr/local/bin/helper", "/etc/systemd/system/miner.service")
SOURCE = "/etc/apt/sources.list.d/later.list"
OF_APT = (SOURCE, "/etc/apt/keyrings/later.gpg", "/etc/apt/preferences.d/later", "/etc/apt/trusted.gpg.d/later.asc")
WANTED = "/etc/systemd/system/multi-user.target.wants/miner.service"


def told(machine: Appliance, *words: str, status: int = 0) -> Any:
    done = machine.run(["tklb", *words, "--json"], check=False, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def text(machine: Appliance, *words: str, status: int = 0) -> str:
    done = machine.run(["tklb", *words], check=False, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def is_installed(machine: Appliance, name: str) -> bool:
    done = machine.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name], check=False)
    return done.stdout == "installed"


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2, first=1))
def machine(request: pytest.FixtureRequest) -> Iterator[Appliance]:
    """A machine with a snapshot, on which somebody was afterwards."""
    with clone(request.param, hostname="a", tklb=True, layers=[repository_layer()]) as a:
        fs = FixtureFs(a.root)
        fs.file(b"/srv/www/index.html", b"hello\n")
        fs.file(b"/etc/app/settings", b"mine\n")
        fs.file(b"/etc/apt/keyrings/acme.gpg", (a.root / "usr/share/acme/acme.gpg").read_bytes())
        fs.file(b"/etc/apt/sources.list.d/acme.sources", ACME_SOURCE)
        a.run(["apt-get", "update"], timeout=600)
        a.run(["tklb", "init", "--target", "file:///srv/backups"])
        a.run(["tklb", "backup"], timeout=600)
        assert "as snapshot" in text(a, "restore", "--dry-run")
        assert "this machine is as the snapshot has it" in text(a, "verify", "--live")
        a.run(["apt-get", "install", "-qy", "acme-tools"], timeout=600)
        for path in LATER:
            fs.file(path.encode(), b"planted\n")
        fs.link(WANTED.encode(), b"/etc/systemd/system/miner.service")
        fs.append(b"/etc/login.defs", b"# edited\n")
        fs.file(SOURCE.encode(), b"deb [trusted=yes] file:/usr/share/acme extra/\n")
        for path in OF_APT[1:]:
            fs.file(path.encode(), b"# of another archive\n")
        a.run(["useradd", "mallory"])
        yield a


def test_what_came_after_a_snapshot_is_counted_listed_and_kept(machine: Appliance) -> None:
    plan = told(machine, "restore", "--dry-run")
    found = {(item["item"], item["kind"]) for item in plan["unknown"]}
    assert {
        *((path, "file") for path in (*LATER, WANTED, *OF_APT)),
        ("acme-tools", "package"),
        ("mallory", "user"),
    } <= found
    assert ("/etc/login.defs", "edited") in found
    assert not any(item.startswith(("/srv/backups", "/var/lib/tklb", "/opt/tklb")) for item, _ in found)
    assert plan["steps"] == []
    said = text(machine, "restore", "--yes")
    assert "here that the snapshot does not know: kept" in said
    assert "is as snapshot" not in said
    assert all((machine.root / path[1:]).exists() for path in LATER)


def test_verify_live_reports_it_too(machine: Appliance) -> None:
    result = told(machine, "verify", "--live", status=3)
    assert SHELL in {item["item"] for item in result["unknown"]}
    assert "as the snapshot has it" not in text(machine, "verify", "--live", status=3)


def test_an_exact_restore_shows_what_goes_and_removes_it_and_nothing_else(machine: Appliance) -> None:
    machine.run(["touch", "/var/lib/tklb/mark", "/var/tmp/out-of-scope"])
    plan = told(machine, "restore", "--exact", "--dry-run")
    steps = {(step["step"], step["item"]) for step in plan["steps"]}
    assert {*(("delete-file", path) for path in (*LATER, WANTED, *OF_APT)), ("remove-package", "acme-tools")} <= steps
    assert {(item["item"], item["kind"]) for item in plan["unknown"]} >= {
        ("/etc/login.defs", "edited"),
        ("mallory", "user"),
    }
    report = told(machine, "restore", "--exact", "--yes")
    assert report["planned"] == report["done"] + report["skipped_count"]
    assert report["skipped"] == []
    assert not any((machine.root / path[1:]).exists() for path in (*LATER, WANTED, *OF_APT))
    assert (machine.root / "etc/apt/sources.list.d/acme.sources").exists()
    assert (machine.root / "etc/apt/keyrings/acme.gpg").exists()
    assert not is_installed(machine, "acme-tools")
    assert (machine.root / "srv/www/index.html").read_text() == "hello\n"
    assert (machine.root / "var/tmp/out-of-scope").exists()
    assert machine.run(["id", "mallory"], check=False).returncode == 0
    assert told(machine, "list") != []
    machine.run(["sed", "-i", "/^# edited$/d", "/etc/login.defs"])
    machine.run(["userdel", "mallory"])
    left = told(machine, "restore", "--dry-run")
    assert (left["steps"], left["skipped"]) == ([], [])
    assert [item for item in left["unknown"] if item["kind"] != "edited"] == []
