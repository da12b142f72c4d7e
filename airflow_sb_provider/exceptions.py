"""All errors of this provider, in one tree. No Airflow here: operators and sensors convert them to Airflow's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from airflow_sb_provider.api.error_codes import UNAUTHORIZED, advice_for
from airflow_sb_provider.api.text import readable

if TYPE_CHECKING:
    from collections.abc import Iterable


# Of one error, or of one line of it, since names and locations in it have no bound.
_LONGEST_TEXT = 4000
_NO_REASON = "The Platform gave no reason."


class SevenBridgesError(Exception):
    """Base of all errors of this provider.

    Its text consists of the `subject`, the `reason`, the `remedy` and the `details`, in this order. It is readable:
    names and messages of other people in it cannot forge a line of a log. ``permanent`` is true if the same request
    would fail again, so that the task should not be retried.

    :param remedy: what to do.
    :param subject: what failed.
    :param details: codes, ids and links.
    :param code: the Platform's own code (table "API status codes"), None if it gave none.
    """

    permanent = False
    outstanding = ""
    """What continues on the Platform, or may, although a task ends with this error; appended to the task's error."""
    subject = ""
    remedy = ""
    details = ""
    code: int | None = None

    def __init__(
        self, *args: object, remedy: str = "", subject: str = "", details: str = "", code: int | None = None
    ) -> None:
        super().__init__(*args)
        # Only what is given: other classes compute these.
        if remedy:
            self.remedy = remedy
        if subject:
            self.subject = subject
        if details:
            self.details = details
        if code is not None:
            self.code = code

    @property
    def reason(self) -> str:
        """What happened, and why."""
        return super().__str__()

    @property
    def summary(self) -> str:
        """Reason, remedy and details on one line, for where the subject is shown already."""
        return self._text("", self.remedy)

    def with_remedy(self, remedy: str) -> str:
        """Return its text on one line with another remedy, such as that it is retried."""
        return self._text(self.subject, remedy)

    def _text(self, subject: str, remedy: str) -> str:
        reason, more = self.reason.rstrip(), f"{remedy} {self.details}".strip()
        if more and (reason[-1:].isalnum() or reason.endswith((")", "'", '"'))):
            reason += "."
        return readable(f"{subject}{': ' if subject else ''}{reason} {more}", _LONGEST_TEXT)

    def __str__(self) -> str:
        return self._text(self.subject, self.remedy)


class SevenBridgesInputError(SevenBridgesError):
    """Invalid input; nothing was sent.

    :param problems: one sentence for each invalid field, with its name, its value and the fix.
    """

    permanent = True

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(self.problems)

    @property
    def reason(self) -> str:
        """The problems, a line for each."""
        return _lines(self.problems)

    def __str__(self) -> str:
        return self.reason


class SevenBridgesConnectionError(SevenBridgesError):
    """The Platform did not respond.

    :param message: what happened.
    :param sent: whether the request may have reached the Platform.
    """

    def __init__(self, message: str, sent: bool = True) -> None:
        super().__init__(message, sent)
        self.message = message
        self.sent = sent

    @property
    def reason(self) -> str:
        """What happened."""
        return self.message


class SevenBridgesReplyLost(SevenBridgesError):
    """A POST that may have been accepted although its response did not arrive or is not readable.

    .. note:: Check the Platform before you submit again.

    :param message: what happened.
    :param answered: for a bulk submission, the results of the calls before this one.
    """

    def __init__(self, message: str, answered: tuple[Any, ...] = ()) -> None:
        super().__init__(message, answered)
        self.message = message
        self.answered = answered

    @property
    def reason(self) -> str:
        """What happened."""
        return self.message


