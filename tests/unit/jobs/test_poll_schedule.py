from __future__ import annotations

import pytest

from airflow_sb_provider.jobs.poll_schedule import FIRST_POLL, PollSchedule


@pytest.fixture
def schedule():
    return PollSchedule()


def ask(schedule, now):
    batch = schedule.take(now)
    for export_id in batch:
        schedule.asked(export_id, now)
    return batch


def test_nothing_is_due_where_nothing_waits(schedule):
    assert schedule.next_at is None
    assert schedule.take(0.0) == []
    assert schedule.wanted == 0


def test_a_new_one_is_asked_for_in_a_few_seconds_and_then_once_in_its_interval(schedule):
    schedule.add("a", 30.0, now=100.0)
    first = schedule.next_at
    assert 100 + FIRST_POLL <= first <= 100 + 1.5 * FIRST_POLL
    assert ask(schedule, first) == ["a"]
    assert schedule.next_at == first + 30


def test_those_that_come_one_after_another_share_a_request(schedule):
    schedule.add("a", 30.0, now=0.0)
    schedule.add("b", 30.0, now=1.0)
    assert ask(schedule, schedule.next_at) == ["a", "b"]


def test_a_new_one_is_never_taken_along_at_once(schedule):
    schedule.add("a", 10.0, now=0.0)
    ask(schedule, schedule.next_at)
    due = schedule.next_at
    schedule.add("b", 10.0, now=due - 1)
    assert schedule.take(due) == ["a"]


def test_a_request_with_room_takes_along_what_is_due_later(schedule):
    for number in range(3):
        schedule.add(str(number), 10.0, now=float(10 * number))
        ask(schedule, schedule.next_at)
    assert sorted(schedule.take(schedule.next_at)) == ["0", "1", "2"]


def test_those_due_first_go_first_and_at_most_a_hundred(schedule):
    for number in range(250):
        schedule.add(str(number), 10.0, now=number / 100)
    batches = [ask(schedule, 20.0 + turn / 10) for turn in range(4)]
    assert [len(batch) for batch in batches] == [100, 100, 50, 0]
    assert [export_id for batch in batches for export_id in batch] == [str(number) for number in range(250)]


def test_what_is_away_is_not_asked_for_twice(schedule):
    schedule.add("a", 10.0, now=0.0)
    assert schedule.take(8.0) == ["a"]
    schedule.hurry("a", 8.0)
    assert schedule.take(100.0) == []
    assert schedule.next_at is None


def test_a_hurried_one_is_due_at_once(schedule):
    schedule.add("a", 10.0, now=0.0)
    schedule.add("b", 10.0, now=0.0)
    schedule.hurry("b", 1.0)
    assert schedule.next_at == 1.0
    assert schedule.take(1.0) == ["b"]
    schedule.hurry("unknown", 1.0)


def test_a_dropped_one_is_forgotten(schedule):
    schedule.add("a", 10.0, now=0.0)
    schedule.add("b", 10.0, now=0.0)
    schedule.drop("a")
    assert ask(schedule, 8.0) == ["b"]
    schedule.drop("b")
    assert schedule.next_at is None
    schedule.drop("b")


def test_one_that_comes_back_is_new(schedule):
    schedule.add("a", 10.0, now=0.0)
    ask(schedule, 8.0)
    schedule.drop("a")
    schedule.add("a", 10.0, now=9.0)
    assert schedule.next_at > 9 + FIRST_POLL
    assert ask(schedule, 16.0) == ["a"]
    assert schedule.take(18.0) == []
    assert schedule.take(26.0) == ["a"]


def test_the_shorter_interval_counts(schedule):
    schedule.add("a", 30.0, now=0.0)
    schedule.add("a", 10.0, now=0.0)
    schedule.add("a", 20.0, now=0.0)
    assert schedule.wanted == pytest.approx(0.1)
    ask(schedule, 8.0)
    assert schedule.next_at == 18.0


def test_it_tells_how_much_is_wanted_and_how_long_a_cycle_takes(schedule):
    for number in range(50):
        schedule.add(str(number), 10.0, now=0.0)
    assert schedule.wanted == pytest.approx(5)
    ask(schedule, 8.0)
    ask(schedule, 25.0)
    assert schedule.cycle == pytest.approx(17)
    for number in range(50):
        schedule.drop(str(number))
    assert schedule.wanted == 0
