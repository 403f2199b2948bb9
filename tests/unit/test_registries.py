"""Registries: their text forms, what is the owner's, what another machine lacks, and the plan for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tklb.diff.at_jobs import rewrite_at_job
from tklb.diff.registries.difference import find_missing, list_items, select_owned
from tklb.diff.registries.forms import (
    format_registries,
    parse_alternatives,
    parse_answers,
    parse_diversions,
    parse_registries,
    parse_stat_overrides,
)
from tklb.host.registries.alternatives import parse_group
from tklb.host.registries.script_calls import list_calls, read_plain_text
from tklb.model.files import FileEntry
from tklb.model.plan import Step, StepKind
from tklb.model.registries.decisions import (
    AlternativeGroup,
    Answer,
    Choice,
    Diversion,
    FileFlags,
    Registries,
    RemovedEntry,
    SlaveLink,
    StatOverride,
)
from tklb.model.secret import Secret
from tklb.restore.plan.registries.decisions import plan_registries
from tklb.restore.plan.registries.flags import FlagPlanner

WORDS = st.from_regex(rb"[a-z][a-z0-9.+-]{0,8}", fullmatch=True)
PATHS = st.from_regex(rb"/[a-z0-9.+-]{1,5}(/[a-z0-9. +-]{1,5}){0,2}", fullmatch=True)
SLAVES = st.builds(SlaveLink, WORDS, PATHS.filter(lambda path: b" /" not in path), PATHS)
CHOICES = st.builds(Choice, PATHS, st.integers(-9, 999), st.lists(SLAVES, max_size=2).map(tuple))
GROUPS = st.builds(AlternativeGroup, WORDS, PATHS, st.none() | PATHS, st.lists(CHOICES, max_size=2).map(tuple))
OVERRIDES = st.builds(StatOverride, PATHS, WORDS | st.just(b"#1005"), WORDS, st.integers(0, 0o7777))
DIVERSIONS = st.builds(Diversion, PATHS, PATHS, st.just(b"") | WORDS)
ANSWERS = st.builds(
    Answer,
    st.from_regex(r"[a-z][a-z0-9]{1,5}", fullmatch=True),
    st.from_regex(r"[a-z]{1,5}/[a-z_-]{1,5}", fullmatch=True),
    st.sampled_from(("select", "multiselect", "boolean", "string")),
    st.text(st.characters(exclude_characters="\n\\", exclude_categories=("Cs",)), max_size=9),
)
MANUAL = SlaveLink(b"java.1.gz", b"/usr/share/man/man1/java.1.gz", b"/opt/jdk/java.1.gz")
JAVA = Choice(b"/opt/jdk/bin/java", 100, (MANUAL,))
ADDED = AlternativeGroup(b"java", b"/usr/bin/java", None, (JAVA,))


@settings(max_examples=40)
@given(
    st.lists(DIVERSIONS, max_size=3),
    st.lists(OVERRIDES, max_size=3),
    st.lists(GROUPS, max_size=3),
    st.lists(ANSWERS, max_size=3),
)
def test_what_is_written_reads_as_it_was(
    diversions: list[Diversion], overrides: list[StatOverride], groups: list[AlternativeGroup], answers: list[Answer]
) -> None:
    found = Registries(
        ("armhf", "i386"), tuple(sorted(diversions)), tuple(sorted(overrides)), tuple(groups), tuple(answers)
    )
    assert parse_registries(format_registries(found)) == found


def test_an_empty_registry_has_no_text_and_an_absent_text_is_an_empty_registry() -> None:
    assert format_registries(Registries()) == {}
    assert parse_registries({}) == Registries()


def test_removed_entries_and_flags_read_as_they_were_and_are_shown_as_removed() -> None:
    removed = (
        RemovedEntry("alternatives", b"editor", b"/bin/nano"),
        RemovedEntry("diversions", b"dash", b"/bin/sh"),
        RemovedEntry("stat-overrides", b"", b"/usr/bin/crontab"),
    )
    found = Registries(removed=removed, flags=(FileFlags(b"/etc/passwd", "i"),))
    assert parse_registries(format_registries(found)) == found
    assert [(one.registry, one.item) for one in list_items(found) if one.is_removed] == [
        ("alternatives", b"editor"),
        ("diversions", b"/bin/sh"),
        ("stat-overrides", b"/usr/bin/crontab"),
    ]


@pytest.mark.parametrize("line", [b"alternatives - /x", b"alternatives --all /x", b"arch x /x", b"diversions dash x"])
def test_a_hostile_removed_entry_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse_registries({"removed": line + b"\n"})


@pytest.mark.parametrize("line", [b"x /etc/passwd", b"i etc/passwd", b" /etc/passwd"])
def test_hostile_flags_are_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse_registries({"flags": line + b"\n"})


def test_only_entries_that_a_package_made_here_are_removed() -> None:
    removed = (RemovedEntry("stat-overrides", b"", b"/a"), RemovedEntry("diversions", b"dash", b"/b"))
    of_package = Registries(
        diversions=(Diversion(b"/b", b"/c", b"dash"),),
        stat_overrides=(StatOverride(b"/a", b"root", b"adm", 0o750, True),),
    )
    of_owner = Registries(
        diversions=(Diversion(b"/b", b"/c"),), stat_overrides=(StatOverride(b"/a", b"root", b"adm", 0o750),)
    )
    assert find_missing(Registries(removed=removed), of_package).missing.removed == removed
    assert find_missing(Registries(removed=removed), of_owner).missing.removed == ()


def test_calls_in_scripts_are_read_only_where_they_are_plain() -> None:
    script = b"""# update-alternatives --install /x x /x 1
