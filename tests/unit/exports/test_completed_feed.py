from __future__ import annotations

import json
import math
import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_sb_provider.api.calls import POLL
from airflow_sb_provider.api.models import ExportJob, Page, Volume
from airflow_sb_provider.exports import completed_feed
from airflow_sb_provider.exports.completed_feed import (
    IDS_PER_PAGE,
    MOST_PAGES,
    WINDOW,
    Checkpoint,
    CompletedFeed,
    completed_exports,
    export_event,
)

VOLUME = "demo/results"
START = 1_800_000_000
ORDERS = {
    "oldest first": lambda job: (job.finished_on, job.id),
    "newest first": lambda job: (-job.finished_on.timestamp(), job.id),
    "by start": lambda job: (job.started_on, job.id),
    "by id": lambda job: job.id,
}


def time_of(seconds):
    return datetime.fromtimestamp(seconds, UTC)


def job(number, finished, ran=1):
    # Ids are not in order of creation.
    name = f"{number * 2_654_435_761 % 2**32:08x}".rjust(32, "0")
    started = None if finished is None else time_of(finished - ran)
    return ExportJob(
        name,
        "COMPLETED",
        "5f" * 12,
        VOLUME,
        f"{number}.vcf",
        started_on=started,
        finished_on=None if finished is None else time_of(finished),
    )


class Platform:
    """A list of completed exports that changes while it is read."""

    def __init__(self, order, past=0):
        self.order = ORDERS[order]
        self.now = START
        self.jobs = [job(number, START - 1 - 60 * (past - number)) for number in range(past)]
        self.count = past
        self.requests = 0

    def complete(self, many=1, ran=1, late=0):
        made = [job(self.count + number, self.now - late, ran) for number in range(many)]
        self.count += many
        self.jobs += made
        return made

    def expire(self, many):
        self.jobs.sort(key=ORDERS["oldest first"])
        del self.jobs[:many]

    def page(self, offset):
        self.requests += 1
        listed = sorted(self.jobs, key=self.order)
        return Page(listed[offset : offset + 100], len(listed))


class Watcher:
    """The trigger without Airflow: the reported events and the state store."""

    def __init__(self, platform):
        self.platform = platform
        self.store = {}
        self.reported = []
        self.history = None
        self.most = 0
        self.start()

    def start(self):
        """Start, or start again after a kill: only the store remains."""
        head = self.store.get("")
        if head is None:
            checkpoint = Checkpoint(START)
            self.history = CompletedFeed(VOLUME, checkpoint)
            self.save()
        else:
            pages = {number: self.store.get(str(number)) for number in Checkpoint.numbers(head)}
            self.history = CompletedFeed(VOLUME, Checkpoint.read(head, pages))

    def save(self, writes=None):
        changes = self.history.checkpoint.changes()
        for key, value in changes[:writes]:
            assert len(json.dumps(value)) < 65536
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = json.loads(json.dumps(value))
        if writes is None:
            self.history.checkpoint.mark_saved()

    def step(self, most=completed_feed.EXPORTS_PER_EVENT):
        """Fetch a page; return the exports to report."""
        self.history.take(self.platform.page(self.history.next_offset), self.platform.now)
        return self.history.next_batch(most)

    def record(self, fresh, many=None):
        self.reported += [each.id for each in fresh[:many]]

    def cycle(self, meanwhile=lambda: None):
        before = self.platform.requests
        self.history.begin_cycle()
        while self.history.next_offset is not None:
            self.record(self.step())
            self.history.mark_announced()
            self.save()
            meanwhile()
        self.platform.now += 60
        self.most = max(self.most, self.platform.requests - before)


def pages_of(total):
    return 1 if total <= 100 else 1 + math.ceil((total - 100) / 90)


def cycles_for(total):
    """Return the number of cycles until the scan reaches every page again."""
    return 2 + math.ceil(pages_of(total) / completed_feed.SCAN_PAGES)


