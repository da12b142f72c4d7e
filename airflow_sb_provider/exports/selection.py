"""The files of a bulk export and their destinations: a selection of a project, or a list of exports."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.exports.destination import key_problem, may_be_alias_of, object_uri, places
from airflow_sb_provider.exports.patterns import Glob, Pattern, check_key, text_of
from airflow_sb_provider.exports.request import ExportRequest, read_file, read_location
from airflow_sb_provider.inputs import (
    Problems,
    as_list,
    first_problems,
    from_text,
    is_absent,
    read_boolean,
    read_item,
    read_text,
    read_texts,
    read_time,
    short,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pendulum import DateTime

    from airflow_sb_provider.api.models import File, Volume

EXPORT_FIELDS = ("file", "volume", "location", "overwrite", "copy_only", "properties")
SOURCES = ("project", "folder", "file_ids")
_NO_REQUEST = ExportRequest("", "", "")


@dataclass(frozen=True, slots=True)
class Selected:
    """A file of a selection.

    :param path: the folders below the selection's root, ``a/b``, empty for the root.
    :param belongs_to: for an included index file, its main file.
    :param problem: why it cannot be exported, if that is known already.
    :param note: further information.
    :param code: the Platform's code for the problem.
    """

    file: File
    path: str = ""
    belongs_to: File | None = None
    problem: str = ""
    note: str = ""
    code: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedExport:
    """An export and its file, None where only the id is known.

    :param problem: why it is not possible; its request must not be submitted.
    :param note: further information.
    :param code: the Platform's code for the problem.
    """

    request: ExportRequest
    file: File | None = None
    path: str = ""
    problem: str = ""
    note: str = ""
    code: int | None = None


def _read_project(value: object) -> str:
    text = read_text(value, "a project id such as rfranklin/my-project")
    if not all(text.rpartition("/")[::2]) or text != text.strip():
        raise ValueError(f"{short(text)} is not a project id; use one such as rfranklin/my-project.")
    return text


def _read_task(value: object) -> str:
    return _without_outer_spaces(read_text(value, "the id of a task"))


def _read_pattern(value: object) -> Pattern:
    return Pattern(_without_outer_spaces(read_text(value, f"a pattern such as {Pattern.DEFAULT}")))


def _without_outer_spaces(text: str) -> str:
    if text != text.strip():
        raise ValueError(f"{short(text)} has leading or trailing spaces; remove them.")
    return text


def _read_globs(value: object) -> Glob:
    if isinstance(value, str):
        items = from_text(value)
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            # Such as the glob [12]*, which is not a list.
            return Glob((value,))
    return Glob(read_texts(value))


def _read_file_ids(value: object) -> tuple[str, ...]:
    ids = from_text(value)
    items = [ids] if isinstance(ids, str | Integral) else as_list(ids)
    if items is None:
        raise ValueError(f"{short(value)} is not a list; use a list of file ids.")
    problems = Problems()
    known = dict.fromkeys(problems.read(f"[{number}]", read_file, item, "") for number, item in enumerate(items))
    if problems.texts:
        raise ValueError(" ".join(first_problems(problems.texts)))
    return tuple(known)


def _read_metadata(value: object) -> dict[str, tuple[str, ...]]:
    given = from_text(value)
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{short(value)} is empty or not a mapping; use one of fields to values, or leave it out.")
    wanted = {}
    for key, values in given.items():
        items = as_list(values)
        if not isinstance(key, str) or not key or items == []:
            raise ValueError(f"{short({key: values})} is not a valid filter; give a field and one or several values.")
        try:
            # A boolean is accepted: the Platform writes it in lower case.
            wanted[key] = tuple(
                str(item).lower() if isinstance(item, bool) else read_item(item, "one or several values")
                for item in ([values] if items is None else items)
            )
        except ValueError as problem:
            raise ValueError(f"{key}: {problem}") from None
    return wanted


def _read_by(reader: Callable[[Any], object], *, optional: bool = True) -> dict[str, Any]:
    """Return the metadata of a field: its reader, and whether it is optional and keeps its default if not set."""
    return {"reader": reader, "optional": optional}


@dataclass(frozen=True)
class Selection:
    """The files to export, and how: create one with `checked`.

    One of ``project``, ``folder`` and ``file_ids`` is set; ``file_ids`` may be empty, which selects nothing. Each file
    must match all other filters that are set: one of the globs ``name``, one of the ``tags``, for each field of
    ``metadata`` one of its values, ``origin_task``, ``created_after`` and ``modified_after``. The fields are parameters
    of `SevenBridgesBulkExportOperator`, which documents them.
    """

    volume: str
    project: str | None = field(default=None, metadata=_read_by(_read_project))
    folder: str | None = field(default=None, metadata=_read_by(read_file))
    file_ids: tuple[str, ...] | None = field(default=None, metadata=_read_by(_read_file_ids))
    recursive: bool = field(default=False, metadata=_read_by(read_boolean, optional=False))
    name: Glob = field(default_factory=Glob, metadata=_read_by(_read_globs))
    tags: tuple[str, ...] = field(default=(), metadata=_read_by(read_texts))
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False, metadata=_read_by(_read_metadata))
    origin_task: str | None = field(default=None, metadata=_read_by(_read_task))
    created_after: DateTime | None = field(default=None, metadata=_read_by(read_time))
    modified_after: DateTime | None = field(default=None, metadata=_read_by(read_time))
    location_pattern: Pattern = field(default_factory=Pattern, metadata=_read_by(_read_pattern, optional=False))
    secondary_files: bool = field(default=False, metadata=_read_by(read_boolean, optional=False))
    overwrite: bool = False
    copy_only: bool = False
    properties: Mapping[str, str | None] | None = field(default=None, hash=False)

    @classmethod
    def checked(cls, **values: object) -> Selection:
        """Return the selection for these fields. Each may be text from a template, also lists and mappings.

        :raises SevenBridgesInputError: naming every invalid field, its value and the fix.
        """
        problems = Problems()
        sources = [key for key in SOURCES if not is_absent(values.get(key))]
        if len(sources) != 1:
            given = ", ".join(f"{key}={short(values[key])}" for key in sources) or "none of them is set"
            problems.texts.append(f"{', '.join(SOURCES)}: {given}; set one of the three.")
        readers = {item.name: item.metadata for item in fields(cls) if item.metadata}
        # Any file id will do here: only the fields that all files share are checked.
        shared: dict[str, Any] = {key: value for key, value in values.items() if key not in readers}
        request = problems.read(
            "", lambda shared: ExportRequest.checked(file="0" * 24, location="any", **shared), shared, _NO_REQUEST
        )
        own = {
            key: problems.read(key, how["reader"], values[key], None)
            for key, how in readers.items()
            if key in values and not (how["optional"] and is_absent(values[key]))
        }
        problems.raise_if_any()
        return cls(
            volume=request.volume,
            overwrite=request.overwrite,
            copy_only=request.copy_only,
            properties=request.properties,
            **own,
        )

    def matches(self, file: File) -> bool:
        """Whether a file matches the selection; folders never do.

        It repeats the Platform's own filters, since a move cannot be undone.
        """
        return (
            not file.is_folder
            and (not self.name.globs or (file.name is not None and self.name.matches(file.name)))
            and (not self.tags or not self._tags.isdisjoint(file.tags))
            and (self.origin_task is None or file.origin_task == self.origin_task)
            and not _is_before(file.created_on, self.created_after)
            and not _is_before(file.modified_on, self.modified_after)
            and all(not _texts_of(file.metadata.get(key)).isdisjoint(values) for key, values in self.metadata.items())
        )

    def location_of(self, file: File, path: str = "", belongs_to: File | None = None) -> str:
        """Return the key of a file's object.

        An index file uses the id, the metadata and, if its name allows, the stem of its main file, so that both get
        the same folder.

        :param path: the folders below the selection's root, ``a/b``, empty for the root.
        :raises ValueError: if a value is missing, or leads out of the pattern's folder.
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

    @property
    def metadata_fields(self) -> set[str]:
        """The metadata fields on which the selection and its keys depend."""
        return {*self.metadata, *self.location_pattern.metadata_fields}

    @cached_property
    def _tags(self) -> frozenset[str]:
        return frozenset(self.tags)

    def __str__(self) -> str:
        where = f"project {self.project}" if self.project else f"folder {self.folder}"
        parts = [where if self.file_ids is None else f"{len(self.file_ids)} file ids"]
        parts += ["with all folders below"] if self.recursive else []
        parts += [f"name {' or '.join(self.name.globs)}"] if self.name.globs else []
        parts += [f"tag {' or '.join(self.tags)}"] if self.tags else []
        parts += [f"{key} {' or '.join(values)}" for key, values in self.metadata.items()]
        parts += [f"of task {self.origin_task}"] if self.origin_task else []
        parts += [f"created after {self.created_after}"] if self.created_after else []
        parts += [f"modified after {self.modified_after}"] if self.modified_after else []
        return ", ".join(parts)


