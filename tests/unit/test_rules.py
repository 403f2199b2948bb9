"""Rules: the nearest decides, order never matters, globs look at names only."""

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.soak import examples
from tklb.diff.rules import Override, Rule, Rules, Selection, parse_override, split_path
from tklb.errors import UsageWrong

PARTS = st.sampled_from([b"a", b"b", b"ab", b"a*", b"?", b"[ab]", b"*", b"**", b"[!a]"])
PATTERNS = st.lists(PARTS, max_size=4).map(lambda parts: b"/" + b"/".join(parts))
PATHS = st.lists(st.sampled_from([b"a", b"b", b"ab", b"a*", b"c", b"**"]), max_size=5).map(
    lambda p: b"/" + b"/".join(p)
)
RULES = st.lists(st.builds(Rule, st.booleans(), PATTERNS, st.booleans(), st.booleans()), max_size=5)


def included(path: bytes, *rules: tuple[bool, bytes]) -> bool:
    return Rules([Rule(*rule) for rule in rules]).decide(path).included


def model_matches(pattern: list[bytes], names: list[bytes]) -> bool:
    if not pattern or not names:
        return not names and all(part == b"**" for part in pattern)
    if pattern[0] == b"**":
        return model_matches(pattern[1:], names) or model_matches(pattern, names[1:])
    return fnmatch.fnmatchcase(names[0], pattern[0]) and model_matches(pattern[1:], names[1:])


def model_decides(rules: list[Rule], path: bytes) -> bool:
    """Look at every leading part of the path, and at every rule, and take the greatest."""
    names = [name for name in path.split(b"/") if name]
    best: tuple[int, bool, bool, bool] | None = None
    for depth in range(len(names) + 1):
        for rule in rules:
            pattern = [part for part in rule.pattern.split(b"/") if part]
            is_exact = pattern == names[:depth]
            if pattern[-1:] == [b"**"]:
                pattern[-1] = b"*"
            is_glob = not rule.is_literal and model_matches(pattern, names[:depth])
            if is_exact or is_glob:
                best = max(best or (-1, False, False, False), (depth, rule.is_override, is_exact, not rule.include))
    return best is not None and not best[3]


@settings(max_examples=examples(400))
@given(RULES, PATHS)
def test_decisions_are_those_of_a_plain_model(rules: list[Rule], path: bytes) -> None:
    assert Rules(rules).decide(path).included == model_decides(rules, path)


@given(RULES.flatmap(lambda rules: st.tuples(st.just(rules), st.permutations(rules))), PATHS)
def test_the_order_of_rules_never_matters(both: tuple[list[Rule], list[Rule]], path: bytes) -> None:
    assert Rules(both[0]).decide(path) == Rules(both[1]).decide(path)


@settings(max_examples=examples(300))
@given(RULES, PATHS)
def test_nothing_included_lies_where_no_scan_would_look(rules: list[Rule], path: bytes) -> None:
    folder = Rules(rules).root()
    for name in split_path(path):
        if Rules(rules).decide(path).included:
            assert folder.may_hold
            assert folder.only_names is None or name in folder.only_names
        folder = folder.enter(name)


@given(RULES, PATHS)
def test_all_below_a_uniform_folder_is_decided_alike(rules: list[Rule], path: bytes) -> None:
    folder = Rules(rules).find_folder(path)
    if folder.is_uniform:
        assert Rules(rules).decide(path + b"/x/y").included == folder.decision.included


def test_the_nearest_rule_above_decides() -> None:
    rules = ((True, b"/etc"), (False, b"/etc/ssl"), (True, b"/etc/ssl/private"))
    assert included(b"/etc/passwd", *rules)
    assert not included(b"/etc/ssl/certs/x", *rules)
    assert included(b"/etc/ssl/private/key", *rules)
    assert not included(b"/etcetera", *rules)
    assert not included(b"/usr", *rules)


