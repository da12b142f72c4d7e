"""Globs for file names, patterns that build an object's key from a file's fields, and the rules for keys."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACEHOLDERS = ("path", "name", "stem", "suffix", "id", "project", "project_owner")
_MAX_ALTERNATIVES = 1000
_SPECIAL = re.compile(r"[*?\[]")
_GLOB_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|[{},\[]|[^\[{},]+")
_PATTERN_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}/]|[^{}/]+")
_METADATA = re.compile(r"metadata\[([^\[\]]+)\]")
_NO_FOLDER = ("", ".", "..")
MAX_KEY_BYTES = 1024
# pathlib reduces the slashes of a URL to one; an ARN is an address too.
_SCHEME = r"[a-z][a-z0-9+.-]*://|(?:s3[an]?|gs|gcs|https?|file):/|arn:[^/]*:::"
_ADDRESS = re.compile(rf"(?:{_SCHEME})/*([^/]*)/*(.*)", re.IGNORECASE | re.DOTALL)
# Control characters, lone surrogates, and characters that are not allowed in a bucket's list, which is XML.
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Glob:
    """Any of some globs, matched against a whole name, case-sensitive.

    ``*`` any text, ``?`` any character, ``[ab]`` one of these, ``[!ab]`` none of these, ``{bam,cram}`` either, also
    nested. A name may begin with a dot. To match a special character itself, put it in brackets: ``[*]``.

    :raises ValueError: for a glob that can match no name.
    """

    globs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for glob in self.globs:
            if "/" in glob:
                raise ValueError(f"{glob!r} contains a slash, but globs match only file names; select a folder.")
        _ = self._alternatives

    @property
    def exact(self) -> list[str]:
        """The names, if no glob has a special character: the Platform can filter by these."""
        plain, special = self._alternatives
        return [] if special else plain

    def matches(self, name: str) -> bool:
        """Whether one of the globs matches a name."""
        names, others = self._matcher
        return name in names or bool(others and others.match(name))

    @cached_property
    def _matcher(self) -> tuple[frozenset[str], re.Pattern[str] | None]:
        plain, special = self._alternatives
        return frozenset(plain), re.compile("|".join(map(fnmatch.translate, special))) if special else None

    @cached_property
    def _alternatives(self) -> tuple[list[str], list[str]]:
        found: tuple[list[str], list[str]] = ([], [])
        for glob in self.globs:
            for text in _without_braces(glob):
                found[bool(_SPECIAL.search(text))].append(text)
        return found


@dataclass(frozen=True)
class Pattern:
    """The key of an object as text with placeholders; double a brace to use the character itself.

    :param text: such as ``{project}/{path}/{metadata[sample_id]}/{name}``.
    :raises ValueError: for unknown placeholders and invalid folders.
    """

    DEFAULT: ClassVar[str] = "{path}/{name}"

    text: str = DEFAULT

    def __post_init__(self) -> None:
        _ = self._segments

    @property
    def needs_path(self) -> bool:
        """Whether the pattern contains ``{path}``."""
        return [("path",)] in self._segments

    @property
    def metadata_fields(self) -> set[str]:
        """The metadata fields that the pattern contains."""
        return {part[1] for segment in self._segments for part in segment if part[0] == "metadata"}

    @cached_property
    def _segments(self) -> list[list[str | tuple[str, ...]]]:
        return _segments(self.text)

    def fill(self, values: Mapping[str, str], metadata: Mapping[str, Any], path: str) -> str:
        """Return the key for these values.

        :param path: ``a/b``; an empty path leaves its folder out.
        :raises ValueError: if a value is missing, or leads out of the pattern's folder.
        """
        filled: list[str] = []
        for segment in self._segments:
            if segment == [("path",)]:
                filled += path.split("/") if path else []
                continue
            filled.append(
                "".join(part if isinstance(part, str) else _value(part, values, metadata) for part in segment)
            )
        location = "/".join(filled)
        if not filled or any(folder in _NO_FOLDER for folder in filled):
            raise ValueError(
                f"{location!r} escapes the pattern's folder; rename the file or its folder, or leave it out."
            )
        return location


def check_key(key: str) -> str:
    """Return the key of an object, relative to its volume, if it is valid on S3 and GCS.

    All but a few characters are valid, also invisible ones such as a no-break space.

    :raises ValueError: if it is not valid.
    """
    check_no_address(key)
    if key.startswith("/"):
        raise ValueError(f"{key!r} starts with a slash; remove it, the key is relative to the volume.")
    if key.endswith("/"):
        raise ValueError(f"{key!r} ends with a slash; give the whole key, with the object's name.")
    if key in _NO_FOLDER:
        raise ValueError(f"{key!r} names no object; give the whole key, with the object's name.")
    check_characters(key)
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"{key[:60]!r}... is longer than {MAX_KEY_BYTES} bytes; shorten it.")
    return key


def check_characters(text: str) -> None:
    """Check that text has only characters that are valid in a bucket and in the list of its objects.

    :raises ValueError: naming the first invalid character and its position, which counts from 1.
    """
    if unusable := _UNUSABLE.search(text):
        character = unusable[0]
        name = unicodedata.name(character, unicodedata.category(character))
        description = "a lone surrogate" if name == "Cs" else "a control character" if name == "Cc" else "no character"
        raise ValueError(
            f"{_cut(text)} contains U+{ord(character):04X} at position {unusable.start() + 1}, {description}: line "
            "breaks, control characters and the like are not allowed in a key or an id; remove it."
        )


def check_no_address(key: str) -> None:
    """Check that a key, or a pattern, is not the address of an object.

    :raises ValueError: with the key to write instead.
    """
    if address := _ADDRESS.match(key):
        bucket, rest = address[1], address[2] or "results/output.vcf"
        raise ValueError(
            f"{_cut(key)} is an address; use a key, which is relative to the volume: if the volume's bucket is "
            f"{_cut(bucket)}, write {_cut(rest)}, without the volume's prefix."
        )


def text_of(value: object) -> str | None:
    """Return the text of a metadata value; None if it is empty or not a single value."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) and value != "" else None


