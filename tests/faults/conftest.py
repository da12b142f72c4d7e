from __future__ import annotations

from types import SimpleNamespace

import pytest

CLOCKED = ("operators.export", "hooks.facts", "hooks.waiting")


@pytest.fixture
def clock(monkeypatch):
    """The simulated world's clock instead of the machine's, in every module that asks for the time."""
    clock = SimpleNamespace(world=None)
    fake = SimpleNamespace(
        time=lambda: clock.world.platform.now, sleep=lambda seconds: clock.world.running.sleep(seconds)
    )
    for module in CLOCKED:
        monkeypatch.setattr(f"airflow_sb_provider.{module}.time", fake)
    return clock
