from __future__ import annotations

import pytest

from airflow_sb_provider.jobs.poll_schedule import FIRST_POLL, PollSchedule


@pytest.fixture
def schedule():
    return PollSchedule()


def poll(schedule, now):
    batch = schedule.next_batch(now)
    for export_id in batch:
        schedule.mark_polled(export_id, now)
    return batch


def test_without_ids_nothing_is_due(schedule):
    assert schedule.next_at is None
    assert schedule.next_batch(0.0) == []
    assert schedule.ids_per_second == 0


def test_a_new_id_is_polled_in_a_few_seconds_and_then_once_per_interval(schedule):
    schedule.add("a", 30.0, now=100.0)
    first = schedule.next_at
    assert 100 + FIRST_POLL <= first <= 100 + 1.5 * FIRST_POLL
    assert poll(schedule, first) == ["a"]
    assert schedule.next_at == first + 30


def test_ids_added_one_after_another_share_a_request(schedule):
    schedule.add("a", 30.0, now=0.0)
    schedule.add("b", 30.0, now=1.0)
    assert poll(schedule, schedule.next_at) == ["a", "b"]


def test_a_new_id_is_never_polled_immediately(schedule):
    schedule.add("a", 10.0, now=0.0)
    poll(schedule, schedule.next_at)
    due = schedule.next_at
    schedule.add("b", 10.0, now=due - 1)
    assert schedule.next_batch(due) == ["a"]


def test_a_request_with_free_space_takes_ids_that_are_due_later(schedule):
    for number in range(3):
        schedule.add(str(number), 10.0, now=float(10 * number))
        poll(schedule, schedule.next_at)
    assert sorted(schedule.next_batch(schedule.next_at)) == ["0", "1", "2"]


def test_the_earliest_due_go_first_and_at_most_a_hundred(schedule):
    for number in range(250):
        schedule.add(str(number), 10.0, now=number / 100)
    batches = [poll(schedule, 20.0 + turn / 10) for turn in range(4)]
    assert [len(batch) for batch in batches] == [100, 100, 50, 0]
    assert [export_id for batch in batches for export_id in batch] == [str(number) for number in range(250)]


def test_an_id_whose_request_is_under_way_is_not_polled_again(schedule):
    schedule.add("a", 10.0, now=0.0)
    assert schedule.next_batch(8.0) == ["a"]
    schedule.poll_now("a", 8.0)
    assert schedule.next_batch(100.0) == []
    assert schedule.next_at is None


def test_poll_now_makes_an_id_due_immediately(schedule):
    schedule.add("a", 10.0, now=0.0)
    schedule.add("b", 10.0, now=0.0)
    schedule.poll_now("b", 1.0)
    assert schedule.next_at == 1.0
    assert schedule.next_batch(1.0) == ["b"]
    schedule.poll_now("unknown", 1.0)


def test_a_dropped_id_is_not_polled(schedule):
    schedule.add("a", 10.0, now=0.0)
    schedule.add("b", 10.0, now=0.0)
    schedule.drop("a")
    assert poll(schedule, 8.0) == ["b"]
    schedule.drop("b")
    assert schedule.next_at is None
    schedule.drop("b")


def test_an_id_that_is_added_again_is_new(schedule):
    schedule.add("a", 10.0, now=0.0)
    poll(schedule, 8.0)
    schedule.drop("a")
    schedule.add("a", 10.0, now=9.0)
    assert schedule.next_at > 9 + FIRST_POLL
    assert poll(schedule, 16.0) == ["a"]
    assert schedule.next_batch(18.0) == []
    assert schedule.next_batch(26.0) == ["a"]


def test_the_shorter_interval_counts(schedule):
    schedule.add("a", 30.0, now=0.0)
    schedule.add("a", 10.0, now=0.0)
    schedule.add("a", 20.0, now=0.0)
    assert schedule.ids_per_second == pytest.approx(0.1)
    poll(schedule, 8.0)
    assert schedule.next_at == 18.0


def test_it_reports_the_ids_per_second_and_the_observed_interval(schedule):
    for number in range(50):
        schedule.add(str(number), 10.0, now=0.0)
    assert schedule.ids_per_second == pytest.approx(5)
    poll(schedule, 8.0)
    poll(schedule, 25.0)
    assert schedule.observed_interval == pytest.approx(17)
    for number in range(50):
        schedule.drop(str(number))
    assert schedule.ids_per_second == 0
