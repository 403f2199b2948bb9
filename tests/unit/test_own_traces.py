"""What the notes of the installer say about packages and folders, and what they cannot make tklb leave out."""

from pathlib import Path

import pytest

from tklb.host.own_traces import NEEDED, read_own_traces
from tklb.model.packages import Package

HOUSE = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "opt/tklb").mkdir(parents=True)
    return tmp_path


def plant(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("")


def plant_tree(root: Path, folder: str) -> None:
    for name in ("scripts/install", "requirements.txt", "tklb/__main__.py"):
        plant(root, f"{folder}/{name}")


def folders(root: Path, *noted: str) -> tuple[bytes, ...]:
    (root / "opt/tklb/origin").write_text("\n".join(noted) + "\n")
    return read_own_traces(bytes(root)).folders


def test_packages_asked_for_by_name_are_those_of_the_installer() -> None:
    line = next(line for line in (HOUSE / "scripts/install").read_text().splitlines() if line.startswith("needed=("))
    assert frozenset(line.removeprefix("needed=(").removesuffix(")").split()) == NEEDED


def test_brought_package_counts_once_its_owner_marks_it(root: Path) -> None:
    (root / "opt/tklb/packages").write_text("python3\nlibpython3-stdlib\n")
    traces = read_own_traces(bytes(root))
    library = Package("libpython3-stdlib", "1", "amd64", auto=True)
    assert traces.is_brought(library)
    assert traces.is_brought(Package("python3", "1", "amd64", auto=False))
    assert not traces.is_brought(Package("libpython3-stdlib", "1", "amd64", auto=False))
    assert not traces.is_brought(Package("vim", "1", "amd64", auto=True))


def test_tree_and_wheels_are_left_out(root: Path) -> None:
    plant_tree(root, "root/tklb")
    (root / "srv/wheels/cp311-x86_64").mkdir(parents=True)
    assert folders(root, "/root/tklb", "/srv/wheels") == (b"/root/tklb", b"/srv/wheels")


@pytest.mark.parametrize("noted", ["/root", "/", "relative/path", "", "/root/tklb/../x", "/root//tklb"])
def test_top_folders_and_odd_paths_are_never_left_out(root: Path, noted: str) -> None:
    plant_tree(root, "root")
    assert folders(root, noted) == ()


def test_folder_that_has_become_something_else_counts(root: Path) -> None:
    plant(root, "root/tklb/novel.txt")
    (root / "srv/wheels/cp311-x86_64").mkdir(parents=True)
    plant(root, "srv/wheels/list")
    (root / "srv/empty").mkdir()
    assert folders(root, "/root/tklb", "/srv/wheels", "/srv/empty", "/srv/gone") == ()


def test_machine_without_notes_has_no_traces(tmp_path: Path) -> None:
    assert read_own_traces(bytes(tmp_path)).folders == ()
    assert read_own_traces(bytes(tmp_path)).packages == frozenset()
