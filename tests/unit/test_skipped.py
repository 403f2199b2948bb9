"""Skipped items: few lines for many of a kind, and numbers of steps that add up."""

from tklb.model.plan import Step, StepKind
from tklb.model.report import Report, Skipped, fold_skipped
from tklb.restore.plan.outcome import Outcome


def lines(*items: Skipped) -> list[str]:
    return [f"{item}: {reason}" for item, reason, _ in fold_skipped(items)]


def test_many_files_with_one_reason_are_one_line_that_names_their_folder() -> None:
    items = [Skipped(b"/srv/x/%06d" % number, "permission denied") for number in range(200_000)]
    assert lines(*items) == ["200,000 files below /srv/x: permission denied"]


def test_a_few_are_listed_one_by_one() -> None:
    items = [Skipped(b"/srv/x/%d" % number, "permission denied") for number in range(3)]
    assert lines(*items) == [f"/srv/x/{number}: permission denied" for number in range(3)]


def test_other_reasons_and_other_places_are_not_hidden_in_one_line() -> None:
    many = [Skipped(b"/srv/x/%d" % number, "permission denied") for number in range(50)]
    others = (
        Skipped(b"/etc/y", "permission denied"), Skipped(b"/srv/x/0", "read error"), Skipped(b"mysql:shop", "no server")
    )  # fmt: skip
    assert lines(*many, *others) == [
        "50 files below /srv/x: permission denied",
        "/etc/y: permission denied",
        "/srv/x/0: read error",
        "mysql:shop: no server",
    ]


def test_many_items_that_are_no_files_name_the_first() -> None:
    items = [Skipped(b"package:p%02d" % number, "no source offers it") for number in range(12)]
    assert lines(*items) == ["12 items, the first is package:p00: no source offers it"]


def test_a_folder_with_all_that_is_below_it_counts_itself() -> None:
    items = [Skipped(b"/srv/x", "gone"), *(Skipped(b"/srv/x/%d" % number, "gone") for number in range(20))]
    assert lines(*items) == ["21 files below /srv: gone"]


def adds_up(outcome: Outcome) -> tuple[int, int, int]:
    report = Report(outcome.done_steps, outcome.skipped_items)
    assert report.step_count == len(report.done) + len(report.skipped)
    return report.step_count, len(report.done), len(report.skipped)


def test_every_step_of_a_batch_is_done_or_skipped() -> None:
    outcome = Outcome()
    packages = [Step(StepKind.INSTALL, name) for name in (b"a", b"b", b"c")]
    done = outcome.note_batch(packages, [Skipped(b"package:b", "no source offers it")])
    assert [step.item for step in done] == [b"a", b"c"]
    services = [Step(StepKind.SERVICE, name) for name in (b"nginx", b"cron")]
    assert outcome.note_batch(services, [Skipped(b"service:cron", "it failed")]) == services[:1]
    assert adds_up(outcome) == (5, 3, 2)


def test_a_step_with_two_reasons_is_one_skipped_item() -> None:
    outcome = Outcome()
    outcome.note_step(Step(StepKind.WRITE, b"/x"), [Skipped(b"/x", "no xattr a"), Skipped(b"/x", "no xattr b")])
    assert outcome.skipped_items == (Skipped(b"/x", "no xattr a; no xattr b"),)
    assert adds_up(outcome) == (1, 0, 1)


def test_what_is_skipped_beside_the_steps_is_counted_too() -> None:
    outcome = Outcome()
    outcome.note_batch([Step(StepKind.INSTALL, b"a")], [Skipped(b"package:libdep", "it is not fully installed")])
    assert adds_up(outcome) == (2, 1, 1)


def test_a_step_that_fails_late_is_no_longer_done() -> None:
    outcome = Outcome()
    for path in (b"/x", b"/y"):
        outcome.note_step(Step(StepKind.WRITE, path), [])
    outcome.note_late([Skipped(b"/x", "its time cannot be set"), Skipped(b"/z", "never planned")])
    assert adds_up(outcome) == (3, 1, 2)


def test_steps_whose_names_look_alike_are_counted_apart() -> None:
    outcome = Outcome()
    for path in (b"/\xff", b"/\\xff"):
        outcome.note_step(Step(StepKind.WRITE, path), [])
    assert adds_up(outcome) == (2, 2, 0)
