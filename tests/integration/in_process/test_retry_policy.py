"""The rules of a retry policy match the provider's own errors, as operators and sensors raise them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_sb_provider import exceptions
from airflow_sb_provider.failures import airflow_failure
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.retry_policy import SevenBridgesRetryPolicy
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.integration.in_process.conftest import first_event

policies = pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="Airflow 3.3 is the first to have them")
MINE = policies.RetryAction.FAIL


def decision(error, rule):
    policy = policies.ExceptionRetryPolicy([policies.RetryRule(rule, MINE)])
    return policies.ExceptionRetryPolicy.deserialize(policy.serialize()).evaluate(error, 1, 3).action


def assert_matches(error, *names, final):
    for name in names:
        assert decision(error, getattr(exceptions, name)) is MINE
        assert decision(error, f"airflow_sb_provider.exceptions.{name}") is MINE
    assert decision(error, "airflow_sb_provider.exceptions.SevenBridgesReplyLost") is not MINE
    assert isinstance(error, AirflowException)
    # After an AirflowFailException Airflow fails the task without checking its policy.
    assert isinstance(error, AirflowFailException) is final


@pytest.mark.parametrize(
    ("fault", "options", "name", "final"),
    [
        ("error", {"status": 403, "code": 9103}, "SevenBridgesForbiddenError", True),
        ("error", {"status": 404, "code": 5002}, "SevenBridgesNotFoundError", True),
        ("error", {"status": 401, "code": 90001}, "SevenBridgesAuthError", True),
        ("job_fails", {"code": 9101}, "SevenBridgesExportFailed", True),
        ("job_fails", {"code": 9100}, "SevenBridgesExportFailed", False),
        ("job_stuck", {"state": "RUNNING"}, "SevenBridgesExportTimeout", False),
    ],
)
def test_what_the_operator_raises(platform, runner, export, deferrable, fault, options, name, final):
    path = {} if fault.startswith("job") else {"path": "/v2/storage/exports", "times": 100}
    platform.trouble(fault, **path, **options)
    with pytest.raises(AirflowException) as caught:
        runner.run(export(deferrable=deferrable, timeout=0.5 if fault == "job_stuck" else 60))
    assert_matches(caught.value, name, "SevenBridgesError", final=final)
    assert isinstance(caught.value.__cause__, getattr(exceptions, name))


def test_what_the_bulk_operator_raises(platform, runner, deferrable):
    platform.trouble("job_fails", code=9100)
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(3)]
    operator = SevenBridgesBulkExportOperator(
        task_id="many", file_ids=files, volume="demo/results", deferrable=deferrable, poll_interval=0.1
    )
    with pytest.raises(AirflowException) as caught:
        runner.run(operator)
    assert_matches(caught.value, "SevenBridgesBatchFailed", final=False)


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_what_the_sensor_raises(platform, mode, soft_fail):
    platform.trouble("job_fails", code=9101)
    file = platform.add_file("a.txt", b"x").id
    job = SevenBridgesHook().start_export(file, "demo/results", "s/a.txt")
    sensor = SevenBridgesExportSensor(
        task_id="wait", export_id=job.id, deferrable=mode == "deferrable", poke_interval=0.1, soft_fail=soft_fail
    )

    def run():
        try:
            return sensor.execute({})
        except TaskDeferred as deferred:
            event = asyncio.run(first_event(deferred.trigger))
            return sensor.resume_execution(deferred.method_name, {"event": event}, {})

    with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException) as caught:
        run()
    error = caught.value.__cause__ if soft_fail else caught.value
    assert_matches(error, "SevenBridgesExportFailed", final=True)
    assert error.job.id == job.id


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (exceptions.SevenBridgesMaintenanceError(503, 0), "retry"),
        (exceptions.SevenBridgesRateLimitError(429), "retry"),
        (exceptions.SevenBridgesServerError(500), "default"),
        (exceptions.SevenBridgesInDoubt("The export is in doubt."), "default"),
        (exceptions.SevenBridgesNotFoundError(404, 5002), "fail"),
        (exceptions.SevenBridgesInputError("file: it is not an id."), "fail"),
        (ValueError("not ours"), "default"),
    ],
)
@pytest.mark.parametrize("raised_by", ["hook", "operator"])
def test_the_providers_policy(error, action, raised_by):
    """On Airflow 3.3; `tests/matrix` has 3.4, which reschedules instead of retrying."""
    if raised_by == "operator" and isinstance(error, exceptions.SevenBridgesError):
        error = airflow_failure(error, final=error.permanent)
    decision = SevenBridgesRetryPolicy(delay=60).evaluate(error, 1, 3)
    assert decision.action.value == action
    assert decision.retry_delay == (timedelta(minutes=1) if action == "retry" else None)


@pytest.mark.parametrize("name", ["delay", "reschedule_timeout"])
@pytest.mark.parametrize("value", [0, -1, True, float("inf"), float("nan"), "60", None, timedelta(minutes=1)])
def test_the_providers_policy_rejects_what_is_no_number_of_seconds(name, value):
    with pytest.raises(exceptions.SevenBridgesInputError, match=name):
        SevenBridgesRetryPolicy(**{name: value})
