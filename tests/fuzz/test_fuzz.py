"""A fixed part of the inputs of ``make fuzz``, and proof that it detects errors."""

from __future__ import annotations

import os
from datetime import datetime

import pytest

from airflow_sb_provider.api import replies
from tests.fuzz.check import check, check_many
from tests.fuzz.inputs import make
from tests.fuzz.samples import samples
from tests.fuzz.wire import make_answer, wired

READ = 4_000
SENT = 250


def test_every_response_becomes_a_valid_value_or_an_error_of_this_package():
    seen = check_many(range(READ), make, check)
    assert seen["value"] > READ / 10
    assert len(seen) > 8


@pytest.mark.timeout(900)
def test_the_same_holds_over_a_socket_with_broken_http():
    environment = dict(os.environ)
    with wired() as wire:
        seen = check_many(range(SENT), make_answer, wire.check)
    assert sum(count for word, count in seen.items() if "value" in word) > SENT / 50
    assert sum(count for word, count in seen.items() if "ReplyLost" in word) > SENT / 20
    assert dict(os.environ) == environment


def test_every_call_has_samples_that_are_read():
    read = {sample.name for sample in samples() if sample.status == 200}
    assert {call.read.__qualname__ for call in (sample.call for sample in samples())}
    assert read == {
        *("start_export", "start_exports", "get_export", "get_exports", "list_exports", "get_file", "get_files"),
        *(
            "list_imports",
            "set_tags",
            "list_files",
            "get_volume",
            "list_volumes",
            "get_volume_object",
            "list_volume_objects",
        ),
        *("get_user", "get_rate_limit"),
    }


def test_a_seed_always_makes_the_same_input():
    assert [make(seed) for seed in range(200)] == [make(seed) for seed in range(200)]
    assert make_answer(7) == make_answer(7)
    assert len({repr(make(seed)) for seed in range(200)}) > 190


GUARDS = {
    "objects are expected": ("airflow_sb_provider.api.calls._mapping", lambda value: value),
    "words are expected": ("airflow_sb_provider.api.models.as_text", lambda value: value or None),
    "numbers are bounded": (
        "airflow_sb_provider.api.models.parse_integer",
        lambda value: value if isinstance(value, int) else int(value) if str(value).isdigit() else None,
    ),
    "times can be reckoned with": (
        "airflow_sb_provider.api.models.parse_time",
        lambda value: datetime.fromisoformat(value) if isinstance(value, str) else None,
    ),
    "nesting is bounded": ("airflow_sb_provider.api.values._within", lambda value, levels: True),
    "messages are one line": ("airflow_sb_provider.api.models.readable", lambda text, limit: text),
    "infinity is no number": ("airflow_sb_provider.api.replies._number", float),
    "text is Unicode": ("airflow_sb_provider.api.replies._ESCAPED_MISFIT", replies.re.compile(r"\\u0000")),
    "NUL is no text": ("airflow_sb_provider.api.replies._ESCAPED_MISFIT", replies.re.compile(r"\\u[dD][89a-fA-F]")),
}


@pytest.mark.parametrize(("name", "broken"), GUARDS.values(), ids=GUARDS)
def test_it_detects_a_removed_check(monkeypatch, name, broken):
    monkeypatch.setattr(name, broken)
    with pytest.raises(AssertionError, match=r"(?s)seed \d+: .*Input\(seed="):
        check_many(range(5 * READ), make, check)


def test_it_detects_a_lost_response_that_would_be_retried(monkeypatch):
    monkeypatch.setattr("tests.fuzz.check.classify_failure", lambda call, error: error)
    with pytest.raises(AssertionError, match="might be submitted again"):
        check_many(range(5 * READ), make, check)
