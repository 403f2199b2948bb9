"""What is said of a dump: each loss once."""

from tklb.databases.mariadb.said import Notes


def test_database_that_is_gone_is_named_once_and_no_other_goes_with_it() -> None:
    said = Notes()
    said.skip("gone", "t", "its rows could not be counted")
    said.skip("gone by", "t", "locked")
    said.skip("shop", "", "no access")
    said.skip_whole("gone", "it was dropped")
    said.skip_whole("shop", "it was dropped, too")
    assert [each.item for each in said.skipped] == [b"mysql:gone by/t", b"mysql:gone", b"mysql:shop"]