@pytest.mark.parametrize("order", ["oldest first", "newest first"])
@pytest.mark.parametrize("past", [0, 99, 100, 150, 10_000])
def test_new_exports_in_a_list_ordered_by_time_are_reported_in_one_cycle(order, past):
    platform = Platform(order, past)
    watcher = Watcher(platform)
    watcher.cycle()
    assert watcher.reported == []
    for many in (1, 30, 250):
        made = platform.complete(many)
        watcher.cycle()
        assert sorted(watcher.reported) == sorted(each.id for each in made)
        watcher.reported = []
    assert watcher.most <= MOST_PAGES


@pytest.mark.parametrize("order", ["oldest first", "newest first"])
def test_exports_beyond_the_pages_of_a_cycle_are_reported_by_the_scan(order):
    platform = Platform(order, 1000)
    watcher = Watcher(platform)
    made = platform.complete(1500)
    for _ in range(cycles_for(2500)):
        watcher.cycle()
    assert sorted(watcher.reported) == sorted(each.id for each in made)
    assert watcher.most == MOST_PAGES


@pytest.mark.parametrize(("past", "requests"), [(50, 1), (100, 1), (150, 2), (10_000, 6), (100_000, 6)])
def test_the_requests_of_a_cycle_without_new_exports(past, requests):
    watcher = Watcher(Platform("newest first", past))
    watcher.cycle()
    watcher.cycle()
    assert watcher.most == requests


@pytest.mark.parametrize("order", ["by id", "by start"])
def test_a_new_export_in_a_list_in_any_other_order_is_reported_by_the_scan(order):
    platform = Platform(order, 3000)
    watcher = Watcher(platform)
    for number in range(30):
        # In a list ordered by start, it is in the middle.
        [made] = platform.complete(ran=60 * (100 * number + 50))
        for _ in range(cycles_for(len(platform.jobs))):
            watcher.cycle()
        assert watcher.reported == [made.id]
        watcher.reported = []


def test_a_scan_that_takes_longer_than_the_window_misses_nothing():
    """An export listed behind the position of the scan does not count as read when the scan ends."""
    platform = Platform("by id", 3000)
    watcher = Watcher(platform)
    made = []
    for _ in range(60):
        platform.now += WINDOW
        made += platform.complete()
        watcher.cycle()
    for _ in range(cycles_for(3060)):
        watcher.cycle()
    assert sorted(watcher.reported) == sorted(each.id for each in made)
    assert watcher.history.checkpoint.since > START


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_exports_that_completed_during_a_long_stop_are_reported(order):
    platform = Platform(order, 500)
    watcher = Watcher(platform)
    watcher.cycle()
    made = []
    for _ in range(60):
        platform.now += 86_400
        made += platform.complete(5)
    watcher.start()
    for _ in range(cycles_for(800)):
        watcher.cycle()
    assert sorted(watcher.reported) == sorted(each.id for each in made)


@pytest.mark.parametrize("order", ["oldest first", "by id"])
def test_a_list_that_shrinks_during_a_scan_hides_no_export_permanently(order):
    """Every scan misses some pages, so none may advance the checkpoint."""
    platform = Platform(order, 4000)
    watcher = Watcher(platform)
    made = []
    for _ in range(10):
        platform.now += WINDOW
        made += platform.complete(40)
        watcher.cycle(
            lambda: platform.expire(min(90, sum(each.finished_on < time_of(START) for each in platform.jobs)))
        )
    for _ in range(2 * cycles_for(len(platform.jobs))):
        watcher.cycle()
    assert sorted(watcher.reported) == sorted(each.id for each in made)


def test_the_first_start_reports_no_earlier_exports_except_of_the_same_second():
    platform = Platform("oldest first", 10)
    made = platform.complete()
    watcher = Watcher(platform)
    watcher.cycle()
    assert watcher.reported == [made[0].id]


def test_an_export_that_is_listed_late_is_reported():
    platform = Platform("newest first")
    watcher = Watcher(platform)
    for _ in range(60):
        platform.complete()
        watcher.cycle()
    platform.now += WINDOW
    watcher.cycle()
    [late] = platform.complete(late=WINDOW)
    watcher.cycle()
    assert late.id in watcher.reported
    assert len(watcher.reported) == len(set(watcher.reported)) == 61