SELECTION_FIELDS = tuple(item.name for item in fields(Selection))


def plan(selection: Selection, selected: Sequence[Selected]) -> list[PlannedExport]:
    """Return the export of each file, in order; one without a valid location has a ``problem``."""
    return [_planned(selection, item) for item in selected]


def _planned(selection: Selection, selected: Selected) -> PlannedExport:
    file, location = selected.file, ""
    problem = selected.problem or (_time_problem(selection, file) if selected.belongs_to is None else "")
    if not problem:
        try:
            read_file(file.id)
            location = selection.location_of(file, selected.path, selected.belongs_to)
            check_key(location)
        except ValueError as error:
            problem = f"location_pattern: {error}"
    request = ExportRequest(
        file.id,
        selection.volume,
        location,
        overwrite=selection.overwrite,
        copy_only=selection.copy_only,
        properties=selection.properties,
    )
    return PlannedExport(request, file, selected.path, problem, selected.note, selected.code)


def _time_problem(selection: Selection, file: File) -> str:
    """Return which time is needed to select a file, but not known: it is reported, since it may be new."""
    for name in ("created", "modified"):
        if getattr(selection, f"{name}_after") and getattr(file, f"{name}_on") is None:
            return f"{name}_after: the Platform does not show when the file was {name}; export it by its id."
    return ""


