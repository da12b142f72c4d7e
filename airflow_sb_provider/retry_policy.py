"""A retry policy for tasks that talk to the Platform, for Airflow 3.3 and newer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_sb_provider._compat import (
    AIRFLOW_RESCHEDULES,
    RetryDecision,
    RetryPolicy,
    airflow_version,
)
from airflow_sb_provider.exceptions import (
    SevenBridgesError,
    SevenBridgesInputError,
    SevenBridgesMaintenanceError,
    SevenBridgesRateLimitError,
)

if TYPE_CHECKING:
    from airflow_sb_provider._compat import Context


class SevenBridgesRetryPolicy(RetryPolicy):
    """Wait out maintenance and the rate limit, and do not retry what the Platform rejects.

    Pass it as ``retry_policy`` to a task: an operator or a sensor of this provider, or a task that uses the hook.
    After maintenance or a used-up rate limit the task runs again after `delay`: on Airflow 3.4 without using a retry,
    on Airflow 3.3 as one of its ``retries``. A permanent error of the hook fails the task. All other errors are left to
    the task's ``retries`` and ``retry_delay``.

    .. note:: The hook itself waits up to 15 minutes before it raises either error. The policy applies after that.

    :param delay: seconds until the task runs again.
    :param reschedule_timeout: on Airflow 3.4, for how many seconds after the first reschedule of a try the task is
        rescheduled. Afterwards the task's ``retries`` apply.
    :raises SevenBridgesInputError: if a value is invalid, or Airflow is older than 3.3, which has no retry policies.
    """

    def __init__(self, delay: float = 900, reschedule_timeout: float = 86400) -> None:
        if RetryPolicy is object:
            raise SevenBridgesInputError(
                f"SevenBridgesRetryPolicy needs Airflow 3.3 or newer; this is {airflow_version}."
            )
        seconds: dict[str, Any] = {"delay": delay, "reschedule_timeout": reschedule_timeout}
        problems = [
            f"{name}: {value!r} is not a number of seconds; pass a number above 0."
            for name, value in seconds.items()
            if not (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"))
        ]
        if problems:
            raise SevenBridgesInputError(problems)
        self.delay = delay
        self.reschedule_timeout = reschedule_timeout

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Return what Airflow does after an error."""
        if isinstance(exception, SevenBridgesMaintenanceError | SevenBridgesRateLimitError):
            is_limit = isinstance(exception, SevenBridgesRateLimitError)
            reason = "The Platform's rate limit is used up." if is_limit else "The Platform is under maintenance."
            delay = timedelta(seconds=self.delay)
            if not AIRFLOW_RESCHEDULES:
                return RetryDecision.retry(delay, reason)
            limit = timedelta(seconds=self.reschedule_timeout)
            # Airflow 3.3, which the types are checked with, does not have it.
            airflow_3_4: Any = RetryDecision
            decision: RetryDecision = airflow_3_4.reschedule(delay, reschedule_timeout=limit, reason=reason)
            return decision
        if isinstance(exception, SevenBridgesError) and exception.permanent:
            return RetryDecision.fail("The Platform rejects this request permanently.")
        return RetryDecision.default()