@settings(max_examples=100, deadline=None)
@given(
    order=st.sampled_from(sorted(ORDERS)),
    past=st.integers(0, 900),
    seed=st.randoms(use_true_random=False),
    cycles=st.integers(1, 25),
)
def test_each_export_is_reported_once_however_the_list_shifts(order, past, seed, cycles):
    platform = Platform(order, past)
    watcher = Watcher(platform)
    made = []

    def meanwhile():
        platform.now += seed.choice((0, 0, 1, 7))
        made.extend(
            platform.complete(
                seed.choice((0, 0, 0, 1, 3, 40)), ran=seed.choice((1, 600, 30_000)), late=seed.randrange(300)
            )
        )
        # Only earlier jobs expire: a new one stays listed until it is read.
        platform.expire(
            min(seed.choice((0, 0, 1, 30)), sum(each.finished_on < time_of(START - 300) for each in platform.jobs))
        )

    for _ in range(cycles):
        watcher.cycle(meanwhile)
    for _ in range(2 * cycles_for(len(platform.jobs))):
        watcher.cycle()
    due = {each.id for each in made if each.finished_on >= time_of(START)}
    assert due <= set(watcher.reported)
    assert len(watcher.reported) == len(set(watcher.reported))
    assert watcher.most <= MOST_PAGES


@settings(max_examples=60, deadline=None)
@given(order=st.sampled_from(sorted(ORDERS)), past=st.integers(0, 500), seed=st.randoms(use_true_random=False))
def test_a_kill_at_any_step_loses_no_export_and_repeats_only_the_interrupted_batch(order, past, seed):
    """The process is killed before a page, before its events, between its events or between two writes to the store."""
    platform = Platform(order, past)
    watcher = Watcher(platform)
    made, may_repeat = [], set()
    for _ in range(50):
        platform.now += seed.choice((0, 1, 60))
        made += platform.complete(seed.choice((0, 0, 0, 1, 2, 120)))
        if watcher.history.next_offset is None:
            watcher.history.begin_cycle()
        fresh = watcher.step(seed.choice((0, 20, 200)))
        kill = seed.choice(("none", "none", "none", "between", "writing"))
        if kill == "none":
            watcher.record(fresh)
            watcher.history.mark_announced()
            watcher.save()
            continue
        many = seed.randrange(len(fresh) + 1) if kill == "between" else len(fresh)
        watcher.record(fresh, many)
        may_repeat |= {each.id for each in fresh[:many]}
        if kill == "writing":
            watcher.history.mark_announced()
            watcher.save(seed.randrange(len(watcher.history.checkpoint.changes()) + 1))
        watcher.start()
    for _ in range(2 * cycles_for(len(platform.jobs))):
        watcher.cycle()
    assert {each.id for each in made} == set(watcher.reported)
    repeated = {each for each, times in Counter(watcher.reported).items() if times > 1}
    assert repeated <= may_repeat


def test_the_checkpoint_stays_small():
    platform = Platform("newest first", 1000)
    watcher = Watcher(platform)
    for _ in range(300):
        platform.now += WINDOW // 20
        platform.complete(30)
        watcher.cycle()
        if len(platform.jobs) > 1000:
            platform.expire(len(platform.jobs) - 1000)
    assert len(watcher.reported) == len(set(watcher.reported)) == 300 * 30
    remembered = sum(len(page) for key, page in watcher.store.items() if key)
    # The ids of the window and of a scan (3 cycles), and the rest of a page.
    assert remembered <= 30 * (20 + 5) + IDS_PER_PAGE
    assert set(watcher.store) == {"", *map(str, watcher.store[""]["pages"])}


