from __future__ import annotations

import pytest

from tests.faults.airflow import simulated_clock


@pytest.fixture
def clock(monkeypatch):
    """The clock of the world of single exports."""
    return simulated_clock(
        monkeypatch,
        (
            "operators.base",
            "engine.submitter",
            "engine.reconcile",
            "engine.polling",
            "engine.result",
            "hooks.sevenbridges",
        ),
    )
