"""What can go wrong, as one tree. No Airflow here: operators and sensors turn these into Airflow's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from airflow_sb_provider.api.error_codes import advice_for
from airflow_sb_provider.api.text import readable

if TYPE_CHECKING:
    from collections.abc import Iterable


# Of one error, or of one line of it, since names and locations in it have no bound.
_LONGEST_TEXT = 4000


class SevenBridgesError(Exception):
    """Base of all errors of this provider.

    ``permanent`` is true where asking again cannot help, so that a task should not be retried. Its text is readable:
    names and messages of other people in it can forge no line of a log.
    """

    permanent = False
    outstanding = ""
    """What goes on at the Platform, or may, although a task ends with this error; part of the text of its failure."""

    def __str__(self) -> str:
        return readable(super().__str__(), _LONGEST_TEXT)


class SevenBridgesInputError(SevenBridgesError):
    """Input that cannot be used; nothing was sent.

    :param problems: one sentence for each wrong field, naming the field, its value and the fix.
    """

    permanent = True

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return _lines(self.problems)


class SevenBridgesConnectionError(SevenBridgesError):
    """The Platform gave no answer.

    :param message: what happened.
    :param sent: whether the request may have reached the Platform.
    """

    def __init__(self, message: str, sent: bool = True) -> None:
        super().__init__(message, sent)
        self.message = message
        self.sent = sent

    def __str__(self) -> str:
        return readable(self.message, _LONGEST_TEXT)


class SevenBridgesReplyLost(SevenBridgesError):
    """A POST that may have been accepted although its answer did not arrive or could not be read.

    Its caller must look at the Platform before asking again.

    :param message: what happened.
    :param answered: for a bulk submission, the results of the calls that were answered before this one.
    """

    def __init__(self, message: str, answered: tuple[Any, ...] = ()) -> None:
        super().__init__(message, answered)
        self.message = message
        self.answered = answered

    def __str__(self) -> str:
        return readable(self.message, _LONGEST_TEXT)


class SevenBridgesApiError(SevenBridgesError):
    """An error that the Platform itself tells, in a response, in a bulk item or in a failed job.

    :param status: HTTP status, 0 if unknown.
    :param code: the Platform's own code (table of "API status codes"), None if it gave none.
    :param message: the Platform's words.
    :param more_info: address of a documentation page, if the Platform gave one.
    :param request_id: the Platform's ``X-Request-Id``, to name to its support.

    ``about`` names the object that the request was about, such as a file; the hooks set it.
    """

    about = ""

    def __init__(
        self,
        status: int,
        code: int | None = None,
        message: str = "",
        more_info: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(status, code, message, more_info, request_id)
        self.status = status
        self.code = code
        self.message = message
        self.more_info = more_info
        self.request_id = request_id

    def serialize(self) -> dict[str, Any]:
        """Return what it holds: Airflow keeps an error that a task returns, such as in a list, as an XCom."""
        return dict(vars(self))

    @classmethod
    def deserialize(cls, data: dict[str, Any], version: int) -> Self:
        """Build from what `serialize` has returned."""
        error = cls(*(data[name] for name in ("status", "code", "message", "more_info", "request_id")))
        vars(error).update(data)
        return error

    @property
    def advice(self) -> str | None:
        """One sentence on what to do, for the documented codes that an export can meet."""
        return advice_for(self.code)

    @property
    def permanent(self) -> bool:  # type: ignore[override]
        """True for redirects and refusals (3xx, 4xx) that the same request would meet again."""
        return 300 <= self.status < 500 and self.status not in (408, 429)

    def __str__(self) -> str:
        where = [f"HTTP {self.status}"] if self.status else []
        if self.code is not None:
            where.append(f"code {self.code}")
        if self.request_id:
            where.append(f"request {self.request_id}")
        text = self.message or "no message"
        if self.about:
            text = f"{self.about}: {text}"
        if where:
            text += f" ({', '.join(where)})"
        if self.advice:
            text += f" {self.advice}"
        if self.more_info:
            text += f" See {self.more_info}"
        return readable(text, _LONGEST_TEXT)


class SevenBridgesAuthError(SevenBridgesApiError):
    """401: the token is missing, wrong or expired."""


class SevenBridgesForbiddenError(SevenBridgesApiError):
    """403: the token's user may not do this, or the thing does not allow it."""


class SevenBridgesNotFoundError(SevenBridgesApiError):
    """404: no such thing, or not visible to the token's user."""


class SevenBridgesConflictError(SevenBridgesApiError):
    """409: something is in the way, such as an object at the destination."""


