"""A validated export: file, destination and options."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exports.patterns import check_characters, check_key
from airflow_sb_provider.inputs import Problems, read_boolean, read_text, short

_FILE_ID = re.compile(r"[0-9a-fA-F]{24}")
_SHOWN_PLACE = 1500

SSE_ALGORITHMS = ("AES256", "aws:kms", None)
CANNED_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "aws-exec-read",
    "authenticated-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
    "log-delivery-write",
    None,
)
PROPERTY_NAMES = ("sse_algorithm", "sse_aws_kms_key_id", "aws_canned_acl", "aws_storage_class")


class Intent(StrEnum):
    """The four kinds of exports; which checks are needed depends on it."""

    MOVE = "move"
    MOVE_OVERWRITE = "move, overwrite"
    COPY = "copy"
    COPY_OVERWRITE = "copy, overwrite"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A validated export: create one with `checked`."""

    file: str
    volume: str
    location: str
    overwrite: bool = False
    copy_only: bool = False
    properties: Mapping[str, str | None] | None = field(default=None, hash=False)

    @classmethod
    def checked(
        cls,
        *,
        file: object,
        volume: object,
        location: object,
        overwrite: object = False,
        copy_only: object = False,
        properties: object = None,
    ) -> ExportRequest:
        """Return the request for these values. Booleans and properties may be text from a template.

        :raises SevenBridgesInputError: naming every invalid field, its value and the fix.
        """
        problems = Problems()
        read = problems.read
        request = cls(
            file=read("file", read_file, file, ""),
            volume=read("volume", read_volume, volume, ""),
            location=read("location", read_location, location, ""),
            overwrite=read("overwrite", read_boolean, overwrite, False),
            copy_only=read("copy_only", read_boolean, copy_only, False),
            properties=read("properties", _read_properties, properties, None),
        )
        problems.raise_if_any()
        return request

    @property
    def intent(self) -> Intent:
        """Which of the four kinds this is."""
        if self.copy_only:
            return Intent.COPY_OVERWRITE if self.overwrite else Intent.COPY
        return Intent.MOVE_OVERWRITE if self.overwrite else Intent.MOVE

    @property
    def target(self) -> tuple[str, str, str]:
        """File, volume and location, which identify an export of a batch."""
        return self.file, self.volume, self.location

    @property
    def fingerprint(self) -> str:
        """A digest of all fields."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def with_properties(self) -> str:
        """Its text with the properties, which error messages leave out."""
        items = [f"{name}={'none' if value is None else value}" for name, value in (self.properties or {}).items()]
        return f"{self}, with {readable(', '.join(items), _SHOWN_PLACE)}" if items else str(self)

    def __str__(self) -> str:
        verb = "copy" if self.copy_only else "move"
        how = ", overwriting the object there" if self.overwrite else ""
        return f"{verb} of file {self.file} to {readable(f'{self.volume}/{self.location}', _SHOWN_PLACE)}{how}"


def read_file(value: object) -> str:
    """Return a file's or folder's id.

    :raises ValueError: if it is not 24 hexadecimal digits.
    """
    text = _plain_text(value, "a file id such as 567890abc9b0307bc0414164")
    if not _FILE_ID.fullmatch(text):
        raise ValueError(f"{text!r} is not a file id; use the file's 24 hexadecimal digits, not its name or path.")
    return text.lower()


def read_volume(value: object) -> str:
    """Return a volume's id.

    :raises ValueError: if it is not ``owner/name``. Owners may contain any character.
    """
    text = _plain_text(value, "a volume id such as rfranklin/output")
    owner, _, name = text.rpartition("/")
    if not all(part.strip(".") for part in (*owner.split("/"), name)):
        raise ValueError(f"{text!r} is not owner/name; use a volume id such as rfranklin/output.")
    return text


def read_location(value: object) -> str:
    """Return the key of an object.

    :raises ValueError: if it is not valid.
    """
    return check_key(_plain_text(value, "the object's key on the volume, such as results/output.vcf"))


def _plain_text(value: object, wanted: str) -> str:
    text = read_text(value, wanted)
    check_characters(text)
    if text != text.strip():
        raise ValueError(f"{short(text)} has leading or trailing spaces; remove them, and give {wanted}.")
    return text


def _read_properties(value: object) -> dict[str, str | None] | None:
    if isinstance(value, str):
        value = _json_object(value)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is not a mapping; use one with {', '.join(PROPERTY_NAMES)}.")
    if unknown := [name for name in value if name not in PROPERTY_NAMES]:
        raise ValueError(f"{unknown[0]!r} is unknown; use {', '.join(PROPERTY_NAMES)}.")
    properties = dict(value)
    _check_choice(properties, "sse_algorithm", SSE_ALGORITHMS)
    _check_choice(properties, "aws_canned_acl", CANNED_ACLS)
    for name in ("sse_aws_kms_key_id", "aws_storage_class"):
        if not (properties.get(name) is None or (isinstance(properties[name], str) and properties[name].strip())):
            raise ValueError(f"{name}: {properties[name]!r} is empty or not text; give it a value or leave it out.")
    if properties.get("sse_aws_kms_key_id") and properties.get("sse_algorithm") != "aws:kms":
        raise ValueError(
            f"sse_aws_kms_key_id: {properties['sse_aws_kms_key_id']!r} is set, but sse_algorithm is "
            f"{properties.get('sse_algorithm')!r}; set sse_algorithm to 'aws:kms' or leave the key out."
        )
    return properties or None


def _check_choice(properties: Mapping[str, Any], name: str, choices: tuple[str | None, ...]) -> None:
    if name in properties and properties[name] not in choices:
        known = ", ".join("null" if choice is None else choice for choice in choices)
        raise ValueError(f"{name}: {properties[name]!r} is not a valid value; use {known}.")


def _json_object(text: str) -> object:
    if text.strip() in ("", "None", "null"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not JSON; use a mapping, or text such as {{{{ params.properties | tojson }}}}."
        ) from None
