"""A folder that became a link on A, where B has files of its own: nothing is lost, all is named, the numbers add up."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.appliance import Appliance, clone
from tests.lab.fixture_fs import FixtureFs
from tests.lab.soak import some

pytestmark = pytest.mark.lab

TARGET, KEY = "file:///mnt/share/target", "/mnt/share/key"
FROM_A = ("restore", "--target", TARGET, "--key", KEY)
MOVE = """set -e
mkdir -p /srv/conf
mv /etc/logrotate.d /srv/conf/; ln -s /srv/conf/logrotate.d /etc/logrotate.d
rmdir /var/local; mkdir -p /data/local; ln -s /data/local /var/local
printf 'x\\n' >/srv/app
"""


def ran(machine: Appliance, *words: str, status: int) -> tuple[Any, str]:
    done = machine.run(["tklb", *words, "--json"], check=False, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2))
def share(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A snapshot of A, and the kind of machine it is."""
    folder = tmp_path_factory.mktemp("share")
    with clone(request.param, hostname="a", tklb=True, binds={folder: "/mnt/share"}) as a:
        a.run(["sh", "-c", MOVE])
        FixtureFs(a.root).file(b"/srv/nameless", b"x")
        a.run(["chown", "4242:4242", "/srv/nameless"])
        a.run(["tklb", "init", "--target", TARGET])
        a.run(["tklb", "backup", "--", "-/data"], timeout=600)
        a.run(["tklb", "key", "escrow", "--no-passphrase", KEY])
    return request.param, folder


@pytest.fixture(scope="module")
def b(share: tuple[str, Path]) -> Iterator[Appliance]:
    """B, which has files of its own in the way, and a name for A's nameless id."""
    with clone(share[0], hostname="b", tklb=True, binds={share[1]: "/mnt/share"}) as machine:
        fs = FixtureFs(machine.root)
        fs.file(b"/etc/logrotate.d/mine", b"/var/log/mine {}\n")
        fs.file(b"/var/local/mine/run", b"precious\n")
        fs.file(b"/srv/app/data", b"precious too\n")
        machine.run(["useradd", "-u", "4242", "olga"])
        yield machine


def test_files_in_the_way_move_aside_a_folder_is_kept_for_a_dangling_link_and_it_adds_up(b: Appliance) -> None:
    plan, _ = ran(b, *FROM_A, "--dry-run", status=3)
    assert ("move-aside", "/etc/logrotate.d") in {(step["step"], step["item"]) for step in plan["steps"]}
    report, said = ran(b, *FROM_A, "--yes", status=3)
    assert (b.root / "etc/logrotate.d.tklb-kept/mine").read_text() == "/var/log/mine {}\n"
    assert (b.root / "etc/logrotate.d").is_symlink()
    assert (b.root / "srv/app.tklb-kept/data").read_text() == "precious too\n"
    assert (b.root / "var/local/mine/run").read_text() == "precious\n"
    assert [item["item"] for item in report["skipped"]] == ["/var/local"]
    assert "lead nowhere" in report["skipped"][0]["reason"]
    assert report["planned"] == report["done"] + report["skipped_count"] == len(plan["steps"]) + 1
    assert "skipped /var/local: " in said
    assert b.run(["logrotate", "--version"], check=False).returncode in (0, 127)


def test_a_second_restore_names_the_same_and_never_says_nothing_to_do(b: Appliance) -> None:
    again, _ = ran(b, *FROM_A, "--yes", status=3)
    assert again["steps"] == []
    assert [item["item"] for item in again["skipped"]] == ["/var/local"]
    assert any("uid 4242" in line and "olga" in line for line in again["warnings"])
    done = b.run(["tklb", *FROM_A, "--yes"], check=False, timeout=600)
    assert "nothing to do" not in done.stdout
    assert "1 item cannot come back here" in done.stdout
    assert {"/etc/logrotate.d.tklb-kept/mine", "/srv/app.tklb-kept/data"} <= {u["item"] for u in again["unknown"]}
