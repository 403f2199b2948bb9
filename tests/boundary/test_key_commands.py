"""`tklb key` as it is typed: on a terminal, by scripts, killed at every step, with a target that is away.

Takes the program, gpg, strace and a folder of state; a sealed ledger stands for the snapshots. After any fault the key
that opens the newest snapshot is on the machine, and what lies on the target opens it or is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.lab.soak import some
from tests.lab.warm import FORKS, WarmPython
from tests.unit.test_ledger import record
from tklb.config.paths import Paths
from tklb.config.render import write_config
from tklb.config.schema import Config
from tklb.crypto.key_encryption import decrypt_key
from tklb.crypto.key_file import open_key, parse_key, read_fingerprint
from tklb.crypto.secret import fingerprint, read_older, read_secret
from tklb.errors import WrongPassphrase
from tklb.ledger.read import read_ledger
from tklb.ledger.seal import seal
from tklb.model.secret import Secret
from tklb.profile.adopt import adopt_profile
from tklb.session import make_identity
from tklb.storage.kinds import make_backend, open_backend

HOUSE = Path(__file__).parents[2]
TKLB = (sys.executable, "-B", "-m", "tklb")
KILLED = 137
# The command as `python3 -m tklb` runs it, in a process that need not import all of it again; traced if it is to be.
# A passphrase is stretched a thousandth as far, for gpg takes a quarter of a second; test_key_encryption has all of it.
COMMAND = """
    import os, runpy, subprocess, sys, time
    import tklb.crypto.key_encryption
    tklb.crypto.key_encryption._STRETCH = 0x60
    if values["tracer"]:
        subprocess.Popen([*values["tracer"], "-f", "-qq", "-p", str(os.getpid())])
        while "\\nTracerPid:\\t0\\n" in open("/proc/self/status").read():
            time.sleep(0.005)
    os.environ.clear()
    os.environ.update(values["environment"])
    sys.argv = ["tklb", *values["words"]]
    runpy.run_module("tklb", run_name="__main__", alter_sys=True)
