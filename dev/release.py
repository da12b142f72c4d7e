"""Build wheel and sdist twice, compare them, look into them, install the wheel; ``dist/`` then holds both."""

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
# What the wheel is of no use without, and what a clone's tests need beside the package.
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
# Run by the venv's Python outside the tree; the argument is a module that only some Airflows have.
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


def problems(wheel: Collection[str], sdist: Collection[str]) -> list[str]:
    """Return what is wrong with the names of the files in a wheel and in an sdist, without the sdist's own folder."""
    found = [f"wheel: {name} is missing" for name in IN_WHEEL if f"{PACKAGE}/{name}" not in wheel]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel):
        found.append("wheel: LICENSE is missing")
    found += [
        f"wheel: {name} does not belong there"
        for name in wheel
        if not name.startswith((f"{PACKAGE}/", f"{PACKAGE}-"))
        or "__pycache__" in name
        or "/tests/" in name
        or name.rpartition("/")[2].startswith(("test_", "conftest"))
    ]
    found += [f"sdist: {name} is missing" for name in IN_SDIST if name not in sdist]
    found += [
        f"sdist: {name} does not belong there"
        for name in sdist
        if name.startswith(("build/", "dist/", ".venv", ".git/")) or "__pycache__" in name or name.endswith(".env")
    ]
    packed = {name for name in wheel if name.startswith(f"{PACKAGE}/")}
    found += [f"sdist: {name} is missing, though the wheel has it" for name in sorted(packed - set(sdist))]
    return found


def install(wheel: Path, venv: Path) -> Path:
    """Install a wheel with its dependencies, as pinned for development, into a new venv; return its Python."""
    uv = [str(Path(sys.executable).with_name("uv"))]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)], check=True)
    python = venv / "bin" / "python"
    command = ["pip", "install", "--quiet", "--constraints", "constraints/dev.txt", "--python", str(python), str(wheel)]
    subprocess.run([*uv, *command], check=True)
    return python


def fresh(folder: Path) -> Path:
    """Return an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def main() -> int:
    """Leave wheel and sdist in ``dist/`` if nothing is wrong with them."""
    work = fresh(WORK)
    wheel, sdist = built = build(Path(), work / "first")
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "elsewhere", filter="data")
        (root,) = {name.partition("/")[0] for name in archive.getnames()}
        in_sdist = [member.name.partition("/")[2] for member in archive if member.isfile()]
    with zipfile.ZipFile(wheel) as packed:
        in_wheel = packed.namelist()
    found = problems(in_wheel, in_sdist)
    again = build(work / "elsewhere" / root, work / "second")
    found += [
        f"{one.name}: built again elsewhere it has other bytes"
        for one, two in zip(built, again, strict=True)
        if one.name != two.name or one.read_bytes() != two.read_bytes()
    ]
    if subprocess.run([sys.executable, "-m", "twine", "--no-color", "check", "--strict", *map(str, built)]).returncode:
        found.append("twine refuses it")
    python = install(wheel, work / "venv").absolute()
    environment = {**os.environ, "AIRFLOW_HOME": str((work / "home").absolute())}
    command = [str(python), "-c", IMPORT_ALL, "airflow.providers.openlineage"]
    if subprocess.run(command, cwd=work, env=environment).returncode:
        found.append("the installed wheel cannot be imported")
    for line in found:
        print(line, file=sys.stderr)
    if found:
        return 1
    for path in built:
        kept = shutil.copy2(path, fresh(Path("dist")) if path == wheel else Path("dist"))
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {kept}  {path.stat().st_size:,} bytes")
    return 0


def _committed_at() -> str:
    told = subprocess.run(["git", "log", "-1", "--format=%ct"], capture_output=True, text=True)
    # What hatchling takes where there is no history.
    return told.stdout.strip() or "1580601600"


if __name__ == "__main__":
    sys.exit(main())
