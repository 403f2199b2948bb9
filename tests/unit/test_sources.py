"""Package sources: what is the owner's, and what another machine gets of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.diff.apt_sources import PackageSource, extra_sources, parse_stanzas
from tklb.model.packages import SourceFile
from tklb.restore.plan.packages.sources import (
    SourcePlan,
    find_support,
    find_unknown_apt_files,
    find_unknown_sources,
    is_for_release,
    plan_sources,
)

OWN = b"deb http://ftp.xy.debian.org/debian bookworm main\n"
DOCKER = b"deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] https://d.example.com/linux/debian bookworm stable\n"
STANZA = b"""\
# the shop
Types: deb deb-src
URIs: https://shop.example.org/apt
Suites: ./
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQENBE
 -----END PGP PUBLIC KEY BLOCK-----
"""


def plan_of(
    carried: list[SourceFile], present: list[SourceFile], here: str = "debian-12", there: str = "debian-12"
) -> SourcePlan:
    return plan_sources(carried, present, there=there, here=here)


def file(content: bytes, name: bytes = b"sources.list.d/x.list") -> SourceFile:
    return SourceFile(b"/etc/apt/" + name, content, 0o644)


def test_debians_own_main_of_the_machines_release_stays() -> None:
    text = OWN + b"deb http://mirror/debian-security bookworm-security main\ndeb http://mirror/debian bookworm main\n"
    assert extra_sources([file(text, b"sources.list"), file(text)], "debian-12") == ()


def test_lines_added_to_sources_list_travel_as_a_file_of_their_own() -> None:
    text = OWN + DOCKER + b"#deb http://commented.example.org ./\n"
    (carried,) = extra_sources([file(text, b"sources.list")], "debian-12")
    assert (carried.path, carried.content) == (b"/etc/apt/sources.list.d/tklb-restored.list", DOCKER)


def test_a_file_of_the_owners_travels_as_it_is() -> None:
    source = file(b"# why\n" + DOCKER)
    assert extra_sources([source], "debian-12") == (source,)


def test_more_components_and_backports_are_the_owners() -> None:
    stanza = (
        b"Types: deb\nURIs: http://ftp.debian.org/debian\nSuites: bookworm bookworm-backports\n"
        b"Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    (carried,) = extra_sources([file(stanza, b"sources.list.d/debian.sources")], "debian-12")
    assert carried.path.endswith(b"tklb-restored.sources")
    offers = {(offer.suite, offer.component) for part in parse_stanzas(carried) for offer in part.offers}
    assert offers == {("bookworm", "contrib"), ("bookworm-backports", "main"), ("bookworm-backports", "contrib")}


def test_what_only_looks_like_debian_is_the_owners() -> None:
    for text in (
        b"deb https://repo.example.com/product/6.0/debian bookworm main\n",
        b"deb [signed-by=/usr/share/keyrings/vendor.gpg] http://apt.example.com/debian bookworm main\n",
    ):
        assert extra_sources([file(text)], "debian-12") == (file(text),)


def test_a_source_that_is_switched_off_travels_and_offers_nothing() -> None:
    source = file(STANZA + b"Enabled: no\n", b"sources.list.d/shop.sources")
    assert parse_stanzas(source) == ()
    assert extra_sources([source], "debian-12") == (source,)


def test_an_embedded_key_names_no_file_and_stays_in_the_stanza() -> None:
    (stanza,) = parse_stanzas(file(STANZA, b"sources.list.d/shop.sources"))
    assert stanza.keyrings == ()
    assert "\n mQENBE" in stanza.text()
    assert stanza.offers == {
        PackageSource("deb", "https://shop.example.org/apt", "./", ""),
        PackageSource("deb-src", "https://shop.example.org/apt", "./", ""),
    }


def test_keyrings_are_found_in_both_forms() -> None:
    (line,) = parse_stanzas(file(DOCKER))
    (block,) = parse_stanzas(
        file(
            b"Types: deb\nURIs: https://a.example\nSuites: x\nComponents: y\nSigned-By: /a/b.gpg /c.gpg\n",
            b"sources.list.d/a.sources",
        )
    )
    assert line.keyrings == (b"/etc/apt/keyrings/docker.asc",)
    assert block.keyrings == (b"/a/b.gpg", b"/c.gpg")


@pytest.mark.parametrize(
    ("suite", "place", "is_fit"),
    [
        ("bookworm", "https://third.example", True),
        ("trixie", "https://third.example", False),
        ("bookworm-pgdg", "https://third.example", True),
        ("trixie-pgdg", "https://third.example", False),
        ("stable", "https://third.example", True),
        ("stable", "debian", False),
        ("nodistro", "https://third.example", True),
        ("bookworm/mongodb-org/7.0", "https://third.example", True),
        ("noble", "https://third.example", False),
        ("./", "https://third.example", True),
    ],
)
def test_a_suite_fits_where_it_names_this_release_or_none(suite: str, place: str, is_fit: bool) -> None:
    assert is_for_release(PackageSource("deb", place, suite, "main"), "debian-12") is is_fit


def test_sources_of_another_release_stay_away_and_are_named() -> None:
    nodistro = file(b"deb https://node.example.org/20 nodistro main\n", b"sources.list.d/node.list")
    plan = plan_of([file(DOCKER), nodistro], [], "debian-13")
    assert plan.add == (nodistro,)
    assert [(item.item, "bookworm" in item.reason) for item in plan.skipped] == [
        (b"/etc/apt/sources.list.d/x.list", True)
    ]


def test_what_the_machine_has_already_is_not_added() -> None:
    key = SourceFile(b"/etc/apt/keyrings/docker.asc", b"key", 0o644)
    other_key = SourceFile(b"/etc/apt/keyrings/docker.asc", b"older", 0o644)
    same_elsewhere = file(OWN + DOCKER, b"sources.list")
    assert plan_of([file(DOCKER), key], [same_elsewhere, key]).add == ()
    assert plan_of([key], [other_key]).add == (key,)


@given(st.text(alphabet="deb \t[]=htp:/.#\nTypesURISu- ,", max_size=200), st.sampled_from([b"x.list", b"x.sources"]))
def test_no_content_makes_the_reader_fail(text: str, name: bytes) -> None:
    source = file(text.encode(), b"sources.list.d/" + name)
    extra_sources([source], "debian-12")
    plan_of([source], [source])


# ---------------------------------------------------------------- the same release, and sources of this machine

DEBIAN_HERE = file(
    b"Types: deb\nURIs: http://ftp.debian.org/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"
    b"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    b"sources.list.d/debian.sources",
)


@pytest.mark.parametrize("suite", ["jammy", "focal", "noble", "stable", "trixie", "sid", "bookworm/updates", "./"])
def test_any_suite_that_worked_there_works_on_the_same_release(suite: str) -> None:
    source = file(f"deb [trusted=yes] https://vendor.example.org/apt {suite} main\n".encode())
    assert plan_of([source], [DEBIAN_HERE]) == SourcePlan((source,))
    assert plan_of([source], [DEBIAN_HERE], "ubuntu-24.04", "ubuntu-24.04") == SourcePlan((source,))


def test_another_suite_of_debian_comes_on_the_same_release() -> None:
    (carried,) = extra_sources(
        [file(b"deb http://ftp.debian.org/debian stable main\n", b"sources.list.d/y.list")], "debian-12"
    )
    assert plan_of([carried], [DEBIAN_HERE]).skipped == ()
    assert plan_of([carried], [DEBIAN_HERE], "debian-13").add == ()


@pytest.mark.parametrize(
    "content",
    [
        b"Types: deb\nURIs: https://nexus.example.org/repository/debian-proxy\nSuites: bookworm\nComponents: main\n",
        b"Types: deb\nURIs: mirror+file:/etc/apt/mirrors/ours.list\nSuites: bookworm\nComponents: main\n",
        DEBIAN_HERE.content + b"Enabled: no\n",
    ],
)
def test_debians_own_file_here_is_never_overwritten(content: bytes) -> None:
    edited = SourceFile(DEBIAN_HERE.path, content, 0o644)
    plan = plan_of(list(extra_sources([edited], "debian-12")), [DEBIAN_HERE])
    assert DEBIAN_HERE.path not in {source.path for source in plan.add}
    offers = {offer for source in plan.add for one in parse_stanzas(source) for offer in one.offers}
    assert offers == {offer for one in parse_stanzas(edited) for offer in one.offers}


def test_a_file_here_that_offers_more_stays_and_the_rest_comes_beside_it() -> None:
    ours = file(DOCKER, b"sources.list.d/vendor.list")
    theirs = file(b"deb https://other.example.org/apt ./\n", b"sources.list.d/vendor.list")
    (added,) = plan_of([ours], [theirs]).add
    assert added.path == b"/etc/apt/sources.list.d/tklb-restored-vendor.list"
    assert parse_stanzas(added) == parse_stanzas(ours)
    assert plan_of([ours], [theirs, added]).add == ()


def test_a_newer_form_of_the_same_file_replaces_it() -> None:
    more = file(DOCKER + b"deb https://more.example.org ./\n")
    assert plan_of([more], [file(DOCKER)]).add == (more,)


def test_a_mirror_list_of_debian_is_debians_own() -> None:
    cloud = file(
        b"Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm\nComponents: main\n",
        b"sources.list.d/debian.sources",
    )
    mirrors = SourceFile(b"/etc/apt/mirrors/debian.list", b"# near\nhttps://ftp.xy.debian.org/debian\n", 0o644)
    assert extra_sources([cloud, mirrors], "debian-12") == ()
    assert plan_of([cloud, mirrors], [DEBIAN_HERE]).add == (mirrors,)


def test_one_suite_of_one_archive_has_one_keyring() -> None:
    for there, here in (
        ("", DEBIAN_HERE.content),
        ("[signed-by=/a.gpg] ", DEBIAN_HERE.content),
        ("[signed-by=/a.gpg arch=amd64] ", OWN),
    ):
        contrib = file(f"deb {there}http://ftp.debian.org/debian bookworm contrib\n".encode())
        base = SourceFile(b"/etc/apt/sources.list.d/own." + (b"list" if here == OWN else b"sources"), here, 0o644)
        base = SourceFile(base.path, base.content.replace(b"ftp.xy.", b"ftp."), 0o644)
        (added,) = plan_of([contrib], [base]).add
        (stanza,), own = parse_stanzas(added), parse_stanzas(base)
        assert stanza.words("signed-by") == own[0].words("signed-by")
        assert ("arch=amd64" in stanza.text()) == ("arch" in there)


def test_files_that_sources_lean_on_come_before_them_and_only_if_they_differ() -> None:
    leaned_on = [
        SourceFile(b"/etc/apt/apt.conf.d/80proxy", b"Acquire::http::Proxy", 0o644),
        SourceFile(b"/etc/hosts", b"10.0.0.1 nexus", 0o644),
        SourceFile(b"/usr/local/share/ca-certificates/x.crt", b"pem", 0o644),
        SourceFile(b"/usr/share/keyrings/k.gpg", b"key", 0o644),
    ]
    source = file(b"deb [signed-by=/usr/share/keyrings/k.gpg] https://nexus.example.org ./\n")
    plan = plan_of([source, *leaned_on], [DEBIAN_HERE])
    assert plan.add == (*leaned_on, source)
    assert plan_of([source, *leaned_on], [source, *leaned_on]).add == ()
    assert find_support([source, *leaned_on]) == {file.path for file in leaned_on[:3]}
    limited = plan_sources([source, *leaned_on], [], there="x", here="x", wanted=lambda path: path != b"/etc/hosts")
    assert leaned_on[1] not in limited.add


def test_an_archive_of_the_past_travels() -> None:
    past = b"deb [check-valid-until=no] https://snapshot.debian.org/archive/debian/20250101T000000Z bookworm main\n"
    assert extra_sources([file(past)], "debian-12") == (file(past),)
    assert plan_of([file(past)], [file(OWN, b"sources.list")]).add == (file(past),)


LATER = b"deb [trusted=yes] https://later.example.net/debian bookworm main\n"


def test_a_source_that_the_snapshot_does_not_know_is_found_and_others_stay() -> None:
    here = [file(OWN, b"sources.list"), file(DOCKER), file(LATER, b"sources.list.d/later.list")]
    assert find_unknown_sources([file(DOCKER)], here, "debian-12") == ((here[2].path,), True)
    assert find_unknown_sources([], here[1:], "debian-12") == ((here[2].path, here[1].path), False)


def test_sources_of_this_machine_and_those_under_another_name_are_no_strangers() -> None:
    line = b"deb https://mirror.example.com/pkgs bookworm%s main\n"
    mirror = line % b"" + line % b"-updates"
    here = [
        file(mirror, b"sources.list.d/mirror.list"),
        file(DOCKER, b"sources.list.d/tklb-restored.list"),
        file(b"# nothing\n", b"sources.list.d/empty.list"),
    ]
    assert find_unknown_sources([file(DOCKER)], here, "debian-12") == ((), True)
    assert find_unknown_sources([file(DOCKER)], here, "debian-13")[0] == (here[0].path,)


def test_keyrings_and_preferences_that_the_snapshot_does_not_know_are_found_but_not_those_in_use() -> None:
    names = (
        b"keyrings/later.gpg",
        b"keyrings/docker.asc",
        b"preferences.d/pin",
        b"auth.conf.d/x",
        b"trusted.gpg.d/x.asc",
    )
    later, docker, pin, _, trusted = own = tuple(b"/etc/apt/" + name for name in names)
    unknown, debian = file(LATER, b"sources.list.d/l.list"), file(OWN, b"sources.list")
    open_source = file(b"deb https://private.example.net/pkgs bookworm main\n")

    def find(*present: SourceFile) -> tuple[bytes, ...]:
        return find_unknown_apt_files([file(b"", b"preferences.d/known")], present, own, [unknown.path])

    assert find(debian, unknown) == tuple(sorted(own))
    assert find(debian, unknown, file(DOCKER)) == tuple(sorted((later, pin, trusted)))
    assert find(debian, open_source) == tuple(sorted((later, docker, pin)))
    assert find_unknown_apt_files([file(b"", b"preferences.d/pin")], [debian], [pin, b"/etc/hosts"], ()) == ()


DISK = b"deb cdrom:[Debian GNU/Linux 12 _Bookworm_ DVD]/ bookworm main\n"


def test_a_source_on_a_disk_is_named_and_does_not_come() -> None:
    (carried,) = extra_sources([file(OWN + DISK, b"sources.list")], "debian-12")
    mixed = file(DISK + DOCKER + b"# " + DISK)
    stanza = file(STANZA + b"\n\nTypes: deb\nURIs: cdrom:[x]/\nSuites: ./\n", b"sources.list.d/y.sources")
    assert extra_sources([mixed, stanza], "debian-12") == (mixed, stanza)
    plan = plan_of([carried, mixed, stanza], [file(OWN, b"sources.list")])
    assert [one.content for one in plan.add] == [DOCKER + b"# " + DISK, STANZA]
    assert [item.item for item in plan.skipped] == [carried.path, mixed.path, stanza.path]
    assert all("cdrom:[" in item.reason for item in plan.skipped)