"""
CHANGES = ("rename", "unlink", "linkat", "fsync")  # strace counts the calls of each kind alone
SNAPSHOTS = ("20260101T000000Z", "20260102T000000Z")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root looks after keys")


@dataclass(frozen=True)
class Told:
    status: int
    stdout: str
    stderr: str

    @property
    def value(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Machine:
    """State, configuration and target in folders of a test."""

    folder: Path
    python: WarmPython
    env: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def target(self) -> Path:
        return self.folder / "target"

    @property
    def environment(self) -> dict[str, str]:
        places = {f"TKLB_{name.upper()}": str(self.folder / name) for name in ("config", "state", "cache", "log")}
        return {"PATH": "/usr/bin:/bin", "HOME": "/root", "TMPDIR": str(self.folder / "tmp"), **places, **self.env}

    def run(self, *words: str | Path, feed: str = "", tracer: tuple[str, ...] = ()) -> Told:
        told = self.python.run(
            COMMAND, stdin=feed, words=[*map(str, words)], environment=self.environment, tracer=tracer
        )
        return Told(128 - told.status if told.status < 0 else told.status, told.stdout, told.stderr)

    def done(self, *words: str | Path, feed: str = "", status: int = 0) -> Told:
        told = self.run(*words, feed=feed)
        assert told.status == status, told
        return told

    def changes(self, *words: str | Path) -> list[tuple[str, int]]:
        """Run to the end; every call that changes something, and which of its kind it is."""
        calls = self.folder / "tmp/calls"
        assert self.run(*words, tracer=("strace", f"--trace={','.join(CHANGES)}", "-o", str(calls))).status == 0
        made = re.findall(rf"^\d+ +({'|'.join(CHANGES)})\(", calls.read_text(), re.MULTILINE)
        calls.unlink()
        return [(call, made[: number + 1].count(call)) for number, call in enumerate(made)]

    def kill(self, call: str, number: int, *words: str | Path) -> None:
        """Run until the `number`th call of a kind: that one is not made."""
        fault = f"--inject={call}:signal=KILL:when={number}"
        told = self.run(*words, tracer=("strace", "-o", "/dev/null", f"--trace={call}", fault))
        assert told.status == KILLED, told

    def passphrase_file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(content)
        return path

    def secret(self) -> Secret:
        return read_secret(self.state / "secret")

    def wrapped(self) -> str | None:
        path = self.target / "key.asc"
        return path.read_text() if path.exists() else None

    def seal(self) -> None:
        """Two snapshots, as far as the ledger goes."""
        target = open_backend(f"file://{self.target}", Config())
        for number in (1, 2):
            made = record(number, host=(self.state / "host").read_text().strip())
            for volume in made.volumes:
                (self.target / "volumes" / volume.name).write_bytes(b"%d" % number * 1000)
            seal(target, self.secret(), self.state / "ledger", made)

    def objects(self) -> dict[str, tuple[object, ...]]:
        """All that is stored but the key file, and whatever a write would change of it."""
        files = [path for path in sorted(self.target.rglob("*")) if path.is_file() and path.name != "key.asc"]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    def left_overs(self) -> list[str]:
        found = [str(path) for path in self.folder.rglob("*") if path.name.endswith((".new", ".part"))]
        return found + os.listdir(self.folder / "tmp")


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    with WarmPython([sys.executable, "-B", FORKS], cwd=HOUSE, env={"PYTHONPATH": str(HOUSE)}) as started:
        yield started


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, python: WarmPython) -> Machine:
    """What `tklb init` makes but for its look at the machine that runs the tests, which may hold a million files."""
    machine = Machine(tmp_path_factory.mktemp("made"), python)
    for name in ("tmp", "config", "cache", "log"):
        (machine.folder / name).mkdir(mode=0o700)
    paths = Paths(machine.folder / "config", machine.state)
    config = Config(target=f"file://{machine.target}", profile="debian-12-core")
    make_backend(config.target, config)
    make_identity(paths)
    adopt_profile(paths, HOUSE / "profiles" / config.profile)
    write_config(paths.toml, config)
    machine.seal()
    return machine


@pytest.fixture
def machine(made: Machine, tmp_path: Path) -> Iterator[Machine]:
    """A machine with two snapshots and a bare key; every test has its own, and nothing stays where it ran."""
    shutil.copytree(made.folder, tmp_path / "m", dirs_exist_ok=True)
    toml = tmp_path / "m/config/tklb.toml"
    toml.write_text(toml.read_text().replace(str(made.folder), str(tmp_path / "m")))
    for noted in (tmp_path / "m/state/ledger").glob("head-*"):  # named after the address
        noted.unlink()
    machine = Machine(tmp_path / "m", made.python)
    before = machine.objects()
    yield machine
    assert machine.objects() == before
    assert machine.left_overs() == []


def opens(machine: Machine, secret: Secret, older: tuple[Secret, ...] = ()) -> list[str]:
    """The snapshots that these keys open, on a machine that knows nothing."""
    target = open_backend(f"file://{machine.target}", Config())
    folder = machine.folder / "judge"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    ledger = read_ledger(target, secret, folder, older)
    shutil.rmtree(folder)
    assert ledger.problems == ()
    return [each.snapshot for each in ledger.entries]


# ---------------------------------------------------------------- passphrase


def test_passphrase_is_set_changed_and_taken_away_and_no_data_is_touched(machine: Machine) -> None:
    one, two = machine.passphrase_file("one", b"first one\n"), machine.passphrase_file("two", b"second")
    secret = machine.secret()
    value = machine.done("key", "passphrase", "--passphrase-file", one, "--json").value
    assert value == {
        "fingerprint": fingerprint(secret),
        "has_passphrase": True,
        "target": f"file://{machine.target}",
        "on_target": True,
        "reason": None,
    }
    first = machine.wrapped()
    assert first == (machine.state / "key.asc").read_text()
    assert first is not None
    assert decrypt_key(first, Secret("first one")).reveal() == secret.reveal()
    machine.done("key", "passphrase", "--passphrase-file", two)
    second = machine.wrapped()
    assert second is not None
    assert decrypt_key(second, Secret("second")).reveal() == secret.reveal()
    with pytest.raises(WrongPassphrase):
        decrypt_key(second, Secret("first one"))
    gone = machine.done("key", "passphrase", "--passphrase-file", machine.passphrase_file("none", b"")).stdout
    assert "has no passphrase" in gone
    assert machine.wrapped() is None
    assert not (machine.state / "key.asc").exists()
    assert machine.secret().reveal() == secret.reveal()
    assert opens(machine, secret) == list(SNAPSHOTS)


def test_random_passphrase_is_told_once_and_kept_nowhere(machine: Machine) -> None:
    value = machine.done("key", "passphrase", "--random", "--json").value
    wrapped = machine.wrapped()
    assert wrapped is not None
    assert decrypt_key(wrapped, Secret(value["passphrase"])).reveal() == machine.secret().reveal()
    everything = b"".join(path.read_bytes() for path in machine.folder.rglob("*") if path.is_file())
    assert value["passphrase"].encode() not in everything
    shown = machine.done("key", "passphrase", "--random").stdout
    told = re.search(r"^passphrase  (\S+)$", shown, re.MULTILINE)
    assert told
    again = machine.wrapped()
    assert again is not None
    assert decrypt_key(again, Secret(told[1])).reveal() == machine.secret().reveal()


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        (b"one\ntwo", 0o600, 40),
        (b"nul\0", 0o600, 40),
        (b"x" * 256, 0o600, 40),
        (b"secret\n\n", 0o600, 40),
        (b"secret", 0o644, 41),
        (None, 0o600, 41),
    ],
)
def test_unfit_passphrase_changes_nothing(machine: Machine, content: bytes | None, mode: int, code: int) -> None:
    path = machine.folder / "pw"
    if content is not None:
        machine.passphrase_file("pw", content).chmod(mode)
    told = machine.done("key", "passphrase", "--passphrase-file", path, "--json", status=code)
    assert told.value["error"]["code"] == code
    assert "secret" not in told.stdout.replace("secrets", "")
    assert machine.wrapped() is None
    assert not (machine.state / "key.asc").exists()


def test_passphrase_comes_by_standard_input_and_by_descriptor(machine: Machine) -> None:
    for word, feed in (("-", "by stdin\n"), ("/dev/stdin", "by device")):
        machine.done("key", "passphrase", "--passphrase-file", word, feed=feed)
        wrapped = machine.wrapped()
        assert wrapped is not None
        assert decrypt_key(wrapped, Secret(feed.strip())).reveal() == machine.secret().reveal()
    command = ["bash", "-c", f"{' '.join(TKLB)} key passphrase --passphrase-file <(printf 'by descriptor')"]
    subprocess.run(command, env=machine.environment, cwd=HOUSE, check=True, timeout=60, capture_output=True)
    wrapped = machine.wrapped()
    assert wrapped is not None
    assert decrypt_key(wrapped, Secret("by descriptor")).reveal() == machine.secret().reveal()


def test_without_a_terminal_or_with_two_ways_the_ways_are_named(machine: Machine) -> None:
    pw = machine.passphrase_file("pw", b"x")
    for words in (("passphrase",), ("passphrase", "--random", "--passphrase-file", pw), ("escrow", "f"), ("kit", "f")):
        told = machine.done("key", *words, status=2)
        assert "--passphrase-file F" in told.stderr or "only one of" in told.stderr
    told = machine.done("key", "escrow", "--random", "--no-passphrase", "f", status=2)
    assert all(way in told.stderr for way in ("--passphrase-file", "--random", "--no-passphrase", "--to-public-key"))


def test_target_that_is_away_gets_the_key_file_later(machine: Machine) -> None:
    machine.target.rename(machine.folder / "away")
    told = machine.done("key", "passphrase", "--passphrase-file", machine.passphrase_file("pw", b"x"), status=30)
    assert "is not on file://" in told.stdout
    assert "The next backup uploads it" in told.stdout
    value = machine.done("key", "passphrase", "--random", "--json", status=30).value
    assert value["on_target"] is False
    assert value["passphrase"]
    (machine.folder / "away").rename(machine.target)
    assert machine.wrapped() is None
    assert "not on the target yet" in machine.done("key", "show").stdout


def test_passphrase_stays_while_the_target_that_has_it_is_away(machine: Machine) -> None:
    pw = machine.passphrase_file("pw", b"x")
    machine.done("key", "passphrase", "--passphrase-file", pw)
    machine.target.rename(machine.folder / "away")
    machine.done("key", "passphrase", "--passphrase-file", machine.passphrase_file("none", b""), status=30)
    assert (machine.state / "key.asc").exists()
    (machine.folder / "away").rename(machine.target)


def test_another_machines_target_keeps_its_key_file(machine: Machine, made: Machine) -> None:
    other = machine.target / "key.asc"
    other.write_text("the other machine's")
    (machine.state / "host").write_text("f" * 32 + "\n")
    pw = machine.passphrase_file("pw", b"x")
    assert machine.done("key", "passphrase", "--passphrase-file", pw, "--json", status=35).value["on_target"] is False
    machine.done("key", "passphrase", "--passphrase-file", machine.passphrase_file("none", b""), status=35)
    assert other.read_text() == "the other machine's"


# ---------------------------------------------------------------- on a terminal


def at_terminal(machine: Machine, words: tuple[str, ...], answers: list[str]) -> tuple[int, str]:
    """Run with a terminal of its own; answer each question. The exit status and all that was on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(HOUSE)
        os.execve(TKLB[0], [*TKLB, *words], machine.environment)
    screen, left, limit = "", list(answers), time.monotonic() + 60
    while time.monotonic() < limit and select.select([terminal], [], [], 30)[0]:
        try:
            block = os.read(terminal, 4096)
        except OSError:  # it has ended
            break
        screen += block.decode(errors="replace")
        if left and screen.rstrip(" ").endswith(":"):
            time.sleep(0.1)  # until echo is off
            os.write(terminal, left.pop(0).encode() + b"\n")
            screen += "\n"
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen


