"""What all tests share. Gives hypothesis its profile, by CI in the environment; lets Ctrl-C and hang-ups be heard."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.lab.soak import examples

settings.register_profile(
    "tklb", deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", parent=settings.get_profile("tklb"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "tklb")

# A shell starts what runs in the background with Ctrl-C ignored, and all that it starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup has hang-ups ignored


# Long files first, so that no processor waits for one at the end; short ones fill the gaps.
TURNS = ("journey", "contract", "boundary", "lab", "bench", "unit")
LONG = ("test_key_commands.py", "test_database.py", "test_database_mysql.py", "test_engine.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.path.name not in LONG, TURNS.index(item.path.parent.name)))
    for item in items:
        # Lab tests mount and chroot; anybody else than root may still run the rest.
        if os.geteuid() != 0 and item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.skip(reason="needs root: sudo scripts/test"))
        if item.path.parent.name == "unit":
            item.add_marker(pytest.mark.quick)
