"""The retry rules, which are the same for both hooks."""

from __future__ import annotations

import socket
import threading

import pytest
import urllib3.util.connection

from airflow_sb_provider import __version__
from airflow_sb_provider._compat import airflow_version
from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesGatewayError,
    SevenBridgesMaintenanceError,
    SevenBridgesMalformedReply,
    SevenBridgesRateLimitError,
    SevenBridgesReplyLost,
    SevenBridgesServerError,
)
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.unit.hooks.both_hooks import EXPORT, JOB, AnyHook
from tests.unit.hooks.servers import Platform, cut, drop, free_port, never, raw, reply, serving

START = calls.start_export(EXPORT, copy_only=False)
START_MANY = calls.start_exports([EXPORT], copy_only=False)
GET = calls.get_export(JOB["id"])
GET_MANY = calls.get_exports([JOB["id"]])
STARTING = pytest.mark.parametrize("call", [START, START_MANY], ids=["start one", "start many"])
REPEATABLE = pytest.mark.parametrize("call", [GET, GET_MANY], ids=["get one", "get many"])
HTML = b"<html><body><h1>Gateway</h1></body></html>"
# Airflow 2 logs to the standard output too.
COPIES = 2 if airflow_version.startswith("2.") else 1
GOOD = reply({**JOB, "items": [{"resource": JOB}]})


def limited(seconds=None):
    def answer(handler):
        headers = {} if seconds is None else {"X_RateLimit_Reset": str(int(handler.server.platform.now()) + seconds)}
        reply({"status": 429, "code": 1000, "message": "Rate limit exceeded!"}, 429, **headers)(handler)

    return answer


# The response, and the error that a GET raises for it. With any of these, an export may have been accepted.
DOUBTFUL = {
    "500": (reply({"status": 500, "code": 90009}, 500), SevenBridgesServerError),
    "503 not maintenance": (reply({"status": 503, "code": 90005}, 503), SevenBridgesServerError),
    "408": (reply({"status": 408, "code": 90000}, 408), SevenBridgesApiError),
    "200 with HTML": (reply(HTML), SevenBridgesMalformedReply),
    "200 without body": (reply(b""), SevenBridgesMalformedReply),
    "200 with cut JSON": (reply(b'{"id": "era'), SevenBridgesMalformedReply),
    "200 with a list": (reply([JOB]), SevenBridgesMalformedReply),
    "cut body": (cut(JOB), SevenBridgesConnectionError),
    "dropped connection": (drop, SevenBridgesConnectionError),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9\r\n\r\n"), SevenBridgesConnectionError),
    "no answer in time": (never, SevenBridgesConnectionError),
}
# Pages of a gateway in front of the API. They are transient, and an export may have been accepted.
PAGES = {
    "an ingress without a backend": reply(b"default backend - 404", 404),
    "403 of a filter": reply(HTML, 403),
    "401 of a proxy": reply(HTML, 401),
    "400 without body": reply(b"", 400),
    "409 with other JSON": reply({"detail": "conflict"}, 409),
    "413": reply(HTML, 413),
    "422 with a list": reply(["no"], 422),
    "502": reply(HTML, 502),
    "503 without body": reply(b"", 503),
    "504": reply(HTML, 504),
}
# Transient responses that prove that the call was not executed.
TRANSIENT = {
    "429 with its end": (limited(120), SevenBridgesRateLimitError, (119, 122)),
    "429 with an end long ago": (limited(-5000), SevenBridgesRateLimitError, (0.1, 3)),
    "429 with an end far away": (limited(5000), SevenBridgesRateLimitError, (300, 301)),
    "429 without end": (limited(), SevenBridgesRateLimitError, (60, 65)),
    "429 of a gateway": (reply(HTML, 429), SevenBridgesRateLimitError, (60, 65)),
    "maintenance": (reply({"status": 503, "code": 0}, 503), SevenBridgesMaintenanceError, (60, 65)),
}
doubtful = pytest.mark.parametrize(("answer", "kind"), DOUBTFUL.values(), ids=DOUBTFUL)
pages = pytest.mark.parametrize("answer", PAGES.values(), ids=PAGES)
transient = pytest.mark.parametrize(("answer", "kind", "pause"), TRANSIENT.values(), ids=TRANSIENT)