class SevenBridgesApiError(SevenBridgesError):
    """An error that the Platform reports in a response, in a bulk item or in a failed job.

    :param status: the HTTP status, 0 if unknown.
    :param code: the Platform's own code (table "API status codes"), None if it gave none.
    :param message: the Platform's message.
    :param more_info: address of a documentation page, if the Platform gave one.
    :param request_id: the Platform's ``X-Request-Id``, to give to its support.

    ``about`` names the object of the request, such as a file; the hooks set it.
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
        """Return its fields: Airflow stores an error that a task returns, such as in a list, as an XCom."""
        return dict(vars(self))

    @classmethod
    def deserialize(cls, data: dict[str, Any], version: int) -> Self:
        """Build from what `serialize` returned."""
        error = cls(*(data[name] for name in ("status", "code", "message", "more_info", "request_id")))
        vars(error).update(data)
        return error

    @property
    def advice(self) -> str | None:
        """One sentence on what to do, for the documented codes that an export can meet."""
        return advice_for(self.code)

    @property
    def permanent(self) -> bool:  # type: ignore[override]
        """True for redirects and rejections (3xx, 4xx) that the same request would get again."""
        return 300 <= self.status < 500 and self.status not in (408, 429)

    @property
    def subject(self) -> str:  # type: ignore[override]
        """The object of the request; it begins the text."""
        return self.about[:1].upper() + self.about[1:]

    @property
    def reason(self) -> str:
        """The Platform's message."""
        return self.message or _NO_REASON

    @property
    def remedy(self) -> str:  # type: ignore[override]
        """The advice for the code."""
        return self.advice or ""

    @property
    def details(self) -> str:  # type: ignore[override]
        """The code, the HTTP status, the request id and the link."""
        return self.details_with()

    def details_with(self, message: str = "") -> str:
        """Return the details, with the Platform's message where another text is the reason."""
        known = [f"the Platform's message: {message!r}"] if message else []
        known += [f"code {self.code}"] if self.code is not None else []
        known += [f"HTTP {self.status}"] if self.status else []
        known += [f"request id {self.request_id}"] if self.request_id else []
        texts = [f"({', '.join(known)})"] if known else []
        return " ".join([*texts, f"See {self.more_info}"] if self.more_info else texts)


class SevenBridgesAuthError(SevenBridgesApiError):
    """401: the token is missing, wrong, expired, or that of another environment."""

    @property
    def advice(self) -> str | None:
        """What to check, also if the response has no code."""
        return super().advice or advice_for(UNAUTHORIZED)


class SevenBridgesForbiddenError(SevenBridgesApiError):
    """403: the token's user lacks a permission, or the object does not allow the request."""


class SevenBridgesNotFoundError(SevenBridgesApiError):
    """404: no such object, or not visible to the token's user."""


class SevenBridgesConflictError(SevenBridgesApiError):
    """409: a conflict, such as with an object at the destination."""


class SevenBridgesRateLimitError(SevenBridgesApiError):
    """429: too many requests; ``reset_at`` is when the window ends (epoch seconds), if known."""

    reset_at: float | None = None


class SevenBridgesServerError(SevenBridgesApiError):
    """5xx: an error on the Platform's side."""


class SevenBridgesMaintenanceError(SevenBridgesServerError):
    """503 with code 0: the Platform is under maintenance."""


class SevenBridgesGatewayError(SevenBridgesServerError):
    """An error page, of any status, that is not the API's own but a gateway's, a web filter's or a CDN's.

    It says nothing about the requested object, even with status 403 or 404, and is temporary.
    """

    @property
    def advice(self) -> str | None:
        """What the page is, since its text may say something else."""
        return (
            "This response is not the Platform's own, but that of a gateway, filter or CDN. If it persists, check the "
            "connection's host and the proxy."
        )

    @property
    def permanent(self) -> bool:  # type: ignore[override]
        """False, whatever the status."""
        return False


class SevenBridgesMalformedReply(SevenBridgesApiError):
    """A response that is not what the API promises: truncated JSON, a gateway's page, missing fields."""


class SevenBridgesReplyTooLarge(SevenBridgesMalformedReply):
    """A response that exceeds a limit; a request for fewer objects may succeed."""


class SevenBridgesUnreadableItem(SevenBridgesMalformedReply):
    """An item of a bulk response that is missing or not readable, while others are."""

    @property
    def permanent(self) -> bool:  # type: ignore[override]
        """False, whatever the status."""
        return False


class _FailedJob(Protocol):
    """What an error needs of a job of any kind."""

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


class _FailedTask(_FailedJob, Protocol):
    @property
    def name(self) -> str | None: ...

    @property
    def app(self) -> str | None: ...


class SevenBridgesJobFailed(SevenBridgesError):
    """A job failed, or reached another terminal state that is no success.

    :param job: the job, with the Platform's error in ``job.error``.
    :param cause: the cause that a check found; replaces the Platform's message as the reason.
    :param remedy: what to do about that cause.
    """

    def __init__(self, job: _FailedJob, cause: str = "", remedy: str = "") -> None:
        super().__init__(job, cause, remedy)
        self.job = job
        self.cause = cause
        self.code = job.error.code if job.error else None
        self._remedy = remedy

    @property
    def permanent(self) -> bool:  # type: ignore[override]
        """True if a new job would fail with the same error."""
        return self.job.error is not None and self.job.error.permanent

    @property
    def name(self) -> str:
        """The job and what it was for."""
        return f"Job {self.job.id}"

    @property
    def subject(self) -> str:  # type: ignore[override]
        """The job, and that it failed."""
        state = self.job.state
        return f"{self.name} failed" if state == "FAILED" else f"{self.name} did not succeed, its state is {state}"

    @property
    def reason(self) -> str:
        """The cause, or the Platform's message."""
        return self.cause or (self.job.error.reason if self.job.error else _NO_REASON)

    @property
    def remedy(self) -> str:  # type: ignore[override]
        """What to do about the cause, or about the Platform's code."""
        return self._remedy or (self.job.error.remedy if self.job.error else "")

    @property
    def details(self) -> str:  # type: ignore[override]
        """Those of the Platform's error."""
        error = self.job.error
        return error.details_with(error.message if self.cause else "") if error else ""


