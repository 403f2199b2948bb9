"""A target in a folder that belongs to a local user, who swaps things while root works. Touches a clone."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading

import pytest

from tests.journey.taken_backup import SCOPE, change_something, decoded, differences, done
from tests.lab.appliance import Appliance
from tests.lab.checker import record

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def test_who_owns_the_folder_of_a_target_has_root_write_nowhere_else(a: Appliance) -> None:
    """As soon as root works in there, what it works in is another folder."""
    target = a.root / "mnt/target"
    shutil.chown(target / "volumes", 1000)
    change_something(a)
    victim, over = a.root / "mnt/victim", threading.Event()
    victim.mkdir()

    def swap() -> None:
        work, number = target / "volumes/.incoming-a", 0
        while not over.wait(0.0005):
            with contextlib.suppress(OSError):
                os.rename(work, target / f"volumes/aside-{number}")
                number += 1
                (work / "temporary").mkdir(parents=True)
                (work / "volumes").symlink_to("/mnt/victim")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        told = done(a, "backup", "--json")
    finally:
        over.set()
        swapping.join()
    assert os.listdir(victim) == []
    assert told.value["kind"] == "incremental"
    assert differences(decoded(a, "latest"), record(a.root, SCOPE)) == []
