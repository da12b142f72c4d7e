from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_sb_provider import exceptions
from airflow_sb_provider.api.error_codes import ADVICE
from airflow_sb_provider.task_status import error_status, sanitized

TAKEN = exceptions.SevenBridgesConflictError(409, 9107, "It\nexists.", "https://docs.example/9107", "r-1")
DETAILS = {"code": 9107, "http_status": 409, "request_id": "r-1", "more_info": "https://docs.example/9107"}


class WithParts(exceptions.SevenBridgesInDoubt):
    reason = "Nobody\nknows."
    remedy = "Check the object."
    details = "(code 9107)"


@pytest.mark.parametrize(
    ("error", "outcome", "parts"),
    [
        (TAKEN, "REFUSED", {"reason": "It exists.", "remedy": ADVICE[9107], **DETAILS}),
        (WithParts(), "IN_DOUBT", {"reason": "Nobody knows.", "remedy": "Check the object.", "details": "(code 9107)"}),
        (exceptions.SevenBridgesInputError(["a: wrong.", "b: wrong."]), "REFUSED", {"reason": "a: wrong.\nb: wrong."}),
        (exceptions.SevenBridgesExportTimeout("Too long."), "TIMEOUT", {"reason": "Too long."}),
        (exceptions.SevenBridgesConnectionError("No response."), "ERROR", {"reason": "No response."}),
    ],
)
def test_an_error_is_published_in_parts(error, outcome, parts):
    assert error_status(error) == {"outcome": outcome, **parts}


@pytest.mark.parametrize("error", [TAKEN, None])
def test_a_failed_job_is_published_with_its_error(error):
    job = SimpleNamespace(id="e1", state="FAILED", error=error, file="f1", volume="me/out", location="a")
    status = error_status(exceptions.SevenBridgesExportFailed(job))
    assert status["outcome"] == "FAILED"
    assert ("exists" if error else "gave no reason") in status["reason"]
    assert status.get("code") == (9107 if error else None)


def test_published_texts_are_on_one_line_except_the_lines_of_a_reason():
    value = {"file": {"name": "a\nb"}, "errors": [{"message": "a\r\nb"}], "error": {"reason": "a\tb\nc"}, "total": 1}
    assert sanitized(value) == {
        "file": {"name": "a b"},
        "errors": [{"message": "a b"}],
        "error": {"reason": "a b\nc"},
        "total": 1,
    }
