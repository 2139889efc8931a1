"""Who keeps running into limits is named once, and forgotten once it stops."""

from chatproxy.offenders import REFUSALS, WINDOW_MINUTES, Offenders

LIMIT = "rate_limit_requests"


def refuse(offenders: Offenders, user_id: int, times: int, *, code=LIMIT, minute=0) -> None:
    for _ in range(times):
        offenders.note(user_id, code, now=minute * 60)


def test_user_who_keeps_on_is_counted_and_named_once(caplog):
    offenders = Offenders()
    refuse(offenders, 7, REFUSALS // 2, minute=0)
    assert offenders.count(now=0) == 0
    refuse(offenders, 7, REFUSALS, minute=2)

    assert offenders.count(now=120) == 1
    assert [record.user_id for record in caplog.records] == [7]


def test_many_users_with_a_few_refusals_each_are_nothing_unusual():
    offenders = Offenders()
    for user_id in range(100):
        refuse(offenders, user_id, REFUSALS - 1)

    assert offenders.count(now=0) == 0


def test_budget_that_is_used_up_is_no_offence():
    offenders = Offenders()
    refuse(offenders, 7, REFUSALS, code="budget_exceeded")

    assert offenders.count(now=0) == 0


def test_who_stops_is_forgotten_and_named_anew_next_time(caplog):
    offenders = Offenders()
    refuse(offenders, 7, REFUSALS)
    later = WINDOW_MINUTES * 60

    assert offenders.count(now=later) == 0
    refuse(offenders, 7, REFUSALS, minute=WINDOW_MINUTES)
    assert len(caplog.records) == 2