def test_terminal_is_asked_twice_and_shows_nothing(machine: Machine) -> None:
    status, screen = at_terminal(machine, ("key", "passphrase"), ["typed pässword", "typed pässword"])
    assert status == 0, screen
    assert "typed" not in screen
    wrapped = machine.wrapped()
    assert wrapped is not None
    assert decrypt_key(wrapped, Secret("typed pässword")).reveal() == machine.secret().reveal()
    status, screen = at_terminal(machine, ("key", "passphrase"), ["one", "another"])
    assert status == 40
    assert "differs from the first" in screen
    assert machine.wrapped() == wrapped
    status, screen = at_terminal(machine, ("key", "passphrase"), ["", ""])
    assert status == 0, screen
    assert machine.wrapped() is None


def test_escrow_asks_at_a_terminal(machine: Machine) -> None:
    file = machine.folder / "copy.asc"
    status, screen = at_terminal(machine, ("key", "escrow", str(file)), ["typed", "typed"])
    assert status == 0, screen
    assert decrypt_key(file.read_text(), Secret("typed")).reveal() == machine.secret().reveal()
    status, screen = at_terminal(machine, ("key", "escrow", str(machine.folder / "other.asc")), ["", ""])
    assert status == 40, screen
    assert not (machine.folder / "other.asc").exists()


