"""Work side by side: order, failures, and Ctrl-C, which must find every thread at its end."""

import os
import signal
import threading
import time

import pytest

from tklb.base.concurrency import Background, Stop, map_side_by_side, run_side_by_side


def interrupt_soon() -> None:
    """Press Ctrl-C in the main thread once it waits."""
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()


def test_results_come_in_the_order_of_the_items() -> None:
    delays = (0.2, 0.0, 0.1)
    assert map_side_by_side(lambda delay, _stop: time.sleep(delay) or delay, delays, 3) == delays


def test_first_failure_stops_the_others_and_is_raised() -> None:
    begun, stopped = threading.Barrier(2), threading.Event()

    def work(number: int, stop: Stop) -> None:
        begun.wait()
        if number == 0:
            raise ValueError("the first")
        try:
            while True:
                stop.check()
                time.sleep(0.01)
        finally:
            stopped.set()

    with pytest.raises(ValueError, match="the first"):
        run_side_by_side(work, range(2), 2)
    assert stopped.is_set()


@pytest.mark.parametrize("count", [1, 2])
def test_interruption_waits_until_each_thread_has_cleaned_up(count: int) -> None:
    """Python takes a thread for dead when Ctrl-C comes while it is joined (cpython issue 90882)."""
    clean = []

    def work(number: int, stop: Stop) -> None:
        try:
            while True:
                stop.check()
                time.sleep(0.05)
        finally:
            time.sleep(0.3)
            clean.append(number)

    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(work, range(count), count)
    assert sorted(clean) == list(range(count))


def test_call_in_the_background_has_not_ended_when_waiting_for_it_is_interrupted() -> None:
    go_on = threading.Event()
    thread = Background(go_on.wait)
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        thread.wait(10)
    assert not thread.has_ended
    go_on.set()
    thread.wait(10)
    assert thread.has_ended
