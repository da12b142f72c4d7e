"""Count lines of code per folder: Python lines that are neither blank, comment nor docstring."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROOTS = ("airflow_sb_provider", "example_dags", "dev", "tests")
LAYOUT = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


def code_lines(source: str) -> int:
    """Return the number of lines of Python source that contain code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            doc = node.body[0]
            lines.difference_update(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
    return len(lines)


def main() -> None:
    """Print one line per folder, and the total of each root."""
    for root in ROOTS:
        folders: Counter[str] = Counter()
        for path in Path(root).rglob("*.py"):
            folders[str(path.parent)] += code_lines(path.read_text())
        for folder, lines in sorted(folders.items()):
            print(f"{lines:7d}  {folder}")
        print(f"{folders.total():7d}  {root} (all)\n")


if __name__ == "__main__":
    main()