# ---------------------------------------------------------------- copies


def test_escrow_writes_what_it_was_told_to_and_notes_it(machine: Machine) -> None:
    pw = machine.passphrase_file("pw", b"of the copy")
    bare, wrapped = machine.folder / "bare.asc", machine.folder / "wrapped.asc"
    machine.done("key", "escrow", "--no-passphrase", bare)
    assert parse_key(bare.read_text()).reveal() == machine.secret().reveal()
    value = machine.done("key", "escrow", "--passphrase-file", pw, wrapped, "--json").value
    assert open_key(wrapped.read_text(), lambda: Secret("of the copy")).reveal() == machine.secret().reveal()
    assert (value["file"], value["kind"], value["away"]) == (str(wrapped), "passphrase", False)
    made = machine.done("key", "escrow", "--random", machine.folder / "random.asc", "--json").value
    text = (machine.folder / "random.asc").read_text()
    assert open_key(text, lambda: Secret(made["passphrase"])).reveal() == machine.secret().reveal()
    assert {bare.stat().st_mode & 0o777, wrapped.stat().st_mode & 0o777} == {0o600}
    copies = machine.done("key", "show", "--json").value["copies"]
    assert [(copy["where"], copy["kind"]) for copy in copies] == [
        (str(bare), "bare"),
        (str(wrapped), "passphrase"),
        (str(machine.folder / "random.asc"), "passphrase"),
    ]


def test_escrow_never_overwrites(machine: Machine) -> None:
    file = machine.passphrase_file("there", b"mine")
    (machine.folder / "link").symlink_to(machine.folder / "goal")
    for path in (file, machine.folder / "link"):
        machine.done("key", "escrow", "--no-passphrase", path, status=2)
    machine.done("key", "escrow", "--no-passphrase", machine.folder / "no/folder", status=41)
    assert file.read_bytes() == b"mine"
    assert not (machine.folder / "goal").exists()


@pytest.mark.slow
def test_killed_escrow_leaves_the_whole_file_or_none(machine: Machine) -> None:
    file = machine.folder / "copy.asc"
    words = ("key", "escrow", "--no-passphrase", file)
    changes, seen = machine.changes(*words), []
    file.unlink()
    for call, number in changes:
        machine.kill(call, number, *words)
        seen.append(file.exists())
        if file.exists():
            assert parse_key(file.read_text()).reveal() == machine.secret().reveal()
            file.unlink()
        for rest in [*machine.folder.glob(".copy.asc*"), *machine.state.glob("*.new")]:
            rest.unlink()
    machine.done(*words)
    assert parse_key(file.read_text()).reveal() == machine.secret().reveal()
    assert len(seen) >= 7
    assert set(seen) == {False, True}


