"""What an exception that nobody foresaw stands for: only what is no fault of the machine is a bug of tklb."""

import errno
import os

import pytest

from tklb.errors import Locked, classify_failure


def system_failure(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (system_failure(errno.ENOSPC), 52),
        (system_failure(errno.EDQUOT, "/var/x"), 52),
        (system_failure(errno.EIO), 53),
        (system_failure(errno.EIO, "/var/x"), 53),
        (system_failure(errno.EROFS), 53),
        (system_failure(errno.ESTALE), 53),
        (system_failure(errno.EMFILE), 53),
        (system_failure(errno.EROFS, "/var/x"), 34),
        (system_failure(errno.EACCES, "/var/x"), 34),
        (system_failure(errno.ENOMEM), 54),
        (MemoryError(), 54),
        (RuntimeError("can't start new thread"), 54),
        (KeyboardInterrupt(), 130),
        (Locked(holder="process 7"), 11),
        (RuntimeError("of ours"), 1),
        (system_failure(errno.ENOENT, "/var/x"), 1),
    ],
)
def test_failure_of_the_machine_is_no_bug_with_or_without_a_path(failure: BaseException, code: int) -> None:
    assert classify_failure(failure).code == code


def test_message_has_the_path_where_there_is_one() -> None:
    assert str(classify_failure(system_failure(errno.EIO, "/var/x"))) == (
        "this machine cannot read or write /var/x: Input/output error"
    )
