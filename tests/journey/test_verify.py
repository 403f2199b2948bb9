"""tklb verify on a machine with backups: whole, damaged, mended, compared; and on a fresh one that only has the key."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey import taken_backup
from tests.journey.taken_backup import FROM_A, done, left_overs, snapshots, tklb
from tests.lab.appliance import Appliance, clone
from tests.lab.fixture_fs import FixtureFs
from tests.lab.soak import some
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def untouched_a() -> Iterator[Appliance]:
    """For tests that leave it as it was."""
    with taken_backup.server_a() as machine:
        yield machine


@pytest.fixture
def a() -> Iterator[Appliance]:
    with taken_backup.server_a() as machine:
        yield machine


@pytest.mark.parametrize("depth", [(), ("--quick",), ("--data",), ("latest", "--data"), ("--live",)])
def test_whole_target_is_said_to_be_whole_at_every_depth(untouched_a: Appliance, depth: tuple[str, ...]) -> None:
    told = done(untouched_a, "verify", "--json", *depth)
    assert told.value["ok"] is True, told
    assert told.value["problems"] == []
    assert told.value.get("differences", []) == []
    assert told.value["newest"]["snapshot"] == snapshots(untouched_a)[-1]
    assert (
        told.value["whole"]
        == told.value["snapshots"]
        == snapshots(untouched_a)[-1 if depth[-1:] == ("--live",) or "latest" in depth else 0 :]
    )
    assert left_overs(untouched_a) == []


def test_lost_volume_is_named_with_the_snapshots_and_files_it_costs(a: Appliance) -> None:
    first, second = snapshots(a)
    volumes = a.root / "mnt/target/volumes"
    (increment,) = volumes.glob("duplicity-inc.*.vol1.difftar.gpg")
    increment.unlink()
    told = done(a, "verify", "--json", status=33)
    (problem,) = told.value["problems"]
    assert told.value["ok"] is False
    assert (problem["volume"], problem["kind"], problem["snapshots"]) == (increment.name, "missing", [second])
    paths = {file["path"] for file in problem["files"]}
    assert {"/srv/data/01", "/srv/data/new", "/srv/data/03"} <= paths
    assert not {"/srv/data/05", "/srv/data/02"} & paths, "one is not changed since, the other is gone"
    assert problem["stranded"] == [second], "the records of every snapshot are new"
    assert told.value["whole"] == [first]
    done(a, "restore", first, "--into", "/var/cache/look")
    people = tklb(a, "verify", "--quick")
    assert people.status == 33
    assert f"cannot be restored: {second}\n" in people.stdout
    assert "  ... and " in people.stdout
    assert len(people.stdout.splitlines()) < 40


def test_damage_is_mended_from_another_target_and_from_what_the_machine_keeps(a: Appliance) -> None:
    target = a.root / "mnt/target"
    shutil.copytree(target / "volumes", a.root / "mnt/spare/volumes")
    shutil.copytree(target / "ledger", a.root / "mnt/spare/ledger")
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    done(a, "verify", "--quick")  # it has seen the ledger now
    entry = min((target / "ledger").iterdir())
    entry.unlink()
    volumes = sorted(path for path in (target / "volumes").iterdir() if "vol1" in path.name)
    volumes[0].unlink()
    os.truncate(volumes[1], 100)
    with taken_backup.untouched(a, *taken_backup.NOTES, "/mnt/target/volumes**", "/mnt/spare/volumes**"):
        told = done(a, "verify", "--mend", "--from", "file:///mnt/spare", "--dry-run", "--json", status=33)
    assert not entry.exists()
    assert not volumes[0].exists()
    assert volumes[1].stat().st_size == 100
    copies = {problem["volume"]: problem["copy"] for problem in told.value["problems"]}
    assert copies.keys() == {f"ledger/{entry.name}", *(path.name for path in volumes)}
    assert all(copies.values())
    assert "puts it back" in done(a, "verify", "--from", "file:///mnt/spare", status=33).stdout
    mended = done(a, "verify", "--mend", "--from", "file:///mnt/spare", "--json")
    assert mended.value["ok"] is True
    assert [problem["mended"] for problem in mended.value["problems"]] == [True] * 3
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert done(a, "verify", "--json").value["problems"] == []
    assert left_overs(a) == []


def test_what_no_seal_names_costs_nothing_and_is_told(a: Appliance) -> None:
    volumes = a.root / "mnt/target/volumes"
    shutil.copy(next(volumes.iterdir()), volumes / "duplicity-full.20300101T000000Z.vol1.difftar.gpg")
    told = done(a, "verify", "--json", status=3)
    assert told.value["ok"] is False
    assert [(p["kind"], p["costs"], p["snapshots"]) for p in told.value["problems"]] == [("unexpected", "nothing", [])]


def test_differences_from_this_machine_are_the_steps_of_a_restore(a: Appliance) -> None:
    FixtureFs(a.root).append(b"/etc/motd", b"edited since\n")
    os.unlink(FixtureFs(a.root).path(b"/srv/data/07"))
    told = done(a, "verify", "--live", "--json", status=3)
    assert told.value["ok"] is True
    assert {(step["step"], step["item"]) for step in told.value["differences"]} == {
        ("write-file", "/etc/motd"), ("write-file", "/srv/data/07"),
    }  # fmt: skip
    planned = done(a, "restore", "--dry-run", "--json").value["steps"]
    assert told.value["differences"] == [
        step for step in planned if step["step"] not in ("run-command", "restart-service")
    ]
    assert not (a.root / "srv/data/07").exists()
    assert "2 differences" in done(a, "verify", "--live", status=3).stdout


def test_live_names_damage_where_there_is_any(a: Appliance) -> None:
    (first,) = sorted((a.root / "mnt/target/volumes").glob("duplicity-full.*.vol1.*"))
    content = bytearray(first.read_bytes())
    content[1000] ^= 1
    first.write_bytes(content)
    told = done(a, "verify", "--live", "--json", status=33)
    assert [(problem["volume"], problem["kind"]) for problem in told.value["problems"]] == [(first.name, "damaged")]


def test_share_rotates_through_all_volumes(a: Appliance) -> None:
    count = len(list((a.root / "mnt/target/volumes").iterdir()))
    victim = min((a.root / "mnt/target/volumes").glob("duplicity-inc.*.vol1.*"))
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    found = []
    for _ in range(3):
        told = tklb(a, "verify", "--sample", "34%", "--json")
        found.append([problem["volume"] for problem in told.value["problems"]])
        assert told.status == (33 if found[-1] else 0)
        assert told.value["read"]["volumes"] == -(-count * 34 // 100)
    assert sorted(found) == [[], [], [victim.name]]
    known = json.loads((a.root / "var/lib/tklb/sampled.json").read_text())
    assert known["file:///mnt/target"]["run"] == 3


def test_fresh_machine_verifies_with_the_key_alone_and_leaves_nothing() -> None:
    with taken_backup.server_b() as b:
        told = done(b, "verify", *FROM_A, "--json")
        assert told.value["ok"] is True
        assert told.value["whole"] == snapshots(b)
        with taken_backup.untouched(b, *taken_backup.NOTES, "/mnt/target/volumes**"):
            assert done(b, "verify", *FROM_A, "--data", "--json").value["whole"] == snapshots(b)
        assert left_overs(b) == []
        newest = max((b.root / "mnt/target/ledger").iterdir())
        newest.unlink()
        told = done(b, "verify", *FROM_A, "--json", status=33)
        assert told.value["problems"][0]["volume"] == f"ledger/{newest.name}", "this machine had seen it"
        shutil.rmtree(b.root / "mnt/target/ledger")
        (b.root / "mnt/target/ledger").mkdir()
        told = done(b, "verify", *FROM_A, "--json", status=33)
        assert {problem["kind"] for problem in told.value["problems"]} == {"missing"}
        assert told.value["whole"] == []


def test_ledger_of_which_nothing_is_whole_is_told_entry_by_entry(a: Appliance) -> None:
    entries = sorted((a.root / "mnt/target/ledger").iterdir())
    for entry in entries:
        os.truncate(entry, 50)
    told = done(a, "verify", "--json", status=33)
    assert {p["volume"]: p["kind"] for p in told.value["problems"]} == {
        f"ledger/{e.name}": "truncated" for e in entries
    }
    assert told.value["whole"] == []
    assert done(a, "verify", "--mend", "--json").value["ok"] is True
    assert done(a, "verify").status == 0


@pytest.mark.slow
def test_distant_target_is_verified_to_the_last_file_and_mended_from_the_spool(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with clone("core", hostname="a", tklb=True) as a, Sshd(tmp_path / "sshd", box=a, port=2222) as server:
        (a.root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        shutil.copy(server.identity, a.root / "root/.ssh/id_ed25519")
        shutil.copy(server.known_hosts, a.root / "root/.ssh/known_hosts")
        done(a, "init", "--target", server.address(kept))
        settings = a.root / "etc/tklb/tklb.toml"
        settings.write_text(settings.read_text().replace("[backup]\n", '[backup]\nkeep_local = "all"\n'))
        for number in range(2):
            (a.root / "srv/page").write_text(f"{number}\n" * 1000)
            done(a, "backup")
        before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
        told = done(a, "verify", "--data", "--json").value
        assert (told["ok"], len(told["whole"])) == (True, 2)
        assert done(a, "verify", "--live").status == 0
        first, *_, last = sorted(path for path in before if "vol1" in path.name)
        first.unlink()
        last.write_bytes(before[last][:-1] + b"x")
        entry = min(path for path in before if path.parent.name == "ledger")
        entry.unlink()
        told = done(a, "verify", "--json", status=33).value
        assert {p["volume"]: bool(p["copy"]) for p in told["problems"]} == {
            f"ledger/{entry.name}": True, first.name: True, last.name: True,
        }  # fmt: skip
        assert done(a, "verify", "--mend", "--json").value["ok"] is True
        assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before
        assert left_overs(a) == []


@pytest.mark.parametrize(
    ("words", "code", "name"),
    some(
        [
            (("--quick", "--data"), 2, "UsageWrong"),
            (("--sample", "0%"), 2, "UsageWrong"),
            (("--sample", "many"), 2, "UsageWrong"),
            (("--sample", "5%", "--quick"), 2, "UsageWrong"),
            (("latest", "--sample", "5%"), 2, "UsageWrong"),
            (("20200101T000000Z",), 32, "SnapshotUnknown"),
            (("--target", "file:///mnt/nowhere"), 30, "TargetUnreachable"),
            (("--from", "file:///mnt/nowhere"), 30, "TargetUnreachable"),
        ],
        2,
        first=1,
    ),
)
def test_what_cannot_be_looked_at_is_a_failure(
    untouched_a: Appliance, words: tuple[str, ...], code: int, name: str
) -> None:
    taken_backup.refused(untouched_a, code, name, "verify", *words)
