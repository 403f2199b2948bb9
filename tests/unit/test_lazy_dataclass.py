"""Dataclasses that are written late are what those of `dataclasses` are, also where threads use one first."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tklb.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """A point."""

    x: int
    y: int = 2
    names: tuple[str, ...] = ()
    notes: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)

    def total(self) -> int:
        return self.x + self.y


@dataclass(frozen=True, slots=True, order=True)
class Version:
    major: int
    minor: int


@dataclass(frozen=True, slots=True)
class Even:
    value: int

    def __post_init__(self) -> None:
        if self.value % 2:
            raise ValueError("odd")

    def __hash__(self) -> int:
        return 7


def make() -> type[Any]:
    @dataclass(frozen=True, slots=True)
    class Fresh:
        a: int
        b: str = "b"

    return Fresh


def fail_to_hash(empty: object) -> None:
    with pytest.raises(AttributeError):
        hash(empty)


def fail_to_assign(empty: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        empty.a = 1


FIRST_USES: dict[str, Callable[[type[Any]], object]] = {
    "fields": dataclasses.fields,
    "is_dataclass": dataclasses.is_dataclass,
    "parameters": lambda fresh: fresh.__match_args__,
    "new": lambda fresh: fresh(1),
    "hash of one never initialised": lambda fresh: fail_to_hash(fresh.__new__(fresh)),
    "assignment": lambda fresh: fail_to_assign(fresh.__new__(fresh)),
}


def test_values_are_equal_hashed_shown_and_ordered_by_their_fields() -> None:
    assert Point(1) == Point(1, 2, (), {"not": 1}) != Point(1, 3)
    assert hash(Version(1, 2)) == hash(Version(1, 2))
    assert repr(Version(1, 2)) == "Version(major=1, minor=2)"
    assert sorted([Version(2, 0), Version(1, 9)]) == [Version(1, 9), Version(2, 0)]
    with pytest.raises(TypeError):
        _ = Point(1) < Point(2)  # type: ignore[operator]


def test_methods_of_its_own_and_defaults_work() -> None:
    assert Point(1).total() == 3
    assert Point(1).notes is not Point(1).notes
    assert hash(Even(2)) == 7
    with pytest.raises(ValueError, match="odd"):
        Even(1)


def test_nothing_can_be_assigned_deleted_or_added() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        point.more = 2  # type: ignore[attr-defined]
    assert not hasattr(point, "__dict__")


def test_functions_of_dataclasses_copies_and_patterns_take_them() -> None:
    point = Point(1, names=("a",))
    assert dataclasses.replace(point, x=5) == Point(5, names=("a",))
    assert dataclasses.asdict(Version(1, 2)) == {"major": 1, "minor": 2}
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
    match point:
        case Point(x, y):
            assert (x, y) == (1, 2)


@pytest.mark.parametrize("use", FIRST_USES.values(), ids=FIRST_USES)
def test_any_use_may_be_the_first(use: Callable[[type[Any]], object]) -> None:
    fresh = make()
    use(fresh)
    assert repr(fresh(1)).endswith("Fresh(a=1, b='b')")


def test_threads_may_use_one_first_at_the_same_time() -> None:
    for _ in range(50):
        fresh, made, gate = make(), [], threading.Barrier(4)

        def use(fresh: type[Any] = fresh, made: list[Any] = made, gate: threading.Barrier = gate) -> None:
            gate.wait()
            made.append(fresh(1))

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made == [fresh(1)] * 4


def test_start_of_a_command_writes_few_of_them_and_imports_no_backup_to_tell_the_state() -> None:
    """It was a third of the start: 150 classes, none of which `tklb --help` uses."""
    script = """
import sys, dataclasses
written, write = [], dataclasses._process_class
dataclasses._process_class = lambda cls, *rest: written.append(cls.__name__) or write(cls, *rest)
import tklb.cli.main, tklb.commands.status, tklb.cli.output.snapshots
print(len(written), *(name for name in ("tklb.backup.collect", "tklb.host.dpkg", "ctypes") if name in sys.modules))
"""
    many, *modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(many) <= 12
    assert not modules
