"""A region is said, or measured once and then kept."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.config.schema import S3Config
from tklb.errors import ConfigInvalid, TargetUnreachable
from tklb.model.target import TargetUrl
from tklb.storage.s3.regions import choose_region
from tklb.storage.url import parse_url

NEAREST = S3Config(region="nearest", candidates=("north", "south"), endpoint="https://s3.{region}.example")
ADDRESS = parse_url("s3://backups-{region}/web/{region}")


class Ruler:
    """Answers with the seconds it was made with, and keeps what it was asked."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[tuple[str, str]] = []

    def __call__(self, address: TargetUrl, config: S3Config) -> float:
        self.asked.append((address.text, config.endpoint))
        if config.region not in self.seconds:
            raise TargetUnreachable(address=address.text, reason="no route", is_transient=True)
        return self.seconds[config.region]


def test_nearest_candidate_takes_the_place_everywhere(tmp_path: Path) -> None:
    ruler = Ruler(north=0.2, south=0.1)
    address, config = choose_region(ADDRESS, NEAREST, tmp_path / "regions.json", ruler)
    assert (address.text, address.bucket, address.path) == (
        "s3://backups-south/web/south",
        "backups-south",
        "web/south",
    )
    assert (config.region, config.endpoint) == ("south", "https://s3.south.example")
    assert sorted(ruler.asked) == [
        ("s3://backups-north/web/north", "https://s3.north.example"),
        ("s3://backups-south/web/south", "https://s3.south.example"),
    ]


def test_endpoint_of_the_address_is_placed_too() -> None:
    address = parse_url("s3+https://{region}.s3.example/bucket")
    assert choose_region(address, NEAREST, None, Ruler(north=1))[0].endpoint == "https://north.s3.example"


def test_choice_is_kept_though_another_is_nearer_now(tmp_path: Path) -> None:
    regions = tmp_path / "state/regions.json"
    assert choose_region(ADDRESS, NEAREST, regions, Ruler(north=0.2, south=0.1))[1].region == "south"
    later = Ruler(north=0.1, south=0.2)
    assert choose_region(ADDRESS, NEAREST, regions, later)[1].region == "south"
    assert later.asked == []
    assert regions.stat().st_mode & 0o7777 == 0o600


def test_choice_that_is_a_candidate_no_more_is_made_anew(tmp_path: Path) -> None:
    regions = tmp_path / "regions.json"
    regions.write_text(json.dumps({ADDRESS.text: "west", "s3://other": "east"}))
    assert choose_region(ADDRESS, NEAREST, regions, Ruler(north=0.1))[1].region == "north"
    assert json.loads(regions.read_text()) == {ADDRESS.text: "north", "s3://other": "east"}


def test_candidate_that_does_not_answer_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_region(ADDRESS, NEAREST, None, Ruler(north=9))[1].region == "north"
    assert "region south is left out" in caplog.text


def test_no_answer_at_all_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(TargetUnreachable, match=r"none of the candidates answers: north \(no route\), south") as caught:
        choose_region(ADDRESS, NEAREST, tmp_path / "regions.json", Ruler())
    assert caught.value.is_transient
    assert not (tmp_path / "regions.json").exists()


def test_region_that_was_said_is_not_measured() -> None:
    ruler = Ruler()
    address, config = choose_region(ADDRESS, replace(NEAREST, region="east"), None, ruler)
    assert (address.bucket, config.region, ruler.asked) == ("backups-east", "east", [])


def test_address_without_a_place_stays_as_it_is() -> None:
    address = parse_url("s3://bucket/prefix")
    assert choose_region(address, S3Config(), None, Ruler()) == (address, S3Config())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (S3Config(), "stands for `s3.region`"),
        (S3Config(region="nearest"), "must name some"),
        (S3Config(region="nearest", candidates=("a/b",)), "`a/b` in `s3.candidates`"),
        (S3Config(region="nearest", candidates=("",)), "no name of a region"),
    ],
)
def test_settings_that_lead_nowhere_are_named(config: S3Config, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        choose_region(ADDRESS, config, None, Ruler(a=1))


@given(st.binary(max_size=40) | st.sampled_from([b"[]", b'{"a": 1}', b"null", b"{}", b"[" * 4000]))
def test_file_of_choices_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    regions = tmp_path_factory.mktemp("regions") / "regions.json"
    regions.write_bytes(content)
    if content == b"{}":
        assert choose_region(ADDRESS, NEAREST, regions, Ruler(north=1))[1].region == "north"
        return
    with pytest.raises(ConfigInvalid, match=re.escape(str(regions))):
        choose_region(ADDRESS, NEAREST, regions, Ruler(north=1))
    assert regions.read_bytes() == content
