from __future__ import annotations

import pytest

from dev.audit import is_allowed, judge, licence
from dev.release import IN_SDIST, IN_WHEEL, problems

WHEEL = [
    *(f"airflow_sb_provider/{name}" for name in (*IN_WHEEL, "__init__.py", "api/calls.py")),
    "airflow_sb_provider-0.1.0.dist-info/licenses/LICENSE",
    "airflow_sb_provider-0.1.0.dist-info/METADATA",
]
SDIST = [*IN_SDIST, *(name for name in WHEEL if "dist-info" not in name)]


def test_what_is_as_it_should_be_has_no_problems():
    assert problems(WHEEL, SDIST) == []


@pytest.mark.parametrize("name", [*(f"airflow_sb_provider/{name}" for name in IN_WHEEL), WHEEL[-2]])
def test_what_the_wheel_lacks_is_named(name):
    (problem,) = problems([each for each in WHEEL if each != name], SDIST)
    assert "is missing" in problem
    assert name.rpartition("/")[2] in problem


@pytest.mark.parametrize("name", IN_SDIST)
def test_what_the_sdist_lacks_is_named(name):
    assert problems(WHEEL, [each for each in SDIST if each != name]) == [f"sdist: {name} is missing"]


def test_what_only_the_wheel_has_is_named():
    found = problems([*WHEEL, "airflow_sb_provider/more.py"], SDIST)
    assert found == ["sdist: airflow_sb_provider/more.py is missing, though the wheel has it"]


@pytest.mark.parametrize(
    "name", ["tests/test_x.py", "dev/demo.py", "airflow_sb_provider/test_x.py", "example_dags/a.py"]
)
def test_what_does_not_belong_into_the_wheel_is_named(name):
    assert problems([*WHEEL, name], [*SDIST, name]) == [f"wheel: {name} does not belong there"]


@pytest.mark.parametrize("name", ["build/x", "dist/x.whl", ".venv-bench/x", ".env", "tests/__pycache__/x.pyc"])
def test_what_does_not_belong_into_the_sdist_is_named(name):
    assert problems(WHEEL, [*SDIST, name]) == [f"sdist: {name} does not belong there"]


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("Apache-2.0 AND MIT", True),
        ("BSD License", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("Python Software Foundation License", True),
        ("ISC License (ISCL)", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("LGPL-3.0-only", False),
        ("GPL-2.0-or-later", False),
        ("AGPLv3", False),
        ("Artistic License; GNU General Public License (GPL)", False),
        ("permitted uses only", False),
        ("unknown", False),
    ],
)
def test_a_licence_is_free_or_to_be_looked_at(text, allowed):
    assert is_allowed(text) is allowed


def test_a_licence_is_told_by_the_first_field_that_says_something():
    told = {"License-Expression": "UNKNOWN", "License-Classifier": "MIT License", "License-Metadata": "x"}
    assert licence(told) == "MIT License"
    assert licence({"License-Expression": "MIT", **dict.fromkeys(list(told)[1:], "UNKNOWN")}) == "MIT"
    assert licence(dict.fromkeys(told, "UNKNOWN")) == "unknown"


CLEAN = {"name": "aiohttp", "version": "3.14.5", "vulns": []}
FLAWED = {"name": "requests", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNTOLD = {"name": "tenacity", "skip_reason": "not found"}
OURS = {"name": "airflow-sb-provider", "skip_reason": "not found"}


def test_an_audit_is_passed_only_by_those_that_were_audited():
    assert judge([CLEAN, OURS]) == []
    assert judge([CLEAN, FLAWED, OURS]) == ["requests 2.0: PYSEC-1; mended in: 2.1"]
    (problem,) = judge([CLEAN, UNTOLD, OURS])
    assert "NOT AUDITED: of 1 of 2 packages" in problem
    assert "NOT AUDITED" in judge([OURS])[0]