def test_show_warns_until_a_copy_is_elsewhere(machine: Machine, tmp_path: Path) -> None:
    assert machine.done("key", "show", "--json").value["warnings"]
    machine.done("key", "escrow", "--no-passphrase", machine.folder / "here.asc")
    value = machine.done("key", "show", "--json").value
    assert (value["away"], len(value["warnings"])) == (False, 1)
    noted = machine.state / "key-copies.json"
    noted.write_text(noted.read_text().replace('"is_away": false', '"is_away": true'))
    value = machine.done("key", "show", "--json").value
    assert (value["away"], value["warnings"]) == (True, [])
    assert "warning" not in machine.done("key", "show").stdout


def test_copy_on_another_disk_has_left_the_machine(machine: Machine) -> None:
    """A file system in a file stands for the disk; that it has no hard links, as FAT, is strace's doing."""
    image, mount = machine.folder / "disk", machine.folder / "mnt"
    mount.mkdir()
    subprocess.run(["truncate", "-s", "8M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        no_links = ("strace", "-o", "/dev/null", "--trace=link,linkat", "--inject=link,linkat:error=EPERM")
        value = machine.run("key", "escrow", "--no-passphrase", mount / "key.asc", "--json", tracer=no_links).value
        assert value["away"] is True
        assert parse_key((mount / "key.asc").read_text()).reveal() == machine.secret().reveal()
        told = machine.run("key", "escrow", "--no-passphrase", mount / "key.asc", tracer=no_links)
        assert told.status == 2
        assert set(os.listdir(mount)) == {"lost+found", "key.asc"}
    finally:
        subprocess.run(["umount", mount], check=True)
    assert machine.done("key", "show", "--json").value["warnings"] == []


def test_show_says_what_it_cannot_see(machine: Machine) -> None:
    machine.target.rename(machine.folder / "away")
    value = machine.done("key", "show", "--json").value
    assert value["target_copy"] == "?"
    assert "could not be asked" in value["problems"][0]
    (machine.folder / "away").rename(machine.target)
    machine.done("key", "passphrase", "--random")
    value = machine.done("key", "show", "--json").value
    assert (value["target_copy"], value["has_passphrase"], value["problems"]) == ("this key", True, [])
    assert [copy["where"] for copy in value["copies"]] == [f"file://{machine.target}"]
    (machine.target / "key.asc").write_text("something else")
    assert machine.done("key", "show", "--json").value["target_copy"] == "another key"
    (machine.target / "key.asc").unlink()
    value = machine.done("key", "show", "--json").value
    assert (value["target_copy"], value["copies"]) == ("none", [])


# ---------------------------------------------------------------- a new key


def test_new_key_keeps_the_old_one_for_the_snapshots_it_names(machine: Machine) -> None:
    old = machine.secret()
    value = machine.done("key", "rotate", "--json").value
    new = machine.secret()
    assert value["fingerprint"] == fingerprint(new) != value["older"] == fingerprint(old)
    assert value["snapshots"] == list(SNAPSHOTS)
    assert opens(machine, new, read_older(machine.state / "older-secrets")) == list(SNAPSHOTS)
    shown = machine.done("key", "show", "--json").value
    assert shown["older"] == [{"fingerprint": fingerprint(old), "snapshots": list(SNAPSHOTS)}]
    assert "20260101T000000Z" in machine.done("key", "rotate").stdout
    assert opens(machine, machine.secret(), read_older(machine.state / "older-secrets")) == list(SNAPSHOTS)


def test_new_key_wants_a_passphrase_where_the_old_one_had_one(machine: Machine) -> None:
    machine.done("key", "passphrase", "--passphrase-file", machine.passphrase_file("pw", b"old one"))
    there = machine.wrapped()
    before = machine.secret().reveal()
    machine.done("key", "rotate", status=2)
    machine.done("key", "rotate", "--passphrase-file", machine.passphrase_file("none", b""), status=40)
    assert machine.secret().reveal() == before
    made = machine.done("key", "rotate", "--random", "--json").value
    new = machine.secret()
    text = (machine.state / "key.asc").read_text()
    assert decrypt_key(text, Secret(made["passphrase"])).reveal() == new.reveal()
    assert machine.wrapped() == there, "what opens the snapshots there stays until one of the new key is sealed"
    value = machine.done("key", "passphrase", "--random", "--json").value
    assert (value["has_passphrase"], value["on_target"]) == (True, False)
    assert machine.wrapped() == there


def test_passphrase_of_an_older_key_is_refused_for_a_newer_one(machine: Machine) -> None:
    """Whoever kept the old key file and can write to the target puts it back, and the same passphrase opens it."""
    one, two, three = (machine.passphrase_file(name, name.encode()) for name in ("one", "two", "three"))
    machine.done("key", "passphrase", "--passphrase-file", one)
    machine.done("key", "passphrase", "--passphrase-file", two)
    for known in (one, two):
        refused = machine.done("key", "rotate", "--passphrase-file", known, status=2)
        assert "opens the older key" in refused.stderr
    before = fingerprint(machine.secret())
    machine.done("key", "rotate", "--passphrase-file", three)
    for known in (one, two):
        refused = machine.done("key", "passphrase", "--passphrase-file", known, status=2)
        assert before in refused.stderr
    machine.done("key", "passphrase", "--passphrase-file", three)
    assert {path.stat().st_mode & 0o777 for path in (machine.state / "older-key-files").iterdir()} == {0o600}


def test_fingerprint_that_is_not_the_expected_one_is_refused(machine: Machine) -> None:
    name = fingerprint(machine.secret())
    for typed in (name, name.upper(), name.replace("-", ""), name.replace("-", " ")):
        told = machine.run("verify", "--quick", "--expect-key", typed)
        assert "was expected" not in told.stderr, told
    other = "0000-0000-0000-0001"
    for words in (("verify", "--quick"), ("restore", "--dry-run")):
        refused = machine.done(*words, "--expect-key", other, status=41)
        assert f"it is {name}, and {other} was expected" in refused.stderr
    assert "is no fingerprint" in machine.done("verify", "--expect-key", "12", status=2).stderr


def test_new_key_is_made_though_the_target_is_away(machine: Machine) -> None:
    machine.target.rename(machine.folder / "away")
    value = machine.done("key", "rotate", "--json").value
    assert value["snapshots"] is None
    assert "cannot reach" in value["reason"]
    (machine.folder / "away").rename(machine.target)
    assert opens(machine, machine.secret(), read_older(machine.state / "older-secrets")) == list(SNAPSHOTS)


# ---------------------------------------------------------------- kills


class Killing:
    """A command, killed where it changes something; judged each time, repeated from each new state."""

    def __init__(self, machine: Machine, words: tuple[str | Path, ...], passphrases: list[str]) -> None:
        self.machine, self.words, self.passphrases = machine, words, passphrases
        self.start = machine.folder.with_name("start")
        shutil.copytree(machine.folder, self.start)
        self.opened: dict[str, list[str]] = {}  # by key file: gpg takes its time
        self.known: set[frozenset[tuple[str, bool]]] = set()
        self.is_torn: list[bool] = []

    def run(self, every: int, first: int) -> int:
        """Kill it at a sample of the calls that change something; give how many there are.

        Five calls write a file: of the third, the rename, depends what is found afterwards.
        """
        changes = self.machine.changes(*self.words)
        self.judge()
        for call, number in some(changes, every, first):
            self.start_again()
            self.machine.kill(call, number, *self.words)
            self.judge()
            if (state := self.state()) not in self.known:
                self.known.add(state)
                self.repeat()
        self.start_again()
        return len(changes)

    def start_again(self) -> None:
        for name in ("state", "target"):
            shutil.rmtree(self.machine.folder / name)
            shutil.copytree(self.start / name, self.machine.folder / name)

    def state(self) -> frozenset[tuple[str, bool]]:
        """Which files are there, and whether they are as they were at the start."""
        tops = [self.machine.state, self.machine.target]
        files = [path for top in tops for path in top.rglob("*") if path.is_file() and path.name != "lock"]
        old = {path: self.start / path.relative_to(self.machine.folder) for path in files}
        return frozenset(
            (str(path), old[path].exists() and old[path].read_bytes() == path.read_bytes()) for path in files
        )

    def judge(self) -> None:
        """What must hold at any moment: the machine alone, and target and passphrase alone, open every snapshot."""
        machine = self.machine
        assert opens(machine, machine.secret(), read_older(machine.state / "older-secrets")) == list(SNAPSHOTS)
        text = machine.wrapped()
        if text is not None and text not in self.opened:
            self.opened[text] = unlocked(machine, text, self.passphrases)
        assert text is None or self.opened[text] == list(SNAPSHOTS)

    def repeat(self) -> None:
        own = self.machine.state / "key.asc"
        is_torn = own.exists() and read_fingerprint(own.read_text()) != fingerprint(self.machine.secret())
        problems = self.machine.done("key", "show", "--json").value["problems"]
        assert is_torn == any("was interrupted" in problem for problem in problems)
        self.is_torn.append(is_torn)
        self.machine.done(*self.words)
        self.judge()
        assert not own.exists() or read_fingerprint(own.read_text()) == fingerprint(self.machine.secret())
        assert self.machine.left_overs() == []


def unlocked(machine: Machine, text: str, passphrases: list[str]) -> list[str]:
    for passphrase in passphrases:
        try:
            secret = decrypt_key(text, Secret(passphrase))
        except WrongPassphrase:
            continue
        return opens(machine, secret)
    raise AssertionError("no passphrase opens it")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "calls", "first"), [("", "new", 12, 2), ("old", "new", 12, 7), ("old", "", 5, 2)]
)
def test_passphrase_killed_anywhere_strands_nothing_and_the_next_try_succeeds(
    tmp_path: Path, made: Machine, before: str, after: str, calls: int, first: int
) -> None:
    machine = clone_of(made, tmp_path)
    if before:
        machine.done("key", "passphrase", "--passphrase-file", machine.passphrase_file("before", before.encode()))
    words = ("key", "passphrase", "--passphrase-file", machine.passphrase_file("after", after.encode()))
    killing = Killing(machine, words, [after, before] if after and before else [after or before])
    assert killing.run(every=10, first=first) >= calls
    machine.done(*words)
    assert (machine.wrapped() is not None) == bool(after)