P=/usr/bin/tool
update-alternatives --install /usr/bin/t \\
    t "$P" 10
for i in $(ls); do update-alternatives --install /usr/bin/$i $i /usr/lib/$i 5; done
/usr/sbin/update-alternatives --quiet --remove t /old >/dev/null || true
"""
    assert list(list_calls(read_plain_text(script), b"update-alternatives")) == [
        (b"--install", b"/usr/bin/t", b"t", b"/usr/bin/tool", b"10"),
        (b"--quiet", b"--remove", b"t", b"/old"),
    ]


def test_loops_functions_and_values_of_values_are_written_out() -> None:
    script = b"""
USER="own"
GROUP="$USER"
check() {
    name="$1"
    place="$2"
    if [ -e "$place/$name.own" ]; then
        update-alternatives --install "$place/$name" "$name" "$place/$name.own" 50
    fi
}
for one in php phar.phar; do
    for at in /usr/bin; do update-alternatives --install $at/${one} ${one} $at/${one}8 82; done
done
    check "kill" /bin
    check $ODD /bin
update-alternatives --install /usr/bin/lzma lzma /usr/bin/xz 20 $(
    slave a b)
dpkg-statoverride --update --add ${USER} ${GROUP} 640 /etc/own
again=1; again=2; update-alternatives --remove x$again
"""
    text = read_plain_text(script)
    assert [words[2:4] for words in list_calls(text, b"update-alternatives")] == [
        (b"php", b"/usr/bin/php8"), (b"phar.phar", b"/usr/bin/phar.phar8"), (b"kill", b"/bin/kill.own"),
        (b"lzma", b"/usr/bin/xz"),
    ]  # fmt: skip
    (made,) = list_calls(text, b"dpkg-statoverride")
    assert made[2:] == (b"own", b"own", b"640", b"/etc/own")


@given(st.binary(max_size=300))
def test_no_script_is_too_strange(text: bytes) -> None:
    read_plain_text(text)
    read_plain_text(b"for i in a b; do\n" + text + b"\ndone\nf() {\n" + text + b"\n}\nf a\nf b\n")


@given(st.binary(max_size=200))
def test_parsers_take_any_bytes_or_say_that_they_are_malformed(text: bytes) -> None:
    parse_diversions(text)
    parse_stat_overrides(text)
    parse_group(b"x", text.split(b"\n"))
    for parse in (parse_alternatives, parse_answers):
        try:
            parse(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "line",
    [
        b"root root 0640 relative",
        b"root root 99999 /x",
        b"root root 17777 /x",
        b"--help root 0640 /x",
        b"root ro:ot 0640 /x",
        b"root root /x",
        b"# - 0640 /x",
    ],
)
def test_an_override_that_no_tool_would_take_is_left_out(line: bytes) -> None:
    assert parse_stat_overrides(line + b"\n") == ()


@pytest.mark.parametrize(
    "text",
    [
        b"Name: --all\nLink: /usr/bin/x\nStatus: auto\n\n",
        b"Name: a/b\nLink: /usr/bin/x\nStatus: auto\n\n",
        b"Name: x\nLink: bin/x\nStatus: auto\n\n",
        b"Name: x\nLink: /usr/bin/x\nStatus: manual\n\n",
        b"Name: x\nLink: /usr/bin/x\nStatus: auto\n\nAlternative: --x\nPriority: 1\n\n",
        b"Name: x\nLink: /usr/bin/x\nStatus: auto\n\nAlternative: /x\nPriority: many\n\n",
    ],
)
def test_a_hostile_alternative_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_alternatives(text)


@pytest.mark.parametrize("line", ["a b/c text x\n", "# b/c string x\n", "ab b/c string x\\\n", "ab b/c\n", "\n"])
def test_an_answer_that_would_be_read_otherwise_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parse_answers(line.encode())


def test_a_password_is_not_shown_and_is_written_only_into_its_form() -> None:
    answer = Answer("ldap", "ldap/rootpw", "password", Secret("hunter2"))
    assert "hunter2" not in repr(Registries(answers=(answer,)))
    assert "hunter2" not in repr(tuple(list_items(Registries(answers=(answer,)))))
    assert format_registries(Registries(answers=(answer,)))["debconf"] == b"ldap ldap/rootpw password hunter2\n"
    (read,) = parse_answers(b"ldap ldap/rootpw password hunter2\n")
    assert isinstance(read.value, Secret)


def test_the_owner_s_part_is_what_no_package_makes() -> None:
    shipped = Choice(b"/usr/bin/nano", 40, packaged=True)
    mine = Choice(b"/usr/local/bin/edit", 90)
    found = Registries(
        diversions=(
            Diversion(b"/bin/sh", b"/bin/sh.distrib", b"dash"),
            Diversion(b"/usr/bin/less", b"/usr/bin/less.real"),
        ),
        stat_overrides=(
            StatOverride(b"/etc/secret", b"root", b"adm", 0o640),
            StatOverride(b"/usr/bin/crontab", b"root", b"crontab", 0o2755, packaged=True),
        ),
        alternatives=(
            AlternativeGroup(b"awk", b"/usr/bin/awk", None, (Choice(b"/usr/bin/mawk", 5, packaged=True),)),
            AlternativeGroup(b"editor", b"/usr/bin/editor", None, (shipped, mine)),
            AlternativeGroup(b"pager", b"/usr/bin/pager", b"/bin/more", (Choice(b"/bin/more", 50, packaged=True),)),
        ),
    )
    owned = select_owned(found)
    assert [one.path for one in owned.diversions] == [b"/usr/bin/less"]
    assert [one.path for one in owned.stat_overrides] == [b"/etc/secret"]
    assert [(one.name, one.choices) for one in owned.alternatives] == [(b"editor", (mine,)), (b"pager", ())]
    assert found.alternatives[1].find_best() == shipped


def test_nothing_is_missing_where_a_machine_has_the_decisions() -> None:
    here = Registries(("i386",), (Diversion(b"/a", b"/b"),), (StatOverride(b"/c", b"root", b"adm", 0o640),), (ADDED,))
    found = find_missing(here, here)
    assert (found.missing, found.conflicts) == (Registries(), ())


def test_an_added_group_is_missing_until_its_choice_is_registered_alike() -> None:
    other = AlternativeGroup(b"java", b"/usr/bin/java", None, (Choice(JAVA.path, 5, JAVA.slaves),))
    wanted = Registries(alternatives=(ADDED,))
    for here in ((), (other,)):
        assert find_missing(wanted, Registries(alternatives=here)).missing == wanted


def test_decisions_of_this_machine_that_are_replaced_or_stay_are_named() -> None:
    owned = Registries(
        diversions=(Diversion(b"/usr/bin/less", b"/usr/bin/less.real"),),
        stat_overrides=(
            StatOverride(b"/etc/a", b"root", b"adm", 0o640),
            StatOverride(b"/usr/bin/crontab", b"root", b"adm", 0o750),
        ),
        alternatives=(AlternativeGroup(b"pager", b"/usr/bin/pager", b"/bin/more"),),
    )
    here = Registries(
        diversions=(Diversion(b"/usr/bin/less", b"/usr/bin/less.theirs", b"busybox"),),
        stat_overrides=(
            StatOverride(b"/etc/a", b"root", b"root", 0o600),
            StatOverride(b"/usr/bin/crontab", b"root", b"crontab", 0o2755, packaged=True),
        ),
        alternatives=(AlternativeGroup(b"pager", b"/usr/bin/pager", b"/usr/bin/less"),),
    )
    found = find_missing(owned, here)
    assert found.missing.diversions == ()
    assert found.missing.stat_overrides == owned.stat_overrides
    assert found.missing.alternatives == owned.alternatives
    assert len(found.conflicts) == 3
    assert "stays diverted to /usr/bin/less.theirs by package busybox" in found.conflicts[0]
    assert "root:root 0600, which this machine had" in found.conflicts[1]
    assert "/bin/more replaces /usr/bin/less" in found.conflicts[2]


def test_steps_come_where_they_can_work() -> None:
    owned = Registries(
        ("i386",),
        (Diversion(b"/usr/bin/less", b"/usr/bin/less.real"),),
        (StatOverride(b"/srv/x", b"#1005", b"#1006", 0o640),),
        (ADDED,),
        (Answer("man-db", "man-db/auto-update", "boolean", "false"),),
    )
    plan = plan_registries(owned, Registries(), {1005: 1001}, {1006: 1002})
    assert [step.kind for step in plan.before_packages.steps] == [StepKind.ARCHITECTURE, StepKind.PRESEED]
    assert [step.kind for step in plan.before_files.steps] == [StepKind.DIVERSION]
    assert [step.kind for step in plan.after_files.steps] == [StepKind.STAT_OVERRIDE, StepKind.ALTERNATIVE]
    assert plan.after_files.steps[0].decision == StatOverride(b"/srv/x", b"#1001", b"#1002", 0o640)


# ---------------------------------------------------------------- jobs of at, flags

JOB = b"#!/bin/sh\n# atrun uid=1001 gid=1001\n# mail bob 0\numask 22\necho hello\n"
AT = b"/var/spool/cron/atjobs/a0000101d5f3a2"


def test_a_job_gets_the_number_of_its_account_here() -> None:
    entry = FileEntry(AT, "file", uid=1007, gid=1, size=len(JOB), sha256="0" * 64)
    found, content = rewrite_at_job(entry, {AT: JOB}, {1001: 1009})
    assert content == JOB.replace(b"uid=1001 gid=1001", b"uid=1007 gid=1009")
    assert found.size == len(JOB)
    assert found.sha256 != entry.sha256


@pytest.mark.parametrize(
    "content", [JOB, b"", b"# atrun uid=1 gid=1\n", JOB.replace(b"1001", b"many"), b"x" + JOB, JOB.replace(b"\n", b"")]
)
def test_a_job_that_fits_or_has_no_head_stays_as_it_is(content: bytes) -> None:
    entry = FileEntry(AT, "file", uid=1001, gid=1, size=len(JOB), sha256="0" * 64)
    assert rewrite_at_job(entry, {AT: content}, {}) == (entry, None)


def test_flags_come_for_what_is_new_or_has_none_and_lifted_ones_are_named() -> None:
    planner = FlagPlanner()
    want = FileEntry(b"/etc/resolv.conf", "file", flags="i")
    planner.want(want, want, None)
    planner.want(want._replace(flags=None), None, Step(StepKind.WRITE, b"/x", entry=want))
    assert planner.steps == ()
    planner.want(want, want._replace(flags=None), None)
    planner.want(want, want, Step(StepKind.WRITE, want.path, entry=want, was=want))
    assert [(step.kind, step.detail) for step in planner.steps] == [(StepKind.FLAGS, "+i")] * 2
    planner.note_step(Step(StepKind.WRITE, want.path, entry=want, was=want))
    assert "/etc/resolv.conf is protected by chattr here" in planner.list_warnings()[0]