def _cut(text: str) -> str:
    return repr(text) if len(text) <= 80 else f"{text[:80]!r}..."


def _value(field: tuple[str, ...], values: Mapping[str, str], metadata: Mapping[str, Any]) -> str:
    if field[0] == "metadata":
        name, value = f"metadata[{field[1]}]", text_of(metadata.get(field[1]))
    else:
        name, value = field[0], values[field[0]]
    if not value and name != "suffix":
        raise ValueError(f"{{{name}}} is missing or empty; set it on the Platform, or use another pattern.")
    if "/" in (value or "") or value in (".", ".."):
        raise ValueError(
            f"{{{name}}} is {value!r}, which escapes the pattern's folder; correct it, or use another pattern."
        )
    return value or ""


def _segments(text: str) -> list[list[str | tuple[str, ...]]]:
    """Return the literal texts and placeholders of each folder of a pattern and of the last name."""
    check_no_address(text)
    segments: list[list[str | tuple[str, ...]]] = [[]]
    for token in _PATTERN_TOKEN.finditer(text):
        if token[0] == "/":
            segments.append([])
        elif token[0] in ("{{", "}}"):
            segments[-1].append(token[0][0])
        elif token[1] is None and token[0] in ("{", "}"):
            raise ValueError(
                f"{text!r} contains a single {token[0]!r}; close the placeholder, or double it: {token[0] * 2}."
            )
        elif token[1] is None:
            segments[-1].append(token[0])
        elif metadata := _METADATA.fullmatch(token[1]):
            segments[-1].append(("metadata", metadata[1]))
        elif token[1] in PLACEHOLDERS:
            segments[-1].append((token[1],))
        else:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"{token[0]!r} is unknown; use {known} or {{metadata[field]}}.")
    for segment in segments:
        if ("path",) in segment and len(segment) > 1:
            raise ValueError(f"{text!r}: {{path}} stands for whole folders; put slashes around it.")
        if all(isinstance(part, str) for part in segment) and "".join(map(str, segment)) in _NO_FOLDER:
            raise ValueError(
                f"{text!r} begins or ends with a slash, or contains an empty, '.' or '..' folder; remove it."
            )
    return segments


def _without_braces(glob: str) -> list[str]:
    """Return the globs without braces that are equivalent to a glob with braces."""
    texts, done = [""], list[str]()
    outer: list[tuple[list[str], list[str]]] = []
    for part in _GLOB_TOKEN.findall(glob):
        if part == "{":
            outer.append((texts, done))
            texts, done = [""], []
        elif part == "," and outer:
            done += texts
            texts = [""]
        elif part == "}" and outer:
            inside = done + texts
            texts, done = outer.pop()
            if len(texts) * len(inside) > _MAX_ALTERNATIVES:
                raise ValueError(f"{glob!r} expands to more than {_MAX_ALTERNATIVES} globs; use fewer braces.")
            texts = [text + part for text in texts for part in inside]
        elif part == "}":
            raise ValueError(f"{glob!r}: a brace is closed but not opened; write [}}] for the character itself.")
        else:
            texts = [text + part for text in texts]
    if outer:
        raise ValueError(f"{glob!r}: a brace is not closed; write [{{] for the character itself.")
    return texts
