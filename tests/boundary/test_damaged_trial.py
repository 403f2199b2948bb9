"""The journal of an interrupted trial is damaged: files that wait come back, and are named. Touches its own root."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tklb.databases.load import DatabaseLoader
from tklb.host.files.live_files import LiveFiles
from tklb.host.files.write_entry import FileWriter
from tklb.restore.settings.trial_journal import describe_trial, undo_trial

WAITING, BESIDE = ".tklb-waiting", ".tklb-snapshot"
OWN = {
    "etc/mysql/mariadb.conf.d/50-server.cnf": "own\n",
    "etc/postgresql/15/main/conf.d/own.conf": "own too\n",
    "etc/systemd/system/mariadb.service": "own unit\n",
    "etc/default/mariadb": "own default\n",
}
NEW = "etc/mysql/mariadb.conf.d/50-server.cnf"
DAMAGED = ["", "{", '{"engine": "mysql"}', '{"engine": 1, "steps": [{}], "moves": [], "is_tried": true}', "\0" * 200]


@contextmanager
def doers(root: Path) -> Iterator[tuple[FileWriter, LiveFiles, DatabaseLoader]]:
    stage = root.parent / "stage"
    stage.mkdir(exist_ok=True)
    loader = DatabaseLoader(lambda _word: None, {})
    with (
        FileWriter(bytes(root), (bytes(stage),), follows_root_links=True) as writer,
        LiveFiles(bytes(root), follows_root_links=True) as files,
    ):
        yield writer, files, loader


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name, text in OWN.items():
        path = root / (name + WAITING)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / NEW).write_text("of the snapshot\n")
    (root / "etc/mysql/other.cnf").write_text("untouched\n")
    return root


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_journal_brings_back_and_names_all_that_waits(root: Path, tmp_path: Path, content: str) -> None:
    journal = tmp_path / "trial.json"
    journal.write_text(content)
    assert "damaged" in describe_trial(journal)[0]
    with doers(root) as (writer, files, loader):
        skipped = undo_trial(journal, writer, files, loader)
    assert {name: (root / name).read_text() for name in OWN} == OWN
    assert (root / (NEW + BESIDE)).read_text() == "of the snapshot\n"
    assert list(root.rglob(f"*{WAITING}")) == []
    named = {item.item.decode(): item.reason for item in skipped}
    assert {f"/{name}" for name in OWN} | {"mysql:*", "pgsql:*"} == set(named)
    assert f"/{NEW}{BESIDE}" in named[f"/{NEW}"]
    assert not journal.exists()


def test_damaged_journal_is_named_where_nothing_waits(tmp_path: Path) -> None:
    journal = tmp_path / "trial.json"
    journal.write_text("{")
    (tmp_path / "root").mkdir()
    with doers(tmp_path / "root") as (writer, files, loader):
        (only,) = undo_trial(journal, writer, files, loader)
    assert "no file was waiting" in only.reason
    assert describe_trial(journal) == ()
