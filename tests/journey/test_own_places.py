"""Target, state, cache and log of tklb are in no snapshot, whatever path leads there, and no restore writes there."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.appliance import Appliance, clone
from tests.lab.soak import some

pytestmark = pytest.mark.lab

OWN = ("/srv/backups", "/srv/again", "/home/parts", "/srv/kept", "/opt/kept", "/root/kept")
MOVED = ("TKLB_STATE=/srv/link/state", "TKLB_CACHE=/srv/link/cache", "TKLB_LOG=/srv/link/log", "TKLB_CONFIG=/mnt/conf")
PREPARE = """
install -d /srv/backups /srv/again /home/parts /srv/shop /srv/two /opt/real
install -d -m 700 /srv/kept /opt/kept /root/kept /var/lib/tklb /var/cache/tklb /var/log/tklb
mount --bind /srv/kept /var/lib/tklb
mount --bind /opt/kept /var/cache/tklb
mount --bind /root/kept /var/log/tklb
mount --bind /srv/backups /srv/again
ln -s /opt/real /srv/link
ln -s /srv/backups /srv/way
head -c 300000 /dev/urandom > /srv/shop/pictures
"""


def run(machine: Appliance, *words: str, moved: bool = False) -> tuple[int, Any]:
    command = ["env", *(MOVED if moved else ()), "tklb", "--json", *words]
    done = machine.run(["sh", "-c", '"$@"; echo "$?"', "sh", *command], timeout=300)
    *output, status = done.stdout.splitlines()
    return int(status), json.loads("\n".join(output)) if output else None


def list_changes(machine: Appliance, *, moved: bool = False) -> set[str]:
    return {change["path"] for change in run(machine, "delta", moved=moved)[1]["files"]}


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2))
def machine(request: pytest.FixtureRequest) -> Iterator[Appliance]:
    with clone(request.param, tklb=True) as machine:
        machine.run(["sh", "-ec", PREPARE])
        assert run(machine, "init", "--target", "file:///srv/backups")[0] == 0
        machine.run(["mount", "--bind", "/srv/backups/volumes", "/home/parts"])
        yield machine


def test_an_idle_machine_stores_nothing_again(machine: Appliance) -> None:
    first = run(machine, "backup")[1]
    assert first["kind"] == "full"
    assert first["stored_bytes"] < 600_000
    assert [run(machine, "backup")[1]["kind"] for _ in range(2)] == ["none", "none"]
    found = list_changes(machine)
    assert "/srv/shop/pictures" in found
    assert [path for path in found if path.startswith(OWN)] == []


def test_scope_and_why_name_each_path_that_is_never_taken(machine: Appliance) -> None:
    left_out = {item["path"]: item["reason"] for item in run(machine, "scope")[1]["left_out"]}
    assert {path: left_out.get(path) for path in ("/srv/backups", "/srv/again", "/home/parts")} == dict.fromkeys(
        ("/srv/backups", "/srv/again", "/home/parts"), "the target is there"
    )
    assert {left_out.get(path) for path in ("/srv/kept", "/opt/kept", "/root/kept")} == {"tklb keeps its state there"}
    reasons = run(machine, "why", "/srv/kept/secret")[1]["reasons"]
    assert "not read: tklb keeps its state there" in reasons


def test_an_override_that_names_the_target_is_reported(machine: Appliance) -> None:
    status, result = run(machine, "backup", "/srv/backups/volumes")
    assert status == 3
    assert [item for item in result["skipped"] if item["item"] == "/srv/backups/volumes"] == [
        {
            "item": "/srv/backups/volumes",
            "reason": "an override names it, and a snapshot never holds it: the target is there",
        }
    ]


@pytest.mark.parametrize("folder", ["/srv/backups/out", "/srv/backups/volumes/out", "/srv/way/out", "/home/parts/out"])
def test_a_restore_writes_into_no_folder_of_the_target(machine: Appliance, folder: str) -> None:
    status, result = run(machine, "restore", "--into", folder)
    assert (status, result["error"]["name"]) == (60, "RestoreRefused")
    assert "target" in result["error"]["message"]


def test_folders_that_the_environment_moved_behind_a_link_are_left_out_too(machine: Appliance) -> None:
    assert run(machine, "init", "--target", "file:///srv/two/deep/backups", moved=True)[0] == 0
    assert run(machine, "backup", moved=True)[1]["kind"] == "full"
    found = list_changes(machine, moved=True)
    assert [path for path in found if path.startswith(("/opt/real/", "/srv/two/deep/backups"))] == []
    assert {"/srv/link", "/opt/real"} <= found


def test_what_else_lies_in_the_folder_of_the_target_is_taken(machine: Appliance) -> None:
    machine.run(["sh", "-ec", "install -d /srv/backups/letters; echo dear > /srv/backups/letters/one"])
    found = {path for path in list_changes(machine) if path.startswith(OWN)}
    assert {"/srv/backups/letters/one"} <= found
    assert [path for path in found if "/volumes" in path or "/ledger" in path] == []
