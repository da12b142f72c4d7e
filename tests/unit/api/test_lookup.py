"""One bad id in a shared poll affects only itself and costs a bounded number of requests."""

from __future__ import annotations

import random

import pytest

from airflow_sb_provider.api.lookup import Lookup
from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesConnectionError,
    SevenBridgesForbiddenError,
    SevenBridgesGatewayError,
    SevenBridgesMaintenanceError,
    SevenBridgesMalformedReply,
    SevenBridgesNotFoundError,
    SevenBridgesRateLimitError,
    SevenBridgesReplyTooLarge,
    SevenBridgesServerError,
    SevenBridgesUnreadableItem,
)

IDS = [f"e{number}" for number in range(100)]
REFUSALS = [
    SevenBridgesApiError(400, 90000),
    SevenBridgesForbiddenError(403, 9005),
    SevenBridgesNotFoundError(404, 9008),
    SevenBridgesApiError(422, 10217),
]
BREAKS = [SevenBridgesMalformedReply(200, message="NUL in a text"), SevenBridgesServerError(500, 90009)]


class Platform:
    """Answers requests; ``requests`` are the ids of each."""

    def __init__(self, *, poison=(), error=REFUSALS[0], missing=(), bad_items=None):
        self.poison, self.error, self.missing = set(poison), error, set(missing)
        self.bad_items = bad_items or {}
        self.requests = []

    def __call__(self, ids):
        self.requests.append(ids)
        if self.poison & set(ids):
            return self.error
        return [self.item(each) for each in ids]

    def item(self, each):
        if each in self.missing:
            return SevenBridgesUnreadableItem(200, message="missing")
        return self.bad_items.get(each) or ExportJob(each, "RUNNING")


def poll(platform, apart=None, ids=IDS, **options):
    """Poll once; return the results by id, and the lookup."""
    lookup = Lookup(ids, {} if apart is None else apart, **options)
    known = {}
    while due := lookup.next():
        answers = lookup.take(platform(due))
        assert not set(answers) & set(known)
        known.update(answers)
    return known, lookup


def healthy(known):
    return {each for each, answer in known.items() if isinstance(answer, ExportJob)}


def test_healthy_ids_are_polled_in_one_request():
    platform = Platform(bad_items={"e7": SevenBridgesNotFoundError(404, 9008)})
    known, _ = poll(platform)
    assert platform.requests == [IDS]
    assert list(known) == IDS
    assert healthy(known) == set(IDS) - {"e7"}


@pytest.mark.parametrize("error", [*REFUSALS, *BREAKS], ids=repr)
@pytest.mark.parametrize("bad", ["e0", "e49", "e50", "e99"])
def test_an_id_that_fails_the_request_is_isolated(error, bad):
    platform, apart = Platform(poison=[bad], error=error), {}
    known, _ = poll(platform, apart)
    assert len(platform.requests) <= 16
    assert healthy(known) == set(IDS) - {bad}
    assert known[bad].code == error.code
    assert known[bad].permanent is error.permanent
    assert list(apart) == [bad]


@pytest.mark.parametrize("error", [*REFUSALS, *BREAKS], ids=repr)
def test_an_isolated_id_costs_one_more_request_per_poll(error):
    platform, apart = Platform(poison=["e3"], error=error), {}
    poll(platform, apart)
    for _ in range(3):
        platform.requests.clear()
        known, _ = poll(platform, apart)
        assert [len(ids) for ids in platform.requests] == [99, 1]
        assert healthy(known) == set(IDS) - {"e3"}


def test_an_isolated_id_that_recovers_joins_the_shared_request():
    platform, apart = Platform(poison=["e3"]), {}
    poll(platform, apart)
    platform.poison.clear()
    assert healthy(poll(platform, apart)[0]) == set(IDS)
    platform.requests.clear()
    poll(platform, apart)
    assert [len(ids) for ids in platform.requests] == [100]


