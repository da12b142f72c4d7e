"""When to retry a request, after which pause, and which error to raise in the end: the rules for both hooks."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tenacity import retry_if_exception, wait_exponential_jitter

from airflow_sb_provider.api.calls import Call
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.api.times import in_words
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesGatewayError,
    SevenBridgesMaintenanceError,
    SevenBridgesRateLimitError,
    SevenBridgesReplyLost,
    SevenBridgesReplyTooLarge,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from airflow_sb_provider.api.masking import Mask

T = TypeVar("T")

ATTEMPTS = 5
MAX_WAIT = 900.0
MAINTENANCE_PAUSE = 60.0
RATE_LIMIT_WINDOW = 300.0
_LONGEST_NAME = 300

_backoff = wait_exponential_jitter(initial=1, max=30, jitter=1)


def retry_rules(log: Any, *, max_gateway_wait: float = MAX_WAIT) -> dict[str, Any]:
    """Return the arguments for tenacity's ``Retrying`` and ``AsyncRetrying``.

    Connection errors, the API's own 5xx and unreadable responses: at most 5 attempts. Rate limit, maintenance and the
    error pages of gateways, which are temporary: for at most 15 minutes, with pauses of up to a minute (up to 30
    seconds for error pages). Each retry is one line of the log.

    :param max_gateway_wait: for how many seconds at most requests that get an error page are retried.
    """

    def log_retry(state: RetryCallState) -> None:
        log.warning("%s", _retry_line(state))

    def is_last(state: RetryCallState) -> bool:
        error = _error(state)
        if not _is_temporary(error):
            return state.attempt_number >= ATTEMPTS
        longest = max_gateway_wait if isinstance(error, SevenBridgesGatewayError) else MAX_WAIT
        return (state.seconds_since_start or 0) + _pause(state) > longest

    return {
        "retry": retry_if_exception(_is_transient),
        "wait": _pause,
        "stop": is_last,
        "before_sleep": log_retry,
        "reraise": True,
    }


def no_response(call: Call[Any], problem: str, *, sent: bool) -> SevenBridgesConnectionError:
    """Return the error of a call without a response.

    :param problem: the text of the library's error.
    :param sent: whether the request may have reached the Platform.
    """
    about = f" ({readable(call.about, _LONGEST_NAME)})" if call.about else ""
    problem = readable(problem, 500)
    return SevenBridgesConnectionError(
        f"No response from the Platform to {call.method} {call.path}{about}: {problem}", sent=sent
    )


def classify_failure(call: Call[Any], error: SevenBridgesError) -> SevenBridgesError:
    """Return the error to raise for a call: `SevenBridgesReplyLost` where a retry could submit twice.

    The API's own rejections, the rate limit, maintenance and a connection that was never made prove that nothing was
    accepted. A gateway's page proves nothing, whatever its status.
    """
    if call.idempotent or isinstance(error, SevenBridgesRateLimitError | SevenBridgesMaintenanceError):
        return error
    nothing_accepted = not error.sent if isinstance(error, SevenBridgesConnectionError) else error.permanent
    if nothing_accepted:
        return error
    return SevenBridgesReplyLost(
        f"The response to {call.method} {call.path} was lost, so the Platform may or may not have accepted it: {error}"
    )


def clean(call: Call[T], value: T, mask: Mask) -> T:
    """Return a call's result; the errors in it name their objects and do not contain the token."""
    items = value if isinstance(value, list) else getattr(value, "items", [value])
    for number, item in enumerate(items):
        if isinstance(item, SevenBridgesApiError):
            item.about = readable(call.objects[number], _LONGEST_NAME)
            mask.error(item)
        elif isinstance(error := getattr(item, "error", None), SevenBridgesApiError):
            mask.error(error)
    return value


def fail(call: Call[Any], error: SevenBridgesError, mask: Mask) -> NoReturn:
    """Raise the error of a call, classified; it names the call's object and does not contain the token.

    :raises SevenBridgesError: always; without the error's traceback, whose frames hold the response.
    """
    if isinstance(error, SevenBridgesApiError):
        error.about = readable(call.about, _LONGEST_NAME)
    mask.error(error)
    failure = classify_failure(call, error.with_traceback(None))
    raise failure from (None if failure is error else error)


def _retry_line(state: RetryCallState) -> str:
    """Return what failed and why, what is retried and when; the codes last."""
    error, call = _error(state), next(iter(state.args), None)
    request = f" {call.method} {call.path}" if isinstance(call, Call) else ""
    # Some errors name the request.
    request = "" if request in str(error) else request
    action = f"Retrying{request} in {in_words(state.next_action.sleep if state.next_action else 0)}."
    return error.with_remedy(action) if isinstance(error, SevenBridgesError) else f"{error} {action}"


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _is_temporary(error: BaseException | None) -> bool:
    return isinstance(error, SevenBridgesRateLimitError | SevenBridgesMaintenanceError | SevenBridgesGatewayError)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, SevenBridgesReplyTooLarge) and error.status < 300:
        # The same request gets the same response.
        return False
    if isinstance(error, SevenBridgesApiError):
        return not error.permanent
    return isinstance(error, SevenBridgesConnectionError)


def _pause(state: RetryCallState) -> float:
    error = _error(state)
    if isinstance(error, SevenBridgesRateLimitError) and error.reset_at is not None:
        # If the clocks differ, the window may seem to be over: then retry with growing pauses.
        left = min(error.reset_at - time.time(), RATE_LIMIT_WINDOW)
        return max(left + random.uniform(0.1, 1), _backoff(state))
    if isinstance(error, SevenBridgesRateLimitError | SevenBridgesMaintenanceError):
        return MAINTENANCE_PAUSE + random.uniform(0, 5)
    return _backoff(state)
