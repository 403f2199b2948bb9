"""The state that `tklb status` reports: by the last run, the age of the last snapshot and the target itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tklb.backup.run_note import RunNote, note_run
from tklb.commands.status import StatusReport, check_status
from tklb.config.paths import Paths
from tklb.config.schema import Config
from tklb.crypto.secret import make_secret
from tklb.ledger.seal import seal
from tklb.model.callbacks import ignore_progress
from tklb.model.report import Skipped
from tklb.model.snapshot import Counts, Kind, LedgerEntry, Shard, Volume
from tklb.profile.folder import find_profile
from tklb.session import Session
from tklb.storage.kinds import make_backend

TAKEN = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
def setting(tmp_path: Path) -> Session:
    paths = Paths(tmp_path / "etc", tmp_path / "state", tmp_path / "cache", tmp_path / "log")
    paths.state.mkdir(mode=0o700)
    make_backend(f"file://{tmp_path}/target", Config())
    return Session(
        paths=paths,
        config=Config(target=f"file://{tmp_path}/target"),
        secret=make_secret(lambda count: bytes(range(count))),
        host="a" * 32,
        profile=find_profile(None, "debian"),
        clock=lambda: TAKEN,
        progress=ignore_progress,
    )


def take(setting: Session, skipped: tuple[Skipped, ...] = ()) -> None:
    volume = Volume("duplicity-full.20260504T030201Z.manifest.gpg", 1, "0" * 64)
    record = LedgerEntry(
        sequence=1,
        snapshot="20260504T030201Z",
        kind=Kind.FULL,
        previous="",
        host=setting.host,
        hostname="a",
        profile="debian",
        profile_digest="0" * 64,
        release="debian-12",
        stage="var/lib/tklb/stage",
        volumes=(volume,),
        own_volumes=(volume.name,),
        shards=(Shard("", TAKEN),),
        counts=Counts(),
        content_digest="0" * 64,
        skipped=skipped,
    )
    seal(make_backend(setting.config.target, setting.config), setting.secret, setting.paths.ledger, record)


def judged(setting: Session, later: timedelta = timedelta(0)) -> StatusReport:
    return check_status(replace(setting, clock=lambda: TAKEN + later))


def test_machine_without_a_snapshot_is_never_backed_up(setting: Session) -> None:
    assert (judged(setting).state, judged(setting).exit_status) == ("never", 3)


def test_fresh_snapshot_is_ok(setting: Session) -> None:
    take(setting)
    assert (judged(setting).state, judged(setting).exit_status) == ("ok", 0)


def test_old_snapshot_is_late(setting: Session) -> None:
    take(setting)
    state = judged(setting, timedelta(days=3))
    assert (state.state, state.exit_status) == ("late", 3)


def test_run_that_found_nothing_new_keeps_an_old_snapshot_ok(setting: Session) -> None:
    take(setting)
    note_run(setting.paths, RunNote(TAKEN + timedelta(days=3), 0))
    assert judged(setting, timedelta(days=3)).state == "ok"


def test_failed_run_is_failing_with_its_own_status_and_named(setting: Session) -> None:
    take(setting)
    note_run(setting.paths, RunNote(TAKEN, 31, "no space left on file:///mnt"))
    state = judged(setting)
    assert (state.state, state.exit_status) == ("failing", 31)
    assert any("no space left" in problem for problem in state.problems)


def test_skipped_items_of_the_last_snapshot_are_a_problem(setting: Session) -> None:
    take(setting, (Skipped(b"/etc/x", "Input/output error"),))
    state = judged(setting)
    assert (state.state, state.exit_status) == ("ok", 3)
    assert state.problems != ()


def test_absent_target_is_failing(setting: Session, tmp_path: Path) -> None:
    (tmp_path / "target").rename(tmp_path / "unplugged")
    state = judged(setting)
    assert (state.state, state.exit_status) == ("failing", 30)
