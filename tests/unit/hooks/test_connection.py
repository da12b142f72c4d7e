from __future__ import annotations

import asyncio
import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sb_provider import __version__
from airflow_sb_provider._compat import AirflowNotFoundException, BaseHook, Connection, airflow_version
from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesInputError
from airflow_sb_provider.hooks import connection as connections
from airflow_sb_provider.hooks.connection import ConnectionSettings
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesAsyncHook, SevenBridgesHook
from tests.unit.hooks.both_hooks import TOKEN
from tests.unit.hooks.servers import reply

VARIABLE = "AIRFLOW_CONN_SEVENBRIDGES_DEFAULT"
API = "https://api.sbgenomics.com/v2"


def settings_of(extra=None, password=TOKEN, host="api.sbgenomics.com", **fields):
    extra = extra if isinstance(extra, str | None) else json.dumps(extra)
    return ConnectionSettings.from_connection(
        Connection(conn_id="c", conn_type="sevenbridges", host=host, password=password, extra=extra, **fields)
    )


def problems_of(*arguments, **fields):
    with pytest.raises(SevenBridgesInputError) as caught:
        settings_of(*arguments, **fields)
    assert TOKEN not in str(caught.value)
    return caught.value.problems


def test_the_defaults():
    assert settings_of() == ConnectionSettings(API, TOKEN, False, False, 10.0, 60.0, 90.0, None)


def test_the_fields_of_the_connection_form():
    settings = settings_of(
        {
            "environment": "cgc",
            "bearer": True,
            "advance_access": True,
            "connect_timeout": 2,
            "read_timeout": 3.5,
            "gateway_timeout": 4,
            "ca_bundle": "",
            "allow_http": None,
        },
        host="",
    )
    assert settings == ConnectionSettings("https://cgc-api.sbgenomics.com/v2", TOKEN, True, True, 2.0, 3.5, 4.0, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("True", True), ("1", True), ("on", True), ("false", False), ("False", False), ("0", False)],
)
def test_a_boolean_given_as_text_means_what_it_says(text, value):
    for name in ("oauth", "bearer"):
        settings = settings_of({name: text, "advance_access": text})
        assert (settings.bearer, settings.advance_access) == (value, value)


def test_allow_http_as_the_text_false_is_false():
    assert "plain http" in problems_of({"allow_http": "false"}, host="http://platform")[0]
    assert settings_of({"allow_http": "true"}, host="http://platform").endpoint == "http://platform/v2"


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        (f"sevenbridges://:{TOKEN}@api.sbgenomics.com", API),
        (f"sevenbridges://:{TOKEN}@api.sbgenomics.com/", API),
        (f"sevenbridges://:{TOKEN}@api.sbgenomics.com/v2", API),
        (f"sevenbridges://:{TOKEN}@api.sbgenomics.com/v2/", API),
        (f"sevenbridges://:{TOKEN}@https%3A%2F%2Fapi.sbgenomics.com", API),
        (f"sevenbridges://:{TOKEN}@https%3A%2F%2Fapi.sbgenomics.com%2Fv2", API),
        (f"sevenbridges://:{TOKEN}@http%3A%2F%2F127.0.0.1%3A8080", "http://127.0.0.1:8080/v2"),
        (f"sevenbridges://:{TOKEN}@127.0.0.1:8080/http", "http://127.0.0.1:8080/v2"),
        (f"sevenbridges://:{TOKEN}@localhost:8080/http", "http://localhost:8080/v2"),
        (f"sevenbridges://:{TOKEN}@[::1]:8080/http", "http://[::1]:8080/v2"),
        (f"sevenbridges://:{TOKEN}@/?environment=sb-eu", "https://eu-api.sbgenomics.com/v2"),
        (f"sevenbridges://:{TOKEN}@?environment=sb-eu", "https://eu-api.sbgenomics.com/v2"),
        (f"sevenbridges://:{TOKEN}@platform:80/http?allow_http=true", "http://platform:80/v2"),
    ],
)
def test_a_connection_as_a_uri(monkeypatch, uri, endpoint):
    monkeypatch.setenv(VARIABLE, uri)
    settings = SevenBridgesHook().settings
    assert (settings.endpoint, settings.token) == (endpoint, TOKEN)


