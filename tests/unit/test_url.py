"""Addresses of targets: what is meant, and what is refused with a word on how to write it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.errors import UsageWrong
from tklb.model.target import TargetUrl
from tklb.storage.url import local_path, parse_url


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///var/backups/tklb", "/var/backups/tklb"),
        ("FILE:///srv//a/./b/", "/srv/a/b"),
        ("file:///mnt/a%20b/c d", "/mnt/a b/c d"),
        ("file:///srv/%C3%A9", "/srv/é"),
    ],
)
def test_file_addresses(address: str, path: str) -> None:
    assert local_path(address) == path
    assert parse_url(address) == TargetUrl("file", address, path=path)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("s3://bucket", {"bucket": "bucket"}),
        ("boto3+s3://bucket/web1/", {"bucket": "bucket", "path": "web1"}),
        ("s3://backups-{region}/a//b", {"bucket": "backups-{region}", "path": "a/b"}),
        ("s3+http://127.0.0.1:9000/b-1/p", {"bucket": "b-1", "path": "p", "endpoint": "http://127.0.0.1:9000"}),
        ("s3+https://[::1]/b-1", {"bucket": "b-1", "endpoint": "https://[::1]"}),
    ],
)
def test_s3_addresses(address: str, wanted: dict[str, str]) -> None:
    assert parse_url(address) == TargetUrl("s3", address, **wanted)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("sftp://host/below/home", {"host": "host", "path": "below/home"}),
        ("sftp://me@host:2222//srv/backups", {"host": "host", "user": "me", "port": 2222, "path": "/srv/backups"}),
        ("sftp://[::1]:22/x%20y", {"host": "::1", "port": 22, "path": "x y"}),
    ],
)
def test_sftp_addresses(address: str, wanted: dict[str, object]) -> None:
    assert parse_url(address) == TargetUrl("sftp", address, **wanted)  # type: ignore[arg-type]


def test_any_other_scheme_is_left_to_duplicity() -> None:
    assert parse_url("webdavs://host/folder/") == TargetUrl("webdavs", "webdavs://host/folder")


@pytest.mark.parametrize(
    "address",
    ["", "/var/backups", "backups", "file:", "file://", "file:///", "file:////", "file://host/path", "file:/srv", "file:///..",
     "file:///a/../b", "file:///a%00b", "mailto:", "://", "s3://", "s3:///x", "s3+http://bucket", "s3+https:///b/x", "s3://b/../c",
     "sftp://host", "sftp://host/", "sftp://-oProxyCommand=x/y", "sftp://host/a/../b", "sftp://host:99999/x", "webdav://",
     "sftp://host/a\nb", "ftp://host/a b"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(UsageWrong, match="file:///var/backups/tklb"):
        parse_url(address)


@pytest.mark.parametrize(
    "address",
    ["sftp://me:secret@host/x", "s3://AKIA:secret@bucket/x", "s3+https://a:secret@host/b/x", "webdavs://me:se/cret@host/x",
     "ftp://:secret@host/x", "xyz://me:secret@@host/x"],
)  # fmt: skip
def test_credentials_in_an_address_are_refused_and_never_repeated(address: str) -> None:
    with pytest.raises(UsageWrong) as caught:
        parse_url(address)
    assert "secret" not in str(caught.value)
    assert "cret@" not in str(caught.value)


@given(st.text() | st.from_regex(r"(file|s3|sftp|ftp)://[a-z@:/.%0-9-]*", fullmatch=True))
def test_any_text_is_an_address_or_wrong_usage(text: str) -> None:
    with contextlib.suppress(UsageWrong):
        found = parse_url(text)
        assert found.scheme != "file" or found.path.startswith("/")
        assert ".." not in found.path.split("/")
