from __future__ import annotations

import pickle

import pytest

from airflow_sb_provider import exceptions as e
from airflow_sb_provider.api.models import ExportJob

JOB = ExportJob("j1", "FAILED", "f", "a/b", "x", error=e.SevenBridgesConflictError(409, 9107, "Taken."))


def limited():
    error = e.SevenBridgesRateLimitError(429, 1000, "Slow down.")
    error.reset_at = 1489700093
    return error


ERRORS = [
    e.SevenBridgesError("words"),
    e.SevenBridgesInputError("file: wrong."),
    e.SevenBridgesInputError(["file: wrong.", "volume: wrong."]),
    e.SevenBridgesConnectionError("gone", sent=False),
    e.SevenBridgesReplyLost("lost", (JOB, e.SevenBridgesForbiddenError(403, 9006, "No."))),
    e.SevenBridgesApiError(400, 9011, "Bad.", "https://docs", "r-1"),
    e.SevenBridgesApiError(0),
    e.SevenBridgesMalformedReply(200, message="cut"),
    e.SevenBridgesMaintenanceError(503, 0),
    e.SevenBridgesGatewayError(404, message="default backend - 404"),
    e.SevenBridgesUnreadableItem(200, message="null"),
    e.SevenBridgesExportRefused("refused", ["because", "and"]),
    limited(),
    e.SevenBridgesExportFailed(JOB, "It is an alias."),
    e.SevenBridgesExportFailed(ExportJob("j2", "FAILED")),
    e.SevenBridgesExportRefused("refused"),
    e.SevenBridgesInDoubt("doubt"),
    e.SevenBridgesExportTimeout("late"),
    e.SevenBridgesExportTimeout("late", ["j1", "j2"], remedy="Wait again."),
    e.SevenBridgesBatchFailed("two\nlines", True, [JOB, e.SevenBridgesForbiddenError(403, 9006, "No.")]),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_can_be_pickled(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), repr(again)) == (str(error), repr(error))
    assert str(vars(again)) == str(vars(error))


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        *((status, False) for status in (0, 200, 408, 429, 500, 503, 599)),
        *((status, True) for status in (301, 308, 400, 401, 403, 404, 409, 415)),
    ],
)
def test_the_statuses_that_are_permanent(status, permanent):
    assert e.SevenBridgesApiError(status).permanent is permanent


def test_the_text_of_an_error():
    assert str(e.SevenBridgesApiError(409, 9107, "Taken.", "https://docs#9107", "r-1")) == (
        "Taken. Choose another location, or first check that no file is an alias of the object and then set overwrite. "
        "(code 9107, HTTP 409, request id r-1) See https://docs#9107"
    )
    assert str(e.SevenBridgesApiError(0)) == "The Platform gave no reason."
    assert str(e.SevenBridgesInputError(["a", "b"])) == "a\nb"


def test_the_error_of_an_aborted_export_names_its_state():
    aborted = ExportJob("j", "ABORTED", "f", "a/b", "x", error=e.SevenBridgesApiError(0, message="Stopped."))
    assert str(e.SevenBridgesExportFailed(aborted)) == (
        "Export j of file f to a/b/x did not succeed, its state is ABORTED: Stopped."
    )


FORGED = "x\n2026-01-01 INFO Export done\x1b[2J\u202e\u2028" + "y" * 10_000


@pytest.mark.parametrize(
    "error",
    [
        e.SevenBridgesError(FORGED),
        e.SevenBridgesConnectionError(FORGED),
        e.SevenBridgesReplyLost(FORGED),
        e.SevenBridgesApiError(400, 9011, FORGED, FORGED, FORGED),
        e.SevenBridgesGatewayError(404, message=FORGED),
        e.SevenBridgesExportFailed(ExportJob("j", "FAILED", FORGED, FORGED, FORGED), FORGED),
        e.SevenBridgesExportRefused(FORGED),
        e.SevenBridgesInDoubt(FORGED),
        e.SevenBridgesExportTimeout(FORGED),
        e.SevenBridgesInputError(FORGED),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_name_in_an_error_cannot_add_a_line(error):
    assert str(error).isprintable()
    assert len(str(error)) <= 4000


def test_only_the_error_itself_breaks_lines():
    problems = ["file: " + FORGED, "volume: wrong."]
    for text in (str(e.SevenBridgesInputError(problems)), str(e.SevenBridgesExportRefused("No:", problems))):
        lines = text.split("\n")
        assert [line.split(":")[0] for line in lines[-2:]] == ["file", "volume"]
        assert all(line.isprintable() for line in lines)
        assert len(lines) <= 3


def test_a_failed_export_has_subject_reason_remedy_and_details_in_this_order():
    advice = e.SevenBridgesApiError(409, 9107).advice
    error = e.SevenBridgesExportFailed(JOB)
    assert (error.reason, error.remedy, error.details) == ("Taken.", advice, "(code 9107, HTTP 409)")
    assert str(error) == f"Export j1 of file f to a/b/x failed: Taken. {advice} (code 9107, HTTP 409)"
    assert error.summary == f"Taken. {advice} (code 9107, HTTP 409)"


def test_the_cause_that_a_check_found_replaces_the_platforms_message():
    error = e.SevenBridgesExportFailed(JOB, "Somebody else put it there.", "Check it.")
    assert str(error) == (
        "Export j1 of file f to a/b/x failed: Somebody else put it there. Check it. "
        "(the Platform's message: 'Taken.', code 9107, HTTP 409)"
    )


def test_with_remedy_replaces_the_remedy():
    error = e.SevenBridgesServerError(503, 90005, "Unavailable", None, "r-1")
    error.about = "export j1"
    text = "Export j1: Unavailable. Retrying in 2 seconds. (code 90005, HTTP 503, request id r-1)"
    assert error.with_remedy("Retrying in 2 seconds.") == text


def test_which_failed_exports_are_permanent():
    assert e.SevenBridgesExportFailed(JOB).permanent
    assert not e.SevenBridgesExportFailed(ExportJob("j", "FAILED")).permanent
    assert "gave no reason" in str(e.SevenBridgesExportFailed(ExportJob("j", "FAILED")))
