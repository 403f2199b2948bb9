"""Machines that tests of journeys ask for by name: `a`, whose owner has backups, and `b`, which is fresh."""

from collections.abc import Iterator

import pytest

from tests.journey.taken_backup import left_overs, server_a, server_b
from tests.lab.appliance import Appliance


@pytest.fixture
def a() -> Iterator[Appliance]:
    """A clone of A of its own; no run may leave anything behind on it."""
    with server_a() as machine:
        yield machine
        assert left_overs(machine) == []


@pytest.fixture
def b() -> Iterator[Appliance]:
    """The same of B."""
    with server_b() as machine:
        yield machine
        assert left_overs(machine) == []
