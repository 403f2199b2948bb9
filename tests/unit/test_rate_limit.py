"""Rates: timetables as they are written, and an allowance that holds whoever asks, however much, whenever."""

import threading
import time
from datetime import time as time_of_day
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.memory_target import MemoryTarget
from tklb.config.parse import read_config
from tklb.config.paths import Paths
from tklb.config.rates import Timetable, parse_rates
from tklb.errors import ConfigInvalid
from tklb.storage.wrappers.rate_limit import Allowance, RateLimit

MIDNIGHT = time_of_day()
NOON = time_of_day(12)


# ---------------------------------------------------------------- timetables


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1024", 1024), ("2M", 2 << 20), ("2m", 2 << 20), ("1.5G", 1.5 * (1 << 30)), (" 512K ", 512 << 10),
        ("off", None), ("OFF", None),
    ],
)  # fmt: skip
def test_one_rate_holds_all_day(text: str, rate: float | None) -> None:
    assert {parse_rates(text).rate_at(moment) for moment in (MIDNIGHT, NOON, time_of_day.max)} == {rate}


def test_timetable_says_what_holds_from_when_and_over_midnight() -> None:
    rates = parse_rates("18:00,off 08:00,512K")
    told = [rates.rate_at(time_of_day(hour, 59, 59)) for hour in (23, 0, 7, 8, 17, 18)]
    assert told == [None, None, None, 512 << 10, 512 << 10, None]
    assert rates.rate_at(time_of_day(8)) == 512 << 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "says nothing"), ("  ", "says nothing"), ("2X", "is no rate"), ("-1M", "is no rate"),
        ("1e9", "is no rate"), ("2\u212a", "is no rate"), ("٣M", "is no rate"), ("inf", "is no rate"),
        ("2M\0", "is no rate"), ("08:00,", "is no rate"), ("08:00,1M,2M", "is no rate"),
        ("0", "less than 1K"), ("512", "less than 1K"),
        ("8:00,1M", "no time"), ("24:00,1M", "no time"), ("08:60,1M", "no time"), ("Mon-08:00,1M", "no time"),
        ("1M 08:00,1M", "no time"), ("08:00,1M 08:00,2M", "twice"),
    ],
)  # fmt: skip
def test_what_is_no_rate_is_refused_with_a_word_on_why(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_rates(text)


written_rates = st.one_of(
    st.just(("off", None)),
    st.tuples(st.integers(1024, 10**9), st.sampled_from(["", "K", "k", "M"])).map(
        lambda found: (f"{found[0]}{found[1]}", found[0] * {"": 1, "K": 1 << 10, "M": 1 << 20}[found[1].upper()])
    ),
)


@given(st.dictionaries(st.integers(0, 1439), written_rates, min_size=1), st.integers(0, 1439), st.randoms())
def test_timetable_reads_as_it_was_written(
    table: dict[int, tuple[str, float | None]], asked: int, random: Random
) -> None:
    words = [f"{minute // 60:02}:{minute % 60:02},{text}" for minute, (text, _) in table.items()]
    random.shuffle(words)
    last = max((minute for minute in table if minute <= asked), default=max(table))
    assert parse_rates("  ".join(words)).rate_at(time_of_day(asked // 60, asked % 60)) == table[last][1]


@given(st.one_of(st.text(), st.text("0123456789:,.KMGof "), st.from_regex(r"[0-9:,]{6}[0-9.]{1,9}[KMG]?( .*)?")))
def test_any_text_is_a_timetable_or_refused(text: str) -> None:
    try:
        rates = parse_rates(text)
    except ValueError:
        return
    assert isinstance(rates, Timetable)
    assert all(rate is None or 1024 <= rate < 1 << 80 for _, rate in rates.changes)


def test_bad_rate_in_the_configuration_names_file_and_key(tmp_path: Path) -> None:
    paths = Paths(config=tmp_path)
    paths.toml.write_text('[target]\nlimit_rate = "fast"\n')
    with pytest.raises(ConfigInvalid, match=r"tklb\.toml: `target\.limit_rate`: `fast` is no rate"):
        read_config(paths)
    paths.toml.write_text('[target]\nlimit_rate = "08:00,1M 18:00,off"\n')
    assert read_config(paths).limit_rate == "08:00,1M 18:00,off"


# ---------------------------------------------------------------- the allowance


class Clock:
    """Seconds that pass in sleep only."""

    def __init__(self) -> None:
        self.now = 0.0
        self.longest = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.longest = max(self.longest, seconds)


@given(
    st.integers(1024, 1 << 30),
    st.lists(st.tuples(st.integers(0, 1 << 24), st.floats(0, 50)), min_size=1, max_size=8),
)
def test_never_more_than_the_rate_and_a_second_of_burst(rate: int, asked: list[tuple[int, float]]) -> None:
    asked = [(count % (rate * 20), pause) for count, pause in asked]
    clock = Clock()
    allowance = Allowance(lambda: rate, lambda: clock.now, clock.sleep)
    let_go = [(0.0, 0)]
    for count, pause in asked:
        clock.now += pause
        allowance.take(count)
        let_go.append((clock.now, let_go[-1][1] + count))
    for index, (begin, before) in enumerate(let_go):
        for end, after in let_go[index + 1 :]:
            assert after - before <= rate * (end - begin + 1.01) + 1
    assert clock.longest <= 0.2


@given(st.integers(1024, 1 << 30), st.lists(st.floats(0.001, 5), min_size=1, max_size=20))
def test_whoever_asks_all_the_time_gets_the_whole_rate(rate: int, seconds: list[float]) -> None:
    clock = Clock()
    allowance = Allowance(lambda: rate, lambda: clock.now, clock.sleep)
    counts = [int(rate * wanted) for wanted in seconds]
    for count in counts:
        allowance.take(count)
    assert clock.now == pytest.approx(sum(counts) / rate, abs=0.01)


def test_change_of_the_rate_is_heeded_by_those_who_wait() -> None:
    clock = Clock()
    allowance = Allowance(lambda: 1000.0 if clock.now < 10 else None, lambda: clock.now, clock.sleep)
    allowance.take(1_000_000)
    assert 10 <= clock.now < 10.3


def test_no_limit_costs_no_sleep() -> None:
    clock = Clock()
    Allowance(lambda: None, lambda: clock.now, clock.sleep).take(1 << 50)
    assert clock.now == 0


def test_clock_that_jumps_back_gives_nothing_away() -> None:
    clock = Clock()
    clock.now = 100.0
    allowance = Allowance(lambda: 1000.0, lambda: clock.now, clock.sleep)
    clock.now = 5.0
    allowance.take(1000)
    assert clock.now == pytest.approx(6, abs=0.01)


def test_threads_share_one_allowance() -> None:
    allowance = Allowance(lambda: 1_000_000.0, time.monotonic, time.sleep)
    begin = time.monotonic()
    ends: list[float] = []

    def ask() -> None:
        for _ in range(10):
            allowance.take(10_000)
        ends.append(time.monotonic() - begin)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.49 <= max(ends) < 1.5
    assert min(ends) > 0.4 * max(ends)  # first come, first served: nobody is starved


def test_up_and_down_and_small_objects_are_paced_alike(tmp_path: Path) -> None:
    clock = Clock()
    target = RateLimit(MemoryTarget(), lambda: 100_000.0, lambda: clock.now, clock.sleep)
    (tmp_path / "source").write_bytes(bytes(400_000))
    told: list[int] = []
    target.upload("volumes/a", tmp_path / "source", "", told.append)
    target.download("volumes/a", tmp_path / "copy", told.append)
    target.read("volumes/a", 400_000)
    assert clock.now == pytest.approx(12, abs=0.1)
    assert told == [400_000, 400_000]
