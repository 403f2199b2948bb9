"""The wrappers around distant backends: retry and stall timeout. The backend inside is a door that breaks."""

import contextlib
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.memory_target import MemoryTarget
from tklb.errors import AccessRefused, Interrupted, NoSpace, TargetDamaged, TargetUnreachable
from tklb.storage.backend import VOLUMES, ListedObject, Moved, StoredObject, ignore_moved
from tklb.storage.wrappers.retry import Retry
from tklb.storage.wrappers.stall_timeout import StallTimeout

pytestmark = pytest.mark.quick

CONTENT = os.urandom(300_000)
PATIENCE = 0.3


def passing() -> TargetUnreachable:
    return TargetUnreachable(address="memory:", reason="reset", is_transient=True)


class Breaking(MemoryTarget):
    """Raises what it is given, one failure a call, half of the bytes moved; `closed` counts close()."""

    def __init__(self, *failures: BaseException) -> None:
        super().__init__()
        self.failures = list(failures)
        self.calls = 0
        self.closed = 0
        self.objects["volumes/a"] = CONTENT

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        self._break(moved)
        return super().upload(name, source, sha256, moved)

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        self._break(moved)
        super().download(name, destination, moved)

    def read(self, name: str, limit: int) -> bytes:
        self._break(ignore_moved)
        return super().read(name, limit)

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        self._break(ignore_moved)
        return super().list(prefix)

    def stat(self, name: str) -> StoredObject | None:
        self._break(ignore_moved)
        return super().stat(name)

    def delete(self, name: str) -> None:
        self._break(ignore_moved)
        super().delete(name)

    def tidy(self) -> None:
        self._break(ignore_moved)

    def close(self) -> None:
        self.closed += 1

    def _break(self, moved: Moved) -> None:
        self.calls += 1
        if self.failures:
            moved(len(CONTENT) // 2)
            raise self.failures.pop(0)


class Sleeper:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(CONTENT)
    return tmp_path / "source"


# ---------------------------------------------------------------- retry

OPERATIONS: dict[str, Callable[[Retry, Path], object]] = {
    "upload": lambda target, folder: target.upload("volumes/a", folder / "source", ""),
    "get": lambda target, folder: target.download("volumes/a", folder / "copy"),
    "read": lambda target, folder: target.read("volumes/a", len(CONTENT)),
    "list": lambda target, folder: target.list(VOLUMES),
    "stat": lambda target, folder: target.stat("volumes/a"),
    "delete": lambda target, folder: target.delete("volumes/a"),
    "tidy": lambda target, folder: target.tidy(),
}


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_what_may_pass_is_tried_again_over_new_connections(operation: str, source: Path) -> None:
    broken, whole = Breaking(passing(), passing()), Breaking()
    done = OPERATIONS[operation](Retry(broken, Sleeper(), lambda: 0.5), source.parent)
    assert (broken.calls, broken.closed) == (3, 2)
    (source.parent / "copy").unlink(missing_ok=True)
    wanted = OPERATIONS[operation](Retry(whole, Sleeper(), lambda: 0.5), source.parent)
    assert getattr(done, "sha256", done) == getattr(wanted, "sha256", wanted)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_tries_end_and_the_last_failure_is_raised(operation: str, chance: float, source: Path) -> None:
    failures = [passing() for _ in range(20)]
    target = Breaking(*failures)
    sleeper = Sleeper()
    with pytest.raises(TargetUnreachable) as caught:
        OPERATIONS[operation](Retry(target, sleeper, lambda: chance), source.parent)
    assert caught.value is failures[5]
    assert target.calls == 6
    assert 30 < sum(sleeper.slept) < 90
    assert max(sleeper.slept) <= 1


@pytest.mark.parametrize(
    "failure",
    [
        TargetUnreachable(address="memory:", reason="no such bucket"),
        AccessRefused(address="memory:", reason="403"),
        TargetDamaged(address="memory:", reason="x"),
        NoSpace(path="x", reason="full"),
        ValueError("a mistake of ours"),
        KeyboardInterrupt(),
    ],
)
def test_what_will_not_pass_is_raised_at_once(failure: BaseException, source: Path) -> None:
    target = Breaking(failure)
    with pytest.raises(type(failure)) as caught:
        Retry(target, Sleeper(), lambda: 0.5).stat("volumes/a")
    assert caught.value is failure
    assert target.calls == 1


def test_pauses_grow_and_vary_by_chance() -> None:
    pauses = []
    for chance in (0.0, 1.0):
        sleeper = Sleeper()
        Retry(Breaking(passing(), passing(), passing()), sleeper, lambda chance=chance: chance).tidy()
        pauses.append(sum(sleeper.slept))
    assert pauses == [pytest.approx(0.75 * 13), pytest.approx(1.25 * 13)]


def test_bytes_of_a_try_that_failed_are_taken_back(source: Path, tmp_path: Path) -> None:
    told: list[int] = []
    target = Retry(Breaking(passing(), passing()), Sleeper(), lambda: 0.5)
    target.upload("volumes/b", source, "", told.append)
    target.download("volumes/b", tmp_path / "copy", told.append)
    assert sum(told) == 2 * len(CONTENT)
    assert min(told) < 0


def test_every_retry_is_in_the_log(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tklb")
    Retry(Breaking(passing(), passing()), Sleeper(), lambda: 0.5).upload("volumes/b", source, "")
    assert caplog.messages == [
        f"upload volumes/b: cannot reach memory:: reset; next try in {pause} seconds" for pause in ("1.0", "3.0")
    ]


def test_no_other_try_begins_where_no_byte_has_moved_for_minutes(source: Path) -> None:
    target, times = Breaking(*(passing() for _ in range(9))), itertools.count(0.0, 40.0)
    with pytest.raises(TargetUnreachable):
        Retry(target, Sleeper(), lambda: 0.5, lambda: next(times)).tidy()
    assert target.calls == 4  # after 40, 80, 120 and 160 seconds


def test_an_end_is_heeded_while_it_waits_for_the_next_try(source: Path) -> None:
    target = Breaking(*(passing() for _ in range(5)))
    sleeper = Sleeper()

    def moved(_count: int) -> None:
        if len(sleeper.slept) >= 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        Retry(target, sleeper, lambda: 0.5).upload("volumes/b", source, "", moved)
    assert target.calls == 2


def test_ctrl_c_ends_the_waiting_at_once() -> None:
    target = Retry(Breaking(*(passing() for _ in range(9))), time.sleep, lambda: 1.0)
    with InterruptedWithin(1.0):
        target.tidy()


class InterruptedWithin:
    """Sends SIGINT after a moment; the block must end with KeyboardInterrupt, so many seconds later at most."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self.sent = time.monotonic() + 0.2
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        assert kind is KeyboardInterrupt
        assert time.monotonic() - self.sent < self.seconds
        return True


# ---------------------------------------------------------------- stall timeout


class Stalling(MemoryTarget):
    """Says nothing any more after half of the bytes, until it is freed; close() alone does not free it."""

    def __init__(self) -> None:
        super().__init__()
        self.objects["volumes/a"] = CONTENT
        self.stalls = 1
        self.freed = threading.Event()
        self.over = threading.Semaphore(0)
        self.closed = 0

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        with self._stall(moved):
            return super().upload(name, source, sha256, moved)

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        with self._stall(moved):
            super().download(name, destination, moved)

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        with self._stall(ignore_moved):
            return super().list(prefix)

    def close(self) -> None:
        self.closed += 1

    def _stall(self, moved: Moved) -> "_Stall":
        return _Stall(self, moved)


class _Stall:
    def __init__(self, target: Stalling, moved: Moved) -> None:
        self.target, self.moved = target, moved

    def __enter__(self) -> None:
        if self.target.stalls:
            self.target.stalls -= 1
            self.moved(1000)
            self.target.freed.wait(20)
            with contextlib.ExitStack() as late:
                late.push(self.__exit__)
                self.moved(1000)
                late.pop_all()

    def __exit__(self, *_: object) -> None:
        self.target.over.release()


@pytest.fixture
def stalling() -> Iterator[Stalling]:
    target = Stalling()
    yield target
    target.freed.set()


def test_stalled_operation_is_given_up_and_may_pass(stalling: Stalling, source: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(TargetUnreachable, match=r"stalled: nothing moved for 0\.3 seconds") as caught:
        StallTimeout(stalling, PATIENCE).upload("volumes/b", source, "")
    assert caught.value.is_transient
    assert PATIENCE <= time.monotonic() - begin < PATIENCE + 1
    assert stalling.closed == 1
    stalling.stalls = 1
    with pytest.raises(TargetUnreachable, match="stalled"):
        StallTimeout(stalling, PATIENCE).list(VOLUMES)


def test_what_was_given_up_is_never_heard_of_again(stalling: Stalling, tmp_path: Path) -> None:
    told: list[int] = []
    target = StallTimeout(stalling, PATIENCE)
    with pytest.raises(TargetUnreachable, match="stalled"):
        target.download("volumes/a", tmp_path / "copy", told.append)
    assert os.listdir(tmp_path) == []
    late = list(told)
    target.download("volumes/a", tmp_path / "copy", told.append)
    assert stalling.over.acquire(timeout=5)
    stalling.objects["volumes/a"] = b"something else by now"
    stalling.freed.set()
    assert stalling.over.acquire(timeout=5)
    time.sleep(0.05)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["copy"]
    assert sum(told) == sum(late) + len(CONTENT)


def test_stall_is_tried_again_and_the_whole_object_comes(stalling: Stalling, tmp_path: Path) -> None:
    stalling.stalls = 2
    Retry(StallTimeout(stalling, PATIENCE), Sleeper(), lambda: 0.5).download("volumes/a", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_time_in_moved_is_no_stall(source: Path) -> None:
    target = StallTimeout(MemoryTarget(), PATIENCE)

    def moved(count: int) -> None:
        time.sleep(3 * PATIENCE if count else 0)

    assert target.upload("volumes/a", source, "", moved).size == len(CONTENT)


def test_slow_is_not_stalled(tmp_path: Path) -> None:
    class Slow(MemoryTarget):
        def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
            for _ in range(6):
                time.sleep(PATIENCE / 2)
                moved(1)
            super().download(name, destination, moved)

    target = Slow()
    target.objects["volumes/a"] = CONTENT
    StallTimeout(target, PATIENCE).download("volumes/a", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_an_end_is_heeded_while_nothing_moves(stalling: Stalling, source: Path) -> None:
    begin = time.monotonic()

    def moved(_count: int) -> None:
        if time.monotonic() > begin + 0.5:
            raise Interrupted

    with pytest.raises(Interrupted):
        StallTimeout(stalling, 60).upload("volumes/b", source, "", moved)
    assert time.monotonic() - begin < 2


def test_ctrl_c_gets_through_a_stall_at_once(stalling: Stalling, source: Path) -> None:
    with InterruptedWithin(0.5):
        StallTimeout(stalling, 60).upload("volumes/b", source, "")


def test_close_that_hangs_holds_nobody_up(stalling: Stalling, monkeypatch: pytest.MonkeyPatch) -> None:
    stalling.close = lambda: stalling.freed.wait(20)  # type: ignore[method-assign]
    begin = time.monotonic()
    with pytest.raises(TargetUnreachable, match="stalled"):
        StallTimeout(stalling, PATIENCE).list(VOLUMES)
    assert time.monotonic() - begin < 5


def test_threads_are_watched_each_by_itself(stalling: Stalling, tmp_path: Path) -> None:
    target = StallTimeout(stalling, PATIENCE)
    failures: list[TargetUnreachable] = []

    def fetch(name: str) -> None:
        try:
            target.download("volumes/a", tmp_path / name)
        except TargetUnreachable as exc:
            failures.append(exc)

    threads = [threading.Thread(target=fetch, args=(f"copy{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 1
    assert [(tmp_path / name).read_bytes() == CONTENT for name in os.listdir(tmp_path)] == [True] * 7


def test_failures_come_from_the_thread_as_they_were(tmp_path: Path) -> None:
    with pytest.raises(TargetDamaged, match="volumes/a is missing"):
        StallTimeout(MemoryTarget(), PATIENCE).download("volumes/a", tmp_path / "copy")
    assert os.listdir(tmp_path) == []
