"""The token goes to the connection's own address and nowhere else: no other host, no log, no error."""

from __future__ import annotations

import asyncio
import json
import pickle
import traceback
from contextlib import suppress
from dataclasses import replace

import pytest

from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesError, SevenBridgesInputError
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesAsyncHook, SevenBridgesHook
from tests.unit.api.test_masking import SPELLINGS
from tests.unit.hooks.both_hooks import EXPORT, JOB, TOKEN
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
def test_a_call_that_contains_the_token_is_not_sent(any_hook, platform, connect, call):
    connect(platform.url)
    with pytest.raises(SevenBridgesInputError, match="contains the connection's token") as caught:
        any_hook.send(call)
    assert platform.seen == []
    # The call itself holds it, in the frames: its caller put it there.
    assert not shows_token("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("token", ['quoted"and\\backslashed', "plus+slash/equals==", "percent%41percent%42"])
def test_a_token_is_recognized_in_its_encoded_form(any_hook, platform, connect, token):
    connect(platform.url, password=token)
    for call in (
        calls.start_export(replace(EXPORT, location=f"{token}.vcf"), copy_only=True),
        calls.get_volume_object("demo/results", token),
    ):
        with pytest.raises(SevenBridgesInputError, match="contains the connection's token"):
            any_hook.send(call)
    assert platform.seen == []


def test_a_token_that_is_a_short_word_may_occur_in_a_call(any_hook, platform, connect):
    connect(platform.url, password="output")
    platform.answers = [reply(JOB)]
    assert any_hook.send(START).id == JOB["id"]


@pytest.fixture
def other():
    with serving(reply({**JOB, "username": "thief"})) as server:
        yield server


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# No part of the token, in any spelling, is longer than this.
LONGEST_PART = 11
PARTS = {
    spelled[at : at + LONGEST_PART + 1]
    for spelled in (spell(TOKEN) for spell in SPELLINGS.values())
    for at in range(len(spelled) - LONGEST_PART)
}


def shows_token(text):
    return any(part in text for part in PARTS)


def assert_keeps_silent(error):
    for link in chain(error):
        shown = [str(link), repr(link), repr(vars(link)), *map(repr, link.args), *map(str, vars(link).values())]
        assert not shows_token("\n".join(shown))
        assert not shows_token("".join(traceback.format_exception(link)))
        for frame, _ in traceback.walk_tb(link.__traceback__):
            assert "/tests/" in frame.f_code.co_filename or not shows_token(repr(frame.f_locals))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@CALLS
def test_a_redirect_is_not_followed(any_hook, platform, connect, other, call, status):
    connect(platform.url)
    platform.answers = [reply(b"", status, Location=f"{other.url}/v2/{call.path}?token={TOKEN}")]
    with pytest.raises(SevenBridgesApiError, match="Redirects are not followed") as caught:
        any_hook.send(call)
    assert other.seen == []
    assert len(platform.seen) == 1
    assert caught.value.status == status
    assert other.url in str(caught.value)
    assert_keeps_silent(caught.value)


@pytest.mark.parametrize("location", ["http://[bad", "http://x:port/", "\xff\xfe", "//", "", "ftp://x", "javascript:x"])
@CALLS
def test_a_redirect_to_an_invalid_address_is_reported_as_a_redirect(any_hook, platform, connect, call, location):
    connect(platform.url)
    platform.answers = [reply(b"", 302, Location=location)]
    with pytest.raises(SevenBridgesApiError, match="Redirects are not followed"):
        any_hook.send(call)
    assert len(platform.seen) == 1


def test_a_redirect_to_the_same_address_is_not_followed_either(any_hook, platform, connect):
    connect(platform.url)
    platform.answers = [reply(b"", 308, Location=f"{platform.url}/v2/storage/exports"), reply(JOB)]
    with pytest.raises(SevenBridgesApiError, match="Redirects are not followed"):
        any_hook.send(START)
    assert len(platform.seen) == 1


@pytest.mark.parametrize("link", ["{other}/v2/storage/exports?offset=1", "//{other_host}/v2", "http://[bad", "x:y"])
def test_the_next_page_of_a_list_at_another_address_is_not_fetched(platform, connect, other, link):
    connect(platform.url)
    href = link.format(other=other.url, other_host=other.url.removeprefix("http://"))
    platform.answers = [reply({"items": [JOB], "links": [{"rel": "next", "href": href}]})]
    with pytest.raises(SevenBridgesApiError, match="is at another address"):
        SevenBridgesHook().list_exports()
    assert other.seen == []
    assert len(platform.seen) == 1


@pytest.mark.parametrize("link", ["{other}/v2/storage/volumes/o/v/list?x=1", "//{other_host}/v2", "http://[bad"])
def test_a_list_of_a_volume_is_not_followed_to_another_address(platform, connect, other, link):
    connect(platform.url)
    url = link.format(other=other.url, other_host=other.url.removeprefix("http://"))
    platform.answers = [reply({"items": [{"location": "a"}], "links": [{"next": url}]})]
    with pytest.raises(SevenBridgesApiError, match="is at another address"):
        list(SevenBridgesHook().list_volume_objects("o/v"))
    assert other.seen == []
    assert len(platform.seen) == 1


@pytest.mark.parametrize(
    ("extra", "header"), [({}, "X-SBG-Auth-Token"), ({"bearer": True}, "Authorization")], ids=["token", "bearer"]
)
@pytest.mark.parametrize("entry", ["machine 127.0.0.1 login me password s3cret", "default login me password s3cret"])
def test_credentials_of_netrc_are_never_used(any_hook, platform, connect, monkeypatch, tmp_path, extra, header, entry):
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text(entry + "\n")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    connect(platform.url, extra=extra)
    platform.answers = [reply({"username": "me"})]
    any_hook.send(calls.get_user())
    (seen,) = platform.seen
    other = {"X-SBG-Auth-Token", "Authorization"} - {header}
    assert TOKEN in seen.headers[header]
    assert not any(name in seen.headers for name in other)


ECHO = f"You sent X-SBG-Auth-Token: {TOKEN} and that is wrong."
RESPONSES = {
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
    **{
        f"{status} with an echo, {name}": reply(
            json.dumps({"message": "You sent @.", "more_info": "@" * 40}).replace("@", spell(TOKEN)).encode(), status
        )
        for status in (200, 400, 502)
        for name, spell in SPELLINGS.items()
    },
    **{
        f"{name} of a gateway": reply(f"<p>{'x' * 150} You <b>sent</b> {spell(TOKEN)}</p>".encode(), 502)
        for name, spell in SPELLINGS.items()
    },
    "an echo that the cut for reading divides": reply(b"x" * 1985 + TOKEN.encode(), 400),
    "an echo that the cut for showing divides": reply(b"x" * 185 + TOKEN.encode(), 400),
    "an echo that the gateway has cut": reply(f"Your header was {TOKEN[:20]}".encode(), 502),
    "an echo in a long message": reply({"message": "x" * 985 + TOKEN, "more_info": " " * 990 + TOKEN}, 400),
    "an echo in a header": reply({"message": "No."}, 401, X_Request_Id=f"{'x' * 80}{TOKEN}"),
    "an echo in a redirect's host": reply(b"", 302, Location=f"https://{TOKEN}.example/"),
    "an echo as packing": reply(b"", Content_Encoding=TOKEN),
    "an echo as a number": reply(f'{{"username": {"9" * 30}}}'.encode()),
    "an echo as a key": reply({TOKEN: 1, "error": TOKEN}, 400),
    "bad header": raw(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n{}"),
    "bad header with an echo": raw(f"HTTP/1.1 200 OK\r\nbad header {TOKEN}\r\n\r\n{{}}".encode()),
    "bad status with an echo": raw(f"HTTP/1.1 {TOKEN}\r\n\r\n{{}}".encode()),
    "bad length with an echo": raw(f"HTTP/1.1 200 OK\r\nContent-Length: {TOKEN}\r\n\r\n{{}}".encode()),
    "bad length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"),
    "bad chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "bad zip": raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
}


@pytest.mark.parametrize("answer", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize(("call", "bearer"), [(calls.get_user(), True), (START, False)], ids=["get, bearer", "start"])
def test_no_error_and_no_log_holds_the_token(any_hook, platform, connect, clock, logged, call, answer, bearer):
    connect(platform.url, extra={"bearer": bearer, "read_timeout": 0.15 if answer is never else 30})
    platform.answers = [answer]
    with pytest.raises(SevenBridgesError) as caught:
        any_hook.send(call)
    assert_keeps_silent(caught.value)
    assert not shows_token(logged())
    if clock.pauses:
        assert "Retrying" in logged()
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


def test_the_log_that_these_tests_read_is_not_masked(platform, connect, logged):
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


def test_a_response_that_contains_a_short_token_is_read_unchanged(platform, connect):
    connect(platform.url, password="username")
    platform.answers = [reply({"username": "username"})]
    assert SevenBridgesHook().get_user().username == "username"


JOBS = {
    "failed": {**JOB, "state": "FAILED", "error": {"status": 400, "message": "@", "more_info": "@"}},
    "result": {**JOB, "state": "COMPLETED", "result": {"id": "f", "name": "@", "metadata": {"@": "@"}}},
    "refused": {"error": {"status": 403, "message": "@ @", "more_info": "@"}},
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("name", JOBS)
def test_no_value_holds_the_token(any_hook, platform, connect, spell, name):
    connect(platform.url)
    job = JOBS[name] if name == "refused" else {"resource": JOBS[name]}
    platform.answers = [reply(json.dumps({"items": [job]}).replace("@", json.dumps(spell(TOKEN))[1:-1]).encode())]
    (result,) = any_hook.send(calls.get_exports([JOB["id"]]))
    shown = str(result) if isinstance(result, SevenBridgesApiError) else json.dumps(result.to_json())
    assert TOKEN not in shown
    assert name == "result" or not shows_token(shown)
    assert "***" in shown


def test_no_variable_holds_the_token_while_a_response_is_awaited(platform, connect):
    """Tracebacks may be logged with the values of variables."""
    connect(platform.url)
    platform.answers = [never]

    async def frames_that_wait():
        async with SevenBridgesAsyncHook() as hook:
            sending = asyncio.create_task(hook.send(calls.get_user()))
            while not platform.seen:
                await asyncio.sleep(0.01)
            frames = list(frames_of(sending.get_coro()))
            shown = [(frame.f_code.co_filename, dict(frame.f_locals)) for frame in frames]
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
            return shown

    frames = asyncio.run(frames_that_wait())
    ours = [variables for file, variables in frames if "airflow_sb_provider" in file]
    assert len(frames) > len(ours) >= 2
    assert not any(shows_token(repr(variables)) for _, variables in frames)
    assert not any(isinstance(value, str) and shows_token(value) for each in ours for value in each.values())


def frames_of(coroutine):
    while coroutine is not None:
        if frame := getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None):
            yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def test_no_cookie_is_kept(any_hook, platform, connect):
    """A gateway could have them grow without end, or put its own into them."""
    connect(platform.url.replace("127.0.0.1", "localhost"))
    platform.answers = [reply({"username": "me"}, Set_Cookie="a=b; Path=/")]
    any_hook.send(calls.get_user(), calls.get_user())
    assert [seen.headers["Cookie"] for seen in platform.seen] == [None, None]
