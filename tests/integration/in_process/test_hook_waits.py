"""The hook submits many exports and waits for them, as in a `@task`."""

from __future__ import annotations

import pickle

import pytest

from airflow_sb_provider._compat import AirflowNotFoundException
from airflow_sb_provider.exceptions import (
    SevenBridgesBatchFailed,
    SevenBridgesExportFailed,
    SevenBridgesExportTimeout,
    SevenBridgesInDoubt,
    SevenBridgesInputError,
    SevenBridgesNotFoundError,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

CREATE, GET = "/v2/bulk/storage/exports/create", "/v2/bulk/storage/exports/get"
OFTEN = {"poll_interval": 0.05}


@pytest.fixture
def hook(platform):
    return SevenBridgesHook()


def exports(platform, count):
    files = [platform.add_file(f"{n}.vcf", b"x", "demo/many").id for n in range(count)]
    return [{"file": file, "volume": "demo/results", "location": f"many/{n}.vcf"} for n, file in enumerate(files)]


def submit(hook, platform, count):
    jobs = hook.raise_for_errors(hook.start_exports(exports(platform, count), copy_only=True))
    return [job.id for job in jobs]


def polls(platform):
    return [record.json["export_ids"] for record in platform.requests if record.path == GET]


def test_a_wait_for_one_export_returns_its_job(hook, platform):
    [export_id] = submit(hook, platform, 1)
    job = hook.wait_for_export(export_id, **OFTEN)
    assert (job.id, job.state, job.location) == (export_id, "COMPLETED", "many/0.vcf")


def test_a_wait_for_one_export_that_fails_raises_why(hook, platform):
    platform.trouble("job_fails", code=9103, message="No access.")
    [export_id] = submit(hook, platform, 1)
    with pytest.raises(SevenBridgesExportFailed, match=r"No access\. The volume's owner must .*code 9103") as caught:
        hook.wait_for_export(export_id, **OFTEN)
    assert caught.value.job.id == export_id
    assert "to demo/results/many/0.vcf failed" in str(caught.value)


def test_any_number_of_exports_is_polled_by_the_hundred_and_returned_in_order(hook, platform):
    ids = submit(hook, platform, 250)
    wanted = [*reversed(ids), ids[0]]
    jobs = hook.wait_for_exports(wanted, **OFTEN)
    assert [job.id for job in jobs] == wanted
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert max(map(len, polls(platform))) == 100
    assert not [record for record in platform.requests if record.method == "GET"]


def test_a_wait_for_no_export_sends_nothing(hook, platform):
    assert hook.wait_for_exports([]) == []
    assert not platform.requests


def test_failed_exports_are_raised_together_when_all_are_terminal(hook, platform):
    platform.trouble("job_fails", after=1, times=2, code=9107, message="Taken.")
    ids = submit(hook, platform, 5)
    with pytest.raises(SevenBridgesBatchFailed, match=r"^2 of 5 exports failed") as caught:
        hook.wait_for_exports(ids, **OFTEN)
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.permanent
    assert [(job.id, job.failed) for job in error.results] == [(each, each in ids[1:3]) for each in ids]
    lines = str(error).splitlines()
    assert [line.split(" of file")[0] for line in lines[1:3]] == [f"  Export {each}" for each in ids[1:3]]
    assert all("Taken." in line for line in lines[1:3])
    assert [line.split(":")[0] for line in lines[4:]] == [f"  {each} (COMPLETED)" for each in (ids[0], *ids[3:])]


@pytest.mark.parametrize("count", [1, 3])
def test_a_wait_that_is_too_short_names_the_exports_that_are_not_terminal(hook, platform, count):
    platform.trouble("job_stuck", times=count)
    ids = submit(hook, platform, count + 1)
    with pytest.raises(SevenBridgesExportTimeout, match=rf"^{count} of {count + 1} exports are not terminal") as caught:
        hook.wait_for_exports(ids, timeout=0.5, **OFTEN)
    assert caught.value.export_ids == tuple(ids[:count])
    text = str(pickle.loads(pickle.dumps(caught.value)))
    assert [each in text for each in ids] == [True] * count + [False]
    assert "They continue" in text
    # Nothing is lost: a later wait returns them.
    for export_id in ids[:count]:
        platform.release(export_id)
    assert [job.state for job in hook.wait_for_exports(ids, **OFTEN)] == ["COMPLETED"] * (count + 1)


def test_a_timeout_before_the_first_response_names_the_export(hook, platform):
    [export_id] = submit(hook, platform, 1)
    platform.trouble("error", path=GET, status=503, code=0, times=0)
    with pytest.raises(SevenBridgesExportTimeout, match=rf"{export_id} \(not polled\)"):
        hook.wait_for_export(export_id, timeout=0.3, **OFTEN)


@pytest.mark.parametrize(
    "wait",
    [
        lambda hook, seen: hook.wait_for_exports([seen, "unknown"], **OFTEN),
        lambda hook, seen: hook.wait_for_export("unknown", **OFTEN),
    ],
    ids=["one of two", "alone"],
)
def test_an_export_that_cannot_be_seen_is_in_doubt(hook, platform, wait):
    [seen] = submit(hook, platform, 1)
    with pytest.raises(SevenBridgesInDoubt, match=r"may still be running: unknown\..*belongs to the user") as caught:
        wait(hook, seen)
    assert isinstance(caught.value.__cause__, SevenBridgesNotFoundError)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("error", {"status": 429, "code": 1000}),
        ("error", {"status": 503, "code": 0}),
        ("drop", {}),
        ("html", {"status": 404}),
        ("error", {"status": 401, "code": 90001}),
    ],
)
def test_what_passes_does_not_end_a_wait(hook, platform, kind, options):
    ids = submit(hook, platform, 2)
    platform.trouble(kind, path=GET, times=2, **options)
    assert [job.id for job in hook.wait_for_exports(ids, **OFTEN)] == ids
    assert len(polls(platform)) > 2


