"""A target is found out early: what cannot be written, read back or deleted is named, and clocks that differ."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.contract.memory_target import MemoryTarget
from tklb.errors import AccessRefused, TargetDamaged
from tklb.model.target import Permanence
from tklb.storage.backend import Creation, ListedObject, Moved, StoredObject, ignore_moved
from tklb.storage.probe import TargetTraits, check_target, describe_skew, probe, read_traits, remember_traits

pytestmark = pytest.mark.quick


def now() -> datetime:
    return datetime.now(UTC)


def test_good_target_is_left_as_it_was(tmp_path: Path) -> None:
    target = MemoryTarget()
    target.objects["ledger/00000001-20260101T000000Z"] = b"x"
    assert probe(target, tmp_path, now, os.urandom) == (timedelta(0), Permanence.DELETABLE, "")
    assert list(target.objects) == ["ledger/00000001-20260101T000000Z"]


def test_probe_that_a_killed_run_left_goes_and_a_running_one_stays(tmp_path: Path) -> None:
    target = MemoryTarget()
    target.objects = {"ledger/probe-00": b"x", "ledger/probe-01": b"x"}
    target.modified = {"ledger/probe-00": now() - timedelta(hours=2), "ledger/probe-01": now()}
    probe(target, tmp_path, now, os.urandom)
    assert list(target.objects) == ["ledger/probe-01"]


def test_listing_with_odd_names_is_no_reason_to_fall_over(tmp_path: Path) -> None:
    target = MemoryTarget()
    target.objects = {"ledger/probe-../../x": b"x", "ledger/probe-\n": b"x"}
    probe(target, tmp_path, now, os.urandom)
    assert len(target.objects) == 2


class Altering(MemoryTarget):
    def read(self, name: str, limit: int) -> bytes:
        return super().read(name, limit)[:-1] + b"\0"


class Keeping(MemoryTarget):
    def delete(self, name: str) -> None:
        pass


class Losing(MemoryTarget):
    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        return StoredObject(source.stat().st_size, sha256)


@pytest.mark.parametrize("kind", [Altering, Keeping, Losing])
def test_target_that_lies_is_named(kind: type[MemoryTarget], tmp_path: Path) -> None:
    with pytest.raises(TargetDamaged):
        probe(kind(), tmp_path, now, lambda count: b"\1" * count)


def test_target_that_may_not_be_written_is_told_so(tmp_path: Path) -> None:
    class Refusing(MemoryTarget):
        def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
            raise AccessRefused(address=self.address, reason="read only")

    with pytest.raises(AccessRefused):
        probe(Refusing(), tmp_path, now, os.urandom)


@pytest.mark.parametrize(("hours", "word"), [(3, "behind"), (-3, "ahead of")])
def test_clock_that_differs_is_told_with_its_direction(tmp_path: Path, hours: int, word: str) -> None:
    skew = probe(MemoryTarget(), tmp_path, lambda: now() + timedelta(hours=hours), os.urandom).skew
    assert abs(abs(skew) - timedelta(hours=3)) < timedelta(seconds=5)
    assert word in describe_skew(skew)


class Powerless(MemoryTarget):
    """May write and read, and delete nothing."""

    def delete(self, name: str) -> None:
        raise AccessRefused(address=self.address, reason="grant s3:DeleteObject")


def test_target_that_deletes_nothing_is_append_only_also_with_an_old_probe(tmp_path: Path) -> None:
    target = Powerless()
    target.objects, target.modified = {"ledger/probe-00": b"x"}, {"ledger/probe-00": now() - timedelta(hours=2)}
    notes = check_target(target, now)
    assert notes.permanence is Permanence.APPEND_ONLY
    assert notes.facts == ("the target is append-only, it lets tklb delete nothing (grant s3:DeleteObject)",)
    assert len(target.objects) == 3  # it wrote its own


@pytest.mark.parametrize("word", [Permanence.VERSIONED, Permanence.LOCKED])
def test_word_of_a_target_comes_from_its_objects(word: Permanence, tmp_path: Path) -> None:
    class Keeping(MemoryTarget):
        def stat(self, name: str) -> StoredObject | None:
            known = super().stat(name)
            return known and replace(known, permanence=word)

    assert probe(Keeping(), tmp_path, now, os.urandom).permanence is word


def test_all_missing_rights_are_named_together(tmp_path: Path) -> None:
    class Bare(MemoryTarget):
        def list(self, prefix: str) -> tuple[ListedObject, ...]:
            raise AccessRefused(address=self.address, reason="grant s3:ListBucket")

        def read(self, name: str, limit: int) -> bytes:
            raise AccessRefused(address=self.address, reason="grant s3:GetObject")

        def upload_new(self, name: str, source: Path, sha256: str) -> Creation:
            raise AccessRefused(address=self.address, reason="grant s3:PutObject")

    target = Bare()
    with pytest.raises(AccessRefused, match=r"grant s3:ListBucket; grant s3:GetObject; grant s3:PutObject$"):
        probe(target, tmp_path, now, os.urandom)
    assert target.objects == {}


def test_traits_are_remembered_for_one_address(tmp_path: Path) -> None:
    traits = TargetTraits("s3://a/b", Permanence.LOCKED, ("x",))
    nothing = TargetTraits("s3://a/b")
    assert read_traits(tmp_path / "target.json", "s3://a/b") == nothing
    remember_traits(tmp_path / "target.json", traits)
    assert read_traits(tmp_path / "target.json", "s3://a/b") == traits
    assert read_traits(tmp_path / "target.json", "s3://a/c") == TargetTraits("s3://a/c")
    (tmp_path / "target.json").write_text('["s3://a/b", "odd", []]')
    assert read_traits(tmp_path / "target.json", "s3://a/b") == nothing


def test_clocks_that_agree_are_not_worth_a_word() -> None:
    assert describe_skew(timedelta(seconds=59)) == ""