@pytest.fixture
def connected(request, platform, connect, clock):
    platform.now = clock.time
    waits = request.node.callspec.params.get("answer") is never
    connect(platform.url, extra={"read_timeout": 0.15 if waits else 30})
    return platform


def only(value):
    return value[0] if isinstance(value, list) else value


@doubtful
@REPEATABLE
def test_a_read_is_retried_after_a_transient_error(any_hook, connected, clock, call, answer, kind):
    # aiohttp itself repeats a GET after a dropped connection, so two drops count as one failure.
    aiohttp_repeats = (any_hook.library, call, answer) == ("aiohttp", GET, drop)
    failures = 4 if aiohttp_repeats else 2
    connected.answers = [answer] * failures + [GOOD]
    assert only(any_hook.send(call)).id == JOB["id"]
    assert len(connected.seen) == failures + 1
    assert {(seen.method, seen.path, seen.body) for seen in connected.seen} == {
        (call.method, f"/v2/{call.path}", connected.seen[0].body)
    }
    assert [1 <= pause <= 2 for pause in clock.pauses] == [True, False]
    assert 2 <= clock.pauses[1] <= 3


@doubtful
def test_a_read_fails_after_five_attempts(any_hook, connected, clock, answer, kind):
    connected.answers = [answer]
    with pytest.raises(kind) as caught:
        any_hook.send(GET_MANY)
    assert type(caught.value) is kind
    assert (len(connected.seen), len(clock.pauses)) == (5, 4)
    assert sum(clock.pauses) < 30


@pages
def test_a_read_is_retried_while_a_gateway_page_is_returned(any_hook, connected, clock, answer):
    connected.answers = [answer] * 12 + [GOOD]
    assert only(any_hook.send(GET_MANY)).id == JOB["id"]
    assert len(connected.seen) == 13
    assert clock.pauses == sorted(clock.pauses[:5]) + clock.pauses[5:]
    assert max(clock.pauses) <= 31


@pages
def test_a_read_fails_after_fifteen_minutes_of_gateway_pages(any_hook, connected, clock, answer):
    connected.answers = [answer]
    with pytest.raises(SevenBridgesGatewayError) as caught:
        any_hook.send(GET)
    assert not caught.value.permanent
    assert 800 < clock.passed <= 900
    assert len(connected.seen) <= 60


@pages
@STARTING
def test_an_export_answered_by_a_gateway_page_may_have_been_accepted(any_hook, connected, clock, call, answer):
    connected.answers = [answer, GOOD]
    with pytest.raises(SevenBridgesReplyLost, match="may or may not have accepted it") as caught:
        any_hook.send(call)
    assert not caught.value.permanent
    assert (len(connected.seen), clock.pauses) == (1, [])


@doubtful
@STARTING
def test_an_export_that_may_have_been_accepted_is_not_sent_again(any_hook, connected, clock, call, answer, kind):
    connected.answers = [answer, GOOD]
    with pytest.raises(SevenBridgesReplyLost, match="may or may not have accepted it") as caught:
        any_hook.send(call)
    assert f"POST {call.path}" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert not caught.value.permanent
    assert (len(connected.seen), clock.pauses) == (1, [])


@transient
@pytest.mark.parametrize("call", [GET, START, START_MANY], ids=["get", "start one", "start many"])
def test_every_call_is_retried_after_a_transient_response(any_hook, connected, clock, call, answer, kind, pause):
    connected.answers = [answer, GOOD]
    assert only(any_hook.send(call)).id == JOB["id"]
    assert len(connected.seen) == 2
    assert connected.seen[0].body == connected.seen[1].body
    low, high = pause
    assert len(clock.pauses) == 1
    assert low <= clock.pauses[0] <= high


@transient
@pytest.mark.parametrize("call", [GET, START], ids=["get", "start"])
def test_retries_after_transient_responses_end_after_fifteen_minutes(
    any_hook, connected, clock, call, answer, kind, pause
):
    connected.answers = [answer]
    with pytest.raises(kind):
        any_hook.send(call)
    assert 500 < clock.passed <= 905
    assert len(connected.seen) == len(clock.pauses) + 1 <= 60


