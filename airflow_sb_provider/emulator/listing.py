"""What the local Platform holds, as rows for its pages and for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.emulator.emulator import Emulator
    from airflow_sb_provider.emulator.platform import File, Platform

FILE_COLUMNS = ("Id", "Name", "Bytes", "Folder", "Tags", "Note")


def contents(emulator: Emulator) -> list[str]:
    """Return what to print about a running local Platform: its contents, and how to reset them."""
    platform = emulator.platform
    lines = [f"Pages: {emulator.pages_url}", f"Reset files, volumes, exports and tasks: {emulator.reset_command}"]
    for project in list(platform.projects):
        lines += [f"Files of project {project}:", *table(FILE_COLUMNS, file_rows(platform, project))]
    apps = [
        [app.id, app.name, ", ".join(app.inputs), ", ".join(app.outputs)]
        for app in (revisions[-1] for revisions in list(platform.apps.values()))
    ]
    volumes = [
        [volume.id, volume.access_mode, volume.bucket, volume.prefix] for volume in list(platform.volumes.values())
    ]
    for title, columns, rows in (
        ("Apps:", ("Id", "Name", "Inputs", "Outputs"), apps),
        ("Volumes:", ("Id", "Access", "Bucket", "Prefix"), volumes),
    ):
        lines += [title, *table(columns, rows)] if rows else []
    return lines


def file_rows(platform: Platform, project: str | None = None) -> list[list[str]]:
    """Return a row of `FILE_COLUMNS` for each file, of one project or of all."""
    return [
        [file.id, file.name, str(file.size), folder_of(platform, file), ", ".join(file.tags), _note(file)]
        for file in map(platform.as_read, list(platform.files.values()))
        if file.type == "file" and file.parent and project in (None, file.project)
    ]


def folder_of(platform: Platform, file: File) -> str:
    """Return the path of the folder that contains a file, such as `a/b`; `/` for the project's root."""
    names: list[str] = []
    parent = platform.files.get(file.parent or "")
    while parent and parent.parent:
        names.append(parent.name)
        parent = platform.files.get(parent.parent)
    return "/".join(reversed(names)) or "/"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of a table with aligned columns, indented by two spaces; a column without any value is left out."""
    cells = [list(map(_printable, row)) for row in (columns, *rows)]
    kept = [number for number in range(len(columns)) if any(row[number] for row in cells[1:])]
    widths = {number: max(len(row[number]) for row in cells) for number in kept}
    return ["  " + "  ".join(row[number].ljust(widths[number]) for number in kept).rstrip() for row in cells]


def _note(file: File) -> str:
    if file.alias:
        return f"alias of {file.alias[0]}/{file.alias[1]}"
    return "public: cannot be exported" if file.public else "archived: cannot be exported" if file.archived else ""


def _printable(text: str) -> str:
    # A name must not control a terminal.
    return "".join(mark if mark.isprintable() else "?" for mark in text)
