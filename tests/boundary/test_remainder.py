"""What an interrupted restore has still to do: kept on disk until it is done, and never in the way."""

import contextlib
from pathlib import Path

import pytest

from tklb.model.plan import Command, Step, StepKind
from tklb.restore.remainder import Remainder, RemainderList, describe_interruption, read_remainder, remember_restore

ODD = Command("postmap", ("postmap",), (b"/etc/postfix/\xff\n*",), takes_inputs=True, seconds=7)
PLAIN = Command("ldconfig", ("ldconfig",))
STEPS = (
    Step(StepKind.INSTALL, b"nginx"),
    Step(StepKind.INSTALL, b"wine32:i386"),
    Step(StepKind.RUN, b"ldconfig", command=PLAIN),
    Step(StepKind.RUN, b"postmap", command=ODD),
    Step(StepKind.SERVICE, b"cron"),
)


def test_everything_comes_back_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "remainder.json"
    noted = RemainderList(path)
    noted.note_packages(STEPS)
    noted.note_rest(STEPS)
    assert read_remainder(path) == Remainder((PLAIN, ODD), ("nginx", "wine32"), ("cron",))
    assert path.stat().st_mode & 0o777 == 0o600


def test_failed_command_stays_until_it_succeeds_and_then_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "remainder.json"
    noted = RemainderList(path)
    noted.note_packages(STEPS)
    noted.note_rest(STEPS)
    noted.forget_command(PLAIN)
    noted.forget_services()
    assert read_remainder(path) == Remainder(commands=(ODD,))
    RemainderList(path).forget_command(ODD)
    assert not path.exists()


def test_packages_of_an_interrupted_restore_are_not_forgotten_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "remainder.json"
    RemainderList(path).note_packages(STEPS[:1])
    RemainderList(path).note_packages(STEPS[1:])
    assert read_remainder(path).packages == ("nginx", "wine32")


def test_plan_without_them_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "remainder.json"
    noted = RemainderList(path)
    noted.note_packages(())
    noted.note_rest([Step(StepKind.WRITE, b"/etc/motd")])
    noted.forget_services()
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"commands": [{}]}', '{"commands": 1, "packages": 2, "services": 3}'])
def test_damaged_list_is_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "remainder.json"
    path.write_text(text)
    assert read_remainder(path) == Remainder()


def test_interrupted_restore_is_remembered_until_one_of_everything_ends(tmp_path: Path) -> None:
    path = tmp_path / "remainder.json"
    with contextlib.suppress(KeyboardInterrupt), remember_restore(path, "20260102T030405Z", is_whole=True):
        raise KeyboardInterrupt
    assert describe_interruption(path) == ("the restore of 20260102T030405Z was interrupted",)
    with remember_restore(path, "20260102T030405Z", is_whole=False):  # a limited one is not its repeat
        pass
    assert read_remainder(path).snapshot
    with remember_restore(path, "20270102T030405Z", is_whole=True):
        assert read_remainder(path).snapshot == "20270102T030405Z"
    assert not path.exists()
