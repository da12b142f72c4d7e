"""Late, wrong and missing responses, different clocks, and other clients, for one export and for many.

Each test violates one of the assumptions in docs/assumptions.md.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.engine.submitter import MAX_POSTS
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators import base
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from tests.integration.in_process import conftest
from tests.integration.in_process.conftest import GATEWAY_TIMEOUT, run_until_polled, use_token
from tests.integration.in_process.test_exactly_once import (
    COPY_OVER,
    MOVE_OVER,
    SUBMISSIONS,
    Killed,
    killed_after_the_submission,
    posts,
    trouble,
)

BYTES, OLD, RIVAL = b"some bytes", b"old", b"the only copy of a rival"
MOVE, COPY = {}, {"copy_only": True}
VOLUME, PLACE = "demo/results", "a/b.txt"
CREATE = "/v2/bulk/storage/exports/create"
POLL = "/v2/bulk/storage/exports/get"
SKEWS = pytest.mark.parametrize("skew", [600, -600], ids=["ahead", "behind"])


@pytest.fixture(params=["single", "bulk"])
def kind(request):
    return request.param


@pytest.fixture
def file(platform):
    return platform.add_file("a.txt", BYTES).id


@pytest.fixture
def task(kind, file):
    """Create the single or the bulk operator for one file."""

    def make(deferrable=False, volume=VOLUME, location=PLACE, **fields):
        common = {"task_id": "export", "retries": 2, "poll_interval": 0.1, "deferrable": deferrable}
        if "timeout" in fields:
            common["timeout"] = fields.pop("timeout")
        if kind == "single":
            return SevenBridgesExportOperator(file=file, volume=volume, location=location, **common, **fields)
        wanted = {"file": file, "volume": volume, "location": location, **fields}
        return SevenBridgesBulkExportOperator(exports=[wanted], **common)

    return make


@pytest.fixture(autouse=True)
def only_short_pauses(monkeypatch):
    """Fail a test whose task pauses for longer than these time-outs require."""

    def pause(seconds):
        assert seconds < 5, f"a pause of {seconds:.0f} s"
        time.sleep(seconds)

    clock = SimpleNamespace(time=time.time, sleep=pause)
    monkeypatch.setattr("airflow_sb_provider.operators.base.time", clock)


@pytest.fixture
def patient(platform, monkeypatch):
    """Set longer time-outs: 1.2 s for a gateway, and 0.4 s until reads are consistent."""
    use_token(monkeypatch, platform, platform.token, gateway_timeout=1.2)


def bulk(ids, **fields):
    wanted = [{"file": each, "volume": VOLUME, "location": f"many/{each}"} for each in ids]
    return SevenBridgesBulkExportOperator(
        **{"task_id": "export", "exports": wanted, "retries": 2, "poll_interval": 0.1, "deferrable": False, **fields}
    )


def new_files(platform, count):
    return [platform.add_file(f"{number:03}.txt", BYTES, "demo/many").id for number in range(count)]


def on_submission(platform, act):
    platform.on("request", lambda record: act() if record.method == "POST" and record.path in SUBMISSIONS else None)


def until(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(platform):
    until(lambda: platform.exports and all(job.finished_on for job in platform.exports))


def accepted(platform):
    return Counter(job.file for job in platform.exports)


def at_place(platform, location=PLACE):
    return platform.object_bytes(VOLUME, location)


def killed_while_it_waits(runner, operator, monkeypatch):
    """Kill the worker before its first poll, when the record has the job's id."""

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("airflow_sb_provider.operators.base.wait", die)
        with pytest.raises(Killed):
            runner.run(operator)


def killed_before_the_submission(runner, operator, monkeypatch):
    """Kill the worker after it wrote its record and before it sends the request."""
    real = SevenBridgesHook.send

    def send(self, call, **options):
        if call.method == "POST" and f"/v2/{call.path}" in SUBMISSIONS:
            raise Killed
        return real(self, call, **options)

    with monkeypatch.context() as patch:
        patch.setattr(SevenBridgesHook, "send", send)
        with pytest.raises(Killed):
            runner.run(operator)


# Endless failures


