from __future__ import annotations

import pytest

from tests.faults.simulation import simulated_clock


@pytest.fixture
def clock(monkeypatch):
    """The simulated clock, which replaces the machine's."""
    return simulated_clock(monkeypatch.setattr)