@pytest.mark.parametrize(("status", "code"), [(400, 9011), (401, 90001), (403, 9006), (404, 9007), (409, 9107)])
@pytest.mark.parametrize("call", [GET, START, START_MANY], ids=["get", "start one", "start many"])
def test_a_rejected_call_is_not_retried(any_hook, connected, clock, call, status, code):
    connected.answers = [reply({"status": status, "code": code, "message": "No."}, status, X_Request_Id="r-1"), GOOD]
    with pytest.raises(SevenBridgesApiError) as caught:
        any_hook.send(call)
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, code, "r-1")
    assert (len(connected.seen), clock.pauses) == (1, [])


@pytest.mark.parametrize("call", [GET, START, START_MANY], ids=["get", "start one", "start many"])
def test_every_call_is_retried_after_a_refused_connection(any_hook, connect, clock, call):
    platform = Platform(GOOD)
    connect(platform.url)
    clock.on_pause = lambda: len(clock.pauses) == 2 and platform.listen()
    try:
        assert only(any_hook.send(call)).id == JOB["id"]
    finally:
        platform.close()
    assert (len(platform.seen), len(clock.pauses)) == (1, 2)


@pytest.mark.parametrize("call", [GET, START], ids=["get", "start"])
def test_a_call_fails_after_five_refused_connections(any_hook, connect, clock, call):
    connect(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SevenBridgesConnectionError, match="No response from the Platform") as caught:
        any_hook.send(call)
    assert not caught.value.sent
    assert len(clock.pauses) == 4


def test_a_host_name_that_does_not_resolve_is_named_in_the_error(any_hook, connect, clock):
    connect("sevenbridges.invalid")
    with pytest.raises(SevenBridgesConnectionError) as caught:
        any_hook.send(START)
    assert not caught.value.sent
    assert "sevenbridges.invalid" in str(caught.value)


@pytest.mark.parametrize("answer", [drop, limited(), reply(HTML, 502), cut])
def test_a_retry_is_one_line_in_the_log_that_names_its_request_once(connected, clock, logged, answer):
    connected.answers = [answer, answer, GOOD]
    SevenBridgesHook().send(GET_MANY)
    lines = [line for line in logged().splitlines() if "Retrying" in line]
    assert len(lines) == 2 * COPIES
    for line in lines:
        assert 1 <= line.count("POST bulk/storage/exports/get") <= COPIES


@pytest.mark.parametrize("answer", [drop, limited(), reply(HTML, 502)])
def test_a_call_without_retries_is_sent_once(any_hook, connected, clock, answer):
    connected.answers = [answer, GOOD]
    with pytest.raises((SevenBridgesConnectionError, SevenBridgesApiError)):
        any_hook.send(GET_MANY, retry=False)
    assert (len(connected.seen), clock.pauses) == (1, [])


def test_neither_library_sends_an_export_again_after_a_kept_connection_drops(any_hook, connected):
    connected.answers = [reply({"username": "me"}, keep=True), drop, GOOD]
    with pytest.raises(SevenBridgesReplyLost):
        any_hook.send(calls.get_user(), START)
    assert [seen.path for seen in connected.seen] == ["/v2/user", "/v2/storage/exports"]


@pytest.mark.parametrize("body", [{**JOB, "source": {"file": "5" * 24}}, {**JOB, "id": None}])
def test_a_response_with_another_files_job_counts_as_lost(any_hook, connected, clock, body):
    connected.answers = [reply(body)]
    with pytest.raises(SevenBridgesReplyLost):
        any_hook.send(START)
    assert len(connected.seen) == 1


def test_a_server_that_never_responds_ends_in_a_read_timeout(any_hook, platform, connect):
    connect(platform.url, extra={"read_timeout": "0.2"})
    platform.answers = [never]
    with pytest.raises(SevenBridgesConnectionError) as caught:
        any_hook.send(GET, retry=False)
    assert caught.value.sent


