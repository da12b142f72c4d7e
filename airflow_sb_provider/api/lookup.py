"""One poll of up to a hundred ids, in which an id that makes the shared request fail affects only itself.

This module has no I/O: it decides what to request next, and both hooks and the poller send the requests.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Generic, TypeGuard, TypeVar

from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesError,
    SevenBridgesGatewayError,
    SevenBridgesMaintenanceError,
    SevenBridgesRateLimitError,
    SevenBridgesReplyTooLarge,
    SevenBridgesUnreadableItem,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

# One bad id among a hundred is found in 15 requests: the first, and two for each halving.
MAX_SHARED = 16
MAX_ALONE = 10
# Ids per request where the response for all of them is too large.
SMALL = 10

_ABOUT_ALL = (
    SevenBridgesAuthError,
    SevenBridgesGatewayError,
    SevenBridgesMaintenanceError,
    SevenBridgesRateLimitError,
)

Apart = dict[str, None]
"""Ids that are each requested alone, because a shared request fails for them; the least recently requested first."""


class Lookup(Generic[T]):
    """The requests of one poll: `next` returns the ids to request, `take` takes the response, until `next` is empty.

    All ids share one request, except those in ``apart``. A shared request that fails because of its ids is split in
    halves until the bad id is alone: it goes into ``apart``, and no other id gets its error. Ids that are missing in a
    response, or whose items are not readable, are requested again. An id that gets a result alone leaves ``apart``.

    Splitting does not help if everything is rejected, so the number of requests is bounded; ids that are not reached
    get no result in this poll. For a transient error (a 5xx, an unreadable response), two halves that both fail show
    that it affects all ids.

    :param ids: different ids, at most a hundred.
    :param apart: kept by the caller from poll to poll, and changed here.
    :param bounded: false to reach every id, unless the first ten that are requested alone are all rejected.
    """

    def __init__(self, ids: Sequence[str], apart: Apart, *, bounded: bool = True) -> None:
        self.failure: SevenBridgesError | None = None
        """The first error of a whole request."""
        self.ended_by: SevenBridgesError | None = None
        """The error that affects all ids and ended the poll."""
        self.has_answers = False
        """Whether the Platform has returned anything about any id."""
        self._apart = apart
        self._bounded = bounded
        shared = [each for each in ids if each not in apart] if apart else list(ids)
        wanted = frozenset(ids) if apart else frozenset()
        self._shared = [shared] if shared else []
        self._alone = [each for each in apart if each in wanted]
        self._requested: list[str] = []
        self._shared_requests = 0
        self._alone_requests = 0
        self._rejected_alone = 0

    def next(self) -> list[str]:
        """Return the ids of the next request; none if the poll is over."""
        self._requested = []
        if self._shared and not (self._bounded and self._shared_requests >= MAX_SHARED):
            self._requested = self._shared.pop()
            self._shared_requests += 1
        elif self._alone and not (self._bounded and self._alone_requests >= MAX_ALONE):
            self._requested = [self._alone.pop(0)]
            self._alone_requests += 1
        return self._requested

    def take(
        self, answer: Sequence[T | SevenBridgesApiError] | SevenBridgesError
    ) -> Mapping[str, T | SevenBridgesError]:
        """Take the response to the last request: a list in the order of its ids, or an error.

        :returns: the results so far, by id.
        """
        if not isinstance(answer, SevenBridgesError):
            return self._take_items(answer)
        self.failure = self.failure or answer
        if not _may_be_one(answer):
            return self._end(answer)
        if isinstance(answer, SevenBridgesReplyTooLarge) and len(self._requested) > SMALL:
            # No id is at fault: jobs of files with much metadata may together exceed the bound of one response.
            parts = [self._requested[start : start + SMALL] for start in range(0, len(self._requested), SMALL)]
            self._shared = [*self._shared, *parts]
            return {}
        if len(self._requested) == 1:
            return self._take_alone(self._requested[0], answer)
        self._split()
        is_for_all = not answer.permanent and self._shared_requests >= 3 and not self.has_answers
        return self._end(answer) if is_for_all else {}

    def _take_items(self, items: Sequence[T | SevenBridgesApiError]) -> Mapping[str, T | SevenBridgesError]:
        answers: dict[str, T | SevenBridgesError] = dict(zip(self._requested, items, strict=True))
        unreadable = [each for each, item in answers.items() if isinstance(item, SevenBridgesUnreadableItem)]
        self.has_answers = self.has_answers or len(unreadable) < len(answers)
        if len(answers) == 1:
            self._set_apart(self._requested[0], bool(unreadable))
        elif unreadable:
            for each in unreadable:
                del answers[each]
            # At least one id of the shared request has a result, so this terminates.
            if len(unreadable) == 1:
                self._alone += unreadable
            else:
                self._shared.append(unreadable)
        return answers

    def _take_alone(self, each: str, error: SevenBridgesApiError) -> Mapping[str, T | SevenBridgesError]:
        if error.permanent:
            self._rejected_alone += 1
            if not self._bounded and self._rejected_alone >= MAX_ALONE and not self.has_answers:
                return self._end(error)
        elif self.has_answers:
            # Others have results, so the error is about this id.
            error = SevenBridgesUnreadableItem(*error.args)
        self._set_apart(each, True)
        return {each: error}

    def _split(self) -> None:
        # At random, so that two bad ids soon share a half: the other half shows that not all fail.
        ids = random.sample(self._requested, len(self._requested))
        halves = [ids[len(ids) // 2 :], ids[: len(ids) // 2]]
        # Depth first, so that each poll finds at least one bad id; but both halves of the first request come first.
        self._shared = [*halves, *self._shared] if self._shared_requests == 2 else [*self._shared, *halves]

    def _set_apart(self, each: str, is_bad: bool) -> None:
        self._apart.pop(each, None)
        if is_bad:
            self._apart[each] = None

    def _end(self, error: SevenBridgesError) -> Mapping[str, T | SevenBridgesError]:
        self.ended_by = error
        left = [*self._requested, *(each for part in self._shared for each in part), *self._alone]
        self._shared, self._alone = [], []
        return dict.fromkeys(left, error)


def _may_be_one(error: SevenBridgesError) -> TypeGuard[SevenBridgesApiError]:
    """Whether a single id may be the cause of a failed shared request."""
    if isinstance(error, _ABOUT_ALL) or not isinstance(error, SevenBridgesApiError):
        return False
    is_page = isinstance(error, SevenBridgesReplyTooLarge) and error.status >= 400
    return not (300 <= error.status < 400 or is_page)
