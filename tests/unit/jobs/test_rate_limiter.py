"""The rate limiter alone, and with the poll schedule against a simulated rate limit and clock."""

from __future__ import annotations

import math
import random

import pytest

from airflow_sb_provider.api.models import RateLimit
from airflow_sb_provider.jobs.poll_schedule import PollSchedule
from airflow_sb_provider.jobs.rate_limiter import BLIND_PAUSE, EARLY, RateLimiter


def limiter_after(*rates, items=100, every=1.0):
    limiter = RateLimiter()
    for number, rate in enumerate(rates):
        limiter.observe(rate, items, number * every)
    return limiter


@pytest.mark.parametrize("rate", [None, RateLimit(), RateLimit(1000, None, 300), RateLimit(1000, 500, None)])
def test_without_headers_nothing_waits(rate):
    assert limiter_after(rate).pause(1000.0, 0.0) == 0
    assert not limiter_after(rate).one_at_a_time


def test_before_the_first_response_nothing_waits_but_requests_are_sequential():
    assert RateLimiter().pause(1000.0, 0.0) == 0
    assert RateLimiter().one_at_a_time


def test_polls_that_fit_the_window_do_not_wait():
    assert limiter_after(RateLimit(1000, 999, 300)).pause(280.0, 0.0) == 0


def test_polls_that_do_not_fit_are_spread_with_more_at_the_start_and_leave_a_tenth():
    pause = limiter_after(RateLimit(1000, 1000, 300)).pause(1000.0, 0.0)
    assert 300 / 900 / 1.5 < pause < 300 / 900


def test_the_tenth_shrinks_with_the_window():
    assert limiter_after(RateLimit(1000, 100, 300)).pause(0.1, 0.0) == 300
    assert limiter_after(RateLimit(1000, 60, 300)).pause(0.1, 250.0) == 0
    assert limiter_after(RateLimit(1000, 10, 300)).pause(0.1, 299.0) == 1


def test_a_window_that_is_over_does_not_limit():
    assert limiter_after(RateLimit(1000, 0, 300)).pause(1000.0, 301.0) == 0


def test_a_429_pauses_even_if_the_clocks_differ():
    limiter = RateLimiter()
    pauses = []
    for _ in range(8):
        limiter.observe(RateLimit(1000, 0, 5), 100, now=10.0, throttled=True)
        pauses.append(limiter.pause(1.0, 10.0))
    assert pauses[:2] == [BLIND_PAUSE, 2 * BLIND_PAUSE]
    assert pauses[-1] == 300
    limiter.observe(RateLimit(1000, 900, 600), 100, now=310.0)
    assert limiter.pause(1.0, 310.0) == 0


def test_endless_429s_never_pause_longer_than_a_window():
    limiter = RateLimiter()
    for number in range(3000):
        limiter.observe(None, 100, now=float(number), throttled=True)
        assert 0 < limiter.pause(1.0, float(number)) <= 300
    assert limiter.pause(1.0, 2999.0) == 300


def test_the_share_of_other_clients_is_left_to_them():
    alone = limiter_after(RateLimit(1000, 900, 300), RateLimit(1000, 899, 300), RateLimit(1000, 898, 300), every=12.0)
    shared = limiter_after(RateLimit(1000, 900, 300), RateLimit(1000, 899, 300), RateLimit(1000, 880, 300), every=12.0)
    assert shared.pause(1000.0, 24.0) > 1.3 * alone.pause(1000.0, 24.0)


def test_it_uses_at_least_half():
    greedy = limiter_after(RateLimit(1000, 900, 300), RateLimit(1000, 899, 300), RateLimit(1000, 700, 300), every=10.0)
    fair = EARLY * (700 - 1000 * 0.1 * 280 / 300) / 280
    assert greedy.pause(1000.0, 20.0) == pytest.approx(2 / fair)
    half_in_a_second = (700 - 1000 * 0.1 * 280 / 300) / 2 / 280
    assert greedy.pause(100 * 0.99 * half_in_a_second, 20.0) == 0
    assert greedy.pause(100 * 1.01 * half_in_a_second, 20.0) > 0


def test_the_cost_of_a_bulk_call_is_learned():
    by_call = limiter_after(RateLimit(1000, 999, 300), RateLimit(1000, 998, 300))
    by_items = limiter_after(RateLimit(1000, 900, 300), RateLimit(1000, 800, 300))
    assert not by_call.one_at_a_time
    assert by_items.one_at_a_time
    assert by_items.pause(1000.0, 1.0) > 50 * by_call.pause(1000.0, 1.0)


def test_single_ids_and_other_windows_do_not_show_the_cost():
    assert limiter_after(RateLimit(1000, 999, 300), RateLimit(1000, 998, 300), items=1).one_at_a_time
    assert limiter_after(RateLimit(1000, 10, 300), RateLimit(1000, 999, 600)).one_at_a_time