@pytest.mark.parametrize(
    ("ids", "arguments", "words"),
    [
        (["x"], {"poll_interval": 0}, "poll_interval: 0 is not a number of seconds"),
        (["x"], {"timeout": -1}, "timeout: -1 is not a number of seconds"),
        ([None], {}, r"export_ids\[0\]"),
        (7, {}, "export_ids: 7 is not a list"),
    ],
)
def test_a_wait_with_wrong_arguments_sends_nothing(hook, platform, ids, arguments, words):
    with pytest.raises(SevenBridgesInputError, match=words):
        hook.wait_for_exports(ids, **arguments)
    assert not platform.requests


def test_a_wait_without_a_connection_ends_immediately(platform):
    with pytest.raises(AirflowNotFoundException):
        SevenBridgesHook("no_such_connection").wait_for_export("x")


def test_rejected_exports_are_raised_with_their_requests_and_what_was_accepted(hook, platform):
    requests = exports(platform, 3)
    requests[1]["file"] = platform.add_file("public.vcf", b"x", public=True).id
    results = hook.start_exports(requests)
    with pytest.raises(SevenBridgesBatchFailed, match=r"^1 of 3 exports failed or have an error") as caught:
        hook.raise_for_errors(results)
    assert caught.value.results == tuple(results)
    _, rejected, _, *accepted = str(caught.value).splitlines()
    assert f"file {requests[1]['file']} to demo/results/many/1.vcf: " in rejected
    assert "code 9006" in rejected
    assert accepted == [
        f"  {results[n].id} ({results[n].state}): file {requests[n]['file']} to demo/results/many/{n}.vcf"
        for n in (0, 2)
    ]


def test_a_request_that_is_rejected_as_a_whole_names_each_of_its_exports(hook, platform):
    requests = exports(platform, 203)
    platform.trouble("error", path=CREATE, after=1, status=403, code=9020, message="No.")
    results = hook.start_exports(requests, copy_only=True)
    with pytest.raises(SevenBridgesBatchFailed, match=r"^103 of 203 exports") as caught:
        hook.raise_for_errors(results)
    assert len({id(error) for error in results[100:]}) == 103
    names = [f"file {request['file']} to demo/results/{request['location']}: No." for request in requests[100:]]
    assert [name in str(error) for name, error in zip(names, results[100:], strict=True)] == [True] * 103
    lines = str(caught.value).splitlines()
    assert [name in line for name, line in zip(names, lines[1:101], strict=False)] == [True] * 100
    assert lines[101] == "  ... and 3 more; `results` of this exception has all of them."
    assert [line.split(" (")[0] for line in lines[103:]] == [f"  {job.id}" for job in results[:100]]


def test_hostile_names_cannot_forge_a_line_of_the_error(hook, platform):
    requests = exports(platform, 2)
    requests[0]["location"] = "many/\u2028forged\u202e"
    platform.trouble("job_fails", after=1, message="bad\nforged: x")
    ids = [job.id for job in hook.raise_for_errors(hook.start_exports([requests[0]], copy_only=True))]
    ids += [job.id for job in hook.raise_for_errors(hook.start_exports([requests[1]], copy_only=True))]
    with pytest.raises(SevenBridgesBatchFailed) as caught:
        hook.wait_for_exports(ids, **OFTEN)
    assert len(str(caught.value).splitlines()) == 4


def test_accepted_exports_before_a_lost_response_are_in_the_error(hook, platform):
    platform.trouble("lose_reply", path=CREATE, after=1)
    with pytest.raises(SevenBridgesReplyLost) as caught:
        hook.start_exports(exports(platform, 150), copy_only=True)
    jobs = hook.raise_for_errors(caught.value.answered)
    assert len(jobs) == 100
    assert len(hook.wait_for_exports([job.id for job in jobs], **OFTEN)) == 100
