"""Thousands of schedules of trouble for bulk exports. ``make soak`` runs more; ``SEEDS=from:to`` replays some."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from airflow_sb_provider.engine import reconcile as facts
from airflow_sb_provider.engine import submitter as submitting
from airflow_sb_provider.exports import decision as decide
from airflow_sb_provider.exports.batch import Entry
from airflow_sb_provider.jobs.record import Outcome
from airflow_sb_provider.operators import base, ledger
from tests.faults.airflow import count_ends, first_violation, simulated_clock
from tests.faults.bulk_simulation import CLOCKED, SMALL, World

pytestmark = pytest.mark.timeout(1800)
FIRST, LAST = (int(part) for part in os.environ.get("SEEDS", "0:1000").split(":"))


@pytest.fixture
def clock(monkeypatch):
    """The clock of the world of bulk exports, and that world made small."""
    for name, size in SMALL.items():
        monkeypatch.setattr(f"airflow_sb_provider.{name}", size)
    return simulated_clock(monkeypatch, CLOCKED)


def test_no_schedule_breaks_an_invariant(clock):
    ends = count_ends(World, range(FIRST, LAST), clock)
    print(f"{LAST - FIRST} schedules, tasks ended as {ends}")


def intent_unwritten(patch):
    real = ledger.Ledger.save

    def save(self, entries):
        if not all(entry.outcome is Outcome.SENT for entry in entries):
            real(self, entries)

    patch(ledger.Ledger, "save", save)


def retry_does_not_look(patch):
    real = base.attempt_of
    patch(base, "attempt_of", lambda *given, **told: replace(real(*given, **told), untroubled=True, doubt_until=None))


def lost_is_refused(patch):
    def lost(self, entry, error):
        entry.attempt = replace(entry.attempt, untroubled=False)

    patch(submitting.BatchSubmitter, "_lost", lost)


def no_second_look(patch):
    real = decide._unsafe

    def unsafe(request, found):
        decision = real(request, found)
        return None if isinstance(decision, decide.LookAgain) else decision

    patch(decide, "_unsafe", unsafe)


def lists_are_kept(patch):
    real = facts.Look.in_flight
    patch(facts.Look, "in_flight", lambda self, since: real(self, 0.0 if self._listed_at else since))


def short_ledger_is_believed(patch):
    patch(ledger.Ledger, "is_unreadable", property(lambda self: False, lambda self, value: None), raising=False)


def any_reading_will_do(patch):
    real = facts.alias_readings

    def readings(file, request, volumes):
        return {request.location: True} if any(real(file, request, volumes).values()) else {}

    for module in (facts, decide):
        patch(module, "alias_readings", readings)


def counters_restart(patch):
    real = Entry.to_json

    def to_json(self):
        return {key: value for key, value in real(self).items() if key not in ("posts", "setbacks")}

    patch(Entry, "to_json", to_json)


MUTANTS = [
    counters_restart,
    intent_unwritten,
    retry_does_not_look,
    lost_is_refused,
    no_second_look,
    lists_are_kept,
    short_ledger_is_believed,
    any_reading_will_do,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_rule_is_noticed(mutant, clock, monkeypatch, capsys):
    mutant(monkeypatch.setattr)
    violation = first_violation(World, range(3000), clock)
    assert violation, f"3000 schedules did not notice that {mutant.__name__}"
    with capsys.disabled():
        print(f"\n  {mutant.__name__}: {violation}", end="")
