"""What a bulk export takes and where each file goes: a selection of a project, or a list of exports."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.exports.destination import object_uri, places
from airflow_sb_provider.exports.names import Glob, Pattern, text_of
from airflow_sb_provider.exports.request import ExportRequest, read_boolean, read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.api.models import File, Volume

PROBLEMS_TOLD = 20
EXPORT_FIELDS = ("file", "volume", "location", "overwrite", "copy_only", "properties")
INDEX_SUFFIXES = (".bai", ".crai", ".tbi", ".csi", ".idx")
# Some tools put these in the place of the main file's ending.
_REPLACING_SUFFIXES = {".bam": ".bai", ".cram": ".crai"}


@dataclass(frozen=True, slots=True)
class Selected:
    """A file that a selection found.

    :param path: the folders below the selection's root, ``a/b``, empty for the root.
    :param belongs_to: for an index file that came along, its main file.
    """

    file: File
    path: str = ""
    belongs_to: File | None = None


@dataclass(frozen=True, slots=True)
class PlannedExport:
    """An export, and the file that it is of."""

    request: ExportRequest
    file: File
    path: str


@dataclass(frozen=True)
class Selection:
    """Which files, and what is to be done with each: make one with `checked`.

    One of ``project``, ``folder`` and ``file_ids`` is set. What else is set must hold for each file: one of the globs
    ``name``, one of the ``tags``, for each field of ``metadata`` one of its values, and ``origin_task``.
    """

    volume: str
    project: str | None = None
    folder: str | None = None
    file_ids: tuple[str, ...] = ()
    recursive: bool = False
    name: Glob = field(default_factory=Glob)
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    origin_task: str | None = None
    location_pattern: Pattern = field(default_factory=Pattern)
    secondary_files: bool = False
    overwrite: bool = False
    copy_only: bool = False
    properties: Mapping[str, str | None] | None = field(default=None, hash=False)

    @classmethod
    def checked(
        cls,
        *,
        volume: object,
        project: object = None,
        folder: object = None,
        file_ids: object = None,
        recursive: object = False,
        name: object = None,
        tags: object = None,
        metadata: object = None,
        origin_task: object = None,
        location_pattern: object = Pattern.DEFAULT,
        secondary_files: object = False,
        overwrite: object = False,
        copy_only: object = False,
        properties: object = None,
    ) -> Selection:
        """Return the selection that these values mean. Each may be text, as templates make it; lists and mappings too.

        :param project: ``owner/short-name``; or ``folder``, a folder's id; or ``file_ids``.
        :param recursive: takes the files of all folders below too.
        :param name: a glob or a list of them, case-sensitive: ``*``, ``?``, ``[ab]``, ``[!ab]``, ``{bam,cram}``.
        :param tags: exact tags, any of them.
        :param metadata: for each field a value or a list of them, any of them; all fields must match.
        :param origin_task: id of the Platform's task that made the files.
        :param location_pattern: the key of each object: text with ``{path}``, ``{name}``, ``{stem}``, ``{suffix}``,
            ``{id}``, ``{project}``, ``{project_owner}``, ``{metadata[field]}``.
        :param secondary_files: takes index files along.
        :raises SevenBridgesInputError: naming every wrong field, its value and the fix.
        """
        problems: list[str] = []

        def read(field_: str, reader: Callable[[Any], Any], value: object, default: Any = None) -> Any:
            try:
                return reader(value)
            except ValueError as problem:
                problems.append(f"{field_}: {problem}")
                return default

        given = {"project": project, "folder": folder, "file_ids": file_ids}
        sources = [key for key, value in given.items() if not _is_absent(value)]
        if len(sources) != 1:
            told = ", ".join(f"{key}={_short(given[key])}" for key in sources) or "none of them is given"
            problems.append(f"project, folder, file_ids: {told}; give one of the three.")
        # A request for any file tells what is wrong with the fields that all files share.
        shared = {"volume": volume, "overwrite": overwrite, "copy_only": copy_only, "properties": properties}
        request: ExportRequest | None = None
        try:
            request = ExportRequest.checked(file="0" * 24, location="any", **shared)
        except SevenBridgesInputError as error:
            problems += error.problems
        selection = cls(
            volume=request.volume if request else "",
            project=read("project", _read_project, project) if "project" in sources else None,
            folder=read("folder", read_file, folder) if "folder" in sources else None,
            file_ids=read("file_ids", _read_file_ids, file_ids, ()) if "file_ids" in sources else (),
            recursive=read("recursive", read_boolean, recursive),
            name=read("name", lambda value: Glob(_read_texts(value)), name),
            tags=read("tags", _read_texts, tags),
            metadata=read("metadata", _read_metadata, metadata),
            origin_task=None
            if _is_absent(origin_task)
            else read("origin_task", lambda value: _read_text(value, "the id of a task"), origin_task),
            location_pattern=read(
                "location_pattern",
                lambda value: Pattern(_read_text(value, f"a pattern such as {Pattern.DEFAULT}")),
                location_pattern,
            ),
            secondary_files=read("secondary_files", read_boolean, secondary_files),
            overwrite=bool(request and request.overwrite),
            copy_only=bool(request and request.copy_only),
            properties=request.properties if request else None,
        )
        if problems:
            raise SevenBridgesInputError(first_problems(problems))
        return selection

    def matches(self, file: File) -> bool:
        """Whether a file is one of those that are meant; folders never are.

        It asks all again that the Platform's own filters can tell, since what is moved cannot be moved back.
        """
        return (
            not file.is_folder
            and (not self.name.globs or (file.name is not None and self.name.matches(file.name)))
            and (not self.tags or not self._tags.isdisjoint(file.tags))
            and (self.origin_task is None or file.origin_task == self.origin_task)
            and all(not _texts_of(file.metadata.get(key)).isdisjoint(values) for key, values in self.metadata.items())
        )

    def location_of(self, file: File, path: str = "", belongs_to: File | None = None) -> str:
        """Return the key of a file's object.

        An index file takes id, metadata and, where its name allows, the stem of the file that it belongs to, so that
        both lie together.

        :param path: the folders below the selection's root, ``a/b``, empty for the root.
        :raises ValueError: if a value is missing, or would lead out of the pattern's folder.
        """
        main = belongs_to or file
        name = file.name or ""
        stem, suffix = _split(name)
        if belongs_to and name.startswith(main_stem := _split(main.name or "")[0]):
            stem, suffix = main_stem, name[len(main_stem) :]
        owner, _, project = (main.project or "").rpartition("/")
        values = {
            "project": project,
            "project_owner": owner,
            "name": name,
            "stem": stem,
            "suffix": suffix,
            "id": main.id,
        }
        return self.location_pattern.fill(values, main.metadata, path)

    @cached_property
    def _tags(self) -> frozenset[str]:
        return frozenset(self.tags)

    def __str__(self) -> str:
        where = f"project {self.project}" if self.project else f"folder {self.folder}"
        parts = [f"{len(self.file_ids)} file ids" if self.file_ids else where]
        parts += ["with all folders below"] if self.recursive else []
        parts += [f"name {' or '.join(self.name.globs)}"] if self.name.globs else []
        parts += [f"tag {' or '.join(self.tags)}"] if self.tags else []
        parts += [f"{key} {' or '.join(values)}" for key, values in self.metadata.items()]
        parts += [f"of task {self.origin_task}"] if self.origin_task else []
        return ", ".join(parts)


def plan(selection: Selection, selected: Sequence[Selected]) -> list[PlannedExport]:
    """Return the export of each file, in order.

    :raises SevenBridgesInputError: naming every file that cannot have a location, and why.
    """
    planned: list[PlannedExport] = []
    problems: list[str] = []
    for each in selected:
        try:
            request = ExportRequest.checked(
                file=each.file.id,
                volume=selection.volume,
                location=selection.location_of(each.file, each.path, each.belongs_to),
                overwrite=selection.overwrite,
                copy_only=selection.copy_only,
                properties=selection.properties,
            )
        except SevenBridgesInputError as error:
            problems += [f"file {each.file.name} ({each.file.id}): {problem}" for problem in error.problems]
        except ValueError as problem:
            problems.append(f"file {each.file.name} ({each.file.id}): location_pattern: {problem}")
        else:
            planned.append(PlannedExport(request, each.file, each.path))
    if problems:
        raise SevenBridgesInputError(first_problems(problems))
    return planned


def read_exports(value: object) -> list[ExportRequest]:
    """Return the exports of a list of mappings, also as JSON or as Python writes it, or a lazy sequence of XComs.

    :raises SevenBridgesInputError: naming every wrong field of every export, such as ``exports[3].location``.
    """
    exports: Any = _from_text(value)
    if not _is_list(exports):
        raise SevenBridgesInputError(
            f"exports: {_short(exports)} is no list; use a list of mappings with {', '.join(EXPORT_FIELDS)}."
        )
    requests: list[ExportRequest] = []
    problems: list[str] = []
    for number, fields in enumerate(exports):
        here = f"exports[{number}]"
        if not isinstance(fields, Mapping):
            problems.append(f"{here}: {_short(fields)} is no mapping; use one with {', '.join(EXPORT_FIELDS)}.")
            continue
        unknown = [key for key in fields if key not in EXPORT_FIELDS]
        problems += [f"{here}.{key}: is not known; use {', '.join(EXPORT_FIELDS)}." for key in unknown]
        known = {key: fields[key] for key in EXPORT_FIELDS if key in fields}
        try:
            requests.append(ExportRequest.checked(**{"file": None, "volume": None, "location": None, **known}))
        except SevenBridgesInputError as error:
            problems += [f"{here}.{problem}" for problem in error.problems]
    if problems:
        raise SevenBridgesInputError(first_problems(problems))
    return requests


def check_batch(requests: Sequence[ExportRequest], volumes: Mapping[str, Volume], max_files: int | None = None) -> None:
    """Refuse a set of exports that cannot be meant.

    :param volumes: by id, those that the token may see.
    :param max_files: how many exports are expected at most; None for any number.
    :raises SevenBridgesInputError: for an empty set, too many exports, a file twice, or two exports to one object.
    """
    if not requests:
        raise SevenBridgesInputError("There is nothing to export: no file was given or found.")
    problems: list[str] = []
    if max_files is not None and len(requests) > max_files:
        problems.append(
            f"max_files: there are {len(requests)} files to export, more than {max_files}; raise it or narrow."
        )
    by_file: dict[str, ExportRequest] = {}
    by_place: dict[tuple[object, ...], ExportRequest] = {}
    for request in requests:
        if (other := by_file.setdefault(request.file, request)) is not request:
            problems.append(
                f"file {request.file} is there twice, for {_place(other, volumes)} and {_place(request, volumes)}; "
                "export it once."
            )
        here = places(request.volume, request.location, volumes)
        taken = [other for place in here if (other := by_place.setdefault(place, request)) is not request]
        if taken and taken[0].file != request.file:
            problems.append(
                f"files {taken[0].file} and {request.file} would both become {_place(request, volumes)}; "
                "give each a location of its own."
            )
    if problems:
        raise SevenBridgesInputError(first_problems(problems))


def index_names(name: str) -> list[str]:
    """Return the names under which the index of a file of this name may lie beside it."""
    if is_index(name):
        return []
    stem, dot, suffix = name.rpartition(".")
    replacing = _REPLACING_SUFFIXES.get(dot + suffix)
    return [name + suffix for suffix in INDEX_SUFFIXES] + ([stem + replacing] if replacing else [])


def is_index(name: str | None) -> bool:
    """Whether a file of this name is an index of another."""
    return bool(name) and str(name).endswith(INDEX_SUFFIXES)


def _split(name: str) -> tuple[str, str]:
    """Return stem and suffix, a compressed file's suffix with what is before it: ``a``, ``.vcf.gz``."""
    found = re.fullmatch(r"(.+?)((?:\.[^.]+)?\.(?:gz|bgz|bz2|xz|zst)|\.[^.]+)", name, re.DOTALL)
    return (found[1], found[2]) if found else (name, "")


