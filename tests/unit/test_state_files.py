"""State files of JSON: what is written comes back, and a file that is lost or damaged is as good as none."""

import stat
from pathlib import Path

import pytest

from tklb.base.json import read_state, write_state


def test_state_comes_back(tmp_path: Path) -> None:
    write_state(tmp_path / "state", {"run": 3, "name": "ü"})
    assert read_state(tmp_path / "state", lambda found: (found["run"], found["name"]), (0, "")) == (3, "ü")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"null", b'{"run": []}', b'{"other": 1}', b"\xff", b"[" * 99_999]
)
def test_lost_or_damaged_state_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "state").write_bytes(content)
    assert read_state(tmp_path / "state", lambda found: int(found["run"]), 7) == 7


def test_folder_in_place_of_a_state_file_is_none(tmp_path: Path) -> None:
    assert read_state(tmp_path, lambda found: int(found["run"]), 7) == 7
