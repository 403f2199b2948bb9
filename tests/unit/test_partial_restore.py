"""A restore of a part says what the machine lacks afterwards."""

from pathlib import Path

import pytest

from tklb.config.paths import Paths
from tklb.model.plan import Role
from tklb.restore.take_over import warn_of_no_takeover


@pytest.mark.parametrize(
    ("role", "is_whole", "has_identity", "is_warned"),
    [
        (Role.REPLACEMENT, False, False, True),
        (Role.REPLACEMENT, True, False, False),
        (Role.REPLACEMENT, False, True, False),
        (Role.CLONE, False, False, False),
    ],
)
def test_fresh_machine_that_gets_a_part_hears_that_it_cannot_back_up(
    tmp_path: Path, role: Role, is_whole: bool, has_identity: bool, is_warned: bool
) -> None:
    paths = Paths(state=tmp_path)
    if has_identity:
        paths.host.write_text("0123\n")
    warnings = warn_of_no_takeover(paths, role, is_whole=is_whole)
    assert bool(warnings) is is_warned
    assert all("tklb init --force" in warning for warning in warnings)