def test_many_exports_are_reported_in_batches_the_earliest_first():
    platform = Platform("newest first")
    watcher = Watcher(platform)
    made = []
    for _ in range(10):
        platform.now += WINDOW
        made += platform.complete(5)
    made.sort(key=ORDERS["oldest first"])
    first = watcher.step(30)
    assert {each.id for each in first} < {each.id for each in made}
    assert max(each.finished_on for each in first) == made[29].finished_on
    watcher.record(first)
    watcher.history.mark_announced()
    watcher.save()
    # The scan is complete, but exports that are not reported yet must stay in the store.
    watcher.start()
    watcher.cycle()
    assert sorted(watcher.reported) == sorted(each.id for each in made)


def test_ids_are_removed_only_after_the_new_start_time_is_written():
    checkpoint = Checkpoint(START)
    checkpoint.add({"a": START})
    assert [key for key, _ in checkpoint.changes()] == ["1", ""]
    checkpoint.mark_saved()
    checkpoint.advance(START + 1)
    assert checkpoint.changes() == [("", {"since": START + 1, "pages": []}), ("1", None)]


def test_a_cycle_without_new_exports_writes_nothing():
    watcher = Watcher(Platform("newest first", 300))
    watcher.cycle()
    watcher.cycle()
    assert watcher.history.checkpoint.changes() == []


def test_a_list_in_random_order_does_not_advance_the_checkpoint():
    """No scan is complete, so the start time of the checkpoint must not advance."""
    platform = Platform("newest first", 500)
    dice = random.Random(7)
    platform.order = lambda job: dice.random()
    watcher = Watcher(platform)
    platform.complete(20)
    platform.now += 2 * WINDOW
    platform.complete(20)
    for _ in range(100):
        watcher.cycle()
    assert watcher.store[""]["since"] == START
    assert len(watcher.reported) == len(set(watcher.reported)) == 40


def test_a_list_whose_pages_are_not_contiguous_does_not_advance_the_checkpoint():
    """Each response is another part of an ordered list."""
    platform = Platform("oldest first", 500)
    watcher = Watcher(platform)
    dice = random.Random(7)
    platform.now += 2 * WINDOW
    listed = sorted(platform.jobs + platform.complete(40), key=ORDERS["by id"])
    platform.page = lambda offset: Page([each for each in listed if dice.random() < 0.2][:100], len(listed))
    for _ in range(60):
        watcher.history.begin_cycle()
        while watcher.history.next_offset is not None:
            watcher.step()
    assert watcher.history.checkpoint.since == START