def test_extras_in_a_uri_are_text(monkeypatch):
    monkeypatch.setenv(
        VARIABLE, f"sevenbridges://:{TOKEN}@api.sbgenomics.com?bearer=true&advance_access=false&read_timeout=7.5"
    )
    settings = SevenBridgesHook().settings
    assert (settings.bearer, settings.advance_access, settings.read_timeout) == (True, False, 7.5)


def test_a_connection_as_json_in_the_environment_for_both_hooks(monkeypatch):
    text = json.dumps(
        {
            "conn_type": "sevenbridges",
            "password": TOKEN,
            "host": "api.sbgenomics.com",
            "extra": {"bearer": True, "read_timeout": 5},
        }
    )
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", text)
    settings = SevenBridgesHook("other").settings
    assert (settings.endpoint, settings.token, settings.bearer, settings.read_timeout) == (API, TOKEN, True, 5.0)

    async def asynchronously():
        async with SevenBridgesAsyncHook("other") as hook:
            return hook._settings

    assert asyncio.run(asynchronously()) == settings


def test_all_problems_are_reported_together():
    problems = problems_of(
        {
            "environment": "mars",
            "bearer": "perhaps",
            "advance_access": "2",
            "connect_timeout": "soon",
            "read_timeout": -1,
            "gateway_timeout": 0,
            "ca_bundle": "/no/such/file",
        },
        password="",
        host="",
    )
    assert all(problem.startswith("connection 'c', ") for problem in problems)
    fields = [problem.removeprefix("connection 'c', ").split(":")[0] for problem in problems]
    assert sorted(fields) == [
        "environment",
        "extra advance_access",
        "extra bearer",
        "extra ca_bundle",
        "extra connect_timeout",
        "extra gateway_timeout",
        "extra read_timeout",
        "password",
    ]


@pytest.mark.parametrize("form", ["{}", "http://{}/x", "https://{}@api.sbgenomics.com", "{} {}"])
@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("host", "host"),
        ("schema", "schema"),
        ("extra", "extra"),
        ("environment", "environment"),
        *(
            (name, f"extra {name}")
            for name in (
                "oauth",
                "bearer",
                "advance_access",
                "allow_http",
                "connect_timeout",
                "read_timeout",
                "ca_bundle",
            )
        ),
    ],
)
def test_a_token_pasted_into_the_wrong_field_is_not_repeated(field, name, form):
    value = form.format(TOKEN, TOKEN)
    fields = {field: value} if field in ("host", "schema") else {"extra": json.dumps({field: value})}
    if field == "extra":
        fields = {"extra": json.dumps([value])}
    connection = {"conn_type": "sevenbridges", "host": "api.sbgenomics.com", "password": "x" * 32, **fields}
    with pytest.raises(SevenBridgesInputError) as caught:
        ConnectionSettings.from_connection(Connection(conn_id="c", **connection))
    assert TOKEN[:9] not in str(caught.value) + repr(caught.value.problems)
    assert any(problem.startswith(f"connection 'c', {name}: ") for problem in caught.value.problems)


@pytest.mark.parametrize("host", [TOKEN, f"https://{TOKEN}", f"{TOKEN}:443", f"https://{TOKEN.upper()}/v2"])
def test_a_host_that_is_the_token_is_rejected(host):
    """It would be sent to a name server."""
    (problem,) = problems_of(host=host)
    assert problem == "connection 'c', host: its value is not an address; use one such as api.sbgenomics.com."


@pytest.mark.parametrize("host", ["platform", "sevenbridges-local-platform-service", "a" * 23])
def test_a_host_of_one_word_is_accepted(host):
    assert settings_of(host=host).endpoint == f"https://{host}/v2"


def test_an_http_host_is_named_in_the_error():
    assert "'platform'" in problems_of(host="http://platform")[0]


