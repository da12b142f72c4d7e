from __future__ import annotations

import copy
import pickle
import time
from types import SimpleNamespace

import pytest

from airflow_sb_provider._compat import AirflowException, AirflowFailException, AirflowNotFoundException
from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.engine.result import read_object, volume_or_none
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesForbiddenError,
    SevenBridgesInDoubt,
    SevenBridgesInputError,
    SevenBridgesReplyLost,
    SevenBridgesServerError,
)
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.failures import airflow_failures
from airflow_sb_provider.hooks.polling import deadline_of, poll, wait
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs.watch import Watch
from tests.unit.api.test_exceptions import ERRORS
from tests.unit.hooks.servers import drop, reply


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SevenBridgesInputError("file: wrong."), AirflowFailException),
        (SevenBridgesForbiddenError(403, 9006, "No."), AirflowFailException),
        (SevenBridgesServerError(500), AirflowException),
        (SevenBridgesReplyLost("lost"), AirflowException),
    ],
)
def test_errors_become_airflow_exceptions_with_the_cause_chained(error, kind):
    with pytest.raises(AirflowException) as caught, airflow_failures():
        raise error
    assert isinstance(caught.value, AirflowFailException) is (kind is AirflowFailException)
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_converted_error_keeps_its_class_and_fields(error):
    """So that a rule of a retry policy can name the provider's class."""
    with pytest.raises(type(error)) as caught, airflow_failures():
        raise error
    assert isinstance(caught.value, AirflowException)
    for failure in (caught.value, pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert type(failure) is type(caught.value)
        assert str(failure) == str(error)
        # Exceptions inside of others have no equality of their own.
        assert repr(failure.args) == repr(error.args)
        assert repr(vars(failure)) == repr(vars(error))
        assert failure.permanent == error.permanent
    assert caught.value.__cause__ is error


def test_an_error_is_converted_once():
    error = SevenBridgesServerError(500)
    with pytest.raises(SevenBridgesServerError) as caught, airflow_failures(), airflow_failures():
        raise error
    assert caught.value.__cause__ is error


def test_a_missing_connection_is_not_retried():
    with pytest.raises(AirflowFailException, match="sevenbridges_conn_id"), airflow_failures():
        raise AirflowNotFoundException("The conn_id `x` isn't defined")


def test_other_errors_pass():
    with pytest.raises(KeyError), airflow_failures():
        raise KeyError("x")


def jobs(*states):
    return reply({"items": [{"resource": {"id": f"j{n}", "state": state}} for n, state in enumerate(states)]})


@pytest.fixture
def hook(platform, connect):
    connect(platform.url)
    return SevenBridgesHook()


def test_a_wait_ends_when_its_exports_are_terminal(hook, platform, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.jobs.rate_limiter.BLIND_PAUSE", 0.01)
    platform.answers = [jobs("PENDING", "RUNNING"), jobs("COMPLETED", "RUNNING"), drop, reply({}, 429)]
    platform.answers.append(reply({"items": [{"resource": {"id": "j1", "state": "FAILED"}}]}))
    watch = Watch(EXPORT, ["j0", "j1"])
    assert wait(hook, watch, 0.01) == {"status": "terminal"}
    assert (watch.jobs["j0"].state, watch.jobs["j1"].state) == ("COMPLETED", "FAILED")
    assert [seen.json["export_ids"] for seen in platform.seen] == [["j0", "j1"]] * 2 + [["j1"]] * 3


def test_a_wait_ends_at_its_deadline(hook, platform):
    platform.answers = [jobs("RUNNING")]
    assert wait(hook, Watch(EXPORT, ["j0"], deadline_of(time.time() + 0.05)), 0.02)["status"] == "timeout"


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_change_of_the_local_clock_does_not_move_the_deadline(hook, platform, monkeypatch, jump):
    """NTP may set a machine's clock while it waits: only the process's own seconds count from then on."""
    jumped = SimpleNamespace(time=lambda: time.time() + jump, monotonic=time.monotonic, sleep=time.sleep)
    running = jobs("RUNNING")
    platform.answers = [running, running, running, jobs("COMPLETED")]
    watch = Watch(EXPORT, ["j0"], deadline_of(time.time() + 20))
    stuck = Watch(EXPORT, ["j0"], deadline_of(time.time() + 0.3))
    monkeypatch.setattr("airflow_sb_provider.hooks.polling.time", jumped)
    assert wait(hook, watch, 0.02)["status"] == "terminal"
    platform.answers = [running]
    assert wait(hook, stuck, 0.02)["status"] == "timeout"


def test_after_a_rejected_token_the_connection_is_read_again(hook, platform, connect):
    platform.answers = [reply({"status": 401, "code": 90001}, 401), jobs("COMPLETED")]
    watch = Watch(EXPORT, ["j0"])
    assert poll(hook, watch) is None
    connect(platform.url, password="f" * 32)
    assert poll(hook, watch)["status"] == "terminal"
    assert [seen.headers["X-SBG-Auth-Token"][0] for seen in platform.seen] == ["3", "f"]


JOB = ExportJob("j0", "COMPLETED", "f", "me/out", "x.vcf")


@pytest.mark.parametrize("size", [7, None])
def test_the_exported_object_is_read(hook, platform, size):
    platform.answers = [reply({"metadata": {"size": 7, "etag": '"e"'}})]
    assert read_object(hook, JOB, size).etag == "e"


@pytest.mark.parametrize(
    ("answer", "words"),
    [(reply({"metadata": {"size": 7}}), "7 bytes"), (reply({"status": 404, "code": 9105}, 404), "no object")],
)
def test_an_object_that_does_not_match_the_export_is_in_doubt(hook, platform, clock, answer, words):
    platform.answers = [answer]
    with pytest.raises(SevenBridgesInDoubt, match=words):
        read_object(hook, JOB, 8)
    assert 30 <= clock.passed < 35
    assert len(platform.seen) == 11


@pytest.mark.parametrize(
    "before",
    [reply({"status": 404, "code": 9105}, 404), reply({"metadata": {"size": 7, "etag": "old"}})],
    ids=["nothing there yet", "the object that was overwritten"],
)
def test_an_object_that_appears_late_is_waited_for(hook, platform, clock, before):
    """A read of the bucket may show the previous state for up to 30 s."""
    platform.answers = [before] * 9 + [reply({"metadata": {"size": 8, "etag": "new"}})]
    assert read_object(hook, JOB, 8).etag == "new"
    assert clock.passed <= 30


def test_without_permission_to_read_the_object_a_line_is_logged(hook, platform, logged):
    platform.answers = [reply({"status": 403, "code": 9020, "message": "Insufficient privileges."}, 403)]
    assert read_object(hook, JOB, 8) is None
    assert "size was not checked: Object x.vcf on volume me/out: Insufficient privileges" in logged()
    assert volume_or_none(hook, "me/out") is None
    assert "URI is unknown: Volume me/out: Insufficient privileges" in logged()


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        (reply(b"<h1>503</h1>nginx", 503), (4, 6)),
        (reply(b"default backend - 404", 404), (4, 6)),
        (reply({"status": 503, "code": 9000}, 503), (5, 5)),
        (reply({"status": 401, "code": 90001}, 401), (1, 1)),
        (reply(b"{}{"), (5, 5)),
        (drop, (5, 10)),
        (reply(b"", 302, Location="https://elsewhere.example"), (1, 1)),
    ],
)
def test_an_object_that_cannot_be_read_does_not_undo_its_export(hook, platform, clock, logged, answer, requests):
    platform.answers = [answer]
    assert read_object(hook, JOB, 8) is None
    assert "Export j0 is COMPLETED, but its object could not be read, so its size was not checked" in logged()
    assert requests[0] <= len(platform.seen) <= requests[1]
    assert clock.passed < 31
    assert volume_or_none(hook, "me/out", needed=False) is None
    assert "URI is unknown" in logged()


def test_a_short_outage_does_not_fail_the_read_of_the_object(hook, platform, clock):
    page = reply(b"<h1>503</h1>nginx", 503)
    platform.answers = [page, page, page, reply({"metadata": {"size": 8, "etag": "e"}})]
    assert read_object(hook, JOB, 8).etag == "e"


def test_a_volume_that_is_needed_raises_its_error(hook, platform, clock):
    platform.answers = [reply({"status": 500, "code": 90009}, 500)]
    with pytest.raises(SevenBridgesApiError):
        volume_or_none(hook, "me/out")


def test_the_object_of_a_job_without_a_location_is_not_read(hook, platform):
    assert read_object(hook, ExportJob("j", "COMPLETED"), 8) is None
    assert platform.seen == []