def is_moved(export: PlannedExport, file: File, volumes: Mapping[str, Volume]) -> bool:
    """Whether a file is an alias of its own destination, as far as the file alone shows it.

    An alias whose location has several readings counts if one of them fits: it cannot be exported again either way.

    :param volumes: by id, those that the token may see.
    """
    return file.is_alias and not export.problem and may_be_alias_of(file, export.request, volumes)


def read_tag(value: object) -> str:
    """Return one tag.

    :raises ValueError: if it is empty, not text, or has outer spaces.
    """
    return _without_outer_spaces(read_text(value, "a tag such as exported"))


def read_exports(value: object) -> list[PlannedExport]:
    """Return the exports in a list of mappings, in its text as JSON or Python, or in a lazy sequence of XComs.

    A location that is not a valid key becomes the ``problem`` of its export.

    :raises SevenBridgesInputError: naming every other invalid field of every export, such as ``exports[3].volume``.
    """
    exports = as_list(from_text(value))
    if exports is None:
        raise SevenBridgesInputError(
            f"exports: {short(value)} is not a list; use a list of mappings with {', '.join(EXPORT_FIELDS)}."
        )
    planned: list[PlannedExport] = []
    problems = Problems()
    for number, given in enumerate(exports):
        here = f"exports[{number}]"
        if not isinstance(given, Mapping):
            problems.texts.append(f"{here}: {short(given)} is not a mapping; use one with {', '.join(EXPORT_FIELDS)}.")
            continue
        unknown = [key for key in given if key not in EXPORT_FIELDS]
        problems.texts += [f"{here}.{key}: unknown field; use {', '.join(EXPORT_FIELDS)}." for key in unknown]
        known: dict[str, Any] = {"file": None, "volume": None, "location": None}
        known |= {key: given[key] for key in EXPORT_FIELDS if key in given}
        location, problem = known["location"], ""
        if isinstance(location, str) and not is_absent(location):
            try:
                read_location(location)
            except ValueError as error:
                problem, known["location"] = f"location: {error}", "any"
        try:
            request = ExportRequest.checked(**known)
        except SevenBridgesInputError as error:
            problems.texts += [f"{here}.{text}" for text in error.problems]
            continue
        planned.append(PlannedExport(replace(request, location=location) if problem else request, problem=problem))
    problems.raise_if_any()
    return planned


