from __future__ import annotations

import contextlib
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.replies import read_reply
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesGatewayError,
    SevenBridgesMaintenanceError,
    SevenBridgesMalformedReply,
    SevenBridgesNotFoundError,
    SevenBridgesRateLimitError,
    SevenBridgesReplyTooLarge,
    SevenBridgesServerError,
)
from airflow_sb_provider.exports.request import ExportRequest

EXPORT = ExportRequest("567890abc9b0307bc0414164", "rfranklin/output", "output.vcf")
JOB = b'{"id": "j1", "state": "PENDING", "source": {"file": "567890abc9b0307bc0414164"}}'
PAGE = b"<html><head><title>502</title></head><body><h1>Bad   gateway</h1>\n<hr>nginx</body></html>"
ALL_CALLS = [
    calls.start_export(EXPORT, copy_only=False),
    calls.start_exports([EXPORT, EXPORT], copy_only=True),
    calls.get_export("j1"),
    calls.get_exports(["j1"]),
    calls.list_exports(),
    calls.list_imports(),
    calls.get_file("f"),
    calls.get_files(["f"]),
    calls.list_files(project="a/b"),
    calls.get_volume("a/b"),
    calls.list_volumes(),
    calls.get_volume_object("a/b", "x"),
    calls.get_user(),
    calls.get_rate_limit(),
]


def reply(status, body, call=ALL_CALLS[0], **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_reply(call, status, CaseInsensitiveDict(names), body)


@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_every_success_status_is_read(status):
    assert reply(status, JOB).id == "j1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        JOB[:-5],
        b"[]",
        b"null",
        b"5",
        b'"text"',
        b"{}",
        b'{"id": "j1"}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"id": ' + b"9" * 10_000 + b"}",
        PAGE,
    ],
)
def test_an_unreadable_success_is_reported_with_its_beginning(body):
    with pytest.raises(SevenBridgesMalformedReply, match="POST storage/exports is not readable") as caught:
        reply(200, body, x_request_id="r-1")
    assert (caught.value.status, caught.value.request_id, caught.value.permanent) == (200, "r-1", False)
    assert len(str(caught.value)) < 500


def test_a_submission_without_content_is_malformed():
    with pytest.raises(SevenBridgesMalformedReply):
        reply(204, b"")


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "message"),
    [
        (404, b'{"status":"NOT_FOUND","message":"HTTP 404 Not Found"}', SevenBridgesNotFoundError, None, "HTTP 404"),
        (503, b'{"status":503,"code":0,"message":"maintenance"}', SevenBridgesMaintenanceError, 0, "maintenance"),
        (503, b'{"code":"0"}', SevenBridgesMaintenanceError, 0, "The Platform gave no reason."),
        (503, b"", SevenBridgesGatewayError, None, "The Platform gave no reason."),
        (502, PAGE, SevenBridgesServerError, None, "502 Bad gateway nginx"),
        (500, JOB[:20], SevenBridgesServerError, None, '{"id": "j1"'),
        (429, b"slow down", SevenBridgesRateLimitError, None, "slow down"),
        (404, b"[1, 2]", SevenBridgesGatewayError, None, "[1, 2]"),
        (400, b"\xff\xfe", SevenBridgesApiError, None, "HTTP 400"),
        (403, b'{"code": 9006, "message": "Requested file cannot be exported."}', SevenBridgesApiError, 9006, "alias"),
    ],
)
def test_an_error_in_any_form_is_reported(status, body, kind, code, message):
    with pytest.raises(kind) as caught:
        reply(status, body)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert message in str(caught.value)


