from __future__ import annotations

import pytest

from dev.audit import find_problems, is_allowed, license_of
from dev.release import IN_SDIST, IN_WHEEL, content_problems

WHEEL = [
    *(f"airflow_sb_provider/{name}" for name in (*IN_WHEEL, "__init__.py", "api/calls.py")),
    "airflow_sb_provider-0.1.0.dist-info/licenses/LICENSE",
    "airflow_sb_provider-0.1.0.dist-info/METADATA",
]
SDIST = [*IN_SDIST, *(name for name in WHEEL if "dist-info" not in name)]


def test_complete_archives_have_no_problems():
    assert content_problems(WHEEL, SDIST) == []


@pytest.mark.parametrize("name", [*(f"airflow_sb_provider/{name}" for name in IN_WHEEL), WHEEL[-2]])
def test_a_file_missing_from_the_wheel_is_reported(name):
    (problem,) = content_problems([each for each in WHEEL if each != name], SDIST)
    assert "is missing" in problem
    assert name.rpartition("/")[2] in problem


@pytest.mark.parametrize("name", IN_SDIST)
def test_a_file_missing_from_the_sdist_is_reported(name):
    assert content_problems(WHEEL, [each for each in SDIST if each != name]) == [f"sdist: {name} is missing"]


def test_a_file_that_only_the_wheel_has_is_reported():
    found = content_problems([*WHEEL, "airflow_sb_provider/more.py"], SDIST)
    assert found == ["sdist: airflow_sb_provider/more.py is missing, though the wheel has it"]


@pytest.mark.parametrize(
    "name", ["tests/test_x.py", "dev/demo.py", "airflow_sb_provider/test_x.py", "example_dags/a.py"]
)
def test_an_unexpected_file_in_the_wheel_is_reported(name):
    assert content_problems([*WHEEL, name], [*SDIST, name]) == [f"wheel: {name} does not belong there"]


@pytest.mark.parametrize("name", ["build/x", "dist/x.whl", ".venv-bench/x", ".env", "tests/__pycache__/x.pyc"])
def test_an_unexpected_file_in_the_sdist_is_reported(name):
    assert content_problems(WHEEL, [*SDIST, name]) == [f"sdist: {name} does not belong there"]


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
def test_a_license_is_permissive_or_needs_a_review(text, allowed):
    assert is_allowed(text) is allowed


def test_the_license_is_read_from_the_first_field_that_has_one():
    metadata = {"License-Expression": "UNKNOWN", "License-Classifier": "MIT License", "License-Metadata": "x"}
    assert license_of(metadata) == "MIT License"
    assert license_of({"License-Expression": "MIT", **dict.fromkeys(list(metadata)[1:], "UNKNOWN")}) == "MIT"
    assert license_of(dict.fromkeys(metadata, "UNKNOWN")) == "unknown"


CLEAN = {"name": "aiohttp", "version": "3.14.5", "vulns": []}
VULNERABLE = {"name": "requests", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNAUDITED = {"name": "tenacity", "skip_reason": "not found"}
OURS = {"name": "airflow-sb-provider", "skip_reason": "not found"}


def test_the_audit_fails_for_vulnerable_and_unaudited_packages():
    assert find_problems([CLEAN, OURS]) == []
    assert find_problems([CLEAN, VULNERABLE, OURS]) == ["requests 2.0: PYSEC-1; fixed in: 2.1"]
    (problem,) = find_problems([CLEAN, UNAUDITED, OURS])
    assert "returned nothing for 1 of 2 packages" in problem
    assert "NOT AUDITED" in find_problems([OURS])[0]
