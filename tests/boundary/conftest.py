"""What several tests look at and none changes: a target with snapshots, made once."""

import pytest

from tests.boundary.sealed_target import SealedTarget, make_sealed_target


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> SealedTarget:
    return make_sealed_target(tmp_path_factory.mktemp("kept") / "machine")