def test_a_server_that_never_accepts_ends_in_a_connect_timeout(any_hook, connect):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for client in fill:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        connect(f"http://127.0.0.1:{listener.getsockname()[1]}", extra={"connect_timeout": 0.3, "read_timeout": 3600})
        with pytest.raises(SevenBridgesConnectionError) as caught:
            any_hook.send(START, retry=False)
        for client in fill:
            client.close()
    assert not caught.value.sent


@STARTING
@pytest.mark.parametrize("delayed", ["getaddrinfo", "create_connection"])
def test_an_export_delayed_past_its_timeout_is_not_sent(connect, monkeypatch, call, delayed):
    """No time-out applies to the resolution of a host name or to a paused process."""
    module = socket if delayed == "getaddrinfo" else urllib3.util.connection
    original, given_up = getattr(module, delayed), threading.Event()

    def wait(*arguments, **options):
        given_up.wait(30)
        return original(*arguments, **options)

    with serving(GOOD) as platform:
        connect(platform.url, extra={"connect_timeout": 0.05, "read_timeout": 0.05})
        monkeypatch.setattr(module, delayed, wait)
        with pytest.raises(SevenBridgesReplyLost):
            AnyHook("requests").send(call)
        late = [thread for thread in threading.enumerate() if thread.name == "sevenbridges request"]
        given_up.set()
        for thread in late:
            thread.join(30)
        assert late
    assert not [seen.body for seen in platform.seen if seen.body]


def test_the_headers_of_every_request(any_hook, platform, connect):
    platform.answers = [GOOD]
    connect(platform.url, extra={"advance_access": True})
    for call in (GET, GET_MANY, START):
        any_hook.send(call)
    for seen in platform.seen:
        assert seen.headers.get_all("User-Agent") == [
            f"airflow-sb-provider/{__version__} apache-airflow/{airflow_version}"
        ]
        assert seen.headers.get_all("Content-Type") == ["application/json"]
        assert seen.headers["Accept"] == "application/json"
        assert seen.headers["X-SBG-Advance-Access"] == "Advance"


def test_both_hooks_send_the_same_bytes(platform, connect):
    platform.answers = [GOOD]
    connect(platform.url)
    AnyHook("requests").send(START)
    AnyHook("aiohttp").send(START)
    assert platform.seen[0].body == platform.seen[1].body


@pytest.mark.parametrize(
    ("volume", "path"),
    [
        ("my division/output", "my%20division/output"),
        ("me@nih.gov/output", "me%40nih.gov/output"),
        ("50%25%/output", "50%2525%25/output"),
        ("a?b#c/output", "a%3Fb%23c/output"),
        ("a/b/output", "a%2Fb/output"),
        ("a/../../../user/x", "a%2F..%2F..%2F..%2Fuser/x"),
        ("müller 漢/output", "m%C3%BCller%20%E6%BC%A2/output"),
        ("!*'();:&=+$,[]~/output", "%21%2A%27%28%29%3B%3A%26%3D%2B%24%2C%5B%5D~/output"),
        ('"<>\\^`{|}/output', "%22%3C%3E%5C%5E%60%7B%7C%7D/output"),
        ("a\tb/output", "a%09b/output"),
    ],
)
def test_both_hooks_request_the_same_raw_path(any_hook, platform, connect, volume, path):
    connect(platform.url)
    platform.answers = [reply({"id": "v"})]
    any_hook.send(calls.get_volume(volume), calls.get_volume_object(volume, "a b+c&d=é/%41?#.vcf"))
    assert [seen.path for seen in platform.seen] == [
        f"/v2/storage/volumes/{path}",
        f"/v2/storage/volumes/{path}/object?location=a+b%2Bc%26d%3D%C3%A9%2F%2541%3F%23.vcf",
    ]


@pytest.mark.parametrize("file", ["a/../../user", "../user", "..%2f..%2fuser", "%2e%2e/user", ".%2e"])
def test_an_id_never_reaches_another_path(any_hook, platform, connect, file):
    connect(platform.url)
    platform.answers = [reply({"id": "x"})]
    any_hook.send(calls.get_file(file))
    (seen,) = platform.seen
    assert seen.path.startswith("/v2/files/")
    assert seen.path.count("/") == 3