@pytest.mark.parametrize("password", [None, "", " ", "\n"])
def test_the_error_for_an_empty_token_says_where_to_get_one(password):
    assert "Authentication token" in problems_of(password=password)[0]


@pytest.mark.parametrize(
    "password", [f"{TOKEN[:9]}\n{TOKEN[9:]}", f"{TOKEN[:9]}\r\nX: y", f"{TOKEN} {TOKEN}", f"{TOKEN}é", f"{TOKEN}\x00a"]
)
def test_a_token_with_invalid_characters_is_rejected_and_not_repeated(password):
    (problem,) = problems_of(password=password)
    assert "password: contains characters" in problem
    assert TOKEN[:9] not in problem


@pytest.mark.parametrize("password", [f" {TOKEN}", f"{TOKEN}\n", f"\t{TOKEN}\r\n"])
def test_white_space_around_a_token_is_removed(password):
    assert settings_of(password=password).token == TOKEN


@pytest.mark.parametrize("value", ["soon", -1, 0, "0", float("inf"), float("nan"), [], {}, "1e999", True])
@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout", "gateway_timeout"])
def test_an_invalid_timeout_is_named(name, value):
    (problem,) = problems_of({name: value})
    assert f"extra {name}: " in problem
    assert "seconds" in problem


@pytest.mark.parametrize("value", ["/no/such/file", 5, ["x"]])
def test_a_missing_ca_bundle_is_named(value):
    assert "extra ca_bundle: " in problems_of({"ca_bundle": value})[0]


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_missing_ca_bundle_of_the_environment_is_named(monkeypatch, name):
    monkeypatch.setenv(name, "/no/such/file")
    (problem,) = problems_of()
    assert name in problem
    assert "/no/such/file" in problem


