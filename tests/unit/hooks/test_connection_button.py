from __future__ import annotations

import pytest

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.unit.hooks.both_hooks import TOKEN
from tests.unit.hooks.servers import cut, drop, free_port, never, reply


def pressed():
    passed, words = SevenBridgesHook().test_connection()
    assert isinstance(words, str)
    assert words
    assert TOKEN not in words
    return passed, words


def test_success_reports_the_endpoint_and_the_user(platform, connect):
    connect(platform.url)
    platform.answers = [reply({"username": "rfranklin"})]
    assert pressed() == (True, f"Connected to {platform.url}/v2 as rfranklin")
    assert [seen.path for seen in platform.seen] == ["/v2/user"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply({"status": 401, "code": 90001, "message": "Unauthorized."}, 401), "the token and the environment"),
        (reply({"status": "UNAUTHORIZED", "message": "HTTP 401 Unauthorized"}, 401), "the token and the environment"),
        (reply(b"", 401), "the token and the environment"),
        (reply({"status": "NOT_FOUND", "message": "HTTP 404 Not Found"}, 404), "HTTP 404 Not Found"),
        (reply({"status": 503, "code": 0, "message": "The Platform is under maintenance."}, 503), "maintenance"),
        (reply({"status": 429, "code": 1000, "message": "Rate limit exceeded!"}, 429), "Rate limit exceeded!"),
        (reply(b"<html>Bad gateway</html>", 502), "Bad gateway"),
        (reply(b"<html>Sign in</html>"), "is not readable"),
        (reply({"email": "x"}), "'username' is missing"),
        (reply(b"", 302, Location="https://login.example/"), "redirected to https://login.example"),
        (cut({"username": "x"}), "No response"),
        (never, "No response"),
    ],
)
def test_an_error_response_is_reported_after_one_request(platform, connect, answer, words):
    connect(platform.url, extra={"read_timeout": 0.2 if answer is never else 30})
    platform.answers = [answer]
    passed, message = pressed()
    assert not passed
    assert words in message
    assert len(platform.seen) == 1


WINS = "The host takes precedence over the environment 'cgc'; leave one of them empty."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply({"username": "me"}), "Connected to {url}/v2 as me. " + WINS),
        (reply(b"", 401), "(HTTP 401) " + WINS),
    ],
)
def test_a_host_that_is_not_that_of_the_environment_is_reported(platform, connect, answer, words):
    connect(platform.url, extra={"environment": "cgc"})
    platform.answers = [answer]
    assert pressed()[1].endswith(words.format(url=platform.url))


@pytest.mark.parametrize("host", ["", "cgc-api.sbgenomics.com", "https://cgc-api.sbgenomics.com:443/v2"])
def test_a_host_that_is_that_of_the_environment_is_no_conflict(connect, host):
    connect(host, extra={"environment": "cgc"})
    assert SevenBridgesHook().settings.ignored_environment is None


def test_a_refused_connection_is_reported(connect):
    connect(f"http://127.0.0.1:{free_port()}")
    passed, words = pressed()
    assert not passed
    assert "No response from the Platform" in words


@pytest.mark.parametrize(
    ("host", "fields", "words"),
    [
        ("", {}, "environment"),
        ("http://platform", {}, "plain http"),
        ("api.sbgenomics.com", {"password": ""}, "Authentication token"),
        ("api.sbgenomics.com", {"extra": {"read_timeout": "soon"}}, "extra read_timeout: its value is not a number"),
    ],
)
def test_an_invalid_connection_is_reported(connect, host, fields, words):
    connect(host, **fields)
    passed, message = pressed()
    assert not passed
    assert words in message


def test_a_missing_connection():
    passed, words = pressed()
    assert not passed
    assert "sevenbridges_default" in words


def test_a_dropped_request_is_not_retried(platform, connect):
    connect(platform.url)
    platform.answers = [drop]
    assert not pressed()[0]
    assert len(platform.seen) == 1