# Responses of gateways in front of the API; the first is of an ingress without a backend.
PAGES = [
    b"default backend - 404",
    PAGE,
    b'{"detail": "Not Found"}',
    b'{"message": "Forbidden"}',
    b'{"message": "no Route matched with those values"}',
    b'{"code": 404, "message": "Not Found"}',
    b'{"status": 404, "error": "Not Found", "path": "/v2/storage/exports"}',
    b'{"code": 7, "message": "blocked"}',
    b'{"code": "blocked", "message": "blocked"}',
    b'{"code": true, "message": "blocked"}',
    b'{"status": "Failure", "message": "not found"}',
    b'{"error": {"code": 9008, "message": "Requested job does not exist."}}',
    b"{}",
    b"[]",
    b'["code"]',
    b"null",
    b"404",
    b'"not found"',
    b'{"code": 9008, "mess',
    b"\xff\xfe",
]


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 408, 409, 410, 413, 414, 421, 422, 451, 500, 502, 503, 504, 520]
)
@pytest.mark.parametrize("body", PAGES)
def test_a_page_that_is_not_from_the_api_is_a_gateway_error(status, body):
    with pytest.raises(SevenBridgesGatewayError, match="not the Platform's own") as caught:
        reply(status, body, x_request_id="r-1")
    error = caught.value
    assert (error.status, error.code, error.permanent, error.request_id) == (status, None, False, "r-1")
    assert not isinstance(error, SevenBridgesNotFoundError | SevenBridgesAuthError)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 410, 413, 414, 421, 500, 502, 503, 504])
def test_an_empty_error_response_is_a_gateway_error(status):
    for body in (b"", b" \r\n"):
        with pytest.raises(SevenBridgesGatewayError):
            reply(status, body)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, b'{"status": 403, "code": 9006, "message": "No.", "more_info": "http://x"}', 9006),
        (403, b'{"status": "403", "code": "9006", "message": "No."}', 9006),
        (400, b'{"code": 90000}', 90000),
        (409, b'{"code": 1000, "message": null}', 1000),
        (404, b'{"status": "NOT_FOUND", "message": "HTTP 404 Not Found"}', None),
        (401, b'{"status": 401, "code": 90001, "message": "Unauthorized."}', 90001),
        (401, b'{"status": "UNAUTHORIZED", "message": "HTTP 401 Unauthorized"}', None),
        (401, b"", None),
    ],
)
def test_a_rejection_by_the_api_is_permanent(status, body, code):
    with pytest.raises(SevenBridgesApiError) as caught:
        reply(status, body)
    assert (caught.value.code, caught.value.permanent) == (code, True)
    assert not isinstance(caught.value, SevenBridgesGatewayError)


@pytest.mark.parametrize(
    ("reset", "known"), [("1489700093", 1489700093), ("", None), ("soon", None), ("-5", None), ("9" * 400, None)]
)
def test_the_end_of_the_rate_limits_window(reset, known):
    with pytest.raises(SevenBridgesRateLimitError) as caught:
        reply(429, b"{}", x_ratelimit_reset=reset)
    assert caught.value.reset_at == known


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://other.example/v2/user?x=y", "https://other.example."),
        ("https://name:secret@other.example/x", "https://other.example."),
        ("https://secret@other.example", "https://other.example."),
        ("/secret", "another address"),
        ("http://[bad", "another address"),
        ("", "another address"),
        (None, "another address"),
    ],
)
def test_a_redirect_is_an_error_that_names_its_target(status, location, target):
    with pytest.raises(SevenBridgesApiError, match="Redirects are not followed") as caught:
        reply(status, b"", **({} if location is None else {"location": location}))
    assert target in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.permanent


@given(st.sampled_from(ALL_CALLS), st.integers(100, 699), st.binary(max_size=60), st.text(max_size=20))
def test_any_bytes_are_read_or_raise_an_api_error(call, status, body, header):
    headers = CaseInsensitiveDict(
        {"X-RateLimit-Reset": header, "X-Total-Matching-Query": header, "Location": header, "X-Request-Id": header}
    )
    try:
        read_reply(call, status, headers, body)
    except SevenBridgesApiError as error:
        str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "state", "items", "resource", "error", "links", "rel", "href", "source", "code"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(ALL_CALLS), st.sampled_from([200, 404, 429, 503]), JSON)