class SevenBridgesExportFailed(SevenBridgesJobFailed):
    """An export job failed, or reached another terminal state that is no success."""

    job: _FailedExport

    @property
    def name(self) -> str:
        """The export, its file and its destination."""
        job = self.job
        return f"Export {job.id} of file {readable(str(job.file))} to {readable(f'{job.volume}/{job.location}', 1500)}"


class SevenBridgesTaskFailed(SevenBridgesJobFailed):
    """A task failed or was aborted. A new task may succeed, so an Airflow retry runs one."""

    job: _FailedTask

    @property
    def name(self) -> str:
        """The task and its app."""
        job = self.job
        return f"Task {job.id} ({readable(job.name or 'without a name', 200)}) of app {readable(str(job.app), 300)}"

    @property
    def remedy(self) -> str:  # type: ignore[override]
        """What to do, if nothing more is known: the page has what the API does not return."""
        return super().remedy or "Check the errors and logs of its jobs on the task's page."


class SevenBridgesJobRefused(SevenBridgesError):
    """A job that is not possible as requested: the Platform rejected it, or a check shows that it would.

    :param message: the cause.
    :param problems: one sentence for each thing that prevents the job, each on a line of its own.
    :param remedy: what to do.
    :param subject: the job, and that it was rejected.
    :param details: codes, ids and links.
    :param code: the Platform's own code.
    """

    permanent = True

    def __init__(
        self,
        message: str,
        problems: Iterable[str] = (),
        *,
        remedy: str = "",
        subject: str = "",
        details: str = "",
        code: int | None = None,
    ) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__(message, self.problems, remedy=remedy, subject=subject, details=details, code=code)

    @property
    def reason(self) -> str:
        """The cause; with several problems, a line for each."""
        return _lines((self.message, *self.problems)) if self.problems else self.message

    def __str__(self) -> str:
        return self.reason if self.problems else super().__str__()


class SevenBridgesExportRefused(SevenBridgesJobRefused):
    """An export that is not possible as requested: the Platform rejected it, or a check shows that it would."""


class SevenBridgesTaskRefused(SevenBridgesJobRefused):
    """A task that cannot run as requested, for example because an input is missing; nothing has run."""


class SevenBridgesNotExportable(SevenBridgesExportRefused):
    """A file that cannot be exported as it is: an alias, a folder, a public or archived file."""


class SevenBridgesInDoubt(SevenBridgesError):
    """The state on the Platform cannot be known, so nothing was submitted.

    It says what is unclear and exactly what to check.
    """


class SevenBridgesJobTimeout(SevenBridgesError):
    """The wait reached its time limit; the job continues."""


class SevenBridgesTaskTimeout(SevenBridgesJobTimeout):
    """The wait for a task reached its time limit; the task continues."""


class SevenBridgesExportTimeout(SevenBridgesJobTimeout):
    """The wait reached its time limit; the export continues, since the API cannot cancel it.

    :param message: what happened.
    :param export_ids: from the hook, the exports that are not terminal.
    """

    def __init__(self, message: str, export_ids: Iterable[str] = (), *, remedy: str = "") -> None:
        self.export_ids = tuple(export_ids)
        super().__init__(message, remedy=remedy)


class SevenBridgesBatchFailed(SevenBridgesError):
    """Some jobs of a batch failed.

    :param message: which and why, made of readable lines.
    :param permanent: whether a retry would complete none of them.
    :param results: from the hook, the job or the error of each export, in order.
    """

    def __init__(self, message: str, permanent: bool, results: Iterable[Any] = ()) -> None:
        super().__init__(message, permanent)
        self.message = message
        self.permanent = permanent
        self.results = tuple(results)

    @property
    def reason(self) -> str:
        """Which and why."""
        return self.message

    def __str__(self) -> str:
        return self.message


class SevenBridgesVerificationFailed(SevenBridgesBatchFailed):
    """Objects of a manifest are missing or changed."""


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(readable(text, _LONGEST_TEXT) for text in texts)