def _place(request: ExportRequest, volumes: Mapping[str, Volume]) -> str:
    volume = volumes.get(request.volume)
    return (volume and object_uri(volume, request.location)) or f"{request.volume}/{request.location}"


def first_problems(problems: Sequence[str]) -> list[str]:
    """Return as many problems as one reads, and how many more there are."""
    more = len(problems) - PROBLEMS_TOLD
    return [*problems[:PROBLEMS_TOLD], *([f"and {more} more."] if more > 0 else [])]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and value in ("", "None"))


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _from_text(value: object) -> Any:
    """Return the list or mapping that a text of one means, anything else as it is."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{", "("):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return value


def _read_texts(value: object) -> tuple[str, ...]:
    if _is_absent(value):
        return ()
    parsed = _from_text(value)
    if isinstance(value, str) and not (_is_list(parsed) and all(isinstance(each, str) for each in parsed)):
        # Such as the glob [ab]*, which is no list.
        parsed = [value]
    if _is_list(parsed) and not parsed:
        # No filter at all would take everything.
        raise ValueError("the list is empty; leave it out to take all, or give at least one.")
    if not _is_list(parsed) or not all(isinstance(each, str) and each for each in parsed):
        raise ValueError(f"{_short(value)} is no text and no list of texts; use one of them.")
    return tuple(dict.fromkeys(parsed))


def _read_project(value: object) -> str:
    if not isinstance(value, str) or not all(value.rpartition("/")[::2]) or value != value.strip():
        raise ValueError(f"{_short(value)} is no project id; use one such as rfranklin/my-project.")
    return value


def _read_text(value: object, wanted: str) -> str:
    if not isinstance(value, str) or _is_absent(value) or value != value.strip():
        raise ValueError(f"{_short(value)} is empty or no text; use {wanted}.")
    return value


def _read_file_ids(value: object) -> tuple[str, ...]:
    ids = _from_text(value)
    if isinstance(ids, str):
        ids = [ids]
    if not _is_list(ids):
        raise ValueError(f"{_short(value)} is no list; use a list of file ids.")
    if not ids:
        raise ValueError("the list is empty; give at least one file id.")
    wrong = []
    known: dict[str, None] = {}
    for number, each in enumerate(ids):
        try:
            known[read_file(each)] = None
        except ValueError as problem:
            wrong.append(f"[{number}] {problem}")
    if wrong:
        raise ValueError(" ".join(first_problems(wrong)))
    return tuple(known)


def _read_metadata(value: object) -> dict[str, tuple[str, ...]]:
    if _is_absent(value):
        return {}
    fields = _from_text(value)
    if not isinstance(fields, Mapping) or not fields:
        raise ValueError(f"{_short(value)} is empty or no mapping; use one of fields to values, or leave it out.")
    wanted = {}
    for key, values in fields.items():
        texts = [text_of(each) for each in (values if _is_list(values) else [values])]
        if not isinstance(key, str) or not key or not texts or not all(texts):
            raise ValueError(f"{_short({key: values})} cannot be looked for; give a field and one value or several.")
        wanted[key] = tuple(str(text) for text in texts)
    return wanted


def _texts_of(value: object) -> set[str]:
    return {text for each in (value if _is_list(value) else [value]) if (text := text_of(each))}  # type: ignore[attr-defined]
