"""Audit the provider's dependencies: vulnerabilities known to PyPI (``AUDIT_SERVICE=osv``: osv.dev), and licenses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dev.release import build, fresh, install

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WORK = Path("build/audit")
NAME = "airflow-sb-provider"
PERMISSIVE = re.compile(
    r"\b(apache|mit|mit-0|bsd|psf|python software foundation|mpl|mozilla public|isc|iscl|0bsd|unlicense|zlib)\b", re.I
)
RESTRICTIVE = re.compile(r"\b[al]?gpl|general public|affero|proprietary|commercial", re.I)


def license_of(metadata: Mapping[str, str]) -> str:
    """Return the license in a package's metadata, in short, from the first field that has one."""
    for key in ("License-Expression", "License-Classifier", "License-Metadata"):
        if (text := metadata.get(key, "UNKNOWN").strip()) and text != "UNKNOWN":
            return " ".join(text.split())[:100]
    return "unknown"


def is_allowed(text: str) -> bool:
    """Whether a license is permissive: it requires no more than to keep its notice."""
    return bool(PERMISSIVE.search(text)) and not RESTRICTIVE.search(text)


def find_problems(audited: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the vulnerabilities that pip-audit found, and whether packages could not be audited."""
    problems: list[str] = []
    others = [package for package in audited if package["name"] != NAME]
    for package in others:
        for vulnerability in package.get("vulns", []):
            fixed_in = ", ".join(vulnerability.get("fix_versions", [])) or "none yet"
            problems.append(f"{package['name']} {package['version']}: {vulnerability['id']}; fixed in: {fixed_in}")
    skipped = [package["name"] for package in others if "skip_reason" in package]
    if skipped or not others:
        problems.append(
            f"NOT AUDITED: the vulnerability database returned nothing for {len(skipped)} of {len(others)} packages "
            f"({', '.join(skipped[:5])}...). Run this where pypi.org's JSON API is reachable, or set AUDIT_SERVICE=osv."
        )
    return problems


def main() -> int:
    """Return 0 if all packages were audited without findings and the direct dependencies have permissive licenses."""
    work = fresh(WORK)
    wheel, _ = build(Path(), work / "dist")
    python = install(wheel, work / "venv")
    problems = [*_licenses(python), *_vulnerabilities(python, work / "audit.json")]
    for line in problems:
        print(line, file=sys.stderr)
    print("The audit failed." if problems else "The audit found no problems.")
    return 1 if problems else 0


def _licenses(python: Path) -> list[str]:
    command = [_tool("pip-licenses"), "--python", str(python), "--from", "all", "--format", "json"]
    output = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    licenses = {package["Name"].lower().replace("_", "-"): license_of(package) for package in output}
    script = f"import importlib.metadata as m; print(*m.requires({NAME!r}), sep='\\n')"
    required = subprocess.run([str(python), "-c", script], check=True, capture_output=True, text=True).stdout
    own = [re.split(r"[^\w.-]", line)[0].lower() for line in required.splitlines() if "extra ==" not in line]
    print(f"{len(licenses)} packages are installed. Direct dependencies of the provider:")
    for name in own:
        print(f"  {name}: {licenses.get(name, 'not installed')}")
    print("Licenses of other packages to review:")
    for name, text in sorted(licenses.items()):
        if not is_allowed(text):
            print(f"  {name}: {text}")
    return [f"{name}: its license is not permissive" for name in own if not is_allowed(licenses.get(name, "unknown"))]


def _vulnerabilities(python: Path, report: Path) -> list[str]:
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    service = os.environ.get("AUDIT_SERVICE", "pypi")
    command = [_tool("pip-audit"), "--vulnerability-service", service, "--path", str(packages)]
    output = subprocess.run([*command, "--format", "json", "--output", str(report)], capture_output=True, text=True)
    if not report.exists():
        reason = (output.stderr.strip().splitlines() or ["no reason given"])[-1]
        return [f"NOT AUDITED: pip-audit could not query {service}: {reason}"]
    return find_problems(json.loads(report.read_text())["dependencies"])


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    sys.exit(main())
