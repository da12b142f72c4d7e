"""What an installed provider brings: vulnerabilities that PyPI knows (``AUDIT_SERVICE=osv``: osv.dev), and licences."""

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
FREE = re.compile(
    r"\b(apache|mit|mit-0|bsd|psf|python software foundation|mpl|mozilla public|isc|iscl|0bsd|unlicense|zlib)\b", re.I
)
NOT_FREE = re.compile(r"\b[al]?gpl|general public|affero|proprietary|commercial", re.I)


def licence(told: Mapping[str, str]) -> str:
    """Return the licence that a package tells of itself, shortly, in the first of its ways that says something."""
    for key in ("License-Expression", "License-Classifier", "License-Metadata"):
        if (text := told.get(key, "UNKNOWN").strip()) and text != "UNKNOWN":
            return " ".join(text.split())[:100]
    return "unknown"


def is_allowed(text: str) -> bool:
    """Whether a licence asks nothing of those who use the provider beyond keeping its notice."""
    return bool(FREE.search(text)) and not NOT_FREE.search(text)


def judge(audited: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with pip-audit's findings: a vulnerability, or that nobody could tell of any."""
    found: list[str] = []
    others = [each for each in audited if each["name"] != NAME]
    for each in others:
        for flaw in each.get("vulns", []):
            mended = ", ".join(flaw.get("fix_versions", [])) or "none yet"
            found.append(f"{each['name']} {each['version']}: {flaw['id']}; mended in: {mended}")
    untold = [each["name"] for each in others if "skip_reason" in each]
    if untold or not others:
        found.append(
            f"NOT AUDITED: of {len(untold)} of {len(others)} packages the vulnerability database told nothing "
            f"({', '.join(untold[:5])}...). Ask where pypi.org's JSON API can be reached, or with AUDIT_SERVICE=osv."
        )
    return found


def main() -> int:
    """Return 0 if all was audited, nothing was found, and the provider's own dependencies may be used freely."""
    work = fresh(WORK)
    wheel, _ = build(Path(), work / "dist")
    python = install(wheel, work / "venv")
    found = [*_licences(python), *_vulnerabilities(python, work / "audit.json")]
    for line in found:
        print(line, file=sys.stderr)
    print("The audit failed." if found else "The audit found nothing.")
    return 1 if found else 0


def _licences(python: Path) -> list[str]:
    command = [_tool("pip-licenses"), "--python", str(python), "--from", "all", "--format", "json"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    licences = {each["Name"].lower().replace("_", "-"): licence(each) for each in told}
    script = f"import importlib.metadata as m; print(*m.requires({NAME!r}), sep='\\n')"
    required = subprocess.run([str(python), "-c", script], check=True, capture_output=True, text=True).stdout
    own = [re.split(r"[^\w.-]", line)[0].lower() for line in required.splitlines() if "extra ==" not in line]
    print(f"{len(licences)} packages are installed. The provider's own dependencies:")
    for name in own:
        print(f"  {name}: {licences.get(name, 'not installed')}")
    print("Of what they bring, to be looked at:")
    for name, text in sorted(licences.items()):
        if not is_allowed(text):
            print(f"  {name}: {text}")
    return [f"{name}: its licence is not allowed" for name in own if not is_allowed(licences.get(name, "unknown"))]


def _vulnerabilities(python: Path, report: Path) -> list[str]:
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    service = os.environ.get("AUDIT_SERVICE", "pypi")
    command = [_tool("pip-audit"), "--vulnerability-service", service, "--path", str(packages)]
    told = subprocess.run([*command, "--format", "json", "--output", str(report)], capture_output=True, text=True)
    if not report.exists():
        reason = (told.stderr.strip().splitlines() or ["no reason given"])[-1]
        return [f"NOT AUDITED: pip-audit could not ask {service}: {reason}"]
    return judge(json.loads(report.read_text())["dependencies"])


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    sys.exit(main())
