from __future__ import annotations

import pytest

from tests.faults.simulation import simulated_clock


@pytest.fixture
def clock(monkeypatch):
    """The clock of the simulated world, in place of the machine's."""
    return simulated_clock(monkeypatch.setattr)