class SevenBridgesRateLimitError(SevenBridgesApiError):
    """429: too many requests; ``reset_at`` is when the window ends (epoch seconds), if it was told."""

    reset_at: float | None = None


class SevenBridgesServerError(SevenBridgesApiError):
    """5xx: trouble on the Platform's side."""


class SevenBridgesMaintenanceError(SevenBridgesServerError):
    """503 with code 0: the Platform is under maintenance."""


class SevenBridgesGatewayError(SevenBridgesServerError):
    """An error page, of any status, that is not the API's own: a gateway's, a web filter's, a CDN's.

    It says nothing about what was requested, also where it says 403 or 404, and ends by itself.
    """

    @property
    def advice(self) -> str | None:
        """What it is, since its words may say something else."""
        return (
            "This page is not the Platform's own: something before it answers, such as a gateway. If that stays, check "
            "the connection's host and the proxy."
        )

    @property
    def permanent(self) -> bool:  # type: ignore[override]
        """False, whatever the status."""
        return False


class SevenBridgesMalformedReply(SevenBridgesApiError):
    """A reply that is not what the API promises: cut JSON, a gateway's page, missing fields."""


class SevenBridgesReplyTooLarge(SevenBridgesMalformedReply):
    """A reply that exceeds a bound; a request for fewer objects may get one that does not."""


class SevenBridgesUnreadableItem(SevenBridgesMalformedReply):
    """One item of a bulk answer that is missing or cannot be read, while the answer has others."""

    @property
    def permanent(self) -> bool:  # type: ignore[override]
        """False, whatever the status."""
        return False


class _FailedJob(Protocol):
    """What an error shows of a job of any kind."""

    @property
    def id(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def error(self) -> SevenBridgesApiError | None: ...


class _FailedExport(_FailedJob, Protocol):
    @property
    def file(self) -> str | None: ...

    @property
    def volume(self) -> str | None: ...

    @property
    def location(self) -> str | None: ...


class SevenBridgesJobFailed(SevenBridgesError):
    """A job ended as FAILED, or in another state that is no success.

    :param job: the job, with the Platform's error in ``job.error``.
    :param cause: which of the error's causes holds, as far as a check could find out.
    """

    def __init__(self, job: _FailedJob, cause: str = "") -> None:
        super().__init__(job, cause)
        self.job = job
        self.cause = cause

    @property
    def permanent(self) -> bool:  # type: ignore[override]
        """True if the job's own error is one that a new job would meet again."""
        return self.job.error is not None and self.job.error.permanent

    @property
    def subject(self) -> str:
        """The job and what it was for."""
        return f"Job {self.job.id}"

    def __str__(self) -> str:
        job = self.job
        how = "failed" if job.state == "FAILED" else f"did not succeed, it ended as {job.state}"
        text = f"{self.subject} {how}: {job.error or 'the Platform gave no reason.'}"
        return readable(f"{text} {self.cause}" if self.cause else text, _LONGEST_TEXT)


class SevenBridgesExportFailed(SevenBridgesJobFailed):
    """An export job ended as FAILED, or in another state that is no success."""

    job: _FailedExport

    @property
    def subject(self) -> str:
        """The export, its file and its destination."""
        job = self.job
        return f"Export {job.id} of file {readable(str(job.file))} to {readable(f'{job.volume}/{job.location}', 1500)}"


class SevenBridgesExportRefused(SevenBridgesError):
    """An export that cannot be made as asked: the Platform refused it, or a look shows that it would.

    It says which cause holds and what to do.

    :param message: what happened.
    :param problems: one sentence for each thing that stands in the way, for lines of their own.
    """

    permanent = True

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__(message, self.problems)

    def __str__(self) -> str:
        return _lines((self.message, *self.problems))


class SevenBridgesNotExportable(SevenBridgesExportRefused):
    """A file that no export can be made of as it is: an alias, a folder, a public or archived file."""


class SevenBridgesInDoubt(SevenBridgesError):
    """What the Platform did cannot be known, so nothing more was asked of it.

    It says what is unclear and exactly what to check.
    """


class SevenBridgesExportTimeout(SevenBridgesError):
    """Waiting ended at its time limit; the export itself goes on, since the API has no cancel."""


class SevenBridgesBatchFailed(SevenBridgesError):
    """Some exports of a batch were not made.

    :param message: which and why, made of readable lines.
    :param permanent: whether a later try would fare no better with any of them.
    """

    def __init__(self, message: str, permanent: bool) -> None:
        super().__init__(message, permanent)
        self.message = message
        self.permanent = permanent

    def __str__(self) -> str:
        return self.message


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(readable(text, _LONGEST_TEXT) for text in texts)
