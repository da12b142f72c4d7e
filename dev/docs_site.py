"""MkDocs hooks: pages made from files outside docs/, and links between them.

Links in README.md and docs/ are relative to the file, as on GitHub; the hooks convert them to links of the site.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import griffe
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = {
    "operators": [
        "operators.export.SevenBridgesExportOperator",
        "operators.bulk_export.SevenBridgesBulkExportOperator",
        "operators.verify.SevenBridgesVerifyExportsOperator",
        "operators.task.SevenBridgesTaskOperator",
        "tasks.ports.SevenBridgesFile",
        "tasks.ports.SevenBridgesFolder",
    ],
    "sensors": ["sensors.export.SevenBridgesExportSensor", "sensors.task.SevenBridgesTaskSensor"],
    "triggers": [
        "triggers.export.SevenBridgesExportTrigger",
        "triggers.task.SevenBridgesTaskTrigger",
        "triggers.watcher.SevenBridgesExportEventTrigger",
    ],
    "hooks": [
        "hooks.sevenbridges.SevenBridgesHook",
        "hooks.task_methods.TaskMethods",
        "hooks.sevenbridges_async.SevenBridgesAsyncHook",
        "api.models",
        "api.task",
    ],
    "exceptions": ["exceptions"],
    "emulator": ["emulator.emulator.Emulator", "emulator.knobs.Knobs", "emulator.faults"],
}
_NOTE = re.compile(r"^\.\. note:: (.+(?:\n {4}.+)*)", re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)\s#]+)")


def _pages() -> dict[str, str]:
    """Return the page of the site for each file outside docs/."""
    examples = sorted((ROOT / "example_dags").glob("*.py"))
    return {
        "README.md": "index.md",
        "CHANGELOG.md": "changelog.md",
        "CONTRIBUTING.md": "contributing.md",
        "SECURITY.md": "security-policy.md",
        **{f"example_dags/{path.name}": f"examples/{path.stem}.md" for path in examples},
    }


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for source, page in _pages().items():
        text = (ROOT / source).read_text()
        if source.endswith(".py"):
            text = f"# {Path(source).stem}\n\n{ast.get_docstring(ast.parse(text))}\n\n```python\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    for name, objects in REFERENCE.items():
        text = "".join(f"::: airflow_sb_provider.{each}\n\n" for each in objects)
        title = "Local Platform" if name == "emulator" else name.capitalize()
        files.append(File.generated(config, f"reference/{name}.md", content=f"# {title}\n\n{text}"))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Convert links between files to links between pages."""
    pages = _pages()
    uri = page.file.src_uri
    source = next((source for source, its_page in pages.items() if its_page == uri), f"docs/{uri}")

    def relink(link: re.Match[str]) -> str:
        if ":" in link[2]:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        target = pages.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        return link[1] + posixpath.relpath(target, posixpath.dirname(uri) or ".") if target else link[0]

    return _LINK.sub(relink, markdown)


class Notes(griffe.Extension):
    """Converts ``.. note::`` in docstrings to the site's notes."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Convert the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = _NOTE.sub(r"!!! note\n\n    \1", obj.docstring.value)
