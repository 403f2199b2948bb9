"""Machines that people set up by how-tos come back whole on another: judged by the distribution's own tools.

Nothing may differ that backup or restore did not name. One of the machines here, all of them where TKLB_SOAK is set:
`python3 -m tests.lab.howtos` tells the same as text.
"""

from __future__ import annotations

import pytest

from tests.lab.howtos import HOWTOS, travel
from tests.lab.soak import SOAK

pytestmark = [pytest.mark.lab, pytest.mark.slow]

ALWAYS = ("dns-server",)
NAMES = tuple(HOWTOS) if SOAK else ALWAYS


@pytest.mark.parametrize("name", NAMES)
def test_nothing_differs_on_the_other_machine_that_was_not_named(name: str) -> None:
    trip = travel(HOWTOS[name])
    assert set(trip.statuses) <= {0, 3}, trip.report
    assert not trip.unnamed, "\n".join(map(str, trip.unnamed))
