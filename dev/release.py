"""`make dist`: build wheel and sdist twice, compare and check them, install the wheel, and leave both in ``dist/``."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

PACKAGE = "airflow_sb_provider"
WORK = Path("build/release")
# Files that the wheel requires, and files that the sdist requires to run the tests.
IN_WHEEL = (
    "py.typed",
    "get_provider_info.py",
    "plugins/page/index.html",
    "plugins/page/tab.js",
    "plugins/page/tab.css",
    "plugins/page/icon.svg",
)
IN_SDIST = (
    *(
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "PKG-INFO",
        "pyproject.toml",
        "Makefile",
    ),
    *("constraints/dev.txt", "dev/demo.py", "docs/architecture.md", "example_dags/sevenbridges_export.py"),
    *("tests/conftest.py", "tests/fuzz/samples.json", "tests/unit/api/test_calls.py"),
)
# Run by the venv's Python outside the source tree; the argument is a module that may be missing.
IMPORT_ALL = """
import importlib, importlib.metadata, pkgutil, sys
import airflow_sb_provider as package
assert "site-packages" in package.__file__, package.__file__
names = [found.name for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    try:
        name.endswith("__main__") or importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != sys.argv[1]:
            raise
points = importlib.metadata.distribution(package.__name__).entry_points
loaded = [point.load() for point in points]
print(f"imported: {len(names)} modules, {len(loaded)} entry points")
"""


def build(source: Path, out: Path) -> list[Path]:
    """Build sdist and, from it, wheel; return both, the wheel first."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or _committed_at()}
    out.mkdir(parents=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out.resolve()), str(source.resolve())]
    subprocess.run(command, check=True, cwd=out, env=environment, stdout=subprocess.DEVNULL)
    return [*out.glob("*.whl"), *out.glob("*.tar.gz")]


def content_problems(wheel: Collection[str], sdist: Collection[str]) -> list[str]:
    """Return missing and unexpected files of a wheel and of an sdist, whose names omit its top folder."""
    problems = [f"wheel: {name} is missing" for name in IN_WHEEL if f"{PACKAGE}/{name}" not in wheel]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel):
        problems.append("wheel: LICENSE is missing")
    problems += [
        f"wheel: {name} does not belong there"
        for name in wheel
        if not name.startswith((f"{PACKAGE}/", f"{PACKAGE}-"))
        or "__pycache__" in name
        or "/tests/" in name
        or name.rpartition("/")[2].startswith(("test_", "conftest"))
    ]
    problems += [f"sdist: {name} is missing" for name in IN_SDIST if name not in sdist]
    problems += [
        f"sdist: {name} does not belong there"
        for name in sdist
        if name.startswith(("build/", "dist/", ".venv", ".git/")) or "__pycache__" in name or name.endswith(".env")
    ]
    packed = {name for name in wheel if name.startswith(f"{PACKAGE}/")}
    problems += [f"sdist: {name} is missing, though the wheel has it" for name in sorted(packed - set(sdist))]
    return problems


def install(wheel: Path, venv: Path) -> Path:
    """Install a wheel with its dependencies, as pinned for development, into a new venv; return its Python."""
    uv = [str(Path(sys.executable).with_name("uv"))]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)], check=True)
    python = venv / "bin" / "python"
    command = ["pip", "install", "--quiet", "--constraints", "constraints/dev.txt", "--python", str(python), str(wheel)]
    subprocess.run([*uv, *command], check=True)
    return python


def fresh(folder: Path) -> Path:
    """Create an empty folder and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def main() -> int:
    """Write wheel and sdist to ``dist/`` if no check fails. Returns the exit status."""
    work = fresh(WORK)
    wheel, sdist = built = build(Path(), work / "first")
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "elsewhere", filter="data")
        (root,) = {name.partition("/")[0] for name in archive.getnames()}
        in_sdist = [member.name.partition("/")[2] for member in archive if member.isfile()]
    with zipfile.ZipFile(wheel) as packed:
        in_wheel = packed.namelist()
    problems = content_problems(in_wheel, in_sdist)
    rebuilt = build(work / "elsewhere" / root, work / "second")
    problems += [
        f"{first.name}: a second build in another folder differs"
        for first, second in zip(built, rebuilt, strict=True)
        if first.name != second.name or first.read_bytes() != second.read_bytes()
    ]
    if subprocess.run([sys.executable, "-m", "twine", "--no-color", "check", "--strict", *map(str, built)]).returncode:
        problems.append("twine check failed")
    python = install(wheel, work / "venv").absolute()
    environment = {**os.environ, "AIRFLOW_HOME": str((work / "home").absolute())}
    command = [str(python), "-c", IMPORT_ALL, "airflow.providers.openlineage"]
    if subprocess.run(command, cwd=work, env=environment).returncode:
        problems.append("the installed wheel cannot be imported")
    for line in problems:
        print(line, file=sys.stderr)
    if problems:
        return 1
    for path in built:
        kept = shutil.copy2(path, fresh(Path("dist")) if path == wheel else Path("dist"))
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {kept}  {path.stat().st_size:,} bytes")
    return 0


def _committed_at() -> str:
    output = subprocess.run(["git", "log", "-1", "--format=%ct"], capture_output=True, text=True)
    # The default of hatchling without a Git history.
    return output.stdout.strip() or "1580601600"


if __name__ == "__main__":
    sys.exit(main())
