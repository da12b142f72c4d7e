"""Checks of the commands, settings and requirements in the documentation."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib import metadata
from itertools import pairwise
from urllib.parse import urljoin

import requests
from packaging.requirements import Requirement

import airflow_sb_provider
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.docs.pages import ROOT

OURS = "airflow-sb-provider"
# Commands that cannot run here, with the reason. The rest of their blocks is still checked.
NOT_RUN = {
    "astro": "wants Docker and Astronomer's own command line",
    "gcloud": "wants a Google Cloud project",
    "docker": "wants Docker; tests/cluster checks its Compose file",
    "kubectl": "wants a Kubernetes cluster",
    "helm": "wants a Kubernetes cluster; tests/cluster checks its values",
    "zip": "packs what pip has brought from a package index",
    "dockerfile": "wants Docker; its lines of pip are checked",
}
# Variables of other programs in the documentation.
_VARIABLES = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "PYTHON"}
# Settings that Airflow reads but does not list.
_UNLISTED = {("core", "execution_api_server_url")}
_CONSTRAINTS = re.compile(
    r"https://raw\.githubusercontent\.com/apache/airflow/constraints-[23]\.\d+\.\d+/constraints-3\.1[123]\.txt"
)


def commands(script: str) -> list[list[str]]:
    """Return the simple commands of a shell script as words; in a session, those after the prompts."""
    if "\n$ " in f"\n{script}":
        script = "\n".join(line[2:] for line in script.splitlines() if line.startswith("$ "))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    found: list[list[str]] = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in (";", "&", "&&", "|", "||"):
                found += [words] if words else []
                words = []
            else:
                words.append(word)
    return found


def check_command(words: list[str]) -> None:
    """Check a command: run it, let its program parse it, or find it in `NOT_RUN`."""
    while words and (words[0] == "export" or re.fullmatch(r"[A-Z_][A-Z0-9_]*=.*", words[0], re.DOTALL)):
        if words[0] != "export":
            check_variable(*words[0].split("=", 1))
        words = words[1:]
    if not words:
        return
    program, *arguments = words
    if program in NOT_RUN:
        return
    checks = {"make": _make, "pip": _pip, "airflow": _airflow, "python": _python, "curl": _curl}
    assert program in checks, f"{program} is neither checked nor in NOT_RUN"
    checks[program](*arguments)


@cache
def _make(*arguments: str) -> None:
    process = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def _airflow(*arguments: str) -> None:
    from airflow.cli.cli_parser import get_parser

    get_parser().parse_args(arguments)


def _curl(flag: str, method: str, url: str) -> None:
    """Send the request to a local Platform of its own."""
    from airflow_sb_provider.emulator import Emulator

    assert flag == "-X"
    path = url.removeprefix("http://127.0.0.1:8000")
    assert path != url
    with Emulator() as platform:
        response = requests.request(method, urljoin(platform.url, path), timeout=30)
    assert response.status_code == 200, response.text


def _pip(command: str, *arguments: str) -> None:
    from pip._internal.commands import create_command

    _, wanted = create_command(command).parse_args(list(arguments))
    for option, value in pairwise(arguments):
        assert option != "--constraint" or _CONSTRAINTS.fullmatch(value), value
    assert wanted
    for each in wanted:
        if each != ".":
            check_requirement(each)


def _python(flag: str, module: str, *arguments: str) -> None:
    assert flag == "-m"
    offered = _help(module)
    for argument in arguments:
        if argument.startswith("-"):
            assert re.search(rf"(^|[\s,]){re.escape(argument.partition('=')[0])}\b", offered), f"{module} {argument}"


@cache
def _help(module: str) -> str:
    assert importlib.util.find_spec(module), module
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def check_variable(name: str, value: str) -> None:
    """Check an environment variable: a connection with the hook, a setting with Airflow's list."""
    if name.startswith("AIRFLOW_CONN_"):
        conn_id = name.removeprefix("AIRFLOW_CONN_").lower()
        before = os.environ.get(name)
        os.environ[name] = value
        try:
            settings = SevenBridgesHook(conn_id).settings
        finally:
            os.environ.pop(name) if before is None else os.environ.update({name: before})
        assert settings.endpoint.endswith("/v2")
        assert settings.token == "YOUR_TOKEN"
    elif name.startswith("AIRFLOW__"):
        _, section, option = name.split("__")
        check_setting(section.lower(), option.lower(), value)
    else:
        assert name in _VARIABLES, f"{name}={value}"


def check_setting(section: str, option: str, value: str) -> None:
    """Check that Airflow has a setting, and the arguments of a secrets backend."""
    from airflow.configuration import conf

    known = (section, option) in _UNLISTED or conf.has_option(section, option)
    assert known, f"Airflow has no [{section}] {option}"
    if option == "backend_kwargs":
        assert isinstance(json.loads(value), dict)


def check_settings_in(text: str) -> None:
    """Check all settings and connections in a text, such as Helm values."""
    for name in set(re.findall(r"\bAIRFLOW__\w+", text)):
        check_variable(name, "{}")


def check_requirement(line: str) -> None:
    """Check a requirement: an existing version and extras of this package, or an installed package."""
    requirement = Requirement(line)
    if requirement.name != OURS:
        metadata.distribution(requirement.name)
        return
    assert requirement.specifier.contains(airflow_sb_provider.__version__, prereleases=True), line
    assert requirement.extras <= set(metadata.metadata(OURS).get_all("Provides-Extra") or []), line


def check_requirements(text: str) -> None:
    """Check a requirements.txt."""
    for line in filter(None, text.splitlines()):
        option, _, value = line.partition(" ")
        if option in ("--constraint", "-c"):
            assert _CONSTRAINTS.fullmatch(value.strip('"')), value
        elif option == "--find-links":
            assert value.startswith("/")
        elif option != "--no-index":
            check_requirement(line)