@pytest.mark.parametrize("alike", [8, 60])
def test_exports_in_a_list_ordered_by_a_shared_time_are_reported(alike):
    """Jobs with the same time change places in each response: no scan is complete, but each reads the new job."""
    platform = Platform("oldest first", 3000)
    dice = random.Random(7)
    platform.order = lambda job: (job.started_on.timestamp() // (60 * alike), dice.random())
    watcher = Watcher(platform)
    for number in range(4):
        platform.now += 2 * WINDOW
        [made] = platform.complete(ran=platform.now - START + 60 * (250 * number + 120))
        for _ in range(3 * cycles_for(3000)):
            watcher.cycle()
        assert watcher.reported == [made.id]
        watcher.reported = []
    assert watcher.history.checkpoint.since == START


def test_an_export_in_a_list_whose_order_changes_once_is_reported():
    platform = Platform("by id", 2000)
    watcher = Watcher(platform)
    watcher.cycle()
    watcher.cycle()
    platform.order = ORDERS["by start"]
    [made] = platform.complete(ran=60_000)
    for _ in range(10 + 2 * cycles_for(2000)):
        watcher.cycle()
    assert watcher.reported == [made.id]
    platform.now += 2 * WINDOW
    platform.complete()
    for _ in range(2 * cycles_for(2000)):
        watcher.cycle()
    assert watcher.store[""]["since"] > START


def test_a_finish_time_in_the_future_does_not_stop_the_feed():
    platform = Platform("newest first")
    watcher = Watcher(platform)
    platform.jobs.append(job(10**6, START + 10**7))
    for _ in range(3):
        platform.now += WINDOW
        platform.complete()
        watcher.cycle()
        watcher.cycle()
    assert len(watcher.reported) == 4


def test_exports_that_do_not_match_the_filters_are_ignored():
    watcher = Watcher(platform := Platform("newest first"))
    [ours] = platform.complete()
    for changed in ({"state": "RUNNING"}, {"volume": "demo/archive"}, {"finished_on": None}):
        fields = {name: getattr(ours, name) for name in ExportJob.__slots__}
        platform.jobs.append(ExportJob(**{**fields, "id": str(changed), **changed}))
    platform.order = lambda job: job.id
    watcher.cycle()
    assert watcher.reported == [ours.id]
    assert watcher.history.undated == "{'finished_on': None}"


@pytest.mark.parametrize("listed", ["twice", "without a total"])
def test_a_page_with_a_duplicate_or_without_a_total_is_read(listed):
    watch = CompletedFeed(VOLUME, Checkpoint(START))
    one = job(1, START)
    page = Page([one, one], 2) if listed == "twice" else Page([one], None)
    watch.take(page, START)
    assert watch.next_batch() == [one]
    assert watch.next_offset is None


@pytest.mark.parametrize(
    ("count", "total", "following", "whole"),
    [
        (3, 3, None, True),
        (3, None, None, True),
        (3, 250, None, False),
        (3, 3, "https://api/v2/x", False),
        (3, 2, "https://api/v2/x", False),
        (3, None, "https://api/v2/x", False),
        (0, 1, None, False),
    ],
)
def test_a_list_that_is_known_to_be_incomplete_does_not_advance_the_checkpoint(count, total, following, whole):
    """The checkpoint advances only after a list was read to its end."""
    watch = CompletedFeed(VOLUME, Checkpoint(START))
    for _ in range(5):
        watch.take(
            Page([job(number, START + 2 * WINDOW) for number in range(count)], total, following), START + 2 * WINDOW
        )
        watch.next_batch()
        watch.mark_announced()
        watch.begin_cycle()
    assert (watch.checkpoint.since > START) == whole


@pytest.mark.parametrize(
    ("head", "pages"),
    [
        ("?", {}),
        ({}, {}),
        ({"since": 1}, {}),
        ({"since": "now", "pages": []}, {}),
        ({"since": None, "pages": []}, {}),
        ({"since": 1, "pages": [1]}, {1: ["x"]}),
        ({"since": 1, "pages": [1]}, {1: {"x": None}}),
    ],
)
def test_invalid_values_are_not_a_checkpoint(head, pages):
    with pytest.raises(ValueError, match=r"is not a checkpoint|invalid literal"):
        Checkpoint.read(head, pages)


def test_the_request_for_completed_exports():
    call = completed_exports(VOLUME, 200)
    assert call.url("https://api/v2") == (
        "https://api/v2/storage/exports?fields=_all&offset=200&limit=100&volume=demo%2Fresults&state=COMPLETED"
    )
    body = {"items": [{"id": "x", "state": "COMPLETED"}], "links": []}
    page, date = call.read(body, {"Date": "Tue, 15 Nov 1994 08:12:31 GMT"})
    assert (page.items[0].id, date) == ("x", 784_887_151)
    assert call.bounds == POLL
    no_dates = ["", "soon", "Fri, 31 Dec 99999 23:59:59 GMT", "Fri, 31 Dec 2020 23:59:59 -" + "9" * 20]
    assert [call.read(body, headers)[1] for headers in ({}, *({"Date": each} for each in no_dates))] == [None] * 5


def test_the_event_of_an_export():
    done = ExportJob(
        "x",
        "COMPLETED",
        "5f",
        VOLUME,
        "a/b.vcf",
        started_on=time_of(0),
        finished_on=time_of(60),
        result={"id": "5f", "size": 7},
    )
    assert export_event(done, Volume(VOLUME, service="s3", bucket="bucket", prefix="p")) == {
        "export_id": "x",
        "file": "5f",
        "volume": VOLUME,
        "location": "a/b.vcf",
        "uri": "s3://bucket/p/a/b.vcf",
        "size": 7,
        "started_on": "1970-01-01T00:00:00+00:00",
        "finished_on": "1970-01-01T00:01:00+00:00",
    }