def test_a_rule_for_the_root_is_the_farthest() -> None:
    assert included(b"/x", (True, b"/"))
    assert not included(b"/x/y", (True, b"/"), (False, b"/x"))


@pytest.mark.parametrize(("pattern", "matched", "passed_over"), [
    (b"/a/*.log", [b"/a/x.log", b"/a/.log", b"/a/\n.log", b"/a/x.log/below"], [b"/a/b/x.log", b"/a/x.logs"]),
    (b"/a/?", [b"/a/x", b"/a/\xc3\xa9", b"/a/\xff", b"/a/*"], [b"/a/xy", b"/a", b"/a/\xff\xff"]),
    (b"/a/[b-d\xc3\xa9]", [b"/a/c", b"/a/\xc3\xa9"], [b"/a/e", b"/a/-", b"/a/\xc3"]),
    (b"/a/[!b]", [b"/a/c"], [b"/a/b"]),
    (b"/a/[]]", [b"/a/]"], [b"/a/x"]),
    (b"/a/[x", [b"/a/[x"], [b"/a/x"]),
    (b"/**/cache", [b"/cache", b"/a/cache", b"/a/b/cache/x"], [b"/a/cached"]),
    (b"/a/**/b", [b"/a/b", b"/a/x/b", b"/a/x/y/b"], [b"/b", b"/a"]),
    (b"/a/**", [b"/a/b", b"/a/b/c"], [b"/a"]),
    (b"/a/x**y", [b"/a/xy", b"/a/xzzy"], [b"/a/x/y"]),
    (b"/a/\\*", [b"/a/*", b"/a/\\*"], [b"/a/b"]),
    (b"/a/\\[b]", [b"/a/[b]"], [b"/a/b"]),
    (b"/a/b[1]", [b"/a/b1", b"/a/b[1]"], [b"/a/b"]),
    (b"/a/b\\c", [b"/a/bc", b"/a/b\\c"], [b"/a/b"]),
    (b"//a//b/", [b"/a/b"], [b"/a"]),
])  # fmt: skip
def test_globs_match_names(pattern: bytes, matched: list[bytes], passed_over: list[bytes]) -> None:
    rules = Rules([Rule(True, pattern)])
    assert [path for path in matched + passed_over if rules.decide(path).included] == matched


def test_a_literal_rule_knows_no_globs() -> None:
    rules = Rules([Rule(True, b"/a*", is_literal=True)])
    assert rules.decide(b"/a*").included
    assert not rules.decide(b"/ab").included


def test_at_equal_depth_override_then_exact_path_then_exclusion_win() -> None:
    assert not included(b"/a", (True, b"/a"), (False, b"/a"))
    assert not included(b"/a", (True, b"/*"), (False, b"/?"))
    assert included(b"/a", (True, b"/a"), (False, b"/*"))
    assert included(b"/a", (False, b"/a"), (True, b"/*", True))
    assert not included(b"/a/b", (True, b"/a", True), (False, b"/a/b"))


def test_an_override_reaches_into_an_excluded_folder() -> None:
    rules = Rules([Rule(True, b"/srv"), Rule(False, b"/srv/cache")]).add_overrides(
        [Rule(True, b"/srv/cache/keep/this")]
    )
    assert rules.decide(b"/srv/cache/keep/this/x").included
    assert not rules.decide(b"/srv/cache/keep").included
    assert rules.may_hold(b"/srv/cache")
    assert rules.may_hold(b"/srv/cache/keep")
    assert not rules.may_hold(b"/srv/cache/other")
    assert rules.find_folder(b"/srv/cache").only_names == (b"keep",)


def test_excluding_a_folder_by_glob_spares_what_is_named() -> None:
    rules = ((False, b"/srv/**"), (True, b"/srv/keep"))
    assert included(b"/srv/keep/x/y", *rules)
    assert not included(b"/srv/other/x", *rules)


