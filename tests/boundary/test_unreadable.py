"""What cannot be read is no absent file: it is reported, or ends the run. strace puts faults into real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tklb.base.fs import list_existing, read_existing, read_existing_link
from tklb.errors import AccessRefused
from tklb.host.files.live_files import LiveFiles
from tklb.host.registries.stat_overrides import read_stat_overrides

SWEEP = """
from tklb.host.owned_paths import read_owned_paths
from tklb.host.system_files import find_system_files
found = find_system_files({root!r}, read_owned_paths({root!r}))
print(found.missing, [(item.item, item.reason) for item in found.unread])
"""
OVERRIDES = """
from tklb.errors import AccessRefused
from tklb.host.registries.stat_overrides import read_stat_overrides
try:
    print(read_stat_overrides({root!r}))
except AccessRefused as exc:
    print(exc)
"""
SIZE = """
from tklb.backup.scope.sizes import measure_tree
print(measure_tree({root!r} + b"/usr").is_whole)
"""
LIVE = """
from tklb.host.files.live_files import LiveFiles
with LiveFiles({root!r}) as files:
    print(files.names(b"/usr/share"), files.entry(b"/usr/none"), files.entry(b"/usr/none/x"), files.list_problems())
"""


SOURCES = """
from tklb.host.apt.source_files import find_unreadable_sources
print([(item.item, item.reason) for item in find_unreadable_sources({root!r})])
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (tmp_path / "usr/share").mkdir(parents=True)
    (tmp_path / "usr/share/here").write_text("x")
    (info / "tool.list").write_text("/.\n/usr\n/usr/share\n/usr/share/here\n/usr/share/gone\n")
    (tmp_path / "var/lib/dpkg/statoverride").write_text("root adm 750 /usr/share/here\n")
    return tmp_path


def run_with_fault(code: str, root: Path, path: str, calls: str = "openat") -> str:
    """Run Python with each of these calls on `path` ended by EIO."""
    fault = ["-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO"] if path else ["-e", "trace=none"]
    where = ["-P", str(root / path)] if path else []
    command = ["strace", "-f", "-qq", "-o", "/dev/null", *where, *fault, sys.executable, "-c"]
    text = code.format(root=str(root).encode())
    return subprocess.run([*command, text], capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_folder_of_packages_that_cannot_be_read_has_no_missing_files(root: Path) -> None:
    assert "(b'/usr/share/gone',) []" in run_with_fault(SWEEP, root, "")
    assert run_with_fault(SWEEP, root, "usr/share").strip() == "() [(b'/usr/share', 'Input/output error')]"


def test_a_registry_that_cannot_be_read_is_not_empty(root: Path) -> None:
    assert "Input/output error" in run_with_fault(OVERRIDES, root, "var/lib/dpkg/statoverride")
    assert run_with_fault(OVERRIDES, root, "").startswith("(StatOverride")


def test_a_size_without_a_folder_is_a_lower_bound(root: Path) -> None:
    assert run_with_fault(SIZE, root, "").strip() == "True"
    assert run_with_fault(SIZE, root, "usr/share").strip() == "False"


def test_a_restore_tells_what_is_absent_from_what_it_could_not_read(root: Path) -> None:
    assert run_with_fault(LIVE, root, "").strip() == "(b'here',) None None ()"
    said = run_with_fault(LIVE, root, "usr/share", "getdents64").strip()
    assert said == "() None None ((b'/usr/share', 'Input/output error'),)"


def test_a_package_source_that_cannot_be_read_is_reported(root: Path) -> None:
    folder = root / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (folder / "own.list").write_text("deb http://archive.example/ x main\n")
    assert run_with_fault(SOURCES, root, "").strip() == "[]"
    said = run_with_fault(SOURCES, root, "etc/apt/sources.list.d/own.list")
    assert said.strip() == "[(b'/etc/apt/sources.list.d/own.list', 'Input/output error')]"


def test_a_loop_of_links_is_no_absent_file(root: Path) -> None:
    file = root / "var/lib/dpkg/statoverride"
    file.unlink()
    assert read_stat_overrides(bytes(root)) == ()
    file.symlink_to("statoverride")
    with pytest.raises(AccessRefused, match="statoverride"):
        read_stat_overrides(bytes(root))


def test_what_is_of_another_kind_or_below_a_file_is_absent(root: Path) -> None:
    below = bytes(root / "usr/share/here/x")
    assert (read_existing(below), list_existing(below), read_existing_link(below)) == (b"", [], None)
    assert read_existing(bytes(root / "usr")) == b""
    assert read_existing_link(bytes(root / "usr")) is None
    assert list_existing(bytes(root / "usr/none")) == []
    with LiveFiles(bytes(root)) as files:
        assert files.entry(b"/usr/share/here/x") is None
        assert files.list_problems() == ()
