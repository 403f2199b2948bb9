"""The report of a dump: each loss once."""

from tklb.databases.report import DatabaseReport


def test_database_that_is_gone_is_reported_once_and_no_other_goes_with_it() -> None:
    report = DatabaseReport("mysql")
    report.skip("gone", "t", "its rows could not be counted")
    report.skip("gone by", "t", "locked")
    report.skip("shop", "", "no access")
    report.skip_database("gone", "it was dropped")
    report.skip_database("shop", "it was dropped, too")
    assert [each.item for each in report.skipped] == [b"mysql:gone by/t", b"mysql:gone", b"mysql:shop"]


def test_report_takes_over_another_of_the_same_server() -> None:
    report, other = DatabaseReport("pgsql"), DatabaseReport("pgsql")
    report.note("first")
    other.note("second")
    other.skip_other("role alice", "its password is none")
    report.add(other)
    assert report.notes == ["first", "second"]
    assert [each.item for each in report.skipped] == [b"pgsql:role alice"]