def test_the_rule_that_decided_is_named() -> None:
    rule = Rule(False, b"/etc/ssl")
    assert Rules([Rule(True, b"/etc"), rule]).decide(b"/etc/ssl/x").rule == rule
    assert Rules([]).decide(b"/x").rule is None


def test_many_globs_over_deep_paths_stay_quick() -> None:
    rules = Rules([Rule(True, b"/**/" + b"/**/".join([b"a*a*a*b"] * 10))])
    assert not rules.decide(b"/" + b"/".join([b"a" * 200] * 60)).included


@pytest.mark.parametrize("pattern", [b"etc", b"", b"/a/../b", b"/a/./b", b"/a\0b"])
def test_a_pattern_must_be_an_absolute_path(pattern: bytes) -> None:
    with pytest.raises(ValueError, match="absolute"):
        Rules([Rule(True, pattern)])


@pytest.mark.parametrize(("text", "override"), [
    ("/srv", Override("path", True, b"/srv")),
    ("-/srv//x/", Override("path", False, b"/srv/x")),
    ("/", Override("path", True, b"/")),
    ("/a*/[b]/**", Override("path", True, b"/a*/[b]/**")),
    (b"/\xff\n #=", Override("path", True, b"/\xff\n #=")),
    ("/caf\udcc3\udca9", Override("path", True, b"/caf\xc3\xa9")),
    ("mysql:wordpress", Override("mysql", True, b"wordpress")),
    ("-mysql:wp_*/wp_sessions", Override("mysql", False, b"wp_*/wp_sessions")),
    ("pgsql:app/a b:c", Override("pgsql", True, b"app/a b:c")),
    ("-package:libc6:i386", Override("package", False, b"libc6:i386")),
    ("package:php8.2-*", Override("package", True, b"php8.2-*")),
    ("user:www-data", Override("user", True, b"www-data")),
])  # fmt: skip
def test_overrides_are_read(text: str | bytes, override: Override) -> None:
    assert parse_override(text) == override


@pytest.mark.parametrize("text", [
    "", "-", "--/x", "srv", "./srv", "/a/../b", "/a\0", "mysql:", "mysql:a/", "mysql:/a", "mysql:a/b/c", "mysql:..",
    "package:", "package:-y", "package:A", "package:a b", "user:", "user:a:b", "user:-x", "user:a\n", "host:x", "- /x",
    " /x",
])  # fmt: skip
def test_malformed_overrides_are_refused(text: str) -> None:
    with pytest.raises(UsageWrong):
        parse_override(text)


@given(st.binary(max_size=12) | st.sampled_from([b"-", b"/", b"mysql:", b"package:", b"user:"]).flatmap(
    lambda head: st.binary(max_size=6).map(lambda tail: head + tail)))  # fmt: skip
def test_any_text_is_an_override_that_works_or_is_refused(text: bytes) -> None:
    try:
        override = parse_override(text)
    except UsageWrong:
        return
    assert isinstance(
        Selection([override]).says(override.kind, b"/x" if override.kind == "path" else b"x"), bool | None
    )


def test_a_table_is_nearer_than_its_database() -> None:
    selection = Selection(map(parse_override, ("mysql:wp", "-mysql:wp/cache_*", "-pgsql:wp")))
    assert selection.says("mysql", b"wp/posts") is True
    assert selection.says("mysql", b"wp/cache_x") is False
    assert selection.says("mysql", b"other") is None
    assert selection.says("pgsql", b"wp/x") is False


def test_limits_allow_what_they_name_or_all_they_do_not_leave_out() -> None:
    only, without = (Selection(map(parse_override, lines)) for lines in (["/etc", "user:bob", "-/etc/x"], ["-/etc"]))
    assert only.allows("path", b"/etc/passwd")
    assert only.allows("user", b"bob")
    assert not only.allows("path", b"/etc/x")
    assert not only.allows("package", b"vim")
    assert without.allows("package", b"vim")
    assert not without.allows("path", b"/etc/passwd")
    assert Selection([]).allows("path", b"/any")