def check_count(count: int, max_files: int | None) -> None:
    """Check the number of files.

    :param max_files: the maximum; None for any number.
    :raises SevenBridgesInputError: for more than the maximum.
    """
    if max_files is not None and count > max_files:
        raise SevenBridgesInputError(
            f"max_files: there are {count} files to export, more than {max_files}; raise max_files or narrow the "
            "selection."
        )


def with_conflicts(planned: Sequence[PlannedExport], volumes: Mapping[str, Volume]) -> list[PlannedExport]:
    """Return the exports, in order; those that conflict with each other have a ``problem``.

    Two exports to the same object conflict, since it is unknown which is right. So do several exports of one file,
    unless all of them are copies, to different places.

    :param volumes: by id, the volumes that the token can read.
    """
    by_file: dict[str, list[ExportRequest]] = defaultdict(list)
    by_place: dict[tuple[object, ...], list[ExportRequest]] = defaultdict(list)
    for export in planned:
        if not export.problem:
            by_file[export.request.file].append(export.request)
            for place in places(export.request.volume, export.request.location, volumes):
                by_place[place].append(export.request)

    moved_twice = {
        file
        for file, requests in by_file.items()
        if len(requests) > 1 and not all(request.copy_only for request in requests)
    }

    def problem_of(request: ExportRequest) -> str:
        if request.file in moved_twice:
            first, second, *_ = by_file[request.file]
            return (
                f"file {request.file} has two exports, to {_place(first, volumes)} and {_place(second, volumes)}, but "
                "a moved file cannot be exported again; copy it in an upstream task, then move it."
            )
        for place in places(request.volume, request.location, volumes):
            for other in by_place[place]:
                if other is not request and other.file == request.file:
                    return f"file {request.file} has two exports to {_place(request, volumes)}; give it once."
                if other is not request:
                    return (
                        f"files {request.file} and {other.file} would both become {_place(request, volumes)}; "
                        "give each its own location."
                    )
        volume = volumes.get(request.volume)
        return (volume and key_problem(volume, request.location)) or ""

    return [export if export.problem else replace(export, problem=problem_of(export.request)) for export in planned]


def _split(name: str) -> tuple[str, str]:
    """Return stem and suffix; a compressed file's suffix includes the one before it: ``a``, ``.vcf.gz``."""
    found = re.fullmatch(r"(.+?)((?:\.[^.]+)?\.(?:gz|bgz|bz2|xz|zst)|\.[^.]+)", name, re.DOTALL)
    return (found[1], found[2]) if found else (name, "")


def _is_before(time: DateTime | None, limit: DateTime | None) -> bool:
    """Whether a time is before a limit; an unknown time is not."""
    return time is not None and limit is not None and time < limit


def _place(request: ExportRequest, volumes: Mapping[str, Volume]) -> str:
    volume = volumes.get(request.volume)
    return (volume and object_uri(volume, request.location)) or f"{request.volume}/{request.location}"


def _texts_of(value: object) -> set[str]:
    return {text for each in (value if isinstance(value, list) else [value]) if (text := text_of(each))}
