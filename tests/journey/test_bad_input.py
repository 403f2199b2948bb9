"""Whatever is wrong with keys, targets, files or disks: its exit status, one line and a hint, and nothing half-written.

Takes the lab's machine with two snapshots, breaks one thing at a time; after each the next ordinary run must succeed.
Touches clones.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.journey.taken_backup import (
    FROM_A,
    NOTES,
    TARGET,
    Running,
    change_something,
    decoded,
    differences,
    done,
    facts_of,
    left_overs,
    refused,
    server_a,
    server_b,
    snapshots,
    tklb,
    untouched,
)
from tests.lab.appliance import Appliance, clone
from tests.lab.box import Box
from tests.lab.fixture_fs import FixtureFs
from tests.lab.soak import SOAK, some

pytestmark = [pytest.mark.lab, pytest.mark.slow]

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
ON_SMALL_DISK = r"""
set -e
used=$(find "$1" -type f -printf '%s\n' | awk '{ pages += int(($1 + 4095) / 4096) } END { print pages * 4 }')
cp -a "$1" /run/kept
mount -t tmpfs -o "size=$((used + $2))k,nr_inodes=$(($(find "$1" | wc -l) + $3))" none "$1"
chmod --reference=/run/kept "$1"
cp -a /run/kept/. "$1"
rm -r /run/kept
"""


def write(machine: Box, path: str, content: bytes | str, mode: int = 0o600) -> None:
    text = content.encode() if isinstance(content, str) else content
    FixtureFs(machine.root).file(path.encode(), text, mode)


def on_small_disk(machine: Box, folder: str, kilobytes: int, inodes: int = 10_000) -> None:
    """Put a folder on a file system of its own that has so much room left."""
    machine.run(["sh", "-c", ON_SMALL_DISK, "sh", folder, str(kilobytes), str(inodes)])


def listing(machine: Box, folder: str) -> str:
    """Everything in a folder, mounts too: name, size and time."""
    return str(machine.run(["find", folder, "-type", "f", "-printf", "%p %s %T@\n"]).stdout)


@pytest.fixture(scope="module")
def machine() -> Iterator[Appliance]:
    """A for the tests that leave it as it was: the next ordinary run succeeds after all of them."""
    with server_a() as machine:
        yield machine
        change_something(machine)
        assert done(machine, "backup", "--json").value["kind"] == "incremental"
        assert left_overs(machine) == []


@pytest.fixture(scope="module")
def fresh() -> Iterator[Appliance]:
    """The same of B."""
    with server_b() as fresh:
        yield fresh
        done(fresh, "restore", *FROM_A, "--yes")
        assert left_overs(fresh) == []


# ---------------------------------------------------------------- keys


def test_a_key_that_does_not_open_the_snapshots_is_named_before_anything_is_touched(fresh: Appliance) -> None:
    key = (fresh.root / "mnt/key").read_text()
    with clone("core", tklb=True) as stranger:
        done(stranger, "init")
        done(stranger, "key", "escrow", "--no-passphrase", "/mnt/key")
        foreign = (stranger.root / "mnt/key").read_text()
    bad = {"foreign": foreign, "truncated": key[:-40], "empty": "", "text": "hello\n", "bytes": b"\xff" * 5000}
    head, body = key.split("\n\n")
    bad["flipped"] = f"{head}\n\n{body[:20]}{'B' if body[20] == 'A' else 'A'}{body[21:]}"
    for name, content in bad.items():
        write(fresh, f"/mnt/keys/{name}", content)
    with untouched(fresh, *NOTES, "/var/lib/tklb**"):
        for name in (*bad, "missing", ""):
            says = "does not fit" if name == "foreign" else f"/mnt/keys/{name}".rstrip("/")
            refused(fresh, 41, "KeyUnusable", "restore", "--target", TARGET, "--key", f"/mnt/keys/{name}", says=says)
        refused(fresh, 41, "KeyUnusable", "restore", "--target", TARGET, says="--key")


def test_a_secret_that_is_gone_damaged_or_open_to_others_is_refused(machine: Appliance) -> None:
    secret = machine.root / "var/lib/tklb/secret"
    kept = secret.read_bytes()
    for break_it in (
        secret.unlink,
        lambda: write(machine, "/var/lib/tklb/secret", "none\n"),
        lambda: secret.chmod(0o644),
    ):
        break_it()
        with untouched(machine, *NOTES):
            refused(machine, 41, "KeyUnusable", "backup", says="/var/lib/tklb/secret")
        write(machine, "/var/lib/tklb/secret", kept)


def test_a_machine_that_is_not_set_up_says_so_and_a_new_target_has_no_snapshots(b: Appliance) -> None:
    with untouched(b, "/var/lib/tklb", "/var/lib/tklb/lock", "/var/log/tklb**"):
        for words in (["backup"], ["list"], ["status"], ["delta"], ["why", "/etc"], ["restore"]):
            refused(b, 10, "NotInitialised", *words)
    done(b, "init", "--target", "file:///mnt/mine")
    assert done(b, "list", "--json").value == []
    refused(b, 32, "SnapshotUnknown", "restore", says="latest")
    done(b, "backup")


def test_a_second_init_changes_nothing_and_a_forced_one_keeps_the_key_whoever_held_the_lock(a: Appliance) -> None:
    secret = (a.root / "var/lib/tklb/secret").read_bytes()
    with untouched(a, *NOTES):
        refused(a, 15, "AlreadyInitialised", "init", says="/etc/tklb/tklb.toml")
    done(a, "init", "--force", "--target", TARGET)
    assert (a.root / "var/lib/tklb/secret").read_bytes() == secret
    for holder in some(("4194300\n", "1\n", "rubbish"), 2):  # a lock that nobody holds is taken over
        write(a, "/var/lib/tklb/lock", holder)
        change_something(a)
        assert done(a, "backup", "--json").value["kind"] == "incremental"


# ---------------------------------------------------------------- targets


def test_a_target_that_is_not_there_is_30_and_status_says_so(a: Appliance) -> None:
    change_something(a)
    target, away = a.root / "mnt/target", a.root / "mnt/away"
    a.run(["mv", "/mnt/target", "/mnt/away"])
    for place in some(("nothing", "an empty folder", "a file"), 2):
        if place == "an empty folder":
            target.mkdir()
        elif place == "a file":
            if target.exists():
                target.rmdir()
            target.write_text("in the way\n")
        with untouched(a, *NOTES):
            for words in (["backup"], ["list"], ["restore"]):
                refused(a, 30, "TargetUnreachable", *words, says=TARGET)
            failing = done(a, "status", "--json", status=30).value
        assert failing["state"] == "failing"
        assert TARGET in failing["problems"][0]
    target.unlink()
    away.rename(target)
    done(a, "backup")
    assert done(a, "status", "--json").value["state"] == "ok"


def test_a_target_that_cannot_be_written_is_34_and_still_restores(a: Appliance) -> None:
    change_something(a)
    a.run(["mount", "--bind", "/mnt/target", "/mnt/target"])
    a.run(["mount", "-o", "remount,bind,ro", "/mnt/target"])
    with untouched(a, *NOTES):
        refused(a, 34, "AccessRefused", "backup", says=TARGET)
    assert differences(decoded(a, "latest"), facts_of(a)) == []
    a.run(["umount", "/mnt/target"])
    done(a, "backup")


BAD_ADDRESSES = (
    "file://mnt/target", "/mnt/target", "file:///mnt/../etc", "file:///", "s3:///x", "", "sftp://host",
)  # fmt: skip


def test_addresses_of_no_target_are_wrong_usage_and_make_nothing(fresh: Appliance) -> None:
    with untouched(fresh, *NOTES, "/var/lib/tklb"):
        for address in some(BAD_ADDRESSES, 2):
            refused(fresh, 2, "UsageWrong", "init", "--target", address)
        said = refused(fresh, 2, "UsageWrong", "init", "--target", "sftp://me:canary@host/x", says="mode 0600")
        assert "canary" not in said
        refused(fresh, 34, "AccessRefused", "init", "--target", "s3://bucket/x", says="no credentials")
        refused(fresh, 30, "TargetUnreachable", "init", "--target", "file:///etc/passwd/x", says="/etc/passwd/x")
    assert not (fresh.root / "etc/tklb/tklb.toml").exists()


def test_two_machines_never_share_a_target_unasked(machine: Appliance) -> None:
    """A copy of the machine that calls itself another, and one with a key of its own."""
    host = (machine.root / "var/lib/tklb/host").read_bytes()
    write(machine, "/var/lib/tklb/host", "0" * 32 + "\n")
    with untouched(machine, *NOTES):
        refused(machine, 35, "TargetForeign", "backup", says="another machine, a")
    write(machine, "/var/lib/tklb/host", host)
    secret = (machine.root / "var/lib/tklb/secret").read_bytes()
    write(machine, "/var/lib/tklb/secret", b"-".join([b"AAAA"] * 13) + b"\n")
    with untouched(machine, *NOTES):
        refused(machine, 35, "TargetForeign", "backup", says="another key")
    write(machine, "/var/lib/tklb/secret", secret)


# ---------------------------------------------------------------- snapshots


def test_a_snapshot_nobody_took_is_32(machine: Appliance) -> None:
    with untouched(machine, *NOTES):
        for wanted in some(("20200101T000000Z", "1999-12-31", "yesterday", "../..", ""), 2, first=1):
            refused(machine, 32, "SnapshotUnknown", "restore", wanted, says=TARGET)


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; test_round_trip.py reads the same warning")
def test_a_snapshot_of_another_release_is_warned_of_by_name() -> None:
    with server_b("trixie-core") as b:
        said = tklb(b, "restore", *FROM_A).stderr
    assert "warning: the snapshot is of another release: debian-12; this machine is debian-13\n" in said


# ---------------------------------------------------------------- what is written in files


@pytest.mark.parametrize(
    ("text", "says"),
    some(
        [
        ("[target]\nurl = 3\n", "target.url"),
        ('[target]\nurls = "file:///x"\n', "target.urls"),
        ('[targets]\nurl = "file:///x"\n', "targets"),
        ("target = 1\n", "target"),
        ("[backup]\nvolume_megabytes = 0\n", "backup.volume_megabytes"),
        ("[backup]\nshards = true\n", "backup.shards"),
        ("[target\n", "line 1"),
        (b"[target]\nurl = \"\xff\"\n", "tklb.toml"),
        ],
        2, first=1,
    ),
)  # fmt: skip
def test_a_configuration_that_cannot_be_understood_is_13_with_file_and_key(
    machine: Appliance, text: str | bytes, says: str
) -> None:
    toml = machine.root / "etc/tklb/tklb.toml"
    kept = toml.read_bytes()
    write(machine, "/etc/tklb/tklb.toml", text)
    assert says in refused(machine, 13, "ConfigInvalid", "backup", says="/etc/tklb/tklb.toml")
    toml.write_bytes(kept)


LINES = ("srv/data", "package:", "user:a b", "mysql:/x", "-/srv/../etc", "\udcff:x", "/nul\0")


@pytest.mark.parametrize("line", some(LINES, 2))
def test_an_override_that_is_none_is_named_with_its_file(machine: Appliance, line: str) -> None:
    kept = (machine.root / "etc/tklb/overrides").read_bytes()
    write(machine, "/etc/tklb/overrides", b"# mine\n/srv/data\n" + line.encode("utf-8", "surrogateescape") + b"\n")
    with untouched(machine, *NOTES):
        refused(machine, 13, "ConfigInvalid", "backup", says="/etc/tklb/overrides")
    write(machine, "/etc/tklb/overrides", kept)
    if "\0" not in line:
        refused(machine, 2, "UsageWrong", "delta", "--", line)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    some(
        [
            ("profile.toml", "id = [\n", "profile.toml"),
            (
                "profile.toml",
                'id = "x"\nsummary = "x"\nrelease = "debian-12"\n[files]\ninclude = ["etc"]\n',
                "profile.toml",
            ),
            ("profile.toml", 'id = "x"\nsummary = "x"\nrelease = "debian-12"\nhooks = ["/bin/sh"]\n', "hooks"),
            ("profile.toml", None, "profile.toml"),
            ("files.mtree", "#mtree v2.0\n./etc/a type=file mode=0644\nrubbish\n", "files.mtree"),
            ("files.mtree", "#mtree v2.0\n./etc/b type=file\n./etc/a type=file\n", "files.mtree"),
            ("files.mtree", b"\0\xff\n", "files.mtree"),
            ("packages", "one field\n", "packages"),
        ],
        2,
        first=1,
    ),
)
def test_a_profile_that_is_malformed_is_12_and_says_where(
    machine: Appliance, file: str, content: str | bytes | None, says: str
) -> None:
    ours = machine.root / "var/lib/tklb/profile"
    shutil.copytree(ours, machine.root / "mnt/kept", dirs_exist_ok=True)
    if content is None:
        (ours / file).unlink()
    else:
        write(machine, f"/var/lib/tklb/profile/{file}", content)
    assert says in refused(machine, 12, "ProfileInvalid", "backup")
    shutil.rmtree(machine.root / "mnt/worn", ignore_errors=True)
    shutil.copytree(ours, machine.root / "mnt/worn")
    shutil.copytree(machine.root / "mnt/kept", ours, dirs_exist_ok=True)
    assert says in " ".join(done(machine, "profile", "lint", "/mnt/worn", "--json", status=12).value["problems"])
    with untouched(machine, *NOTES):
        refused(machine, 12, "ProfileInvalid", "init", "--force", "--profile", "/mnt/worn")


def test_a_profile_nobody_has_is_12(fresh: Appliance) -> None:
    with untouched(fresh, *NOTES, "/var/lib/tklb"):
        refused(fresh, 12, "ProfileInvalid", "init", "--profile", "windows-95", says="windows-95")
        refused(fresh, 12, "ProfileInvalid", "init", "--profile", "/mnt/none", says="/mnt/none")
        refused(fresh, 12, "ProfileInvalid", "profile", "show", "windows-95")


ODD_LINES = (b"garbage", b"noid:x:seven:7::/:/bin/sh", b"+::::::", b"\xff\xfe:x")


def test_malformed_lines_of_account_files_are_kept_and_reported(a: Appliance, b: Appliance) -> None:
    for book in ("passwd", "group", "shadow"):
        with (a.root / "etc" / book).open("ab") as lines:
            lines.write(b"\n".join(ODD_LINES) + b"\n\n")
    done(a, "delta")
    done(a, "backup")
    shutil.copytree(a.root / "mnt", b.root / "mnt", dirs_exist_ok=True)
    report = done(b, "restore", *FROM_A, "--yes", "--json").value
    for book in ("passwd", "group", "shadow"):
        assert set(ODD_LINES) <= set((b.root / "etc" / book).read_bytes().split(b"\n"))
        assert any(
            warning.startswith(f"/etc/{book} of") and "malformed, kept" in warning for warning in report["warnings"]
        )
    assert (b.root / "etc/passwd").read_text(errors="replace").startswith("root:x:0:0:")
    assert done(b, "restore", "--yes", "--json").value["steps"] == []


def test_accounts_without_root_are_refused(b: Appliance) -> None:
    kept = (b.root / "etc/passwd").read_text()
    for text in (kept.replace("root:x:0:", "root:x:7:"), re.sub("^root:.*\n", "", kept)):
        write(b, "/etc/passwd", text, 0o644)
        if "root:" in text.split("\n")[0]:
            with untouched(b, *NOTES, "/var/lib/tklb**", "/mnt/target/volumes**"):
                refused(b, 60, "RestoreRefused", "restore", *FROM_A, "--yes", says="root")
    done(b, "restore", *FROM_A, "--yes")
    assert "root:x:0:0:" in (b.root / "etc/passwd").read_text()


# ---------------------------------------------------------------- full disks


NONE = [(0, 100)] if SOAK else []
FULL = [
    ("/mnt/target", [*NONE, (500, 100), (5000, 3)], 31, "TargetFull"),
    ("/var/cache/tklb", [(0, 100)], 52, "NoSpace"),
    ("/var/lib/tklb", [*NONE, (400, 100)], 52, "NoSpace"),
]


@pytest.mark.parametrize(("folder", "rooms", "code", "name"), FULL)
def test_a_full_disk_is_named_and_nothing_is_left_on_it(
    a: Appliance, folder: str, rooms: list[tuple[int, int]], code: int, name: str
) -> None:
    change_something(a)
    for kilobytes, inodes in rooms:
        on_small_disk(a, folder, kilobytes, inodes)
        before = listing(a, "/mnt/target")
        refused(a, code, name, "backup", says=folder)
        assert listing(a, "/mnt/target") == before
        assert not re.search(r"\.new\b|\.part|incoming|/stage|/work", listing(a, folder))
    a.run(["mount", "-o", "remount,size=100m,nr_inodes=0", folder])
    assert done(a, "backup", "--json").value["kind"] == "incremental"
    assert [item["snapshot"] for item in done(a, "list", "--json").value][:2] == snapshots(a)[:2]


def test_a_full_disk_of_logs_is_told_and_stops_no_backup(a: Appliance) -> None:
    for inodes in (0, 100):
        on_small_disk(a, "/var/log/tklb", 0, inodes)
        change_something(a)
        told = done(a, "backup", "--json")
        assert told.value["kind"] == "incremental"
        assert re.fullmatch(r"warning: /var/log/tklb/\S+ is not the whole log of this run: No space .*\n", told.stderr)


def test_a_restore_that_has_no_room_says_so_before_anything_is_touched(b: Appliance) -> None:
    for folder, kilobytes, inodes in (("/srv", 50, 10_000), ("/srv", 9000, 50), ("/var/lib/tklb", 50, 100)):
        (b.root / folder[1:]).mkdir(exist_ok=True, mode=0o700)
        on_small_disk(b, folder, kilobytes, inodes)
        with untouched(b, *NOTES, "/var/lib/tklb**", "/mnt/target/volumes**"):
            refused(b, 52, "NoSpace", "restore", *FROM_A, "--yes", says=folder)
        assert listing(b, "/srv") == ""
        b.run(["mount", "-o", "remount,size=100m,nr_inodes=0", folder])
    done(b, "restore", *FROM_A, "--yes")
    assert b.run(["cat", "/srv/data/new"]).stdout == "new\n"


# ---------------------------------------------------------------- locks, users, interruptions


def test_a_second_run_is_refused_and_looking_is_not(a: Appliance) -> None:
    change_something(a)
    stage = a.root / "var/lib/tklb/stage"
    with Running(a, "backup", "--json") as first:
        first.when(stage.exists, signal.SIGSTOP)
        for words in (["backup"], ["restore", "--dry-run"], ["restore", "--into", "/mnt/x"], ["init", "--force"]):
            assert re.search(r"process \d+", refused(a, 11, "Locked", *words))
        for words in (["list"], ["status"], ["delta"], ["backup", "--dry-run"]):
            done(a, *words)
        first.send(signal.SIGCONT)
        assert first.end().value["kind"] == "incremental"
    assert done(a, "backup", "--json").value["kind"] == "none"


def test_who_is_not_root_is_told_and_may_look_at_what_is_public(machine: Appliance) -> None:
    commands = (["init"], ["delta"], ["why", "/etc"], ["backup"], ["list"], ["status"], ["restore"])
    with untouched(machine):
        for words in (*commands, ["key", "escrow", "--no-passphrase", "/tmp/key"]):
            told = machine.run([*NOBODY, "tklb", "--json", *words], check=False)
            assert (told.returncode, json.loads(told.stdout)["error"]["name"]) == (14, "NotRoot")
            assert re.fullmatch(r"tklb: .* must be run as root\n  hint: .*sudo\n", told.stderr)
        for words in (["--help"], ["profile", "list"], ["profile", "detect"], ["internal", "scan", "/etc/motd"]):
            machine.run([*NOBODY, "tklb", *words])


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WRITTEN = ("var/lib/tklb/stage/manifest.mtree", "mnt/target/volumes/.incoming-a/volumes")
RESTORED = ("var/lib/tklb/restore", "srv/nasty/folders")


@pytest.mark.parametrize(("number", "place"), some(itertools.product(SIGNALS, WRITTEN), 3))
def test_an_interrupted_backup_leaves_nothing_and_the_next_one_succeeds(
    a: Appliance, number: signal.Signals, place: str
) -> None:
    change_something(a)
    with untouched(a, *NOTES, "/srv/data/today"), Running(a, "backup", "--json") as run:
        told = run.when((a.root / place).exists, number).end()
        assert (told.status, told.value["error"]["name"]) == (130, "Interrupted")
        assert re.fullmatch(r"\n?tklb: interrupted\n  hint: [^\n]+\n", told.stderr)
        assert left_overs(a) == []
    assert done(a, "backup", "--json").value["kind"] == "incremental"
    assert len(done(a, "list", "--json").value) == 3


def test_nohup_keeps_a_backup_going_when_its_terminal_goes(a: Appliance) -> None:
    change_something(a)
    with Running(a, "backup", "--json", before=("nohup",)) as run:
        told = run.when((a.root / "var/lib/tklb/stage").exists, signal.SIGHUP).end()
    assert (told.status, told.value["kind"]) == (0, "incremental")


@pytest.mark.parametrize(("number", "place"), some(itertools.product(SIGNALS, RESTORED), 4, first=3))
def test_an_interrupted_restore_is_completed_by_repeating_it(b: Appliance, number: signal.Signals, place: str) -> None:
    with Running(b, "restore", *FROM_A, "--yes", "--json") as run:
        told = run.when((b.root / place).exists, number).end()
    assert (told.status, told.value["error"]["name"]) == (130, "Interrupted")
    assert left_overs(b) == []
    done(b, "restore", *FROM_A, "--yes")
    assert done(b, "restore", "--yes", "--json").value["steps"] == []
