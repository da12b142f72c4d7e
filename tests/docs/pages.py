"""The pages of the documentation and their contents."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its first line, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    """Return all fenced blocks of all pages."""
    found = []
    for path in PAGES:
        text = path.read_text()
        of_page = [
            Block(
                path.relative_to(ROOT).as_posix(),
                text.count("\n", 0, match.start()) + 1,
                match[2],
                textwrap.dedent(match[3]),
            )
            for match in _BLOCK.finditer(text)
        ]
        fences = re.findall(r"^[ >]*(?:```|~~~)", text, re.MULTILINE)
        assert len(fences) == 2 * len(of_page), f"{path.name} has a fence that is not understood"
        found += of_page
    return found


def in_languages(*languages: str) -> list[Block]:
    """Return the blocks in one of these languages."""
    return [block for block in blocks() if block.language in languages]
