from __future__ import annotations

from pathlib import Path

import pytest

from airflow_sb_provider.emulator import Emulator, Knobs
from dev.ui import Browser, UiStack

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"


@pytest.fixture(scope="session")
def platform():
    """A local Platform with fast jobs."""
    with Emulator(knobs=Knobs(pending_seconds=0.5, running_seconds=0.5)) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def airflow(platform, tmp_path_factory):
    """A real Airflow with the example DAGs, and no connection yet."""
    with UiStack(tmp_path_factory.mktemp("ui") / "airflow", EXAMPLES, platform) as stack:
        yield stack


@pytest.fixture(scope="session")
def chromium():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium, airflow, request, tmp_path_factory):
    """The browser, logged in as the admin; takes a screenshot after each test."""
    chromium.resize(1400, 1000)
    chromium.log_in(airflow)
    chromium.complaints()
    yield chromium
    chromium.shoot(tmp_path_factory.getbasetemp() / f"{request.node.name}.png")
