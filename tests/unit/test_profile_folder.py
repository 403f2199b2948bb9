"""Profile folders: the recipe's keys, hostile input, lint, and the shipped ones."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.errors import ProfileInvalid
from tklb.profile.builtin import NEVER
from tklb.profile.folder import find_profile, list_shipped, load_profile
from tklb.profile.lint import describe_profile, lint_profile
from tklb.profile.recipe import LIMIT, parse_recipe

PROFILES = Path(__file__).parents[2] / "profiles"
RECIPE = """
id = "mine"
summary = "My machine"
release = "debian-12"
[files]
include = ["/etc", "/srv"]
exclude = ["/srv/cache"]
[services]
restart = ["cron"]
[databases]
engines = ["mysql"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "profile.toml").write_text(RECIPE)
    (place / "files.mtree").write_text(
        "#mtree v2.0\n/set uid=0 gid=0 uname=root gname=root\n"
        f"./etc type=dir mode=0755\n./etc/a type=file mode=0644 size=1 sha256digest={'0' * 64} tags=deb:apache2,deb:x\n"
    )
    (place / "packages").write_text("apache2\t1\tamd64\tmanual\n")
    (place / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (place / "group").write_text("root:x:0:\n")
    return place


def test_a_recipe_says_what_it_means() -> None:
    recipe = parse_recipe(RECIPE.encode())
    assert (recipe.id, recipe.release, recipe.include) == ("mine", "debian-12", (b"/etc", b"/srv"))
    assert (recipe.services, recipe.engines, recipe.derived) == (("cron",), ("mysql",), False)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('id = "mine"', 'id = "../mine"', "`id` must be a word"),
        ('id = "mine"', "", "`id` must be a word"),
        ('id = "mine"', "id = 3", "`id` must be of type str"),
        ('id = "mine"', 'id = "mine"\nhook = "rm"', "unknown key `hook`"),
        ("[services]", "[hooks]\npre = []\n[services]", "unknown key `hooks`"),
        ("exclude =", "command = []\nexclude =", "unknown key `files.command`"),
        ('"/srv/cache"', "7", "`files.exclude` must be of type list"),
        ('"/etc", "/srv"', "", "so a backup would have no files"),
        ('"/etc", "/srv"', '"etc"', "`files.include`: not an absolute path: etc"),
        ('"/etc", "/srv"', '"/etc/../srv"', "`files.include`: not an absolute path: /etc/../srv"),
        ('"/etc", "/srv"', '"/etc", "/etc/shadow"', "/etc/shadow never travels as a file"),
        ('"/etc", "/srv"', '"/etc", "/var/lib/dpkg/info"', "/var/lib/dpkg/info never travels as a file"),
        ('"/etc", "/srv"', '"/etc", "/srv/cache"', "/srv/cache is excluded by another rule"),
        ('"cron"', '"cron; reboot"', "`services.restart`: 'cron; reboot' is not allowed"),
        ('"mysql"', '"oracle"', "`databases.engines`: 'oracle' is not allowed"),
        ('"My machine"', '"two\\nlines"', "`summary` must be one line"),
        ("[files]", "[files", "not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_naming_the_key(old: str, new: str, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_recipe(RECIPE.replace(old, new).encode())
    assert complaint in str(caught.value)


def test_an_oversized_recipe_is_not_even_parsed() -> None:
    with pytest.raises(ValueError, match="larger than"):
        parse_recipe(b"#" * (LIMIT + 1))


@given(st.binary(max_size=300))
def test_no_bytes_make_the_recipe_reader_fail_otherwise(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_recipe(text)


def test_a_wellformed_folder_has_no_problems(folder: Path) -> None:
    assert lint_profile(folder) == ()
    profile = load_profile(folder)
    assert profile.owners() == {b"/etc/a": frozenset({"apache2", "x"})}
    assert [(entry.path, entry.uname, entry.mode) for entry in profile.entries()] == [
        (b"/etc", b"root", 0o755),
        (b"/etc/a", b"root", 0o644),
    ]
    assert describe_profile(profile)["files"] == 2


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("files.mtree", "./etc type=dir mode=0755 uid=0 gid=0 uname=root gname=root\n./bin type=dir", "order of paths"),
        ("files.mtree", "./media type=dir mode=0755 uid=0 gid=0 uname=root gname=root\n", "excluded by the rules"),
        ("files.mtree", "./etc/a type=file mode=0644 uid=0 gid=0 uname=root gname=root\n", "a file without SHA-256"),
        ("files.mtree", "./etc/a type=dir mode=0755 uid=0 gid=0\n", "no name of an owner"),
        ("files.mtree", "./etc/../../x type=dir\n", "files.mtree"),
        (
            "files.mtree",
            "./etc type=dir mode=0755 uname=root gname=root time=1.0\n",
            "times are not part of an install state",
        ),
        ("files.mtree", "./etc type=what\n", "files.mtree: line 1"),
        ("packages", "apache2; 1 amd64 manual\n", "packages: line 1"),
        ("passwd", "root:$6$secret:0:0:root:/root:/bin/bash\n", "passwd: line 1"),
        ("group", "root:x:zero:\n", "group: line 1"),
        ("hook.sh", "rm -rf /\n", "hook.sh: not part of a profile"),
    ],
)
def test_lint_names_what_is_wrong(folder: Path, name: str, text: str, complaint: str) -> None:
    (folder / name).write_text(text)
    assert any(complaint in problem for problem in lint_profile(folder)), lint_profile(folder)


def test_a_link_or_a_missing_file_is_no_profile(folder: Path) -> None:
    (folder / "packages").unlink()
    with pytest.raises(ProfileInvalid, match="packages: No such file"):
        load_profile(folder)
    (folder / "packages").symlink_to("/etc/shadow")
    with pytest.raises(ProfileInvalid, match="packages: Too many levels"):
        load_profile(folder)


def test_the_digest_covers_every_file(folder: Path) -> None:
    before = load_profile(folder).digest
    (folder / "group").write_text("root:x:0:x\n")
    assert load_profile(folder).digest != before


def test_profiles_are_found_by_id_and_by_folder(folder: Path) -> None:
    assert [profile.id for profile in list_shipped(folder.parent)] == ["mine"]
    assert find_profile(folder.parent, "mine").folder == find_profile(None, str(folder)).folder
    with pytest.raises(ProfileInvalid, match="no profile with this id"):
        find_profile(folder.parent, "yours")
    shutil.rmtree(folder)
    assert list_shipped(folder.parent) == ()


@pytest.mark.parametrize("profile", list_shipped(), ids=lambda profile: profile.id)
def test_shipped_profiles_are_wellformed_and_built_from_the_recipe_beside_them(profile: object) -> None:
    assert isinstance(profile, type(list_shipped()[0]))
    assert lint_profile(profile.folder) == ()
    recipe = profile.folder / "recipe.toml"
    if not profile.recipe.derived:
        assert (profile.folder / "profile.toml").read_bytes() == recipe.read_bytes()
    assert profile.folder == PROFILES / profile.id


def test_the_machine_types_of_both_releases_and_the_last_resort_are_shipped() -> None:
    kinds = ("core", "docker", "lamp-wordpress", "mail", "nginx-php", "postgresql", "redis")
    ids = [f"debian-{release}-{kind}" for release in (12, 13) for kind in kinds]
    assert [profile.id for profile in list_shipped()] == ["debian", *ids]


@pytest.mark.parametrize("path", [*NEVER, b"/opt/tklb/lib/x", b"/usr/local/bin/tklb", b"/etc/ld.so.cache"])
def test_built_in_rules_keep_it_out_of_every_delta(path: bytes) -> None:
    for profile in list_shipped():
        assert not profile.rules.decide(path.replace(b"*", b"x")).included


@pytest.mark.parametrize("path", [b"/etc/tklb/tklb.toml", b"/etc/hostname", b"/etc/fstab", b"/etc/apt/apt.conf.d/99me"])
def test_identity_and_our_configuration_are_part_of_every_delta(path: bytes) -> None:
    for profile in list_shipped():
        assert profile.rules.decide(path).included
