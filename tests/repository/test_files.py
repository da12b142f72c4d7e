"""Files for GitHub, package registries and contributors name only things that exist."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from airflow_sb_provider.get_provider_info import get_provider_info

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def load(name):
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize(
    "name", [".github/workflows/ci.yml", "CONTRIBUTING.md", "SECURITY.md", ".pre-commit-config.yaml"]
)
def test_every_make_target_in_the_docs_exists(name):
    named = re.findall(r"(?:`|: )make (?:PYTHON=\S+ )?([a-z][a-z-]*)", (ROOT / name).read_text())
    assert named
    assert set(named) <= TARGETS


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_every_file_in_the_docs_exists(name):
    text = (ROOT / name).read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(r"`((?:tests|exports|hooks|api|emulator|airflow_sb_provider)/[\w/.]*)`", text)
    assert links
    for each in (*links, *paths):
        assert (ROOT / each).exists() or (ROOT / "airflow_sb_provider" / each).exists(), each


def test_the_workflow_runs_on_every_supported_python():
    promised = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if ":: 3." in each}
    assert set(load(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]) == promised


def test_the_workflow_may_only_read_and_runs_only_make():
    workflow = load(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    # YAML reads the key `on` as true.
    assert set(workflow[True]) <= {"push", "pull_request", "schedule"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        assert "permissions" not in job
        for step in job["steps"]:
            assert re.fullmatch(r"make( [\w.=-]+)+", step.get("run", "make x"))
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_every_action_is_pinned_to_a_commit_and_names_its_version():
    workflows = list((ROOT / ".github/workflows").iterdir())
    used = [line for path in workflows for line in path.read_text().splitlines() if "uses:" in line]
    assert used
    for line in used:
        assert re.fullmatch(r" +- uses: actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    assert load(".github/dependabot.yml")["updates"][0]["package-ecosystem"] == "github-actions"


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "constraints").iterdir()))
def test_constraints_pin_hashes_and_name_no_address(name):
    text = (ROOT / "constraints" / name).read_text()
    assert not re.search(r"://|^ *--(?!hash=)|@|^-", text, re.M)
    entries = re.split(r"\n(?=\S)", text.rstrip("\n"))
    assert entries
    for entry in entries:
        first, *hashes = entry.split(" \\\n")
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .*)?", first), first
        assert hashes, first
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in hashes)


def test_the_installed_packages_are_checked_against_the_hashes():
    installs = [line.strip() for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_hooks_before_a_commit_need_nothing_but_the_venv():
    config = load(".pre-commit-config.yaml")
    assert [each["repo"] for each in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].split()[0] in ("make", ".venv/bin/ruff")


def test_the_registry_lists_what_users_import():
    registry = load(".airflow-registry.yaml")
    assert registry["package-name"] == PROJECT["name"]
    for section in ("operators", "sensors", "triggers", "hooks"):
        listed = [entry["module"].rpartition(".") for entry in registry[section]]
        for module, _, name in listed:
            assert getattr(importlib.import_module(module), name).__doc__
        modules = {module for entry in get_provider_info()[section] for module in entry["python-modules"]}
        assert {module for module, _, _ in listed} == modules
