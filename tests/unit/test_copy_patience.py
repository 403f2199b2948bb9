"""Seconds that copies of SQLite databases may hold up one run: users have little, and take nothing from each other."""

from tklb.host.sqlite.patience import CopyPatience


def test_a_user_who_held_a_run_up_has_no_more_and_others_have_all() -> None:
    patience = CopyPatience()
    before = patience.count_left(1500)
    patience.spend(1500, before + 1, size=0)
    assert patience.count_left(1500) <= 0
    assert patience.count_left(1501) == patience.count_left(0) == before


def test_many_users_together_have_an_end_and_root_has_all() -> None:
    patience = CopyPatience()
    before = patience.count_left(0)
    for user in range(1000, 1100):
        patience.spend(user, 5, size=0)
    assert patience.count_left(2000) <= 0
    assert patience.count_left(0) == before


def test_a_slow_machine_does_not_use_up_what_a_copy_of_root_may_wait() -> None:
    patience = CopyPatience()
    before = patience.count_left(0)
    for _ in range(90):
        patience.spend(0, 1, size=0)
    assert patience.count_left(0) == before


def test_what_the_size_explains_does_not_count() -> None:
    patience = CopyPatience()
    before = patience.count_left(1500)
    patience.spend(1500, 200, size=1 << 30)
    assert patience.count_left(1500) == before