@pytest.mark.parametrize("error", [*REFUSALS, *BREAKS], ids=repr)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_several_bad_ids_are_isolated_in_a_few_polls_and_no_other_id_gets_their_error(error, count):
    random.seed(count)
    bad = set(IDS[:: 100 // count][:count])
    platform, apart = Platform(poison=bad, error=error), {}
    for _ in range(200):
        before = len(platform.requests)
        known, _ = poll(platform, apart)
        assert len(platform.requests) - before <= 26
        blamed = {each for each, answer in known.items() if not isinstance(answer, ExportJob) and answer.permanent}
        assert blamed <= bad
        if set(apart) == bad:
            break
    assert healthy(poll(platform, apart)[0]) == set(IDS) - bad


def test_when_every_id_is_rejected_requests_are_bounded_and_each_id_is_polled_in_turn():
    platform, apart = Platform(poison=IDS), {}
    rejected = set()
    for _ in range(20):
        platform.requests.clear()
        known, _ = poll(platform, apart)
        assert len(platform.requests) <= 26
        rejected |= set(known)
    assert rejected == set(IDS)


@pytest.mark.parametrize("error", BREAKS, ids=repr)
def test_an_error_of_all_ids_is_detected_in_three_requests(error):
    platform, apart = Platform(poison=IDS, error=error), {}
    known, _ = poll(platform, apart)
    assert known == dict.fromkeys(IDS, error)
    assert len(platform.requests) == 3
    assert apart == {}


@pytest.mark.parametrize(
    "error",
    [
        SevenBridgesAuthError(401, 90001),
        SevenBridgesRateLimitError(429, 1000),
        SevenBridgesMaintenanceError(503, 0),
        SevenBridgesGatewayError(404),
        SevenBridgesGatewayError(503),
        SevenBridgesConnectionError("dropped"),
        SevenBridgesApiError(302, message="redirected"),
    ],
    ids=repr,
)
def test_an_error_that_concerns_no_single_id_is_not_split(error):
    platform = Platform(poison=["e3"], error=error)
    known, lookup = poll(platform)
    assert platform.requests == [IDS]
    assert known == dict.fromkeys(IDS, error)
    assert lookup.ended_by is error


@pytest.mark.parametrize("count", [1, 2, 10, 50])
def test_ids_missing_from_a_response_are_requested_again(count):
    missing = IDS[-count:]

    class Forgetful(Platform):
        def __call__(self, ids):
            answer = super().__call__(ids)
            self.missing.clear()
            return answer

    platform = Forgetful(missing=missing)
    assert healthy(poll(platform)[0]) == set(IDS)
    assert [len(ids) for ids in platform.requests] == [100, count]


def test_an_id_that_stays_missing_gets_its_own_error():
    platform, apart = Platform(missing=["e5"]), {}
    for shared in (100, 99, 99):
        platform.requests.clear()
        known, _ = poll(platform, apart)
        assert [len(ids) for ids in platform.requests] == [shared, 1]
        assert isinstance(known["e5"], SevenBridgesUnreadableItem)
        assert not known["e5"].permanent
        assert healthy(known) == set(IDS) - {"e5"}


def test_isolated_ids_are_polled_in_turn():
    platform, apart = Platform(poison=IDS[:30]), dict.fromkeys(IDS[:30])
    reached = set()
    for _ in range(3):
        known, _ = poll(platform, apart)
        assert healthy(known) == set(IDS[30:])
        reached |= set(known) - healthy(known)
    assert reached == set(IDS[:30])


def test_an_unbounded_lookup_returns_a_result_for_every_id():
    bad = set(IDS[::2])
    platform = Platform(poison=bad)
    known, lookup = poll(platform, bounded=False)
    assert healthy(known) == set(IDS) - bad
    assert set(known) == set(IDS)
    assert lookup.ended_by is None
    assert len(platform.requests) < 200


def test_an_unbounded_lookup_ends_when_every_id_is_rejected():
    platform = Platform(poison=IDS)
    _, lookup = poll(platform, bounded=False)
    assert lookup.ended_by is platform.error
    assert len(platform.requests) < 40


def test_ids_whose_response_is_too_large_are_requested_in_tens():
    class Large(Platform):
        def __call__(self, ids):
            answer = super().__call__(ids)
            return answer if len(ids) <= 10 else SevenBridgesReplyTooLarge(200, message="too large")

    platform = Large()
    known, lookup = poll(platform)
    assert set(known) == set(IDS)
    assert [len(ids) for ids in platform.requests] == [100, *[10] * 10]
    assert not lookup.ended_by


def test_a_gateways_page_that_is_too_large_is_not_split():
    page = SevenBridgesReplyTooLarge(502, message="too large")
    platform = Platform(poison=IDS, error=page)
    poll(platform)
    assert len(platform.requests) == 1