def test_any_json_is_read_or_raises_an_api_error(call, status, data):
    try:
        read_reply(call, status, CaseInsensitiveDict(), json.dumps(data).encode())
    except SevenBridgesApiError as error:
        str(error)


@pytest.mark.parametrize(
    "body",
    [
        b'{"username": NaN}',
        b'{"username": "me", "x": Infinity}',
        b'{"username": "me", "x": -1e999}',
        b'{"username": "me", "x": 9223372036854775808}',
        b'{"username": "me", "x": -' + b"9" * 9000 + b"}",
        b'{"username": "m\\u0000e"}',
        b'{"username": "m\\ud800e"}',
        b'{"username": "m\xed\xa0\x80e"}',
        b'{"username": "me", "\\udfff": 1}',
        pytest.param(b'{"username": "me", "x": [' + b",".join([b"[]"] * calls.PAGE.values) + b"]}", id="many"),
        # Python 3.13 reads some thousand levels.
        pytest.param(b'{"username": "me", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", id="deep"),
    ],
)
def test_values_that_cannot_be_stored_are_malformed(body):
    with pytest.raises(SevenBridgesMalformedReply):
        reply(200, body, calls.get_user())
    with pytest.raises(SevenBridgesGatewayError):
        reply(404, body, calls.get_user())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\\\\u0000", "\\u0000"),
        ("\\\\\\\\u0000", "\\\\u0000"),
        ("\\ud83d\\ude00", "\U0001f600"),
        ("\\\\ud800", "\\ud800"),
    ],
)
def test_escaped_text_that_resembles_an_invalid_character_is_accepted(text, name):
    assert reply(200, f'{{"username": "{text}"}}'.encode(), calls.get_user()).username == name


def test_a_message_is_one_short_line():
    words = {"message": "a\r\nb\x1b[31m\x7f\u202e" + "x" * 5000, "more_info": "http://x/\ty"}
    body = json.dumps({"status": 404, "code": 9008, **words}).encode()
    with pytest.raises(SevenBridgesNotFoundError) as caught:
        reply(404, body, x_request_id="r\udc80\x00" + "1" * 5000)
    assert caught.value.message.startswith("a b [31m x")
    assert caught.value.more_info == "http://x/ y"
    assert len(caught.value.message) == 1000
    assert len(caught.value.request_id) == 100
    assert str(caught.value).isprintable()


def test_deeply_nested_values_are_dropped():
    nested = {"deep": 1}
    for _ in range(300):
        nested = {"deep": [nested]}
    body = json.dumps({"id": "j", "state": "COMPLETED", "result": nested, "properties": {"a": {"b": 1}}}).encode()
    job = reply(200, body, calls.get_export("j"))
    assert (job.result, job.properties) == (None, {"a": {"b": 1}})


@pytest.mark.parametrize(
    ("total", "known"), [("12", 12), ("9" * 19, None), ("9" * 5000, None), ("-1", None), ("\u0663", None)]
)
def test_the_total_of_a_list(total, known):
    assert reply(200, b'{"items": []}', calls.list_files(project="a/b"), x_total_matching_query=total).total == known


def test_a_link_whose_rel_is_not_text_is_ignored():
    for depth in range(500, 1100):
        rel = "[" * depth + "]" * depth
        body = f'{{"items": [], "links": [{{"rel": {rel}, "href": "x"}}]}}'.encode()
        with contextlib.suppress(SevenBridgesMalformedReply):
            assert reply(200, body, calls.list_files()).next is None


POLL = calls.get_exports(["j1"])


def filled(unit, count, head=b'{"items": [], "x": [', tail=b"0]}"):
    return head + unit * count + tail


