"""What all tests share. Gives hypothesis its profile, by CI in the environment; lets Ctrl-C and hang-ups be heard.

Decides how tests are given to workers (xdist's loadgroup): those that share a set-up of machines stay together, so that
none is made twice; all others go out one by one. What takes long comes first, so that all workers end together.
"""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("tklb", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("tklb"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "tklb")

# A shell starts what runs in the background with Ctrl-C ignored, and all that it starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup has hang-ups ignored

FOLDERS = ("journey", "lab", "contract", "boundary", "bench", "unit")  # those whose tests take longest come first

SetUp = tuple[str, str, int]  # module, fixture, number of the parameter


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Lab tests mount and chroot; anybody else than root may still run the rest.
        if os.geteuid() != 0 and item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.skip(reason="needs root: sudo scripts/test"))
        if item.path.parent.name == "unit":
            item.add_marker(pytest.mark.quick)
    keep_together(items)
    items.sort(key=turn)


def keep_together(items: list[pytest.Item]) -> None:
    """Mark as one group the tests that share machines, directly or by way of a third test."""
    groups: list[set[SetUp]] = []
    for item in items:
        if shared := set_ups(item):
            joined = [group for group in groups if group & shared]
            groups = [group for group in groups if group not in joined] + [shared.union(*joined)]
    names = {set_up: "-".join(map(str, min(group))) for group in groups for set_up in group}
    for item in items:
        if shared := set_ups(item):
            item.add_marker(pytest.mark.xdist_group(names[min(shared)]))


def set_ups(item: pytest.Item) -> set[SetUp]:
    """The fixtures of its module that a test of the lab uses; others are made again for little."""
    if not isinstance(item, pytest.Function) or not item.get_closest_marker("lab"):
        return set()
    made = item._fixtureinfo.name2fixturedefs
    numbers = item.callspec.indices if hasattr(item, "callspec") else {}
    names = (name for name, fixtures in made.items() if fixtures[-1].scope == "module")
    return {(item.path.stem, name, numbers.get(name, 0)) for name in names}


def turn(item: pytest.Item) -> tuple[int, int]:
    """Groups, then what takes long by itself, then the rest."""
    is_grouped, is_slow, needs_lab = (item.get_closest_marker(name) for name in ("xdist_group", "slow", "lab"))
    folder = item.path.parent.name
    place = FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)
    return (0 if is_grouped else 1 if is_slow or needs_lab else 2), place