@pytest.mark.slow
def test_new_key_killed_anywhere_loses_none_and_is_told(tmp_path: Path, made: Machine) -> None:
    machine = clone_of(made, tmp_path)
    machine.done("key", "passphrase", "--passphrase-file", machine.passphrase_file("old", b"old"))
    killing = Killing(machine, ("key", "rotate", "--passphrase-file", machine.passphrase_file("new", b"new")), ["old"])
    assert killing.run(every=5, first=2) >= 11
    assert set(killing.is_torn) == {False, True}


def clone_of(made: Machine, tmp_path: Path) -> Machine:
    shutil.copytree(made.folder, tmp_path / "m")
    toml = tmp_path / "m/config/tklb.toml"
    toml.write_text(toml.read_text().replace(str(made.folder), str(tmp_path / "m")))
    for noted in (tmp_path / "m/state/ledger").glob("head-*"):
        noted.unlink()
    return Machine(tmp_path / "m", made.python)


# ---------------------------------------------------------------- what others see


def test_no_secret_is_in_arguments_environment_logs_or_core_files(machine: Machine) -> None:
    """The command waits for its passphrase; then everything about it and its children is looked at."""
    machine.env["CANARY"] = "of the caller"
    pipe = machine.folder / "pipe"
    os.mkfifo(pipe, 0o600)
    words = [*TKLB, "-vv", "key", "passphrase", "--passphrase-file", str(pipe)]
    process = subprocess.Popen(
        words, env=machine.environment, cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with pipe.open("w") as stream:
        own = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        stream.write("canary passphrase\n")
    seen, is_limited = b"", False
    while process.poll() is None:
        for child in Path("/proc").glob("[0-9]*"):
            try:
                if f"PPid:\t{process.pid}\n" in (child / "status").read_text():
                    words = (child / "cmdline").read_bytes()
                    if words == own:
                        continue  # it is forked, and still has the memory of the command, its environment included
                    seen += words + (child / "environ").read_bytes()
                    allowed = (child / "limits").read_text()  # empty where it has ended since
                    assert not allowed or re.search(r"Max core file size +[01] ", allowed)
                    is_limited |= bool(allowed)
            except OSError:
                continue
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert b"gpg" in seen
    assert is_limited
    assert re.search(r"Max core file size +[01] ", limits)
    logs = "".join(path.read_text() for path in (machine.folder / "log").glob("*.log"))
    assert "key-passphrase" in "".join(os.listdir(machine.folder / "log"))
    shown = seen.decode(errors="replace") + out + err + logs
    for canary in ("canary passphrase", machine.secret().reveal(), machine.secret().reveal()[:9]):
        assert canary not in shown
    assert b"of the caller" not in seen
    pipe.unlink()


def test_state_is_private(machine: Machine) -> None:
    machine.env["UMASK"] = "0"
    machine.done("key", "passphrase", "--random")
    machine.done("key", "rotate", "--random")
    modes = {path: path.stat().st_mode & 0o777 for path in machine.state.rglob("*") if "profile" not in path.parts}
    assert {path for path, mode in modes.items() if mode & 0o077} == set()
    assert (machine.target / "key.asc").stat().st_mode & 0o777 == 0o600


# ---------------------------------------------------------------- the sheet


def scanned(pdf: Path) -> str:
    """What a phone reads from the printed page, and that it is one page."""
    pages = subprocess.run(["pdfinfo", pdf], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^Pages: +1$", pages, re.MULTILINE)
    subprocess.run(["pdftoppm", "-r", "150", "-png", "-singlefile", pdf, pdf.with_suffix("")], check=True)
    image = pdf.with_suffix(".png")
    read = subprocess.run(["zbarimg", "-q", "--raw", image], capture_output=True, text=True, check=True).stdout
    image.unlink()
    return read.rstrip("\n") + "\n"


def block_of(text: str) -> str:
    found = re.search(r"-----BEGIN PGP MESSAGE-----.*-----END PGP MESSAGE-----\n", text, re.DOTALL)
    assert found
    return found[0]


def test_sheet_is_read_back_from_paper_and_from_text_and_opened_by_stock_gpg(machine: Machine) -> None:
    pw = machine.passphrase_file("pw", b"on another paper")
    machine.done("key", "passphrase", "--passphrase-file", pw)
    value = machine.done("key", "kit", machine.folder / "sheet.pdf", "--json").value
    pdf, text = machine.folder / "sheet.pdf", machine.folder / "sheet.txt"
    assert value["files"] == [str(text), str(pdf)]
    assert scanned(pdf) == block_of(text.read_text()) == (machine.state / "key.asc").read_text()
    (machine.folder / "home").mkdir(mode=0o700)
    (machine.folder / "saved.asc").write_text(scanned(pdf))
    opened = subprocess.run(
        ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase-file", pw, "-d", machine.folder / "saved.asc"],
        env={"PATH": "/usr/bin:/bin", "GNUPGHOME": str(machine.folder / "home")},
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert opened.stdout == f"{machine.secret().reveal()}\n".encode()
    printed = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    for said in (fingerprint(machine.secret()), f"file://{machine.target}", "tklb restore --target", "gpg --decrypt"):
        assert said in text.read_text()
        assert said in printed or said.startswith("file://")  # a long address goes over two lines
    assert {pdf.stat().st_mode & 0o777, text.stat().st_mode & 0o777} == {0o600}
    machine.done("key", "kit", machine.folder / "sheet", status=2)


def test_sheet_without_a_passphrase_says_so_and_is_noted(machine: Machine) -> None:
    machine.done("key", "kit", "--no-passphrase", machine.folder / "sheet")
    text = (machine.folder / "sheet.txt").read_text()
    assert "Anyone with this sheet can read every backup" in text
    assert parse_key(scanned(machine.folder / "sheet.pdf")).reveal() == machine.secret().reveal()
    assert [copy["kind"] for copy in machine.done("key", "show", "--json").value["copies"]] == ["bare"]


def test_sheet_of_a_random_passphrase_does_not_have_it(machine: Machine) -> None:
    value = machine.done("key", "kit", "--random", machine.folder / "sheet", "--json").value
    text = (machine.folder / "sheet.txt").read_text()
    assert value["passphrase"] not in text
    assert decrypt_key(block_of(text), Secret(value["passphrase"])).reveal() == machine.secret().reveal()


def test_sheet_that_cannot_be_finished_leaves_nothing(machine: Machine) -> None:
    (machine.folder / "sheet.pdf.d").mkdir()
    before = sorted(os.listdir(machine.folder))
    machine.done("key", "kit", "--no-passphrase", machine.folder / "no/such/sheet", status=41)
    toml = machine.folder / "config/tklb.toml"
    toml.write_text(re.sub(r'url = ".*"', f'url = "webdav://{"h" * 4000}/x"', toml.read_text()))
    machine.done("key", "kit", "--no-passphrase", machine.folder / "sheet", status=41)
    assert sorted(os.listdir(machine.folder)) == before


def test_digest_of_nothing_changed(machine: Machine) -> None:
    """Asking is free: `show` writes nothing."""
    machine.done("key", "show")

    def digest() -> str:
        files = [path for path in sorted(machine.state.rglob("*")) if path.is_file()]
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    before = digest()
    machine.done("key", "show")
    assert digest() == before
    assert datetime.fromisoformat(machine.done("key", "show", "--json").value["made"]).tzinfo == UTC
