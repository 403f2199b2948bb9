"""Files of packages that are missing in /usr: deleted by the owner, left out by dpkg, or lost. Takes a small root."""

from pathlib import Path

import pytest

from tklb.backup.scope.missing_files import find_missing_files
from tklb.host.owned_paths import read_owned_paths
from tklb.host.system_files import find_system_files

STATUS = "Package: {}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"
LISTS = {
    "tool": ("/usr/share/doc/tool/copyright", "/usr/share/locale/de/tool.mo", "/usr/share/www/index.html"),
    "coreutils": ("/usr/bin/tac", "/usr/share/locale/de/coreutils.mo"),
    "wall": ("/usr/bin/wall", "/usr/share/kept"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    for name, paths in LISTS.items():
        folders = sorted({str(parent) for path in paths for parent in Path(path).parents} - {"/"})
        (info / f"{name}.list").write_text("/.\n" + "".join(f"{path}\n" for path in (*folders, *paths)))
    (tmp_path / "var/lib/dpkg/status").write_text("".join(map(STATUS.format, LISTS)))
    for folder in ("usr/bin", "usr/share/www", "usr/share/doc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/share/kept").write_text("x")
    return tmp_path


def find(root: Path) -> tuple[set[str], set[str]]:
    missing = find_system_files(bytes(root), read_owned_paths(bytes(root))).missing
    deleted, lost = find_missing_files(bytes(root), missing)
    return {path.decode() for path in deleted}, {item.item.decode() for item in lost}


def test_all_that_is_gone_is_the_owners_but_for_programs_that_dpkg_needs(root: Path) -> None:
    deleted, lost = find(root)
    files = {path for paths in LISTS.values() for path in paths}
    assert lost == {"/usr/bin/tac"}
    assert deleted & files == files - {"/usr/bin/tac", "/usr/share/kept"}
    assert {"/usr/share/locale", "/usr/share/locale/de", "/usr/share/doc/tool"} == deleted - files


@pytest.mark.parametrize(
    ("lines", "excluded"),
    [
        ("path-exclude=/usr/share/locale/*\n", True),
        ("path-exclude /usr/share/l*\n", True),
        ("path-exclude=/usr/share/locale/*\npath-include=/usr/share/locale/de/*\n", False),
        ("# path-exclude=/usr/share/locale/*\n", False),
    ],
)
def test_the_last_pattern_of_dpkg_decides(root: Path, lines: str, excluded: bool) -> None:
    folder = root / "etc/dpkg/dpkg.cfg.d"
    folder.mkdir(parents=True)
    (folder / "small").write_text(lines)
    (folder / "small.bak").write_text("path-exclude=*\n")
    assert ("/usr/share/locale/de/tool.mo" not in find(root)[0]) is excluded
