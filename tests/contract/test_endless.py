"""What is served without end: a target must not fill the disk of whoever fetches from it."""

import os
from pathlib import Path

import pytest

from tests.contract.memory_target import MemoryTarget
from tklb.config import Config
from tklb.errors import TargetDamaged
from tklb.model import Volume
from tklb.store.objects import fetch_volumes
from tklb.store.target import VOLUMES, Moved, Target, idle
from tklb.store.targets import guarded, make_target

VOLUME = Volume("duplicity-full.20260101T000000Z.vol1.difftar.gpg", 1000, "0" * 64)


class Endless(MemoryTarget):
    """Serves blocks for as long as they are taken."""

    served = 0

    def get(self, name: str, destination: Path, moved: Moved = idle) -> None:
        with destination.open("xb") as copy:
            while self.served < 100:
                copy.write(b"x" * 1000)
                self.served += 1
                moved(1000)


@pytest.mark.parametrize("is_guarded", [False, True])
def test_object_without_end_is_ended_at_its_sealed_size(tmp_path: Path, is_guarded: bool) -> None:
    endless = Endless()
    target: Target = guarded(endless, Config()) if is_guarded else endless
    with pytest.raises(TargetDamaged, match="more than its 1000 bytes"):
        fetch_volumes(target, (VOLUME,), tmp_path)
    assert endless.served == 2


def test_file_of_somebody_else_is_copied_no_further_than_its_sealed_size(tmp_path: Path) -> None:
    target = make_target(f"file://{tmp_path}/target", Config())
    planted = tmp_path / "target" / VOLUMES / VOLUME.name
    planted.touch()
    planted.chmod(0o666)  # so that it is copied and not linked
    os.truncate(planted, 1 << 26)
    (tmp_path / "to").mkdir()
    with pytest.raises(TargetDamaged, match="more than its 1000 bytes"):
        fetch_volumes(target, (VOLUME,), tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []
