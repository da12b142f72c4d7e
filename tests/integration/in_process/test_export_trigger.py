from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.integration.in_process.conftest import first_event, use_token


def test_it_serializes_ids_and_numbers_only(platform):
    trigger = SevenBridgesExportTrigger(("a", "b"), "sevenbridges_default", 5, 100.0)
    path, arguments = trigger.serialize()
    assert path == "airflow_sb_provider.triggers.export.SevenBridgesExportTrigger"
    assert arguments == {
        "export_id": None,
        "min_finished": None,
        "fail_fast": False,
        "export_ids": ["a", "b"],
        "sevenbridges_conn_id": "sevenbridges_default",
        "poll_interval": 5,
        "end_time": 100.0,
    }
    assert json.loads(json.dumps(arguments)) == arguments
    assert SevenBridgesExportTrigger(**arguments).serialize() == (path, arguments)


def test_the_end_time_is_absolute(platform):
    event = asyncio.run(first_event(SevenBridgesExportTrigger(["a"], "sevenbridges_default", 0.1, time.time() - 1)))
    assert event["status"] == "timeout"


@pytest.mark.parametrize("breakage", ["missing", "empty token"])
def test_a_missing_connection_ends_the_wait_and_is_named(platform, monkeypatch, breakage):
    if breakage == "missing":
        monkeypatch.delenv("AIRFLOW_CONN_SEVENBRIDGES_DEFAULT")
    else:
        use_token(monkeypatch, platform, "")
    event = asyncio.run(first_event(SevenBridgesExportTrigger(["a"], "sevenbridges_default", 0.05)))
    assert event["status"] == "rejected"
    assert "sevenbridges_default" in event["message"]


def test_more_than_a_hundred_are_polled_by_the_hundred(platform):
    ids = [f"{number:032}" for number in range(150)]
    event = asyncio.run(first_event(SevenBridgesExportTrigger(ids, "sevenbridges_default", 0.4)))
    assert event["status"] == "rejected"
    polls = [record.json["export_ids"] for record in platform.requests]
    polls_by_id = Counter(each for poll in polls for each in poll)
    assert polls_by_id.keys() == set(ids)
    assert min(polls_by_id.values()) >= 3
    assert max(map(len, polls)) == 100
    assert len(polls) <= 2 * max(polls_by_id.values()) + 1
    assert len(json.dumps(event)) < 2000


def test_at_most_a_thousand_ids(platform):
    assert len(SevenBridgesExportTrigger([str(number) for number in range(1000)]).export_ids) == 1000
    with pytest.raises(SevenBridgesInputError, match="1001"):
        SevenBridgesExportTrigger([str(number) for number in range(1001)])