@pytest.mark.parametrize("intent", [MOVE_OVER, COPY_OVER], ids=str)
@pytest.mark.parametrize("fate", ["rejected", "failed in the job", "lost"])
def test_an_object_written_after_the_check_is_never_overwritten(platform, runner, task, deferrable, intent, fate):
    platform.knobs.update(overwrite_deletes_first=True, refuse_in_job=fate == "failed in the job")
    if fate == "lost":
        trouble(platform, "drop")
    on_submission(platform, lambda: platform.put_object(VOLUME, PLACE, RIVAL))
    words = "Check the object there" if fate == "lost" and intent is MOVE_OVER else "has appeared there since"
    with pytest.raises(AirflowException, match=words):
        runner.run(task(deferrable, **intent))
    assert at_place(platform) == RIVAL
    assert len(posts(platform)) == 1


NO_RESPONSE = [
    ("html", {"status": 502}),
    ("drop", {}),
    ("error", {"code": 0}),
    ("text", {}),
    ("error", {"status": 500}),
]


@pytest.mark.parametrize("intent", [MOVE, COPY, MOVE_OVER, COPY_OVER], ids=str)
def test_responses_lost_in_different_ways_fail_the_task(platform, runner, task, deferrable, intent):
    for number, (kind, options) in enumerate(NO_RESPONSE * 2):
        for path in SUBMISSIONS:
            platform.trouble(kind, path=path, after=number, **options)
    with pytest.raises(AirflowException, match=r"in doubt|IN_DOUBT|may or may not have accepted|HTTP 503"):
        runner.run(task(deferrable, **intent))
    assert len(posts(platform)) == (1 if intent is MOVE_OVER else 2)
    assert not platform.exports


@pytest.mark.parametrize("intent", [MOVE, COPY, MOVE_OVER, COPY_OVER], ids=str)
def test_jobs_that_fail_after_lost_responses_fail_the_task(platform, runner, task, deferrable, intent):
    """Every second response is a gateway's page, and every accepted job fails."""
    for number in range(0, 20, 2):
        for path in SUBMISSIONS:
            platform.trouble("html", path=path, status=502, after=number)
    platform.trouble("job_fails", code=9107, times=0)
    with pytest.raises(AirflowException):
        runner.run(task(deferrable, **intent))
    assert 1 <= len(posts(platform)) <= MAX_POSTS


# Clocks and pauses


@SKEWS
@pytest.mark.parametrize("intent", [MOVE, COPY, COPY_OVER], ids=str)
def test_a_platform_whose_clock_is_wrong_does_not_change_the_wait(platform, runner, task, deferrable, skew, intent):
    platform.knobs.date_skew_seconds = skew
    for path in SUBMISSIONS:
        platform.trouble("drop", path=path)
    assert runner.run(task(deferrable, **intent))["state"] == "COMPLETED"
    first, second = posts(platform)
    assert second.time - first.time >= GATEWAY_TIMEOUT
    assert len(platform.exports) == 1


@SKEWS
@pytest.mark.parametrize("dated", [True, False], ids=["with Date", "without Date"])
@pytest.mark.parametrize("intent", [MOVE, MOVE_OVER, COPY], ids=str)
def test_workers_whose_clocks_differ_submit_once(platform, runner, task, monkeypatch, skew, dated, intent):
    platform.knobs.no_date_header = not dated
    if intent is MOVE_OVER:
        platform.put_object(VOLUME, PLACE, OLD)
    for path in SUBMISSIONS:
        platform.trouble("late_accept", path=path, seconds=0.3)
    with monkeypatch.context() as patch:
        patch.setattr("airflow_sb_provider.hooks.clock.time", SimpleNamespace(time=lambda: time.time() + skew))
        killed_after_the_submission(runner, task(**intent), monkeypatch)
    assert runner.run(task(**intent))["state"] == "COMPLETED"
    assert len(platform.exports) == 1
    assert at_place(platform) == BYTES


@pytest.mark.parametrize("intent", [MOVE, COPY, MOVE_OVER, COPY_OVER], ids=str)
def test_maintenance_does_not_mean_that_nothing_was_accepted(platform, runner, task, deferrable, intent):
    platform.knobs.running_seconds = 0.3
    for path in SUBMISSIONS:
        platform.trouble("error", path=path, code=0, done=True)
    assert runner.run(task(deferrable, **intent))["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1


@pytest.fixture
def slow_store(runner, monkeypatch):
    """Make the first writes of a submission to the store take a minute of the worker's clock."""
    late, slow = [0.0], {"left": 1, "writes": 0}
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late[0], time=time.time, sleep=lambda seconds: None)
    monkeypatch.setattr("airflow_sb_provider.engine.submitter.time", clock)
    real = runner.store.set

    def write(key, value):
        real(key, value)
        if "'sent'" in str(value):
            slow["writes"] += 1
            if slow["left"]:
                slow["left"] -= 1
                late[0] += 60

    runner.store.set = write
    return slow


