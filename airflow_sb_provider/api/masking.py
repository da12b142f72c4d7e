"""Remove a secret from responses of gateways that repeat it, in the encodings in which they do."""

from __future__ import annotations

import base64
import binascii
import html
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_sb_provider.exceptions import SevenBridgesError

MASK = "***"
# A shorter secret is not a real token, and may be an ordinary word of a response.
_SHORTEST = 16
# A truncated token is recognized by any part of this length. A shorter part reveals nothing.
_PART = 8
_WORD = re.compile(r"[^\s\"'<>{}\[\](),:`]{8,}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{11,}")
_ESCAPE = re.compile(r"\\(?:u00|x)([0-9a-fA-F]{2})|\\(.)")


class Mask:
    """Hides one secret. Without a secret, or with one that is too short to be real, it hides nothing."""

    def __init__(self, secret: str = "") -> None:
        is_real = len(secret) >= _SHORTEST
        self._spellings = sorted(set(_spellings(secret)), key=len, reverse=True) if is_real else []
        parts = {secret[at : at + _PART].lower() for at in range(len(secret) - _PART + 1)} if is_real else set()
        # A part with only letters may be an ordinary word, such as "platform", which many messages contain.
        self._parts = frozenset(part for part in parts if not part.isalpha())
        # Every part contains one of these blocks, and most texts contain none: a faster first check.
        step = _PART // 2
        self._blocks = frozenset(secret[at : at + step].lower() for at in range(0, len(secret) - step + 1, step))

    def whole(self, text: str) -> str:
        """Return text without the secret: fast, for whole responses. Ids and names that only resemble it stay."""
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, MASK)
        return text

    def parts(self, text: str) -> str:
        """Return text without the secret and without larger parts of it, however they are encoded: for short texts."""
        return _WORD.sub(self._masked, self.whole(text)) if self._parts else text

    def error(self, error: SevenBridgesError) -> None:
        """Mask the secret in every text of an error."""
        values = [*error.args, *vars(error).values()]
        masked = {text: self.parts(text) for text in {value for value in values if isinstance(value, str)}}
        error.args = tuple(masked[value] if isinstance(value, str) else value for value in error.args)
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, masked[value])

    def _masked(self, word: re.Match[str]) -> str:
        return MASK if any(self._shows(text) for text in _readings(word.group())) else word.group()

    def _shows(self, text: str) -> bool:
        text = text.lower()
        if not any(block in text for block in self._blocks):
            return False
        return any(text[at : at + _PART] in self._parts for at in range(len(text) - _PART + 1))


def _spellings(secret: str) -> Iterator[str]:
    """Yield the secret as it is, escaped for JSON, HTML and URLs, and as it appears in the base64 of a longer text."""
    yield from (secret, secret.lower(), secret.upper())
    yield from (quote(secret, safe=""), html.escape(secret), secret.replace("/", "\\/"))
    codes = [ord(mark) for mark in secret]
    for form in (*("%{:02x}", "%{:02X}", "%25{:02x}", "%25{:02X}"), *("\\u{:04x}", "\\u{:04X}"), "&#{};", "&#x{:x};"):
        escaped = "".join(form.format(code) for code in codes)
        # The second is for JSON text inside a JSON string.
        yield from (escaped, escaped.replace("\\", "\\\\"))
    for before in range(3):
        # Characters that also depend on the bytes before or after the secret are left out.
        encoded = base64.b64encode(b" " * before + secret.encode())
        first, last = (0, 2, 3)[before], (before + len(secret)) * 8 // 6
        inner = encoded[first:last].decode()
        yield from (inner, inner.translate(str.maketrans("+/", "-_")), quote(inner, safe=""), inner.replace("/", "\\/"))


def _readings(word: str) -> Iterator[str]:
    """Yield a word as it is and in each of the ways in which it may be encoded."""
    yield word
    plain = word
    if "\\" in plain:
        plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], plain)
    if "&" in plain:
        plain = html.unescape(plain)
    if "%" in plain:
        plain = unquote(unquote(plain))
    if plain != word:
        yield plain
    for run in _BASE64.findall(plain):
        marks = run.translate(str.maketrans("-_", "+/"))
        for start in range(4):
            piece = marks[start:]
            # A single character at the end encodes no byte.
            piece = piece[: len(piece) - (len(piece) % 4 == 1)]
            try:
                yield base64.b64decode(piece + "=" * (-len(piece) % 4)).decode("latin-1")
            except binascii.Error:
                continue
