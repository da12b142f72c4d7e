"""The token goes to the connection's own address and nowhere else: no other host, no log, no error."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import replace

import pytest

from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesError, SevenBridgesInputError
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.unit.hooks.faces import EXPORT, JOB, TOKEN
from tests.unit.hooks.servers import cut, drop, never, raw, reply, serving

START = calls.start_export(EXPORT, copy_only=False)
CALLS = pytest.mark.parametrize("call", [calls.get_user(), START], ids=["get", "start"])


BEARERS = [
    calls.start_export(replace(EXPORT, location=f"mapped/{TOKEN}.vcf"), copy_only=True),
    calls.start_exports([EXPORT, replace(EXPORT, location=f"{TOKEN.upper()}.vcf")], copy_only=True),
    calls.start_export(replace(EXPORT, properties={"sse_aws_kms_key_id": TOKEN}), copy_only=True),
    calls.get_export(TOKEN),
    calls.get_exports(["a", TOKEN]),
    calls.get_file(TOKEN),
    calls.list_files(project=f"demo/{TOKEN}"),
    calls.list_files(project="demo/genomics", metadata={TOKEN: ["x"]}),
    calls.get_volume_object("demo/results", f"a b/{TOKEN}"),
]


@pytest.mark.parametrize("call", BEARERS, ids=range(len(BEARERS)))
def test_it_is_in_no_address_and_no_body(face, platform, connect, call):
    connect(platform.url)
    with pytest.raises(SevenBridgesInputError, match="holds the connection's token") as caught:
        face.send(call)
    assert platform.seen == []
    assert_keeps_silent(caught.value)


@pytest.mark.parametrize("token", ['quoted"and\\backslashed', "plus+slash/equals==", "percent%41percent%42"])
def test_it_is_found_in_the_spelling_of_a_request(face, platform, connect, token):
    connect(platform.url, password=token)
    for call in (
        calls.start_export(replace(EXPORT, location=f"{token}.vcf"), copy_only=True),
        calls.get_volume_object("demo/results", token),
    ):
        with pytest.raises(SevenBridgesInputError, match="holds the connection's token"):
            face.send(call)
    assert platform.seen == []


def test_a_short_word_is_no_token(face, platform, connect):
    connect(platform.url, password="output")
    platform.answers = [reply(JOB)]
    assert face.send(START).id == JOB["id"]


@pytest.fixture
def other():
    with serving(reply({**JOB, "username": "thief"})) as server:
        yield server


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def assert_keeps_silent(error):
    for link in chain(error):
        shown = [str(link), repr(link), repr(vars(link)), *map(repr, link.args), *map(str, vars(link).values())]
        assert TOKEN not in "\n".join(shown)
    assert TOKEN not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@CALLS
def test_a_redirect_is_not_followed(face, platform, connect, other, call, status):
    connect(platform.url)
    platform.answers = [reply(b"", status, Location=f"{other.url}/v2/{call.path}?token={TOKEN}")]
    with pytest.raises(SevenBridgesApiError, match="Redirects are not followed") as caught:
        face.send(call)
    assert other.seen == []
    assert len(platform.seen) == 1
    assert caught.value.status == status
    assert other.url in str(caught.value)
    assert_keeps_silent(caught.value)


@pytest.mark.parametrize("location", ["http://[bad", "http://x:port/", "\xff\xfe", "//", "", "ftp://x", "javascript:x"])
@CALLS
def test_a_redirect_to_nowhere_is_told_just_so(face, platform, connect, call, location):
    connect(platform.url)
    platform.answers = [reply(b"", 302, Location=location)]
    with pytest.raises(SevenBridgesApiError, match="Redirects are not followed"):
        face.send(call)
    assert len(platform.seen) == 1


def test_a_redirect_to_the_same_address_is_not_followed_either(face, platform, connect):
    connect(platform.url)
    platform.answers = [reply(b"", 308, Location=f"{platform.url}/v2/storage/exports"), reply(JOB)]
    with pytest.raises(SevenBridgesApiError, match="Redirects are not followed"):
        face.send(START)
    assert len(platform.seen) == 1


@pytest.mark.parametrize("link", ["{other}/v2/storage/exports?offset=1", "//{other_host}/v2", "http://[bad", "x:y"])
def test_a_list_is_not_followed_to_another_address(platform, connect, other, link):
    connect(platform.url)
    href = link.format(other=other.url, other_host=other.url.removeprefix("http://"))
    platform.answers = [reply({"items": [JOB], "links": [{"rel": "next", "href": href}]})]
    with pytest.raises(SevenBridgesApiError, match="continues at another address"):
        SevenBridgesHook().list_exports()
    assert other.seen == []
    assert len(platform.seen) == 1


@pytest.mark.parametrize(
    ("extra", "header"), [({}, "X-SBG-Auth-Token"), ({"bearer": True}, "Authorization")], ids=["token", "bearer"]
)
@pytest.mark.parametrize("entry", ["machine 127.0.0.1 login me password s3cret", "default login me password s3cret"])
def test_credentials_of_netrc_are_never_used(face, platform, connect, monkeypatch, tmp_path, extra, header, entry):
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text(entry + "\n")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    connect(platform.url, extra=extra)
    platform.answers = [reply({"username": "me"})]
    face.send(calls.get_user())
    (seen,) = platform.seen
    other = {"X-SBG-Auth-Token", "Authorization"} - {header}
    assert TOKEN in seen.headers[header]
    assert not any(name in seen.headers for name in other)


ECHO = f"You sent X-SBG-Auth-Token: {TOKEN} and that is wrong."
TROUBLE = {
    "401": reply({"status": 401, "code": 90001, "message": "Unauthorized."}, 401),
    "401 with an echo": reply({"status": 401, "message": ECHO, "more_info": ECHO}, 401),
    "400 of a gateway with an echo": reply(f"<pre>{ECHO}</pre>".encode(), 400),
    "502 of a gateway with an echo": reply(f"<pre>{ECHO}</pre>".encode(), 502),
    "200 with an echo": reply(f"<pre>{ECHO}</pre>".encode()),
    "500": reply({}, 500),
    "429": reply({}, 429),
    "cut": cut(JOB),
    "drop": drop,
    "never": never,
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9\r\n\r\n"),
    "bad header": raw(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n{}"),
    "bad header with an echo": raw(f"HTTP/1.1 200 OK\r\nbad header {TOKEN}\r\n\r\n{{}}".encode()),
    "bad status with an echo": raw(f"HTTP/1.1 {TOKEN}\r\n\r\n{{}}".encode()),
    "bad length with an echo": raw(f"HTTP/1.1 200 OK\r\nContent-Length: {TOKEN}\r\n\r\n{{}}".encode()),
    "bad length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"),
    "bad chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "bad zip": raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
}


@pytest.mark.parametrize("answer", TROUBLE.values(), ids=TROUBLE)
@pytest.mark.parametrize(("call", "bearer"), [(calls.get_user(), True), (START, False)], ids=["get, bearer", "start"])
def test_no_error_and_no_log_holds_the_token(face, platform, connect, clock, logged, call, answer, bearer):
    connect(platform.url, extra={"bearer": bearer, "read_timeout": 0.15 if answer is never else 30})
    platform.answers = [answer]
    with pytest.raises(SevenBridgesError) as caught:
        face.send(call)
    assert_keeps_silent(caught.value)
    assert TOKEN not in logged()
    if clock.pauses:
        assert "Asking again in" in logged()
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


def test_what_the_tests_see_of_the_log_is_not_masked(platform, connect, logged):
    connect(platform.url)
    hook = SevenBridgesHook()
    hook.log.warning("Logged: %s", hook.settings.token)
    assert f"Logged: {TOKEN}" in logged()


def test_the_hook_shows_no_token(platform, connect):
    connect(platform.url)
    platform.answers = [reply({"username": "me"})]
    hook = SevenBridgesHook()
    hook.get_user()
    session = hook.get_conn()
    for thing in (hook, hook.settings, session, session.headers, session.auth, session.cookies, vars(hook)):
        assert TOKEN not in repr(thing) + str(thing)


def test_a_long_answer_that_happens_to_hold_a_token_still_fits(platform, connect):
    connect(platform.url, password="username")
    platform.answers = [reply({"username": "username"})]
    assert SevenBridgesHook().get_user().username == "username"