def test_a_ca_bundle_without_certificates_is_named(monkeypatch, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    assert "extra ca_bundle: " in problems_of({"ca_bundle": str(bundle)})[0]
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert "SSL_CERT_FILE" in problems_of()[0]


def test_the_ca_bundle_of_the_connection_overrides_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    assert settings_of({"ca_bundle": str(tmp_path)}).ca_bundle == str(tmp_path)


@pytest.mark.parametrize("extra", ["[1]", "5", '"text"', '{"environment": ["bdc"]}', '{"environment": {"a": 1}}'])
def test_extras_of_the_wrong_type_are_reported(extra):
    (problem,) = problems_of(extra, host="api.sbgenomics.com")
    assert problem.startswith("connection 'c', ")


def test_a_missing_connection_is_airflows_own_error():
    with pytest.raises(AirflowNotFoundException, match="no_such_conn"):
        SevenBridgesHook("no_such_conn").get_user()

    async def asynchronously():
        async with SevenBridgesAsyncHook("no_such_conn"):
            pass

    with pytest.raises(AirflowNotFoundException, match="no_such_conn"):
        asyncio.run(asynchronously())


class ApiServerError(Exception):
    """As Airflow's SDK raises it: of many lines."""

    def __str__(self):
        return "API_SERVER_ERROR: {'status_code': 500}\n" + "\n".join(f'  File "x.py", line {n}' for n in range(25))


def failing(times, error, original):
    """Raise the error at the first calls."""
    calls = []

    def get_connection(*arguments):
        calls.append(arguments)
        if len(calls) <= times:
            raise error
        return original(*arguments)

    get_connection.calls = calls
    return staticmethod(get_connection)


# Airflow 2 logs to the standard output too.
COPIES = 2 if airflow_version.startswith("2.") else 1


def warnings_in(log):
    return [line for line in log.splitlines() if "Airflow did not return" in line or "File " in line]


AIRFLOW_ERRORS = [ApiServerError(), TimeoutError("timed out"), OSError("connection\nrefused")]


@pytest.mark.parametrize("error", AIRFLOW_ERRORS, ids=["500", "slow", "down"])
@pytest.mark.parametrize("times", [1, 4])
def test_each_failed_attempt_to_read_the_connection_is_logged(
    platform, connect, clock, monkeypatch, logged, error, times
):
    connect(platform.url)
    platform.answers = [reply({"username": "me"})]
    get_connection = failing(times, error, BaseHook.get_connection)
    monkeypatch.setattr(SevenBridgesHook, "get_connection", get_connection)
    hook = SevenBridgesHook()
    assert hook.settings.endpoint == f"{platform.url}/v2"
    assert hook.get_user().username == "me"
    lines = warnings_in(logged())
    assert len(lines) == times * COPIES
    assert len(clock.pauses) == times
    for line in lines:
        assert "Airflow did not return the connection 'sevenbridges_default': " in line
        assert "Retrying" in line
        assert len(line) < 700 * COPIES
    assert len(get_connection.__func__.calls) == times + 1


@pytest.mark.parametrize("error", AIRFLOW_ERRORS, ids=["500", "slow", "down"])
def test_a_connection_that_airflow_cannot_return_raises_a_connection_error(connect, clock, monkeypatch, error):
    get_connection = failing(100, error, None)
    monkeypatch.setattr(SevenBridgesHook, "get_connection", get_connection)
    with pytest.raises(SevenBridgesConnectionError, match="Airflow did not return the connection") as caught:
        SevenBridgesHook().get_user()
    assert not caught.value.sent
    assert str(caught.value).isprintable()
    assert len(get_connection.__func__.calls) == 5


@pytest.mark.parametrize("error", AIRFLOW_ERRORS, ids=["500", "slow", "down"])
def test_the_async_hook_logs_a_failed_attempt_too(platform, connect, clock, monkeypatch, logged, error):
    connect(platform.url)
    platform.answers = [reply({"username": "me"})]
    real = connections.get_connection_async

    async def get_connection(conn_id):
        if not clock.pauses:
            raise error
        return await real(conn_id)

    monkeypatch.setattr(connections, "get_connection_async", get_connection)

    async def get_user():
        hook = SevenBridgesAsyncHook()
        try:
            return await hook.send(calls.get_user())
        finally:
            await hook.close()

    assert asyncio.run(get_user()).username == "me"
    lines = warnings_in(logged())
    assert len(lines) == COPIES
    assert all("Airflow did not return the connection 'sevenbridges_default': " in line for line in lines)
    assert all("Retrying" in line for line in lines)


@pytest.mark.parametrize("error", [ValueError(f"no port: {TOKEN}"), TypeError(TOKEN), KeyError(TOKEN)])
def test_a_connection_that_cannot_be_parsed_is_not_repeated_in_the_error(monkeypatch, error):
    monkeypatch.setattr(SevenBridgesHook, "get_connection", failing(100, error, None))
    with pytest.raises(SevenBridgesInputError, match="connection 'c': its value is not readable") as caught:
        SevenBridgesHook("c").get_user()
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_headers():
    settings = settings_of()
    agent = settings.headers["User-Agent"]
    assert agent == f"airflow-sb-provider/{__version__} apache-airflow/{airflow_version}"
    assert "X-SBG-Advance-Access" not in settings.headers
    assert settings.auth_header == ("X-SBG-Auth-Token", TOKEN)
    settings = settings_of({"bearer": True, "advance_access": True})
    assert settings.headers["X-SBG-Advance-Access"] == "Advance"
    assert settings.auth_header == ("Authorization", f"Bearer {TOKEN}")


def test_connections_are_distinguished_without_showing_the_token():
    one, same = settings_of(), settings_of({"read_timeout": 5})
    assert one.credential == same.credential
    assert one.credential != settings_of(password="x" * 32).credential
    assert one.credential != settings_of(host="eu-api.sbgenomics.com").credential
    assert TOKEN not in one.credential + repr(one) + str(one)


@given(
    st.none() | st.text(max_size=20),
    st.none() | st.text(max_size=20),
    st.dictionaries(
        st.sampled_from(["environment", "bearer", "connect_timeout", "ca_bundle", "allow_http"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.lists(st.integers()),
    ),
)
def test_no_connection_raises_anything_but_an_input_error(host, password, extra):
    try:
        settings_of(extra, password=password, host=host)
    except SevenBridgesInputError as error:
        str(error)