@pytest.mark.parametrize("intent", [MOVE, COPY, COPY_OVER], ids=str)
def test_a_record_that_was_written_slowly_is_written_again(platform, runner, task, slow_store, deferrable, intent):
    seen = []
    on_submission(platform, lambda: seen.append(slow_store["writes"]))
    assert runner.run(task(deferrable, **intent))["state"] == "COMPLETED"
    assert seen == [2], "the second record, a quick one, is followed by the request"
    assert len(platform.exports) == 1


def test_records_that_are_always_slow_fail_the_task_before_any_request(platform, runner, task, slow_store):
    slow_store["left"] = 1000
    with pytest.raises(AirflowException, match="too long to write the record") as caught:
        runner.run(task())
    assert "Still" not in str(caught.value)
    assert not posts(platform)


# Wrong lists


@pytest.mark.parametrize("intent", [MOVE, COPY, MOVE_OVER], ids=str)
@pytest.mark.parametrize("dies", [True, False], ids=["worker dies", "response lost"])
def test_lists_that_show_a_new_job_late(platform, runner, task, patient, monkeypatch, deferrable, intent, dies):
    platform.knobs.update(list_lag_seconds=1.0, running_seconds=3)
    if dies:
        killed_after_the_submission(runner, task(**intent), monkeypatch)
    else:
        for path in SUBMISSIONS:
            platform.trouble("lose_reply", path=path)
    result = runner.run(task(deferrable, **intent))
    assert result["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1


def test_a_job_that_completed_just_before_the_second_check(platform, runner, task, patient, monkeypatch, deferrable):
    """Lists do not show it any more, and its file does not show the alias yet."""
    platform.knobs.alias_lag_seconds = 0.7
    for path in SUBMISSIONS:
        platform.trouble("late_accept", path=path, seconds=1.1)
    killed_after_the_submission(runner, task(deferrable), monkeypatch)
    assert runner.run(task(deferrable))["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1


@pytest.mark.parametrize("intent", [MOVE, COPY, MOVE_OVER, COPY_OVER], ids=str)
def test_a_running_job_that_is_listed_as_pending_is_adopted(platform, runner, task, monkeypatch, deferrable, intent):
    platform.knobs.update(stale_states=True, running_seconds=1)
    killed_after_the_submission(runner, task(deferrable, **intent), monkeypatch)
    until(lambda: platform.exports[0].state == "RUNNING")
    assert runner.run(task(deferrable, **intent))["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1


def test_a_list_that_shows_less_than_its_total_leaves_doubt(platform, runner, task, deferrable):
    platform.knobs.total_lies = True
    for path in SUBMISSIONS:
        platform.trouble("drop", path=path)
    with pytest.raises(AirflowException, match=r"lists of exports in flight") as caught:
        runner.run(task(deferrable))
    assert not isinstance(caught.value, AirflowFailException)
    assert len(posts(platform)) == 1


def test_a_job_beyond_the_only_page_is_not_resubmitted(platform, runner, task, file, monkeypatch, deferrable):
    """120 exports are in flight, and the list shows the oldest 100 without a link to the next page."""
    platform.knobs.update(stuck=True, list_order="oldest", total_lies=True)
    others = new_files(platform, 120)
    SevenBridgesHook().start_exports(
        [{"file": each, "volume": VOLUME, "location": f"other/{each}"} for each in others], copy_only=True
    )
    killed_after_the_submission(runner, task(deferrable), monkeypatch)
    with pytest.raises(AirflowException, match=r"in doubt|IN_DOUBT"):
        runner.run(task(deferrable))
    assert accepted(platform) == Counter([*others, file])
    platform.knobs.update(stuck=False, total_lies=False)
    assert runner.run(task(deferrable))["state"] == "COMPLETED"
    assert len(platform.exports) == 121


# Late reads


def test_a_rejection_whose_cause_the_file_shows_late(platform, runner, task, patient, deferrable):
    """A proxy delivers the request twice; the second one is rejected because the first has moved the file."""
    platform.knobs.update(alias_lag_seconds=0.4, instant=True)
    for path in SUBMISSIONS:
        platform.trouble("deliver_twice", path=path, seconds=0.2, answered="second")
    assert runner.run(task(deferrable))["state"] == "COMPLETED"
    assert len(platform.exports) == 1
    assert at_place(platform) == BYTES


def test_an_adopted_move_whose_file_shows_it_late(platform, runner, task, patient, monkeypatch, deferrable):
    platform.knobs.update(alias_lag_seconds=0.4, running_seconds=1, omit="export.result")
    killed_after_the_submission(runner, task(deferrable), monkeypatch)
    assert runner.run(task(deferrable))["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1


def test_a_new_job_that_is_not_found_by_its_id_yet(platform, runner, task, monkeypatch, deferrable):
    monkeypatch.setattr("airflow_sb_provider.jobs.watch.REJECTED_FOR", 5.0)
    platform.knobs.job_lag_seconds = 0.8
    assert runner.run(task(deferrable))["state"] == "COMPLETED"
    assert len(platform.exports) == 1


@pytest.mark.parametrize("intent", [MOVE, COPY, MOVE_OVER, COPY_OVER], ids=str)
def test_a_recorded_job_that_is_not_found_by_its_id_yet(
    platform, runner, task, patient, monkeypatch, deferrable, intent
):
    killed_while_it_waits(runner, task(**intent), monkeypatch)
    ended(platform)
    platform.knobs.job_lag_seconds = time.time() - platform.exports[0].started_on.timestamp() + 0.3
    assert runner.run(task(deferrable, **intent))["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1


def test_an_object_that_appears_after_completed(platform, runner, task, monkeypatch, deferrable, kind):
    monkeypatch.setattr("airflow_sb_provider.engine.result.APPEARS_WITHIN", 5.0)
    monkeypatch.setattr("airflow_sb_provider.engine.result.OBJECT_RECHECK_INTERVAL", 0.05)
    platform.knobs.object_lag_seconds = 0.6
    result = runner.run(task(deferrable))
    assert result["state"] == "COMPLETED"
    assert result["size" if kind == "single" else "bytes"] == len(BYTES)


def test_a_worker_that_pauses_after_it_has_not_found_the_object(platform, runner, task, monkeypatch, deferrable, kind):
    """The object appears while the worker is paused: what it read before does not count any more."""
    read, reads, now = SevenBridgesHook.find_volume_object, [], [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: None)
    monkeypatch.setattr("airflow_sb_provider.engine.result.time", clock)
    monkeypatch.setattr("airflow_sb_provider.engine.result.APPEARS_WITHIN", 30.0)

    def read_then_pause(hook, *arguments, **options):
        reads.append(arguments)
        now[0] += 400.0
        return read(hook, *arguments, **options) if len(reads) > 1 else None

    monkeypatch.setattr(SevenBridgesHook, "find_volume_object", read_then_pause)
    assert runner.run(task(deferrable))["state"] == "COMPLETED"
    assert len(reads) == (2 if kind == "single" else 0)


def test_a_moved_file_whose_object_appears_late(platform, runner, task, patient, monkeypatch, deferrable):
    killed_after_the_submission(runner, task(deferrable), monkeypatch)
    ended(platform)
    platform.knobs.object_lag_seconds = time.time() - platform.exports[0].finished_on.timestamp() + 0.3
    assert runner.run(task(deferrable))["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1


# The record


@pytest.mark.parametrize("value", ["s3://bucket/state/7", {"version": 2}, None], ids=repr)
def test_a_record_that_is_damaged_while_the_task_is_deferred(platform, runner, task, monkeypatch, value):
    real = conftest.first_event

    async def spoil(trigger):
        event = await real(trigger)
        for key in list(runner.store.values):
            runner.store.values[key] = value
        return event

    with monkeypatch.context() as patch:
        patch.setattr(conftest, "first_event", spoil)
        with pytest.raises(AirflowException, match="does not have the complete record") as caught:
            runner.run(task(deferrable=True))
    assert not isinstance(caught.value, AirflowFailException)
    assert runner.run(task(deferrable=True))["state"] == "COMPLETED"
    assert len(platform.exports) == 1


@pytest.mark.parametrize("intent", [MOVE, COPY, MOVE_OVER], ids=str)
def test_without_a_store_a_retry_waits_for_what_may_be_accepted(
    platform, storeless_runner, task, monkeypatch, deferrable, intent
):
    for path in SUBMISSIONS:
        platform.trouble("late_accept", path=path, seconds=0.3)
    platform.knobs.running_seconds = 0.5
    killed_after_the_submission(storeless_runner, task(deferrable, **intent), monkeypatch)
    assert storeless_runner.run(task(deferrable, **intent))["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1


# The right object


@pytest.mark.parametrize("joined", [True, False], ids=["slash", "no slash"])
def test_a_job_whose_destination_may_differ_is_not_adopted(platform, runner, task, file, deferrable, joined):
    platform.add_volume("demo/prefixed", "shared", prefix="data")
    platform.add_volume("demo/plain", "shared")
    platform.knobs.update(stuck=True, prefix_joined_with_slash=joined)
    job = SevenBridgesHook().start_export(file, "demo/prefixed", "1/x")
    runner.try_number = 1
    with pytest.raises(AirflowException, match=f"Export {job.id} of the same file to demo/prefixed/1/x is PENDING"):
        runner.run(task(deferrable, volume="demo/plain", location="data1/x"))
    assert not posts(platform)[1:]


def test_a_recorded_copy_that_another_export_replaced_is_doubt(platform, runner, task, monkeypatch, deferrable):
    killed_while_it_waits(runner, task(**COPY), monkeypatch)
    ended(platform)
    other = platform.add_file("other.txt", b"OTHER FILE").id
    SevenBridgesHook().start_export(other, VOLUME, PLACE, copy_only=True, overwrite=True)
    ended(platform)
    with pytest.raises(AirflowException, match="another export to the same place has ended since"):
        runner.run(task(deferrable, **COPY))
    assert at_place(platform) == b"OTHER FILE"
    assert len(platform.exports) == 2


# Other clients, and a copy with overwrite onto the file's own move


def test_an_object_written_while_a_retry_waits_is_not_overwritten(platform, runner, task, monkeypatch, deferrable):
    killed_before_the_submission(runner, task(**COPY_OVER), monkeypatch)
    platform.put_object(VOLUME, PLACE, RIVAL)
    with pytest.raises(AirflowFailException, match="has appeared there since"):
        runner.run(task(deferrable, **COPY_OVER))
    assert at_place(platform) == RIVAL
    assert not platform.exports


@pytest.mark.parametrize("intent", [COPY_OVER, MOVE_OVER], ids=str)
def test_an_overwriting_export_onto_its_own_move_when_the_alias_appears_late(
    platform, runner, task, file, patient, deferrable, intent
):
    """The object there is the file's only copy, but the file does not show the alias yet."""
    platform.knobs.update(overwrite_deletes_first=True, alias_lag_seconds=0.4)
    SevenBridgesHook().start_export(file, VOLUME, PLACE)
    ended(platform)
    with suppress(AirflowException):
        runner.run(task(deferrable, **intent))
    assert at_place(platform) == BYTES
    assert len(platform.exports) == 1


def test_a_copy_onto_its_own_move_that_is_in_flight(platform, runner, task, file, deferrable):
    platform.knobs.overwrite_deletes_first = True
    run_until_polled(platform)
    SevenBridgesHook().start_export(file, VOLUME, PLACE)
    result = runner.run(task(deferrable, **COPY_OVER))
    assert result["state"] == "COMPLETED"
    assert at_place(platform) == BYTES
    assert len(platform.exports) == 1


def test_a_batch_copies_the_other_files_when_one_is_an_alias_of_its_destination(platform, runner, deferrable):
    platform.knobs.overwrite_deletes_first = True
    files = new_files(platform, 3)
    SevenBridgesHook().start_export(files[0], VOLUME, f"many/{files[0]}")
    ended(platform)
    wanted = [{"file": each, "volume": VOLUME, "location": f"many/{each}", **COPY_OVER} for each in files]
    with pytest.raises(AirflowFailException, match=r"1 of 3 files were not exported(.|\n)*alias"):
        runner.run(bulk(files, exports=wanted, deferrable=deferrable))
    assert [at_place(platform, f"many/{each}") for each in files] == [BYTES] * 3
    assert accepted(platform) == Counter(files)


# Messages


@pytest.mark.parametrize(
    ("fault", "options"),
    [("error", {"code": 90001}), ("error", {"code": 9020}), ("html", {"status": 404})],
    ids=["401", "403", "a gateway's 404"],
)
def test_an_error_after_a_lost_response_names_what_may_have_been_accepted(
    platform, runner, task, file, monkeypatch, deferrable, fault, options
):
    monkeypatch.setattr("airflow_sb_provider.engine.submitter.CHECK_PATIENCE", 1.0)
    platform.knobs.running_seconds = 30
    for path in SUBMISSIONS:
        platform.trouble("lose_reply", path=path)
    platform.trouble(fault, method="GET", path="/v2/storage/exports", times=0, **options)
    with pytest.raises(AirflowException) as caught:
        runner.run(task(deferrable))
    assert f"perhaps accepted, since that is not known yet: move of file {file} to {VOLUME}/{PLACE}" in str(
        caught.value
    )
    platform.troubles.clear()
    platform.knobs.running_seconds = 0.02
    assert runner.run(task(deferrable))["state"] == "COMPLETED"
    assert len(platform.exports) == 1


def test_a_second_call_that_is_rejected_does_not_hide_the_first(platform, runner, deferrable):
    platform.knobs.stuck = True
    files = new_files(platform, 150)
    platform.trouble("error", path=CREATE, code=90001, after=1)
    with pytest.raises(AirflowException, match=r"Still in flight at the Platform: exports .* and 90 more"):
        runner.run(bulk(files, deferrable=deferrable))
    assert len(platform.exports) == 100
    platform.knobs.stuck = False
    assert runner.run(bulk(files, deferrable=deferrable))["counts"] == {"COMPLETED": 150}
    assert accepted(platform) == Counter(files)


def too_many(platform, files):
    return {"max_files": 1}


def inactive(platform, files):
    platform.platform.volumes[VOLUME].active = False
    return {}


def empty(platform, files):
    return {"exports": None, "project": "demo/many", "name": ["none of these"], "volume": VOLUME}


def bad_input(platform, files):
    return {"exports": [{"file": files[0]}]}


def unreadable_switch(platform, files):
    return {"validate_only": "perhaps"}


@pytest.mark.parametrize("change", [too_many, inactive, empty, bad_input, unreadable_switch])
def test_a_retry_that_cannot_start_names_the_exports_in_flight(
    platform, runner, monkeypatch, deferrable, change, caplog, capsys
):
    platform.knobs.stuck = True
    files = new_files(platform, 2)
    killed_while_it_waits(runner, bulk(files), monkeypatch)
    fields = change(platform, files)
    ids = [job.id for job in platform.exports]
    try:
        result = runner.run(bulk(files, deferrable=False, timeout=0.5, **fields))
    except AirflowException as error:
        said = str(error)
    else:
        said = str(result)
    said += capsys.readouterr().out + caplog.text
    assert "till in flight at the Platform: exports" in said
    assert all(each in said for each in ids)
    assert len(platform.exports) == 2


@pytest.mark.parametrize("fields", [{"file": ""}, {"overwrite": "perhaps"}, {"sevenbridges_conn_id": ""}], ids=str)
def test_a_retry_of_a_single_export_that_cannot_start_names_it(platform, runner, export, monkeypatch, fields):
    platform.knobs.stuck = True
    killed_while_it_waits(runner, export(deferrable=False), monkeypatch)
    [job] = platform.exports
    with pytest.raises(AirflowException) as caught:
        runner.run(export(deferrable=False, **fields))
    assert f"As an earlier try recorded: Still in flight at the Platform: export {job.id}" in str(caught.value)


def test_an_xcom_that_cannot_be_written_does_not_hide_the_export(platform, runner, export, deferrable, capsys):
    platform.knobs.stuck = True

    def fail(key, value):
        if key == "export_id":
            raise OSError("the API server does not answer")

    runner._push = fail
    with pytest.raises(OSError, match="does not answer") as caught:
        runner.run(export(deferrable=deferrable))
    [job] = platform.exports
    said = capsys.readouterr().out + str(getattr(caught.value, "__notes__", ""))
    assert f"Still in flight at the Platform: export {job.id}" in said


def test_a_kill_during_the_request_logs_that_it_may_be_accepted(platform, runner, task, file, capsys):
    operator = task()
    on_submission(platform, operator.on_kill)
    assert runner.run(operator)["state"] == "COMPLETED"
    said = capsys.readouterr().out
    assert "the Platform cannot cancel what it submitted" in said
    assert f"perhaps accepted, since that is not known yet: move of file {file}" in said


# Copies


@SKEWS
@pytest.mark.parametrize("intent", [COPY, COPY_OVER], ids=str)
@pytest.mark.parametrize("fate", ["finished", "late"])
def test_a_copy_whose_response_is_lost_is_made_once(platform, runner, task, deferrable, skew, intent, fate):
    platform.knobs.date_skew_seconds = skew
    for path in SUBMISSIONS:
        platform.trouble("lose_reply" if fate == "finished" else "late_accept", path=path)
    result = runner.run(task(deferrable, **intent))
    assert result["state"] == "COMPLETED"
    assert len([job for job in platform.exports if job.state == "COMPLETED"]) == 1


@pytest.mark.parametrize("intent", [COPY, COPY_OVER], ids=str)
@pytest.mark.parametrize("recorded", [True, False], ids=["job recorded", "request recorded"])
def test_a_copy_is_a_success_though_its_file_was_deleted_since(
    platform, runner, task, file, monkeypatch, deferrable, intent, recorded
):
    kill = killed_while_it_waits if recorded else killed_after_the_submission
    kill(runner, task(**intent), monkeypatch)
    ended(platform)
    # A read of a deleted file fails like that of a forbidden one.
    platform.platform.files[file].forbidden = True
    assert runner.run(task(deferrable, **intent))["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1
    assert at_place(platform) == BYTES


# An unreadable job in a shared poll


@pytest.mark.parametrize("how", ["null", "missing", "stateless", "nul", "refused"])
def test_an_unreadable_job_does_not_delay_the_others(platform, runner, monkeypatch, deferrable, how):
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: None))
    files = new_files(platform, 4)
    platform.on(
        "accepted",
        lambda record: platform.trouble("spoiled_bulk", path=POLL, ids=platform.exports[1].id, how=how, times=0),
    )
    platform.knobs.running_seconds = 0.2
    with pytest.raises(AirflowException, match=r"Still (in flight at the Platform|perhaps accepted)") as caught:
        # A response with U+0000 says nothing about any job, so the task polls again.
        runner.run(bulk(files, deferrable=deferrable, timeout=3 if how == "nul" else None))
    ids = [job.id for job in platform.exports]
    assert [each for each in ids if each in str(caught.value)] == [ids[1]]
    assert accepted(platform) == Counter(files)
    platform.troubles.clear()
    assert runner.run(bulk(files, deferrable=deferrable))["counts"] == {"COMPLETED": 4}
    assert accepted(platform) == Counter(files)


@pytest.mark.parametrize("how", ["null", "missing", "stateless", "nul", "refused"])
def test_an_unreadable_job_that_recovers_is_waited_for(platform, runner, deferrable, how):
    files = new_files(platform, 4)
    platform.on(
        "accepted",
        lambda record: platform.trouble("spoiled_bulk", path=POLL, ids=platform.exports[1].id, how=how, times=2),
    )
    platform.knobs.running_seconds = 0.2
    assert runner.run(bulk(files, deferrable=deferrable))["counts"] == {"COMPLETED": 4}
    assert accepted(platform) == Counter(files)


# The end of a batch


def test_fail_fast_reports_what_is_in_flight_and_what_was_never_submitted(platform, runner, deferrable):
    files = new_files(platform, 5)
    platform.trouble("job_fails", code=9100)
    platform.trouble("job_stuck", times=0, after=1)
    with pytest.raises(AirflowException, match="1 of 5 files were not exported") as caught:
        runner.run(bulk(files, deferrable=deferrable, on_error="fail_fast", max_active=2))
    jobs = platform.exports
    going_on = [job.id for job in jobs if job.state != "FAILED"]
    said = str(caught.value)
    assert all(each in said for each in going_on)
    assert "Still in flight at the Platform: export" in said
    assert f"{5 - len(jobs)} more were not submitted" in said


def test_a_move_waits_for_this_tasks_own_move_to_another_place(platform, runner, task, monkeypatch):
    """The parameters of the task have changed, and the lists do not show yet what it started."""
    platform.knobs.update(list_lag_seconds=3600, running_seconds=3600)
    killed_while_it_waits(runner, task(), monkeypatch)
    real = base.wait

    def wait(*arguments, **options):
        platform.knobs.running_seconds = 0.0
        return real(*arguments, **options)

    # The first move ends only after the decision on the second one.
    monkeypatch.setattr("airflow_sb_provider.operators.base.wait", wait)
    with pytest.raises(AirflowException, match="of the same file") as caught:
        runner.run(task(location="elsewhere"))
    assert platform.exports[0].id in str(caught.value)
    assert len(platform.exports) == 1


def test_an_export_that_a_retry_does_not_list_is_polled_and_not_submitted(
    platform, runner, monkeypatch, deferrable, capsys
):
    files = new_files(platform, 4)
    platform.knobs.running_seconds = 0.5
    killed_while_it_waits(runner, bulk(files[:2]), monkeypatch)
    result = runner.run(bulk(files[2:], deferrable=deferrable))
    assert result["counts"] == {"COMPLETED": 4}
    assert accepted(platform) == Counter(files)
    said = capsys.readouterr().out
    assert "An earlier try submitted jobs that this try does not request" in said
    assert all(job.id in said for job in platform.exports[:2])


def test_a_lost_export_that_a_retry_does_not_list_is_never_submitted(platform, runner, monkeypatch, deferrable, capsys):
    files = new_files(platform, 3)
    platform.trouble("drop", path=CREATE)
    killed_after_the_submission(runner, bulk(files[:2]), monkeypatch)
    result = runner.run(bulk(files[2:], deferrable=deferrable))
    assert result["counts"] == {"COMPLETED": 1, "SKIPPED": 2}
    assert accepted(platform) == Counter(files[2:])


@pytest.mark.parametrize("code", [9011, 0, 9107], ids=str)
@pytest.mark.parametrize("intent", [MOVE, COPY, MOVE_OVER], ids=str)
def test_a_job_is_adopted_although_its_request_was_rejected(platform, runner, task, deferrable, code, intent):
    platform.knobs.running_seconds = 0.6
    for path in SUBMISSIONS:
        platform.trouble("error", path=path, code=code, done=True)
    assert runner.run(task(deferrable, **intent))["state"] == "COMPLETED"
    assert len(platform.exports) == len(posts(platform)) == 1


# Others


def test_without_a_wait_a_failed_job_is_a_failure(platform, runner, export):
    platform.knobs.instant = True
    platform.trouble("job_fails", code=9100, times=0)
    with pytest.raises(AirflowException, match="9100"):
        runner.run(export(wait_for_completion=False))


@pytest.mark.parametrize("shuffled", [True, False], ids=["shuffled", "in order"])
def test_brief_responses_are_matched_to_the_right_file(platform, runner, deferrable, shuffled):
    files = new_files(platform, 5)
    platform.knobs.running_seconds = 0.2
    platform.trouble("brief_bulk", shuffled=shuffled)
    platform.trouble("job_fails", code=9100)
    with pytest.raises(AirflowException, match="1 of 5") as caught:
        runner.run(bulk(files, deferrable=deferrable))
    [failed] = [job for job in platform.exports if job.state == "FAILED"]
    said = str(caught.value)
    assert failed.file in said
    assert not any(each in said for each in files if each != failed.file)
    assert runner.run(bulk(files, deferrable=deferrable))["counts"] == {"COMPLETED": 5}
    assert accepted(platform) == Counter([*files, failed.file])


@SKEWS
def test_the_platforms_times_do_not_end_the_wait_for_an_adopted_job(platform, runner, task, file, deferrable, skew):
    platform.knobs.update(date_skew_seconds=skew, running_seconds=0.5)
    SevenBridgesHook().start_export(file, VOLUME, PLACE)
    runner.try_number = 1
    assert runner.run(task(deferrable, timeout=300))["state"] == "COMPLETED"
    assert len(platform.exports) == 1


def test_failing_checks_cost_few_requests(platform, runner, task, monkeypatch, deferrable):
    monkeypatch.setattr("airflow_sb_provider.engine.submitter.time.sleep", lambda seconds: None)
    for path in SUBMISSIONS:
        platform.trouble("lose_reply", path=path)
    platform.knobs.stuck = True
    platform.trouble("error", method="GET", path="/v2/storage/exports", status=500, code=90004, times=0)
    with pytest.raises(AirflowException):
        runner.run(task(deferrable))
    assert len(posts(platform)) == 1
    assert len(platform.requests) <= 12
