"""The commands, JSON shapes and exit statuses that scripts rely on, asked of a machine with two snapshots.

Takes the lab; every expectation is the manual's. Touches clones.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.journey.taken_backup import (
    FROM_A,
    NOTES,
    SCOPE,
    TARGET,
    decoded,
    differences,
    done,
    facts_of,
    left_overs,
    note_facts,
    refused,
    server_a,
    snapshots,
    tklb,
    untouched,
)  # fmt: skip
from tests.lab.appliance import Appliance, clone
from tests.lab.checker import compare, record
from tests.lab.fixture_fs import FixtureFs
from tests.lab.roots import root
from tests.lab.soak import some

pytestmark = [pytest.mark.lab, pytest.mark.slow]

ID = re.compile(r"\d{8}T\d{6}Z")
COMMANDS = (
    "init", "delta", "why", "backup", "list", "restore", "status", "key", "key escrow", "profile", "profile list",
    "profile show", "profile build", "profile lint", "profile detect", "internal", "internal scan", "internal compare",
    "internal merge-users", "internal merge-packages",
)  # fmt: skip


def shape(value: Any) -> Any:
    """The types of a JSON value: of a list, those of its first item."""
    if isinstance(value, dict):
        return {key: shape(below) for key, below in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value)


def holds(value: dict[str, Any], promised: dict[str, Any]) -> bool:
    """Whether every promised key is there with its type; more keys are welcome."""
    found = shape(value)
    return {key: found.get(key) for key in promised} == promised


def paths(delta: Any) -> dict[str, str]:
    return {file["path"]: file["change"] for file in delta["files"]}


class Seen(NamedTuple):
    """A as it is, and its delta."""

    a: Appliance
    delta: Any


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with server_a() as a:
        with untouched(a):
            delta = done(a, "delta", "--json").value
        yield Seen(a, delta)
        assert left_overs(a) == []


# ---------------------------------------------------------------- talking


def test_every_command_has_help_with_an_example(seen: Seen) -> None:
    """One start for all: each `--help` costs a third of a second."""
    names = json.dumps([name.split() for name in ("", *COMMANDS)])
    told = seen.a.run(["/usr/bin/python3", "-IS", "-c", ALL_HELP, names]).stdout
    texts = json.loads(told)
    assert all(status == 0 and "Example" in text and "Usage: tklb" in text for status, text in texts)
    assert len(texts) == len(COMMANDS) + 1


ALL_HELP = """
import contextlib, io, json, sys
sys.path.insert(0, "/opt/tklb/lib")
from tklb.cli.main import run_command
told = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        told.append([run_command([*words, "--help"]), out.getvalue()])
print(json.dumps(told))
"""


def test_json_is_one_value_on_stdout_wherever_it_is_asked_for(a: Appliance) -> None:
    before, after, plain = done(a, "--json", "list"), done(a, "list", "--json"), done(a, "list")
    assert before.value == after.value
    assert before.stderr == after.stderr == plain.stderr == ""
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(plain.stdout)
    loud = done(a, "-vv", "--json", "backup")
    assert loud.value["kind"] == "none"
    assert loud.stderr
    assert done(a, "backup", "-q").stderr == ""


def test_the_version_is_told(seen: Seen) -> None:
    assert re.fullmatch(r"tklb, version \d+\.\d+\S*\n", done(seen.a, "--version").stdout)


def test_wrong_usage_is_2_with_one_line_and_a_hint(seen: Seen) -> None:
    refused(seen.a, 2, "UsageWrong", "nonsense")
    refused(seen.a, 2, "UsageWrong", "backup", "--nonsense")
    refused(seen.a, 2, "UsageWrong", "restore", "--as", "emperor")
    refused(seen.a, 2, "UsageWrong", "why")
    plain, as_json = tklb(seen.a, "why"), tklb(seen.a, "why", "--json")
    assert (plain.status, plain.stdout, plain.stderr) == (2, "", as_json.stderr)


def test_all_works_under_cron_with_no_environment_and_closed_stdin(a: Appliance) -> None:
    FixtureFs(a.root).file(b"/srv/data/cron", b"cron\n")
    bare = ["env", "-i", "/bin/sh", "-c", 'exec /usr/local/bin/tklb "$@" <&-', "sh"]
    taken = a.run([*bare, "backup", "--json"])
    assert json.loads(taken.stdout)["kind"] == "incremental"
    assert json.loads(a.run([*bare, "status", "--json"]).stdout)["state"] == "ok"
    assert json.loads(a.run([*bare, "delta", "--json"]).stdout)["files"]
    (a.root / "srv/data/cron").unlink()
    assert "restored" not in a.run([*bare, "restore", "--yes", "--limit", "/srv/data"]).stderr
    assert (a.root / "srv/data/cron").read_text() == "cron\n"


def test_output_that_nobody_reads_is_no_failure(seen: Seen) -> None:
    seen.a.run(["sh", "-c", "exec tklb list >&- 2>&-"])
    unheard = seen.a.run(["sh", "-c", "exec tklb why etc/motd --nonsense >&- 2>&-"], check=False)
    assert unheard.returncode == 2
    piped = seen.a.run(["sh", "-c", "(tklb delta; echo $? >/tmp/status) | true; cat /tmp/status; rm /tmp/status"])
    assert (piped.stdout, piped.stderr) == ("141\n", "")


def test_nothing_is_asked_without_a_terminal_and_no_is_an_answer_with_one(b: Appliance) -> None:
    words = ("restore", *FROM_A, "--limit", "/srv/data/new")
    with untouched(b, *NOTES, "/var/lib/tklb**", "/mnt/target**"):
        refused(b, 60, "RestoreRefused", *words, says="nobody confirmed")
        asked = b.run(["script", "-qec", f"tklb {' '.join(words)}", "/dev/null"], input="n\n", check=False)
    assert asked.returncode == 60
    assert "Carry this out?" in asked.stdout
    b.run(["script", "-qec", f"tklb {' '.join(words)}", "/dev/null"], input="y\n")
    assert (b.root / "srv/data/new").read_text() == "new\n"


def test_the_folders_move_by_environment(a: Appliance) -> None:
    moved = {f"TKLB_{name}": f"/opt/mine/{name.lower()}" for name in ("CONFIG", "STATE", "CACHE", "LOG")}
    with untouched(a, "/opt/mine**"):
        a.run(["tklb", "init", "--target", "file:///opt/mine/target"], env=moved)
        taken = a.run(["tklb", "backup", "--json", "--", "-/mnt/*"], env=moved)  # a key of the other state
    assert json.loads(taken.stdout)["kind"] == "full"
    assert sorted(os.listdir(a.root / "opt/mine")) == ["cache", "config", "log", "state", "target"]
    listed = {entry["path"] for entry in json.loads(a.run(["tklb", "delta", "--json"], env=moved).stdout)["files"]}
    assert not {path for path in listed if path.startswith(("/opt/mine/state", "/opt/mine/cache", "/opt/mine/log"))}
    assert "/opt/mine/config/tklb.toml" in listed


# ---------------------------------------------------------------- delta, why


def test_delta_has_its_shape_and_touches_nothing(seen: Seen) -> None:
    a, delta = seen
    with untouched(a):
        assert "~ /etc/motd" in done(a, "delta").stdout
    names = {"added": [str], "removed": list}
    assert holds(delta, {"files": [{"path": str, "change": str, "size": int}], "databases": list})
    assert holds(delta["packages"], {"added": list, "removed": list})
    assert holds(delta["users"], {"added": [str], "changed": list})
    assert holds(delta["groups"], names | {"added": [str], "changed": [str]} | {"removed": [str]})
    assert {"alice", "bob", "collector"} <= set(delta["users"]["added"])
    found = paths(delta)
    assert found["/etc/motd"] == "edited"
    assert found["/etc/logrotate.d/alternatives"] == "deleted"
    assert found["/srv/data/new"] == "new"
    assert set(found.values()) <= {"new", "edited", "metadata", "deleted"}


def test_a_name_that_is_not_utf8_is_given_twice(seen: Seen) -> None:
    odd = [file for file in seen.delta["files"] if "path_b64" in file]
    there = Path(os.fsdecode(os.fsencode(seen.a.root) + base64.b64decode(odd[0]["path_b64"])))
    assert odd
    assert os.path.lexists(there)
    assert all(file["path"].isprintable() for file in odd)
    assert all(file["path"].encode() != base64.b64decode(file["path_b64"]) for file in odd)
    with pytest.raises(UnicodeDecodeError):
        base64.b64decode(odd[0]["path_b64"]).decode()


def test_overrides_are_taken_from_the_command_line_and_from_the_file(a: Appliance) -> None:
    fs = FixtureFs(a.root)
    for name in (b"/pool/mine/one.txt", b"/pool/mine/two.jpg", b"/pool/mine/deep/three.txt"):
        fs.file(name, b"x\n")
    wanted = ["/pool/mine/*.txt", "-/srv/nasty", "-/srv/**/0?", "-user:alice"]
    by_argument = paths(done(a, "delta", "--json", "--", *wanted).value)
    assert "/pool/mine/one.txt" in by_argument
    assert not {"/pool/mine/two.jpg", "/pool/mine/deep/three.txt"} & by_argument.keys()
    assert not {path for path in by_argument if path.startswith(("/srv/nasty", "/srv/data/0"))}
    assert "/srv/data/11" in by_argument
    fs.file(b"/etc/tklb/overrides", b"# mine\n\n" + "\n".join(wanted).encode() + b"\n", 0o600)
    by_file = done(a, "delta", "--json").value
    assert paths(by_file) == by_argument
    assert "alice" not in by_file["users"]["added"]
    assert "bob" in by_file["users"]["added"]


def test_a_package_can_be_left_out(a: Appliance) -> None:
    a.run(["dpkg", "--purge", "less"])
    assert done(a, "delta", "--json").value["packages"]["removed"] == ["less"]
    assert done(a, "delta", "--json", "--", "-package:le*").value["packages"]["removed"] == []
    assert done(a, "backup", "--json").value["packages"] == {"added": 0, "removed": 1}


def test_a_database_that_is_asked_for_is_not_passed_over_in_silence(a: Appliance) -> None:
    taken = done(a, "backup", "--json", "--", "mysql:shop", "-mysql:shop/log", status=3).value
    assert taken["skipped"] == [{"item": "mysql:shop", "reason": "there is no such database"}]


def test_what_an_override_leaves_out_does_not_count_as_removed_and_its_files_are_still_known(
    a: Appliance, seen: Seen
) -> None:
    plain = seen.delta
    without = done(a, "delta", "--json", "--", "-package:cron", "-package:less", "-user:games", "-user:alice").value
    assert paths(without) == paths(plain)
    assert without["packages"] == plain["packages"]
    assert without["users"]["removed"] == plain["users"]["removed"]
    assert "alice" in plain["users"]["added"]
    assert "alice" not in without["users"]["added"]


def test_why_names_the_rule_and_the_difference(seen: Seen) -> None:
    with untouched(seen.a):
        edited, same, outside = (
            done(seen.a, "why", path, "--json").value for path in ("/etc/motd", "/etc/hostname.d", "/usr/bin/env")
        )
    assert holds(edited, {"path": str, "in_delta": bool, "reasons": [str]})
    assert [edited["in_delta"], same["in_delta"], outside["in_delta"]] == [True, False, False]
    assert "/etc" in " ".join(edited["reasons"])
    assert "coreutils" in " ".join(outside["reasons"])
    assert json.loads(seen.a.run(["tklb", "why", "motd", "--json"], cwd="/etc").stdout) == edited


# ---------------------------------------------------------------- backup, list, status

BACKUP = {
    "snapshot": str,
    "kind": str,
    "files": {"changed": int, "metadata": int, "deleted": int, "bytes": int},
    "packages": {"added": int, "removed": int},
    "users": {"added": int, "changed": int},
    "databases": {"count": int, "bytes": int},
    "stored_bytes": int,
    "skipped": list,
    "seconds": float,
}


def test_a_first_backup_is_full_then_none_then_incremental() -> None:
    with clone("core", tklb=True) as machine:
        assert done(machine, "init", "--json").value["target"] == "file:///var/backups/tklb"
        never = done(machine, "status", "--json", status=3).value
        assert (never["state"], never["last"]) == ("never", None)
        first, again = done(machine, "backup", "--json").value, done(machine, "backup", "--json").value
        fs = FixtureFs(machine.root)
        fs.file(b"/srv/one", b"12345", 0o644)
        os.chmod(fs.path(b"/etc/tklb/overrides"), 0o640)
        os.unlink(fs.path(b"/etc/hosts"))
        third = done(machine, "backup", "--json").value
        kept = snapshots(machine, "var/backups/tklb")
    assert shape(first) | BACKUP == shape(first)
    assert [first["kind"], again["kind"], third["kind"]] == ["full", "none", "incremental"]
    assert again["snapshot"] == first["snapshot"]
    assert again["stored_bytes"] == 0
    assert third["files"] == {"changed": 1, "metadata": 1, "deleted": 1, "bytes": 5}
    assert kept == [first["snapshot"], third["snapshot"]]


def test_a_copied_disk_has_nothing_to_back_up(a: Appliance) -> None:
    """Its inode and device numbers are others."""
    assert done(a, "backup", "--json").value["kind"] == "none"


def test_full_begins_a_chain_of_its_own_and_into_a_folder_comes_what_several_shards_have(a: Appliance) -> None:
    first, _ = snapshots(a)
    a.run(["sed", "-i", "s/^shards.*/shards = 2/", "/etc/tklb/tklb.toml"])
    full = done(a, "backup", "--full", "--json").value
    assert full["kind"] == "full"
    assert full["files"]["bytes"] == full["delta"]["bytes"] > 0
    for volume in (a.root / "mnt/target/volumes").glob(f"*{first}*"):
        volume.unlink()
    note_facts(a)
    assert any(name.startswith("b-") for name in os.listdir(a.root / "mnt/target/volumes"))
    assert differences(decoded(a, full["snapshot"]), facts_of(a, full["snapshot"])) == []


def test_a_rehearsal_tells_the_same_and_touches_nothing(a: Appliance) -> None:
    with untouched(a):
        said = done(a, "backup", "--dry-run", "--full", "--json").value
        assert done(a, "backup", "--dry-run", "--json").value["kind"] == "none"
    assert shape(said) | BACKUP | {"snapshot": type(None)} == shape(said)
    taken = done(a, "backup", "--full", "--json").value
    assert said["delta"] == taken["delta"]
    assert (said["kind"], said["files"]) == (taken["kind"], taken["files"])


@pytest.mark.parametrize("part", some(["files", "packages", "users"], 3))
def test_a_part_that_was_skipped_is_not_brought_back(a: Appliance, b: Appliance, part: str) -> None:
    taken = done(a, "backup", "--skip", part, "--full", "--json").value
    if part != "packages":
        assert set(taken[part].values()) == {0}
    shutil.copytree(a.root / "mnt", b.root / "mnt", dirs_exist_ok=True)
    steps = {step["step"] for step in done(b, "restore", *FROM_A, "--dry-run", "--json").value["steps"]}
    assert ("merge-accounts" in steps) == (part != "users")
    assert ("write-file" in steps) == (part != "files")


def test_list_and_status_have_their_shape(a: Appliance) -> None:
    entry = {
        "snapshot": str, "kind": str, "time": str, "bytes": int, "stored_bytes": int, "profile": str, "host": str,
        "marks": list,
    }  # fmt: skip
    with untouched(a, "/var/lib/tklb/ledger**"):
        listed, status = done(a, "list", "--json").value, done(a, "status", "--json").value
    assert [item["snapshot"] for item in listed] == snapshots(a)
    assert [item["kind"] for item in listed] == ["full", "incremental"]
    assert all(holds(item, entry) for item in listed)
    assert datetime.fromisoformat(listed[0]["time"]).strftime("%Y%m%dT%H%M%SZ") == listed[0]["snapshot"]
    assert (listed[0]["profile"], listed[0]["host"]) == ("debian-12-core", "a")
    assert holds(status, {"state": str, "target": str, "problems": list})
    assert (status["state"], status["target"], status["last"]["snapshot"]) == ("ok", TARGET, listed[-1]["snapshot"])
    assert "next" in status


# ---------------------------------------------------------------- restore


def test_a_plan_shows_exactly_what_is_then_carried_out_and_changes_nothing(b: Appliance) -> None:
    with untouched(b, *NOTES, "/var/lib/tklb**", "/mnt/target/volumes**", whole=True):
        planned = done(b, "restore", *FROM_A, "--dry-run", "--json").value
    assert holds(planned, {"snapshot": str, "steps": [{"step": str, "item": str, "detail": str}], "warnings": [str]})
    carried = done(b, "restore", *FROM_A, "--yes", "--json").value
    assert carried["steps"] == planned["steps"]
    assert carried["done"] == len(planned["steps"])
    with untouched(b, *NOTES, "/var/lib/tklb**", "/mnt/target/volumes**"):
        assert done(b, "restore", "--yes", "--json").value["steps"] == []


def test_a_snapshot_is_found_by_id_by_time_and_as_the_latest(a: Appliance) -> None:
    (first, second), one = snapshots(a), ("--limit", "/srv/data/01")
    between = datetime.strptime(second[:-1] + "+0000", "%Y%m%dT%H%M%S%z").replace(tzinfo=None).isoformat()
    ways = [(first, first), (f"{between}+00:00", second), (between, second), ("2099-01-01", second), ("latest", second)]
    for wanted, found in some(ways, 2):
        assert done(a, "restore", wanted, "--dry-run", "--json", *one).value["snapshot"] == found
    refused(a, 32, "SnapshotUnknown", "restore", f"{between}+01:00", "--dry-run")


def test_only_what_was_asked_for_comes_back(a: Appliance) -> None:
    first, _ = snapshots(a)
    with untouched(a, *NOTES, "/var/lib/tklb**", "/mnt/target/volumes**", "/srv/data/01", "/srv/data/02"):
        asked = ("--limit", "/srv/data/01", "--limit", "/srv/data/02")
        report = done(a, "restore", first, *asked, "--yes", "--json").value
    assert sorted(step["item"] for step in report["steps"]) == ["/srv/data/01", "/srv/data/02"]
    changed = {mismatch.path for mismatch in compare(facts_of(a), record(a.root, SCOPE))}
    assert changed == {"/srv/data", "/srv/data/01", "/srv/data/02"}
    assert done(a, "restore", first, "--skip", "files", "--skip", "users", "--dry-run", "--json").value["steps"] == []


@pytest.mark.quick
def test_a_clone_keeps_its_identity_and_a_replacement_takes_it_over(b: Appliance) -> None:
    done(b, "init", "--target", "file:///mnt/of-b")
    host_key, shadow = (b.root / "etc/ssh/ssh_host_ed25519_key").read_bytes(), (b.root / "etc/shadow").read_text()
    secret = (b.root / "var/lib/tklb/secret").read_bytes()
    done(b, "restore", *FROM_A, "--as", "clone", "--yes")
    assert (b.root / "etc/hostname").read_text() == "b\n"
    assert (b.root / "etc/ssh/ssh_host_ed25519_key").read_bytes() == host_key
    assert shadow.splitlines()[0] in (b.root / "etc/shadow").read_text().splitlines()
    assert (b.root / "var/lib/tklb/secret").read_bytes() == secret
    assert done(b, "backup", "--json").value["kind"] == "full"

    done(b, "restore", *FROM_A, "--yes")
    assert (b.root / "etc/hostname").read_text() == "a\n"
    assert (b.root / "var/lib/tklb/secret").read_bytes() != secret
    assert done(b, "backup", "--json").value["kind"] == "incremental"
    assert [item["kind"] for item in done(b, "list", "--json").value] == ["full", "incremental", "incremental"]


def test_a_replacement_brought_to_an_older_snapshot_goes_on_with_an_increment(b: Appliance) -> None:
    """Its records are not those of the newest."""
    done(b, "restore", snapshots(b)[0], *FROM_A, "--yes")
    with untouched(b):
        rehearsed = done(b, "backup", "--dry-run", "--json").value
    taken = done(b, "backup", "--json").value
    assert (rehearsed["kind"], taken["kind"]) == ("incremental", "incremental")
    assert taken["stored_bytes"] < taken["delta"]["bytes"]
    assert differences(decoded(b, "latest"), record(b.root, SCOPE)) == []
    assert done(b, "backup", "--json").value["kind"] == "none"


@pytest.mark.parametrize("part", some(["packages", "files", "users", "databases"], 4))
def test_a_replacement_that_leaves_a_part_out_does_not_take_the_chain_over(b: Appliance, part: str) -> None:
    """Else the next backup would record what was left out as deleted."""
    done(b, "init", "--target", "file:///mnt/of-b")
    kept = [b.root / "var/lib/tklb" / name for name in ("host", "secret")]
    before = [path.read_bytes() for path in kept]
    done(b, "restore", *FROM_A, "--skip", part, "--yes")
    assert [path.read_bytes() for path in kept] == before
    assert not (b.root / "var/lib/tklb/last").exists()


def test_a_replacement_that_leaves_a_path_out_does_not_take_the_chain_over(b: Appliance) -> None:
    done(b, "init", "--target", "file:///mnt/of-b")
    done(b, "restore", *FROM_A, "--limit=-/srv/data", "--yes")
    assert not (b.root / "var/lib/tklb/last").exists()


def test_files_that_an_earlier_restore_brought_stay_in_the_delta_after_a_restore_of_others(b: Appliance) -> None:
    """Of packages that no source offers: dpkg does not know them here."""
    done(b, "init", "--target", "file:///mnt/of-b")
    FixtureFs(b.root).file(b"/usr/bin/ours", b"x\n", 0o755)
    FixtureFs(b.root).file(b"/var/lib/tklb/local-files", b"/usr/bin/ours\n", 0o600)
    assert paths(done(b, "delta", "--json").value)["/usr/bin/ours"] == "new"
    done(b, "restore", *FROM_A, "--limit", "/srv/data/01", "--yes")
    assert paths(done(b, "delta", "--json").value)["/usr/bin/ours"] == "new"


def test_into_a_folder_comes_everything_with_its_whole_metadata(a: Appliance) -> None:
    first, second = snapshots(a)
    with untouched(a, *NOTES, "/var/lib/tklb**", "/mnt/**", "/var/cache/look**"):
        for snapshot in (first, second):
            found = decoded(a, snapshot)
            assert differences(found, facts_of(a, snapshot)) == []
            assert {"/srv/nasty/hard/first", "/srv/nasty/acl/folder", "/srv/nasty/sparse/islands"} <= found.keys()
    refused(a, 60, "RestoreRefused", "restore", "--into", "/var/cache/look", says="/var/cache/look")
    told = json.loads(a.run(["tklb", "restore", "--into", "/mnt/new", "--json"]).stdout)
    assert (told["snapshot"], told["into"], told["skipped"]) == (second, "/mnt/new", [])


# ---------------------------------------------------------------- keys, profiles, plumbing


def test_an_escrowed_key_is_private_whole_and_never_overwritten(a: Appliance) -> None:
    told = done(a, "key", "escrow", "--no-passphrase", "/root/key", "--json").value
    assert holds(told, {"file": str, "fingerprint": str})
    written = a.root / "root/key"
    assert written.stat().st_mode & 0o777 == 0o600
    assert written.read_bytes() == (a.root / "mnt/key").read_bytes()
    refused(a, 2, "UsageWrong", "key", "escrow", "--no-passphrase", "/root/key", says="/root/key")
    secret = (a.root / "var/lib/tklb/secret").read_text().strip()
    assert secret not in json.dumps(told)
    assert a.run(["gpg", "--quiet", "--decrypt", "/root/key"]).stdout.strip() == secret


def test_profiles_are_listed_shown_detected_and_checked(a: Appliance) -> None:
    listed = done(a, "profile", "list", "--json").value
    assert shape(listed) == [{"id": str, "release": str, "summary": str}]
    assert {"debian-12-core", "debian-12-lamp-wordpress", "debian-12-docker", "debian-13-mail", "debian-13-core"} <= {
        item["id"] for item in listed
    }
    assert done(a, "profile", "show", "debian-12-core", "--json").value["id"] == "debian-12-core"
    assert done(a, "profile", "detect", "--json").value["id"] == "debian-12-core"
    ours = "/opt/tklb/share/profiles/debian-12-core"
    assert done(a, "profile", "lint", ours, "--json").value == {"ok": True, "problems": []}
    a.run(["cp", "-r", ours, "/mnt/worn"])
    (a.root / "mnt/worn/profile.toml").write_text("id = 3\n")
    worn = done(a, "profile", "lint", "/mnt/worn", "--json", status=12).value
    assert (worn["ok"], shape(worn["problems"])) == (False, [str])


def test_a_profile_is_built_from_a_clean_root_and_from_no_other() -> None:
    recipe = ("--recipe", "/opt/tklb/share/profiles/debian-12-core/recipe.toml")
    with clone("core", tklb=True, binds={root("core"): "/mnt/clean"}) as machine:
        told = done(machine, "profile", "build", "--root", "/mnt/clean", *recipe, "--out", "/mnt/new", "--json").value
        assert told == {"id": "debian-12-core", "folder": "/mnt/new"}
        assert done(machine, "profile", "lint", "/mnt/new", "--json").value["ok"]
        done(machine, "init", "--profile", "/mnt/new")
        with untouched(machine):
            refused(machine, 12, "ProfileInvalid", "profile", "build", "--root", "/", *recipe, "--out", "/mnt/worn")


def test_a_listing_is_mtree_and_two_of_them_compare_line_by_line(a: Appliance) -> None:
    first = done(a, "internal", "scan", "--digest", "/srv/nasty/names", "/srv/data")
    assert first.stdout.startswith("#mtree v2.0\n")
    (a.root / "mnt/base").write_text(first.stdout)
    fs = FixtureFs(a.root)
    fs.append(b"/srv/data/05", b"x")
    os.chmod(fs.path(b"/srv/data/06"), 0o600)
    os.unlink(fs.path(b"/srv/nasty/names/\xff\xfe not utf-8"))
    fs.file(b"/srv/data/zz", b"new")
    (a.root / "mnt/now").write_text(done(a, "internal", "scan", "--digest", "/srv/nasty/names", "/srv/data").stdout)
    lines = done(a, "internal", "compare", "/mnt/base", "/mnt/now").stdout.splitlines()
    changes = [json.loads(line) for line in lines]
    assert {item["path"]: item["change"] for item in changes if "path_b64" not in item} == {
        "/srv/data/05": "edited", "/srv/data/06": "metadata", "/srv/data/zz": "new",
    }  # fmt: skip
    [odd] = [item for item in changes if "path_b64" in item]
    assert (base64.b64decode(odd["path_b64"]), odd["change"]) == (b"/srv/nasty/names/\xff\xfe not utf-8", "deleted")


def test_a_scan_takes_paths_as_any_shell_has_them(seen: Seen) -> None:
    plain = done(seen.a, "internal", "scan", "/srv/data").stdout
    for path in ("/srv/data/", "//srv/./data", "srv/data", "srv/../srv/data"):
        assert done(seen.a, "internal", "scan", path).stdout == plain
    below = done(seen.a, "internal", "scan", "--root", "/srv", "/").stdout
    assert done(seen.a, "internal", "scan", "--root", "/srv", ".").stdout == below
    assert done(seen.a, "internal", "scan", "--root", "/srv", "..").stdout == below


def test_accounts_and_packages_merge_by_plumbing(a: Appliance, b: Appliance) -> None:
    for book in ("passwd", "group"):
        shutil.copy(a.root / "etc" / book, b.root / "mnt" / book)
    merged = done(b, "internal", "merge-users", "/mnt/passwd", "/mnt/group", "/etc/passwd", "/etc/group").value
    assert holds(merged, {"passwd": [str], "group": [str]})
    assert all(int(old) >= 0 and isinstance(new, int) for old, new in merged["uid_map"].items())
    ids = {line.split(":")[0]: int(line.split(":")[2]) for line in merged["passwd"]}
    old = {line.split(":")[0]: line.split(":")[2] for line in (a.root / "etc/passwd").read_text().splitlines()}
    assert all(merged["uid_map"][old[name]] == ids[name] for name in ("root", "collector", "first", "bob"))
    base, now = "debian-12-core", "debian-12-postgresql"
    share = "/opt/tklb/share/profiles"
    told = done(b, "internal", "merge-packages", f"{share}/{base}/packages", f"{share}/{now}/packages").value
    assert holds(told, {"added": [str], "removed": list})
    assert "postgresql-15" in told["added"]
    refused(b, 2, "UsageWrong", "internal", "merge-packages", "/etc/passwd", "/etc/passwd", says="not a package list")
