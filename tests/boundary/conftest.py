"""What several tests look at and none changes: a target with snapshots, made once."""

import pytest

from tests.boundary.kept import Kept, keep


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return keep(tmp_path_factory.mktemp("kept") / "machine")