class Token:
    """A fixed window of the rate limit, as the Platform keeps it."""

    def __init__(self, limit=1000, window=300.0, by_items=False):
        self.limit, self.window, self.by_items = limit, window, by_items
        self.reset, self.used, self.throttled = None, 0, 0

    def spend(self, now, items=1):
        if self.reset is None or now >= self.reset:
            self.reset, self.used = math.ceil(now + self.window), 0
        cost = items if self.by_items else 1
        if self.used + cost > self.limit:
            self.throttled += 1
            return None
        self.used += cost
        return RateLimit(self.limit, self.limit - self.used, self.reset)


class Triggerer:
    """A poller's schedule and limiter; its jobs start within ten seconds and run for at most ``longest`` seconds."""

    def __init__(self, rng, jobs, longest, interval=10.0):
        self.schedule, self.limiter, self.late = PollSchedule(), RateLimiter(), []
        self.ends = {}
        for number in range(jobs):
            begin = 10.0 * number / jobs
            self.ends[str(number)] = begin + rng.uniform(0, longest)
            self.schedule.add(str(number), interval, begin)
        self.ready_at = 0.0

    @property
    def next_at(self):
        return max(self.ready_at, self.schedule.next_at)

    def poll(self, token, now):
        batch = self.schedule.next_batch(now)
        rate = token.spend(now, len(batch))
        self.limiter.observe(rate or RateLimit(token.limit, 0, token.reset), len(batch), now, throttled=rate is None)
        for export_id in batch:
            if rate and self.ends[export_id] <= now:
                self.late.append(now - self.ends.pop(export_id))
                self.schedule.drop(export_id)
            else:
                self.schedule.mark_polled(export_id, now)
        self.ready_at = now + self.limiter.pause(self.schedule.ids_per_second, now, min(len(self.ends), 100) or 1)


def run(token, triggerers, others=0.0):
    """Run until all jobs are known to be terminal; other clients send ``others`` requests per second."""
    requests, next_other = 0, 0.0
    while waiting := [each for each in triggerers if each.ends]:
        first = min(waiting, key=lambda each: each.next_at)
        while others and next_other <= first.next_at:
            token.spend(next_other)
            next_other += 1 / others
        first.poll(token, first.next_at)
        requests += 1
    late = sorted(seconds for each in triggerers for seconds in each.late)
    return requests, late[len(late) // 2], late[int(len(late) * 0.99)]


def test_ten_thousand_long_jobs_inside_the_limit():
    token = Token()
    requests, p50, p99 = run(token, [Triggerer(random.Random(1), 10_000, 600.0)])
    assert token.throttled == 0
    assert requests < 2000
    assert p50 <= 7
    assert p99 <= 25


def test_two_triggerers_share_the_limit_evenly():
    token, rng = Token(), random.Random(2)
    pair = [Triggerer(rng, 5000, 600.0), Triggerer(rng, 5000, 600.0)]
    _, p50, p99 = run(token, pair)
    assert token.throttled == 0
    assert p50 <= 7
    assert p99 <= 25
    first, second = (sum(each.late) for each in pair)
    assert 0.9 < first / second < 1.1


def test_three_triggerers_and_a_worker_that_submits():
    token, rng = Token(), random.Random(3)
    run(token, [Triggerer(rng, 3000, 600.0) for _ in range(3)], others=0.3)
    assert token.throttled == 0


def test_a_bulk_call_that_costs_one_request_per_item():
    token = Token(by_items=True)
    _, p50, p99 = run(token, [Triggerer(random.Random(4), 1000, 600.0)])
    assert token.throttled == 0
    assert p50 < 330
    assert p99 < 700


def test_a_constant_ten_thousand_jobs_are_polled_in_turn():
    token = Token()
    triggerer = Triggerer(random.Random(5), 10_000, 1.0)
    triggerer.ends = dict.fromkeys(triggerer.ends, math.inf)
    cycles = []
    while triggerer.next_at < 900:
        triggerer.poll(token, triggerer.next_at)
        cycles.append(triggerer.schedule.observed_interval)
    assert token.throttled == 0
    assert max(cycles) < 60


def test_short_jobs_need_no_more_than_their_share_of_requests():
    token = Token(limit=10**6)
    rng = random.Random(6)
    triggerer = Triggerer(rng, 10_000, 60.0)
    ends = dict(triggerer.ends)
    begins = {str(number): 10.0 * number / 10_000 for number in range(10_000)}
    requests, p50, p99 = run(token, [triggerer])
    cycles = sum(
        math.ceil(sum(begins[each] <= now < ends[each] + 10 for each in ends) / 100) for now in range(6, 90, 10)
    )
    assert requests <= cycles
    assert p50 <= 5.2
    assert p99 <= 10.2