LOADS = {
    "short strings": filled(b'"a",', calls.POLL.values),
    "floats": filled(b"1.5,", calls.POLL.values),
    "integers": filled(b"7,", calls.POLL.values),
    "null": filled(b"null,", calls.POLL.values),
    "keys": filled(b'"k":0,', calls.POLL.values // 2, b'{"items": [], "x": {', b'"k":0}}'),
    "objects": filled(b"{},", calls.POLL.values // 2),
    "lists": filled(b"[],", calls.POLL.values // 2),
    "nested lists": filled(b"[" * 50 + b"]" * 50 + b",", calls.POLL.values // 51 + 1),
    "nested objects": filled(b'{"a":' * 50 + b"0" + b"}" * 50 + b",", calls.POLL.values // 101 + 1),
    "items": filled(b'{"resource":{"id":"j1","state":"x"}},', calls.POLL.values // 7 + 1, b'{"items": [', b"{}]}"),
}


@pytest.mark.parametrize("body", LOADS.values(), ids=LOADS)
def test_a_poll_with_too_many_values_is_rejected_before_it_is_parsed(body, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.api.replies.json.loads", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(SevenBridgesReplyTooLarge, match="is not readable: it has more than 50,000 values") as caught:
        reply(200, body, POLL)
    assert not caught.value.permanent
    with pytest.raises(SevenBridgesGatewayError):
        reply(404, body, POLL)


def test_a_hundred_jobs_with_large_metadata_are_within_the_limit():
    file = {
        "id": "f" * 24,
        "name": "x" * 200,
        "tags": ["a"] * 10,
        "metadata": {f"field {n}": "v" * 20 for n in range(150)},
    }
    job = {"id": "j", "state": "COMPLETED", "source": {"file": "f"}, "destination": {}, "result": file}
    jobs = [{"resource": {**job, "id": f"j{n}"}} for n in range(100)]
    call = calls.get_exports([f"j{n}" for n in range(100)])
    assert [job.id for job in reply(200, json.dumps({"items": jobs}).encode(), call)] == list(call.body["export_ids"])


def test_a_hundred_files_with_maximum_metadata_are_within_the_limit():
    file = {"id": "f", "metadata": {f"field {n}": "v" * 60 for n in range(1000)}}
    body = json.dumps({"items": [{**file, "id": f"f{n}"} for n in range(100)]}).encode()
    assert len(reply(200, body, calls.list_files(project="a/b")).items) == 100


def test_a_page_of_many_more_items_than_requested_is_malformed():
    items = [{"id": f"f{n}"} for n in range(1001)]
    assert len(reply(200, json.dumps({"items": items[:-1]}).encode(), calls.list_files()).items) == 1000
    with pytest.raises(SevenBridgesMalformedReply, match="expected a page of at most 100 items, got 1001"):
        reply(200, json.dumps({"items": items}).encode(), calls.list_files())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\\\\" * 500_000, id="backslashes"),
        pytest.param(b"\\\\" * 500_000 + b"\\u0041", id="backslashes and an escape"),
        pytest.param(b"\\u0041" * 100_000, id="escapes"),
        pytest.param(b"\\ud83d\\ude00" * 80_000, id="escaped pairs"),
    ],
)
def test_texts_of_escapes_are_read_with_little_memory(text):
    """A backtracking pattern needed 2.2 GB for 286 KB."""
    body = b'{"username": "me", "x": "' + text + b'"}'
    tracemalloc.start()
    try:
        assert reply(200, body, calls.get_user()).username == "me"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(body)


@pytest.mark.parametrize("number", [b"1." + b"3" * 99, b"9" * 101, b"-" + b"9" * 4000, b"1e" + b"0" * 100 + b"1"])
def test_numbers_of_many_digits_are_malformed(number):
    with pytest.raises(SevenBridgesMalformedReply, match="not a number that can be stored"):
        reply(200, b'{"username": "me", "x": ' + number + b"}", calls.get_user())


@pytest.mark.parametrize("number", [b"0.1000000000000000055511151231257827", b"9223372036854775807", b"1.0e-300"])
def test_numbers_of_64_bits_are_read(number):
    assert reply(200, b'{"username": "me", "x": ' + number + b"}", calls.get_user()).username == "me"
