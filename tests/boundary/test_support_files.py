"""The files that package sources lean on, found in a tree of files and written into another one. Needs no lab."""

import os
from pathlib import Path

import pytest

from tklb.diff.apt_sources import parse_stanzas
from tklb.host.apt.source_files import add_sources
from tklb.host.apt.support_files import find_mirror_lists, find_support_files
from tklb.model.packages import SourceFile

SOURCE = SourceFile(
    b"/etc/apt/sources.list.d/own.list",
    b"deb https://nexus.internal/apt ./\ndeb mirror+file:/etc/apt/own.mirrors stable main\n",
    0o644,
)
FILES = {
    "etc/apt/apt.conf": 'Acquire::http::Proxy "http://proxy.internal:3128/";',
    "etc/apt/apt.conf.d/80tls": 'Acquire::https { CaInfo "/opt/tls/ca.pem"; SslKey "/opt/tls/client.key"; };',
    "etc/apt/apt.conf.d/81script": 'Acquire::http::Proxy-Auto-Detect "/usr/local/bin/find-proxy";',
    "etc/apt/apt.conf.d/90hook": 'DPkg::Post-Invoke {"/usr/local/bin/tell-us";};',
    "etc/apt/apt.conf.d/91said.conf": '// Post-Invoke is not for us\nAPT::Install-Recommends "false";',
    "etc/apt/apt.conf.d/old.bak": 'Acquire::http::Proxy "http://old.internal/";',
    "opt/tls/ca.pem": "ca",
    "opt/tls/client.key": "key",
    "usr/local/bin/find-proxy": "#!/bin/sh\n",
    "usr/local/share/ca-certificates/own.crt": "one",
    "usr/local/share/ca-certificates/more/two.crt": "two",
    "usr/local/share/ca-certificates/README": "no certificate",
    "etc/hosts": "127.0.0.1 localhost\n10.0.0.1 proxy.internal\n",
    "etc/shadow": "secret",
}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "usr/local/share/ca-certificates/planted.crt").symlink_to("../../../../etc/shadow")
    return tmp_path


def find(root: Path, source: SourceFile = SOURCE) -> set[str]:
    return {file.path.decode().lstrip("/") for file in find_support_files(os.fsencode(root), parse_stanzas(source))}


def test_settings_certificates_and_hosts_come_and_hooks_and_planted_links_do_not(machine: Path) -> None:
    left_out = {"90hook", "old.bak", "README", "shadow"}
    assert find(machine) == {name for name in FILES if name.rpartition("/")[2] not in left_out}


def test_hosts_come_only_if_they_name_a_source(machine: Path) -> None:
    (machine / "etc/hosts").write_text("127.0.0.1 localhost\n10.0.0.9 printer.internal\n")
    assert "etc/hosts" not in find(machine)


def test_private_certificates_come_only_for_https(machine: Path) -> None:
    plain = SourceFile(SOURCE.path, b"deb http://nexus.internal/apt ./\n", 0o644)
    assert not [name for name in find(machine, plain) if name.startswith("usr/local/share")]


def test_mirror_lists_are_those_of_this_machine() -> None:
    assert find_mirror_lists(parse_stanzas(SOURCE)) == {b"/etc/apt/own.mirrors"}


def test_files_are_written_for_apts_own_user_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        file = SourceFile(b"/etc/own/lists/near", b"https://near.internal/\n", 0o644, 1_700_000_000_000_000_000)
        assert add_sources(os.fsencode(tmp_path), [file]) == ()
    finally:
        os.umask(before)
    place = tmp_path / "etc/own/lists/near"
    assert [path.stat().st_mode & 0o777 for path in (place, place.parent, place.parent.parent)] == [0o644, 0o755, 0o755]
    assert place.stat().st_mtime_ns == file.mtime_ns


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/tmp")
    (skipped,) = add_sources(os.fsencode(tmp_path), [SourceFile(b"/etc/own", b"x", 0o644)])
    assert skipped.reason == "its folder is a link"
