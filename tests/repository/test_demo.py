"""`make ui` rejects wrong arguments before it starts anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dev import demo

ROOT = Path(demo.__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--knobs", "stuck=true,runing_seconds=3"], "KNOBS: unknown knob 'runing_seconds'; did you mean"),
        (["--knobs", "stuck=perhaps"], "KNOBS: knob stuck: 'perhaps' is not bool"),
        (["--knobs", "stuck"], "KNOBS: 'stuck' has no value; write name=value,name=value"),
        (["--dags", "no such folder"], "DAGS: no such folder is not a folder"),
    ],
)
def test_a_wrong_argument_is_named(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(demo, "Emulator", None)
    assert demo.main(["--keep", *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_make_passes_both_arguments():
    recipe = re.search(r"^ui:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    for name in ("DAGS", "KNOBS"):
        assert f'$${{{name}:+--{name.lower()} "$${name}"}}' in recipe[1]
