"""What a check of the Platform's state costs and returns, on the local Platform."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_sb_provider.engine import job_lists
from airflow_sb_provider.engine.reconcile import fetch_remote_state
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesConflictError
from airflow_sb_provider.exports.decision import Adopt, AlreadyDone, Fail, decide
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs.record import SubmissionState
from tests.integration.in_process.conftest import paths

RETRY = SubmissionState(is_new_request=False, why="A retry.")
TAKEN = replace(RETRY, refusal=SevenBridgesConflictError(409, 9107, "taken"))


@pytest.fixture
def hook(platform):
    return SevenBridgesHook()


def request_for(platform, location="here.txt", **fields):
    return ExportRequest(platform.add_file("a.txt", b"some bytes").id, "demo/results", location, **fields)


def others_in_flight(platform, hook, count):
    platform.knobs.stuck = True
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(count)]
    hook.start_exports([ExportRequest(file, "demo/archive", f"{file}.txt") for file in files])


@pytest.mark.parametrize(("in_flight", "lists"), [(0, 2), (100, 2), (101, 3), (250, 4)])
def test_a_check_costs_the_stated_requests(platform, hook, in_flight, lists):
    others_in_flight(platform, hook, in_flight)
    request = request_for(platform)
    before = len(platform.requests)
    [found] = fetch_remote_state(hook, [request], [RETRY])
    requests = paths(platform)[before:]
    assert requests.count("GET storage/exports") == lists
    assert requests.count("POST bulk/files/get") == 1
    assert found.jobs_complete
    assert len(requests) <= lists + 1 + 2


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_job_on_a_later_page_is_found(platform, hook, order):
    platform.knobs.list_order = order
    request = request_for(platform)
    platform.knobs.stuck = True
    job = hook.start_export(request.file, request.volume, request.location)
    others_in_flight(platform, hook, 230)
    found = fetch_remote_state(hook, [request], [RETRY])
    [decision] = decide([request], found)
    assert isinstance(decision, Adopt)
    assert decision.job.id == job.id


def test_a_list_that_is_too_long_is_not_trusted(platform, hook, monkeypatch):
    monkeypatch.setattr(job_lists, "MAX_PAGES", 2)
    others_in_flight(platform, hook, 250)
    [found] = fetch_remote_state(hook, [request_for(platform)], [RETRY])
    assert not found.jobs_complete


def test_the_search_of_completed_jobs_is_bounded(platform, hook, monkeypatch):
    monkeypatch.setattr(job_lists, "MAX_PAGES", 2)
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(250)]
    jobs = hook.start_exports([ExportRequest(file, "demo/archive", f"{file}.txt") for file in files], copy_only=True)
    while any(job.state != "COMPLETED" for job in platform.exports):
        hook.get_export(jobs[-1].id)
    platform.put_object("demo/results", "here.txt", b"some bytes")
    request = request_for(platform, copy_only=True)
    before = len(platform.requests)
    [found] = fetch_remote_state(hook, [request], [TAKEN])
    assert not found.history_complete
    assert found.evidence is None
    assert paths(platform)[before:].count("GET storage/exports") == 4


def test_a_completed_job_is_evidence_of_a_copy(platform, hook):
    request = request_for(platform, copy_only=True)
    job = hook.start_export(request.file, request.volume, request.location, copy_only=True)
    while hook.get_export(job.id).state != "COMPLETED":
        pass
    [decision] = decide([request], fetch_remote_state(hook, [request], [TAKEN]))
    assert isinstance(decision, AlreadyDone)
    assert decision.job.id == job.id


def test_two_volumes_of_one_bucket_are_the_same_destination(platform, hook):
    platform.add_volume("demo/whole", bucket="demo-results")
    request = ExportRequest(platform.add_file("a.txt", b"x").id, "demo/whole", "exports/here.txt", overwrite=True)
    platform.knobs.stuck = True
    job = hook.start_export(request.file, "demo/results", "here.txt")
    [decision] = decide([request], fetch_remote_state(hook, [request], [RETRY]))
    assert isinstance(decision, Fail), "whether a slash joins prefix and location is not known"
    assert job.id in str(decision.error)


def test_denied_access_is_recorded(platform, hook):
    request = request_for(platform, overwrite=True)
    platform.trouble("error", method="GET", path="/v2/storage/volumes/*", times=0, status=403, code=9020)
    [found] = fetch_remote_state(hook, [request], [RETRY])
    assert found.volumes == {}
    assert isinstance(found.object, SevenBridgesApiError)
    [hidden] = fetch_remote_state(hook, [replace(request, file="f" * 24)], [RETRY])
    assert isinstance(hidden.file, SevenBridgesApiError)


def test_several_exports_are_checked_together(platform, hook):
    requests = [request_for(platform, f"{number}.txt") for number in range(120)]
    before = len(platform.requests)
    fetch_remote_state(hook, requests, [RETRY] * 120)
    assert sorted(paths(platform)[before:]) == [
        "GET storage/exports",
        "GET storage/exports",
        "GET storage/volumes/demo/results",
        "POST bulk/files/get",
        "POST bulk/files/get",
    ]
