from __future__ import annotations

import logging

import pytest

from airflow_sb_provider.hooks.connection import ssl_context
from tests.unit.hooks.both_hooks import VARIABLES, AnyHook, Clock, connection_variable
from tests.unit.hooks.servers import serving


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="session")
def usual_authorities():
    return ssl_context(None)


@pytest.fixture(autouse=True)
def authorities_read_once(monkeypatch, usual_authorities):
    """Read the CA certificates once: reading them for each hook takes half of the tests' time."""
    monkeypatch.setattr(
        "airflow_sb_provider.hooks.sevenbridges_async.ssl_context",
        lambda bundle: ssl_context(bundle) if bundle else usual_authorities,
    )


@pytest.fixture
def connect(monkeypatch):
    """Define the default connection by its fields."""

    def connect(host=None, password="3259c50e1ac5426ea8f1273259740f74", **fields):
        monkeypatch.setenv(*connection_variable(host, password, **fields))

    return connect


@pytest.fixture
def logged(caplog, capsys):
    """Return all log lines of any level so far; some Airflow versions log to the standard output."""
    caplog.set_level(logging.DEBUG)
    text = []

    def logged():
        text.extend([*(f"{record.getMessage()} {record.args}" for record in caplog.records), *capsys.readouterr()])
        caplog.clear()
        return "\n".join(text)

    return logged


@pytest.fixture(scope="session")
def one_server():
    with serving() as server:
        yield server


@pytest.fixture
def platform(one_server):
    """A server that listens; the test sets its answers."""
    one_server.begin()
    return one_server


@pytest.fixture(params=["requests", "aiohttp"])
def any_hook(request):
    """Each hook in turn."""
    return AnyHook(request.param)


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only while the hooks pause before a retry."""
    clock = Clock()
    clock.install(monkeypatch)
    return clock
