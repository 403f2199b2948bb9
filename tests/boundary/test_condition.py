"""How `tklb status` judges: by the last run, the age of the last snapshot and what the target says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tklb.config import Config, Paths
from tklb.flow.inspect import Condition, RunNote, condition, note_run
from tklb.flow.setting import Setting, silent
from tklb.keys.secret import make_secret
from tklb.model import Counts, Kind, Record, Shard, Skipped, Volume
from tklb.profile import find
from tklb.store.ledger import seal
from tklb.store.targets import make_target

TAKEN = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    paths = Paths(tmp_path / "etc", tmp_path / "state", tmp_path / "cache", tmp_path / "log")
    paths.state.mkdir(mode=0o700)
    make_target(f"file://{tmp_path}/target", Config())
    return Setting(
        paths=paths,
        config=Config(target=f"file://{tmp_path}/target"),
        secret=make_secret(lambda count: bytes(range(count))),
        host="a" * 32,
        profile=find(None, "debian"),
        clock=lambda: TAKEN,
        progress=silent,
    )


def take(setting: Setting, skipped: tuple[Skipped, ...] = ()) -> None:
    volume = Volume("duplicity-full.20260504T030201Z.manifest.gpg", 1, "0" * 64)
    record = Record(
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
    seal(make_target(setting.config.target, setting.config), setting.secret, setting.paths.ledger, record)


def judged(setting: Setting, later: timedelta = timedelta(0)) -> Condition:
    return condition(replace(setting, clock=lambda: TAKEN + later))


def test_machine_without_a_snapshot_is_never_backed_up(setting: Setting) -> None:
    assert (judged(setting).state, judged(setting).exit_status) == ("never", 3)


def test_fresh_snapshot_is_ok(setting: Setting) -> None:
    take(setting)
    assert (judged(setting).state, judged(setting).exit_status) == ("ok", 0)


def test_old_snapshot_is_late(setting: Setting) -> None:
    take(setting)
    state = judged(setting, timedelta(days=3))
    assert (state.state, state.exit_status) == ("late", 3)


def test_run_that_found_nothing_new_keeps_an_old_snapshot_ok(setting: Setting) -> None:
    take(setting)
    note_run(setting.paths, RunNote(TAKEN + timedelta(days=3), 0))
    assert judged(setting, timedelta(days=3)).state == "ok"


def test_failed_run_is_failing_with_its_own_status_and_named(setting: Setting) -> None:
    take(setting)
    note_run(setting.paths, RunNote(TAKEN, 31, "no space left on file:///mnt"))
    state = judged(setting)
    assert (state.state, state.exit_status) == ("failing", 31)
    assert any("no space left" in problem for problem in state.problems)


def test_skipped_items_of_the_last_snapshot_are_a_problem(setting: Setting) -> None:
    take(setting, (Skipped(b"/etc/x", "Input/output error"),))
    state = judged(setting)
    assert (state.state, state.exit_status) == ("ok", 3)
    assert state.problems != ()


def test_absent_target_is_failing(setting: Setting, tmp_path: Path) -> None:
    (tmp_path / "target").rename(tmp_path / "unplugged")
    state = judged(setting)
    assert (state.state, state.exit_status) == ("failing", 30)
