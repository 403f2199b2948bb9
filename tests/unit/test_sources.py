"""Package sources: what is the owner's, and what another machine gets of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.diff.apt_sources import PackageSource, extra_sources, is_for_release, parse_stanzas, plan_sources
from tklb.model.packages import SourceFile

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
    plan = plan_sources([file(DOCKER), nodistro], [], "debian-13")
    assert plan.add == (nodistro,)
    assert [(item.item, "bookworm" in item.reason) for item in plan.skipped] == [
        (b"/etc/apt/sources.list.d/x.list", True)
    ]


def test_what_the_machine_has_already_is_not_added() -> None:
    key = SourceFile(b"/etc/apt/keyrings/docker.asc", b"key", 0o644)
    other_key = SourceFile(b"/etc/apt/keyrings/docker.asc", b"older", 0o644)
    same_elsewhere = file(OWN + DOCKER, b"sources.list")
    assert plan_sources([file(DOCKER), key], [same_elsewhere, key], "debian-12").add == ()
    assert plan_sources([key], [other_key], "debian-12").add == (key,)


@given(st.text(alphabet="deb \t[]=htp:/.#\nTypesURISu- ,", max_size=200), st.sampled_from([b"x.list", b"x.sources"]))
def test_no_content_makes_the_reader_fail(text: str, name: bytes) -> None:
    source = file(text.encode(), b"sources.list.d/" + name)
    extra_sources([source], "debian-12")
    plan_sources([source], [source], "debian-12")
