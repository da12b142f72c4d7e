"""The rules for asking the Platform again, the same for both hooks (tenacity's sync and async faces take them)."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tenacity import retry_if_exception, wait_exponential_jitter

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesGatewayError,
    SevenBridgesMaintenanceError,
    SevenBridgesRateLimitError,
    SevenBridgesReplyLost,
    SevenBridgesReplyTooLarge,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.masking import Mask
    from airflow_sb_provider.exceptions import SevenBridgesError

T = TypeVar("T")

ATTEMPTS = 5
PATIENCE = 900.0
MAINTENANCE_PAUSE = 60.0
RATE_LIMIT_WINDOW = 300.0
_LONGEST_NAME = 300

_wait_after_trouble = wait_exponential_jitter(initial=1, max=30, jitter=1)


def retry_rules(log: Any, *, max_gateway_wait: float = PATIENCE) -> dict[str, Any]:
    """Return the arguments for tenacity's ``Retrying`` and ``AsyncRetrying``.

    Connection errors, the API's own 5xx and unreadable answers: at most 5 attempts. Rate limit, maintenance and the
    error pages of gateways, which end by themselves: for at most 15 minutes, with pauses of up to a minute, for pages
    of up to 30 s.

    :param page_patience: for how many seconds at most an error page is waited out.
    """

    def tell(state: RetryCallState) -> None:
        pause = state.next_action.sleep if state.next_action else 0
        log.warning("%s Asking again in %.0f s.", _error(state), pause)

    def give_up(state: RetryCallState) -> bool:
        error = _error(state)
        if not _ends_by_itself(error):
            return state.attempt_number >= ATTEMPTS
        patience = max_gateway_wait if isinstance(error, SevenBridgesGatewayError) else PATIENCE
        return (state.seconds_since_start or 0) + _pause(state) > patience

    return {
        "retry": retry_if_exception(_may_ask_again),
        "wait": _pause,
        "stop": give_up,
        "before_sleep": tell,
        "reraise": True,
    }


def no_response(call: Call[Any], problem: str, *, sent: bool) -> SevenBridgesConnectionError:
    """Return the error of a call that got no answer.

    :param problem: what a library says of it.
    :param sent: whether the request may have reached the Platform.
    """
    about = f" ({readable(call.about, _LONGEST_NAME)})" if call.about else ""
    problem = readable(problem, 500)
    return SevenBridgesConnectionError(
        f"No answer from the Platform to {call.method} {call.path}{about}: {problem}", sent=sent
    )


def classify_failure(call: Call[Any], error: SevenBridgesError) -> SevenBridgesError:
    """Return the error to raise for a call: `SevenBridgesReplyLost` where a repeat could do a thing twice.

    The API's own refusals, the rate limit, maintenance and a connection that was never made prove that nothing was
    done. The page of a gateway proves nothing, whatever its status.
    """
    if call.idempotent or isinstance(error, SevenBridgesRateLimitError | SevenBridgesMaintenanceError):
        return error
    nothing_done = not error.sent if isinstance(error, SevenBridgesConnectionError) else error.permanent
    if nothing_done:
        return error
    return SevenBridgesReplyLost(
        f"The answer to {call.method} {call.path} was lost, so the Platform may or may not have accepted it: {error}"
    )


def clean(call: Call[T], value: T, mask: Mask) -> T:
    """Return what a call's answer says; its errors name their objects and are without the token."""
    items = value if isinstance(value, list) else getattr(value, "items", [value])
    for number, item in enumerate(items):
        if isinstance(item, SevenBridgesApiError):
            item.about = readable(call.objects[number], _LONGEST_NAME)
            mask.error(item)
        elif isinstance(error := getattr(item, "error", None), SevenBridgesApiError):
            mask.error(error)
    return value


def fail(call: Call[Any], error: SevenBridgesError, mask: Mask) -> NoReturn:
    """Raise the error of a call, settled; it names the call's object and is without the token.

    :raises SevenBridgesError: always; without the error's traceback, whose frames hold the answer.
    """
    if isinstance(error, SevenBridgesApiError):
        error.about = readable(call.about, _LONGEST_NAME)
    mask.error(error)
    settled = classify_failure(call, error.with_traceback(None))
    raise settled from (None if settled is error else error)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _ends_by_itself(error: BaseException | None) -> bool:
    return isinstance(error, SevenBridgesRateLimitError | SevenBridgesMaintenanceError | SevenBridgesGatewayError)


def _may_ask_again(error: BaseException) -> bool:
    if isinstance(error, SevenBridgesReplyTooLarge) and error.status < 300:
        # The same request gets the same answer.
        return False
    if isinstance(error, SevenBridgesApiError):
        return not error.permanent
    return isinstance(error, SevenBridgesConnectionError)


def _pause(state: RetryCallState) -> float:
    error = _error(state)
    if isinstance(error, SevenBridgesRateLimitError) and error.reset_at is not None:
        # The window may seem to be over where the clocks differ: then ask less and less often.
        left = min(error.reset_at - time.time(), RATE_LIMIT_WINDOW)
        return max(left + random.uniform(0.1, 1), _wait_after_trouble(state))
    if isinstance(error, SevenBridgesRateLimitError | SevenBridgesMaintenanceError):
        return MAINTENANCE_PAUSE + random.uniform(0, 5)
    return _wait_after_trouble(state)
