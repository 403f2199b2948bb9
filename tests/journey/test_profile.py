"""Profiles on real machines: a clean machine has no delta, and a changed one exactly what its owner changed."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.boundary import repository
from tests.lab.appliance import Appliance, clone
from tests.lab.roots import SHORT, root
from tests.lab.soak import SOAK, some
from tklb.diff.accounts.merge import diff_accounts
from tklb.diff.files import compare
from tklb.diff.packages import diff_packages
from tklb.diff.registries.difference import list_items, select_owned
from tklb.diff.rules import Rule
from tklb.errors import ProfileInvalid
from tklb.host import dpkg
from tklb.host.accounts import read_accounts
from tklb.host.apt.source_files import read_extra_sources
from tklb.host.files.digest import file_digest
from tklb.host.files.scan import scan
from tklb.host.registries.inventory import read_registries
from tklb.model.accounts import AccountDelta, Accounts
from tklb.model.files import FileEntry
from tklb.model.packages import PackageDelta
from tklb.model.registries.decisions import RegistryItem
from tklb.model.report import Skipped
from tklb.profile.build import build_profile
from tklb.profile.detect import detect_profile
from tklb.profile.folder import Profile, find_profile, load_profile
from tklb.profile.lint import lint_profile
from tklb.profile.state import read_install_state

pytestmark = pytest.mark.lab

PROFILES = Path(__file__).parents[2] / "profiles"
SERVICES = {
    "core": ("cron", "ssh"),
    "lamp": ("cron", "ssh", "mariadb", "apache2"),
    "postgresql": ("cron", "ssh", "postgresql"),
    "trixie-core": ("cron", "ssh"),
}
# Each needs a root of its own, which takes a while and 600 MB: two kinds, all of them where TKLB_SOAK is set.
OTHERS = (
    "debian-12-docker", "debian-13-mail", "debian-12-nginx-php", "debian-13-postgresql", "debian-13-redis",
    "debian-13-docker", "debian-13-lamp-wordpress", "debian-12-mail", "debian-13-nginx-php", "debian-12-redis",
)  # fmt: skip
BUILT = OTHERS if SOAK else OTHERS[1:3]
STARTED = {"debian-13-mail": ("postfix", "dovecot"), "debian-12-nginx-php": ("nginx", "php8.2-fpm")}
# What a machine gets when it first starts. It is taken as any file that differs; the role of a restore decides.
IDENTITY = {
    "/etc/fstab", "/etc/hostname", "/etc/hosts", "/etc/machine-id", "/etc/network/interfaces", "/etc/resolv.conf",
    *(f"/etc/ssh/ssh_host_{kind}_key{end}" for kind in ("ecdsa", "ed25519", "rsa") for end in ("", ".pub")),
}  # fmt: skip
SNAKEOIL = {
    "/etc/ssl/certs/19969298.0", "/etc/ssl/certs/ssl-cert-snakeoil.pem", "/etc/ssl/private/ssl-cert-snakeoil.key",
}  # fmt: skip


def delta(
    place: Path, profile: Profile, local: frozenset[str] = frozenset(), overrides: Sequence[Rule] = ()
) -> dict[str, str]:
    """Path -> change, as `tklb delta` has it."""
    top = os.fsencode(place)
    rules = profile.rules_with(dpkg.listed_files(top, local)).add_overrides(overrides)
    skipped: list[Skipped] = []

    def digest(entry: FileEntry, algorithm: str) -> str:
        return file_digest(top + entry.path, algorithm)

    state = read_install_state(profile, top, dpkg.list_installed(top), local, rules)
    found = {
        os.fsdecode(change.path): str(change.change)
        for change in compare(state, scan(top, rules, skipped=skipped), digest, skipped)
    }
    assert not skipped
    return found


def package_delta(place: Path, profile: Profile) -> PackageDelta:
    top = os.fsencode(place)
    return diff_packages(profile.packages(top), dpkg.list_installed(top))


def list_decisions(place: Path) -> list[RegistryItem]:
    """What the registries have of an owner."""
    top = os.fsencode(place)
    return list(list_items(select_owned(read_registries(top, dpkg.list_installed(top), lambda _package: False))))


@pytest.mark.parametrize("name", SHORT)
def test_a_clean_machine_has_no_delta_but_its_identity(name: str) -> None:
    profile = find_profile(None, SHORT[name])
    with clone(name) as machine:
        fresh = delta(machine.root, profile)
        assert set(fresh) == IDENTITY | (SNAKEOIL if name == "postgresql" else set())
        machine.start(*SERVICES[name])
        machine.stop(*reversed(SERVICES[name]))
        assert delta(machine.root, profile) == fresh
        packages = package_delta(machine.root, profile)
        assert (packages.added, packages.removed, packages.marked) == ((), (), ())
        etc = machine.root / "etc"
        accounts = Accounts(*(tuple((etc / file).read_bytes().splitlines()) for file in ("passwd", "group")))
        assert diff_accounts(profile.accounts(), accounts) == AccountDelta()


@pytest.mark.parametrize("name", SHORT)
def test_a_profile_older_than_every_package_still_finds_a_clean_machine_clean(name: str, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(find_profile(None, SHORT[name]).folder, old)
    lines = (old / "packages").read_text().splitlines()
    (old / "packages").write_text("".join(re.sub(r"\t\S+", "\t0", line, count=1) + "\n" for line in lines))
    assert delta(root(name), load_profile(old)) == {}


@pytest.mark.parametrize("name", SHORT)
def test_a_clean_machine_has_no_sources_and_no_decisions_of_its_own(name: str) -> None:
    assert read_extra_sources(os.fsencode(root(name))) == ()
    assert list_decisions(root(name)) == []


@pytest.mark.parametrize("name", SHORT)
def test_a_clean_root_is_recognised(name: str) -> None:
    assert detect_profile(os.fsencode(root(name))).id == SHORT[name]


@pytest.mark.parametrize("name", BUILT)
def test_clean_root_of_each_other_profile_is_recognised_and_has_no_delta(name: str) -> None:
    clean, profile = root(name), find_profile(None, name)
    assert detect_profile(os.fsencode(clean)).id == name
    assert delta(clean, profile) == {}
    packages = package_delta(clean, profile)
    assert (packages.added, packages.removed, packages.marked) == ((), (), ())
    assert list_decisions(clean) == []
    assert read_extra_sources(os.fsencode(clean)) == ()
    etc = clean / "etc"
    accounts = Accounts(*(tuple((etc / file).read_bytes().splitlines()) for file in ("passwd", "group")))
    assert diff_accounts(profile.accounts(), accounts) == AccountDelta()


@pytest.mark.parametrize(("name", "services"), STARTED.items())
def test_services_that_ran_make_no_delta(name: str, services: tuple[str, ...]) -> None:
    profile = find_profile(None, name)
    with clone(name) as machine:
        fresh = delta(machine.root, profile)
        assert set(fresh) <= IDENTITY | SNAKEOIL
        machine.start(*services)
        machine.stop(*reversed(services))
        assert delta(machine.root, profile) == fresh


def test_tklb_itself_is_no_part_of_the_delta_but_its_configuration() -> None:
    with clone("core", tklb=True) as machine:
        found = set(delta(machine.root, find_profile(None, "debian-12-core"))) - IDENTITY
        assert found <= {path for path in found if path.startswith("/etc/tklb")}
        (machine.root / "etc/tklb").mkdir(exist_ok=True)
        (machine.root / "etc/tklb/overrides").write_text("/x\n")
        assert "/etc/tklb/overrides" in delta(machine.root, find_profile(None, "debian-12-core"))


# ---------------------------------------------------------------- packages that came, went and changed


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    conf = {"/etc/shop/shop.conf": "a\n", "/etc/shop/other.conf": "b\n", "/usr/bin/shop": "x\n"}
    repository.deb(folder, "shop", files=conf, conffiles=("/etc/shop/shop.conf", "/etc/shop/other.conf"))
    repository.index(folder)
    outside = folder / "outside"
    outside.mkdir()
    agent = {"/etc/agent.conf": "a\n", "/usr/bin/agent": "x\n", "/var/lib/agent/state": "y\n"}
    repository.deb(outside, "agent", files=agent, conffiles=("/etc/agent.conf",))
    repository.deb(outside, "sudo", "9", files={"/etc/sudo.conf": "new\n"}, conffiles=("/etc/sudo.conf",))
    return folder


def changed(
    change: Callable[[Appliance], object], archive: Path, local: frozenset[str] = frozenset()
) -> dict[str, str]:
    """The delta of a core machine after a change, beyond its identity."""
    with clone("core", binds={archive: "/archive"}) as machine:
        (machine.root / "etc/apt/sources.list.d/own.list").write_text("deb [trusted=yes] file:/archive ./\n")
        (machine.root / "etc/apt/sources.list").write_text("")
        machine.run(["apt-get", "update"])
        change(machine)
        profile = find_profile(None, "debian-12-core")
        found = delta(machine.root, profile, local)
        return {path: kind for path, kind in found.items() if path not in IDENTITY}


def test_unedited_files_of_an_added_package_are_no_delta(archive: Path) -> None:
    def change(machine: Appliance) -> None:
        machine.run(["apt-get", "install", "-qy", "shop"])
        (machine.root / "etc/shop/other.conf").write_text("mine\n")

    assert changed(change, archive) == {"/etc/shop/other.conf": "edited"}


def test_an_attribute_an_owner_and_a_mode_given_to_an_unedited_file_are_metadata(archive: Path) -> None:
    def change(machine: Appliance) -> None:
        machine.run(["apt-get", "install", "-qy", "shop"])
        os.setxattr(machine.root / "etc/shop/shop.conf", "user.mark", b"x")
        (machine.root / "etc/shop/other.conf").chmod(0o600)
        os.setxattr(machine.root / "etc/adduser.conf", "user.mark", b"x")
        os.chown(machine.root / "etc/crontab", 0, 4)

    paths = ("/etc/adduser.conf", "/etc/crontab", "/etc/shop/other.conf", "/etc/shop/shop.conf")
    assert changed(change, archive) == dict.fromkeys(paths, "metadata")


def test_a_purged_package_of_the_profile_leaves_no_deletions(archive: Path) -> None:
    assert changed(lambda machine: machine.run(["dpkg", "--purge", "rsyslog", "nano"]), archive) == {}


def test_a_deleted_conffile_is_a_deletion(archive: Path) -> None:
    found = changed(lambda machine: (machine.root / "etc/rsyslog.conf").unlink(), archive)
    assert found == {"/etc/rsyslog.conf": "deleted"}


def test_files_of_a_package_that_no_source_offers_count_wherever_they_lie(archive: Path) -> None:
    def change(machine: Appliance) -> None:
        machine.run(["dpkg", "-i", "/archive/outside/agent_1_all.deb"])

    assert changed(change, archive) == {}
    found = changed(change, archive, frozenset({"agent"}))
    assert found == dict.fromkeys(
        ("/etc/agent.conf", "/usr/bin/agent", "/var/lib/agent", "/var/lib/agent/state"), "new"
    )


def test_an_upgraded_package_brings_its_own_install_state(archive: Path) -> None:
    def change(machine: Appliance) -> None:
        force = ["--force-all", "--force-confnew"]
        machine.run(["dpkg", *force, "-i", "/archive/outside/sudo_9_all.deb"])

    assert changed(change, archive) == {}


def test_alternatives_follow_the_packages_until_somebody_chooses(archive: Path) -> None:
    def purge(machine: Appliance) -> None:
        machine.run(["dpkg", "--purge", "--force-all", "vim-tiny"])

    assert changed(purge, archive) == {}

    def choose(machine: Appliance) -> None:
        machine.run(["update-alternatives", "--set", "pager", "/bin/more"])

    assert set(changed(choose, archive)) >= {"/etc/alternatives/pager"}


def test_a_choice_in_pam_travels_with_the_note_that_its_tool_compares_with(archive: Path) -> None:
    found = changed(lambda machine: machine.run(["pam-auth-update", "--enable", "mkhomedir"]), archive)
    assert found == dict.fromkeys(("/etc/pam.d/common-session", "/var/lib/pam/session"), "edited")


def test_packaged_files_that_only_an_override_looks_at_are_install_state_too() -> None:
    with clone("core") as machine:
        (machine.root / "usr/share/bash-completion/completions/own").write_text("mine\n")
        (machine.root / "usr/share/bash-completion/completions/mount").write_text("mine\n")
        profile = find_profile(None, "debian-12-core")
        found = delta(machine.root, profile, overrides=[Rule(True, b"/usr/share/bash-completion")])
    assert {path: kind for path, kind in found.items() if path not in IDENTITY} == {
        "/usr/share/bash-completion/completions/mount": "edited",
        "/usr/share/bash-completion/completions/own": "new",
    }


def test_a_disabled_service_is_a_deletion(archive: Path) -> None:
    link = "/etc/systemd/system/multi-user.target.wants/cron.service"
    assert changed(lambda machine: (machine.root / link[1:]).unlink(), archive) == {link: "deleted"}


# ---------------------------------------------------------------- the profile of last resort

# What a clean lamp root has that neither dpkg nor a registry knows: each was written by a package's own script.
EXPLAINED = {
    "/etc/fonts/conf.d/10-hinting-slight.conf": "fontconfig-config asks debconf how to draw",
    "/etc/fonts/conf.d/70-no-bitmaps.conf": "fontconfig-config asks debconf how to draw",
    "/etc/hosts.allow": "libwrap0 writes an example",
    "/etc/hosts.deny": "libwrap0 writes an example",
    "/etc/locale.gen": "locales writes the list of all locales",
    "/etc/machine-id": "systemd's mark of a machine that has not started yet",
    "/etc/modules": "kmod writes an example",
    "/etc/mysql/debian.cnf": "mariadb-server keeps it for old tools",
    "/etc/network/interfaces": "ifupdown writes an example",
    **{
        f"/etc/pam.d/common-{name}": "pam-auth-update writes what the PAM profiles ask for"
        for name in ("account", "auth", "password", "session", "session-noninteractive")
    },
    "/etc/runit/runsvdir/default/ssh": "runit-helper enables it",
    **{
        f"/var/lib/wordpress/wp-content{path}": "wordpress gives it to the web server"
        for path in (
            "",
            "/index.php",
            "/languages",
            "/languages/core",
            "/languages/plugins",
            "/languages/themes",
            "/plugins",
            "/themes",
            "/uploads",
        )
    },
    "/var/lib/wordpress/wp-content/plugins/akismet": "wordpress links what it ships",
    "/var/lib/wordpress/wp-content/plugins/index.php": "wordpress links what it ships",
    # what the machine type's recipe does, as an administrator would
    "/etc/apache2/conf-available/wordpress.conf": "the recipe",
    "/etc/apache2/conf-enabled/wordpress.conf": "the recipe",
    "/etc/apache2/mods-enabled/rewrite.load": "the recipe",
    **{
        f"/var/lib/apache2/{name}": "the recipe"
        for name in (
            "conf/enabled_by_admin",
            "conf/enabled_by_admin/wordpress",
            "module/enabled_by_admin",
            "module/enabled_by_admin/rewrite",
        )
    },
}


def test_without_a_built_profile_every_path_of_a_clean_machine_s_delta_is_explained() -> None:
    assert set(delta(root("lamp"), find_profile(None, "debian"))) == set(EXPLAINED)


@pytest.mark.parametrize("name", some(["postgresql", "lamp"], 2))
def test_the_last_resort_knows_all_but_those_paths_that_the_built_profile_knows(name: str) -> None:
    top = os.fsencode(root(name))
    last, built = find_profile(None, "debian"), find_profile(None, SHORT[name])
    derived = {
        entry.path
        for entry in read_install_state(last, top, dpkg.list_installed(top))
        if built.rules.decide(entry.path).included
    }
    recorded = {entry.path for entry in built.entries() if last.rules.decide(entry.path).included}
    unknown = {os.fsencode(path) for path, kind in delta(root(name), last).items() if kind == "new"}
    assert derived - recorded == set()
    assert recorded - derived == unknown


def test_without_a_built_profile_the_packages_beyond_every_debian_are_the_owners() -> None:
    added = {package.name for package in package_delta(root("lamp"), find_profile(None, "debian")).added}
    assert {"apache2", "mariadb-server", "php", "wordpress", "libapache2-mod-php8.2"} <= added
    assert not {"dpkg", "libc6", "bash", "apt", "perl-base"} & added


def test_without_a_built_profile_no_account_that_every_debian_is_born_with_is_changed() -> None:
    now = read_accounts(os.fsencode(root("lamp")))
    delta = diff_accounts(find_profile(None, "debian").accounts(os.fsencode(root("lamp"))), now)
    assert (delta.users_changed, delta.groups_changed) == ((), ())
    assert b"mysql" in delta.users_added


def test_a_machine_that_no_built_profile_fits_gets_the_last_resort(tmp_path: Path) -> None:
    for folder in ("etc", "var/lib/dpkg"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="11"\n')
    assert detect_profile(os.fsencode(tmp_path)).id == "debian"
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    assert detect_profile(os.fsencode(tmp_path)).id == "debian"


# ---------------------------------------------------------------- build


def test_the_same_root_gives_the_same_bytes(tmp_path: Path) -> None:
    recipe = PROFILES / "debian-12-core/recipe.toml"
    once, again = (build_profile(os.fsencode(root("core")), recipe, tmp_path / name) for name in ("a", "b"))
    assert once.digest == again.digest
    assert lint_profile(once.folder) == ()


@pytest.mark.parametrize("name", SHORT)
def test_a_shipped_profile_says_what_its_root_says_where_no_package_has_changed_since(
    name: str, tmp_path: Path
) -> None:
    shipped = find_profile(None, SHORT[name])
    built = build_profile(os.fsencode(root(name)), shipped.folder / "recipe.toml", tmp_path / "built")
    changed_since = {package.name for package in set(shipped.recorded_packages()) ^ set(built.recorded_packages())}
    owners = shipped.owners() | built.owners()
    theirs, ours = ({entry.path: entry for entry in one.entries()} for one in (built, shipped))
    for path in theirs.keys() | ours.keys():
        assert theirs.get(path) == ours.get(path) or owners.get(path, set()) & changed_since, path


def test_a_root_that_was_lived_in_is_refused_naming_the_signs(tmp_path: Path) -> None:
    with clone("core") as machine:
        (machine.root / "etc/adduser.conf").write_text("mine\n")
        with pytest.raises(ProfileInvalid) as caught:
            build_profile(os.fsencode(machine.root), PROFILES / "debian-12-core/recipe.toml", tmp_path / "out")
    assert "ssh_host_ecdsa_key is there" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_another_release_a_missing_package_and_no_debian_at_all_are_refused(tmp_path: Path) -> None:
    recipe = PROFILES / "debian-12-lamp-wordpress/recipe.toml"
    with pytest.raises(ProfileInvalid, match="debian-13, not debian-12; package apache2 is not installed"):
        build_profile(os.fsencode(root("trixie-core")), recipe, tmp_path / "out")
    with pytest.raises(ProfileInvalid, match="it is no Debian root file system"):
        build_profile(os.fsencode(tmp_path), recipe, tmp_path / "out")
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
