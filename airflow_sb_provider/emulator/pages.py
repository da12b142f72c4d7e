"""Web pages of projects, files, tasks and buckets, to which the links in Airflow lead. They have no script."""

from __future__ import annotations

import asyncio
import json
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from airflow_sb_provider.emulator.buckets import PATH as BUCKETS
from airflow_sb_provider.emulator.guard import LOCAL, PAGES
from airflow_sb_provider.emulator.listing import FILE_COLUMNS, file_rows, folder_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_sb_provider.emulator.platform import ExportJob, Platform
    from airflow_sb_provider.emulator.tasks import Task

    Cell = str | tuple[str, str]
    """A text, or a text and the address that it links to."""

_MAX_ROWS = 1000


class Pages:
    """GET of pages, without a token: `guard.py` lets only the user's own programs and browser in.

    :param platform: the contents.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get(f"{PAGES}/", self._home),
                web.get(PAGES + "/u/{owner}/{name}/", self._project),
                web.get(PAGES + "/u/{owner}/{name}/tasks/{id}{slash:/?}", self._task),
                web.get(PAGES + "/files/{id}/", self._file),
                web.get(PAGES + "/buckets/{bucket}/{key:.*}", self._bucket),
            ]
        )

    async def _home(self, request: web.Request) -> web.Response:
        platform = self._platform
        projects: list[list[Cell]] = [[(name, f"{PAGES}/u/{quote(name)}/")] for name in list(platform.projects)]
        volumes: list[list[Cell]] = [
            [volume.id, volume.access_mode, (f"{volume.bucket}/{volume.prefix}", _bucket(volume.bucket, volume.prefix))]
            for volume in list(platform.volumes.values())
        ]
        return _page(
            "Local Seven Bridges Platform",
            _table("Projects", ["Project"], projects),
            _table("Volumes", ["Volume", "Access", "Bucket and prefix"], volumes),
            self._exports(list(platform.exports.values())),
            _tasks("Tasks", list(platform.tasks.values())),
        )

    async def _project(self, request: web.Request) -> web.Response:
        project = f"{request.match_info['owner']}/{request.match_info['name']}"
        if project not in self._platform.projects:
            raise web.HTTPNotFound
        rows: list[list[Cell]] = [
            [_file_link(file_id, file_id), *rest] for file_id, *rest in file_rows(self._platform, project)
        ]
        apps: list[list[Cell]] = [
            [app.id, app.name, str(app.revision)]
            for app in (revisions[-1] for revisions in list(self._platform.apps.values()))
            if app.project == project
        ]
        tasks = [task for task in list(self._platform.tasks.values()) if task.project == project]
        return _page(
            f"Project {project}",
            _table("Files", FILE_COLUMNS, rows),
            _table("Apps", ["App", "Name", "Revision"], apps),
            _tasks("Tasks", tasks),
        )

    async def _task(self, request: web.Request) -> web.Response:
        platform, project = self._platform, f"{request.match_info['owner']}/{request.match_info['name']}"
        task = platform.tasks.get(request.match_info["id"])
        if task is None or task.project != project:
            raise web.HTTPNotFound
        rows: list[list[Cell]] = [
            ["Id", task.id],
            ["Name", task.name],
            ["Description", task.description or ""],
            ["Status", task.state],
            ["Message", task.error.message if task.error else ""],
            ["Project", (project, f"{PAGES}/u/{quote(project)}/")],
            ["App", f"{task.app.id}/{task.app.revision}"],
            ["Created by", task.username],
        ]
        rows += [["Error", str(error)] for error in task.errors]
        rows += [["Warning", str(warning)] for warning in task.warnings]
        if parent := platform.tasks.get(task.parent or ""):
            rows.append(["Child of", _task_link(parent)])
        outputs = task.outputs if task.state == "COMPLETED" else {}
        logs = {name: {"class": "File", "path": file, "name": name} for name, file in task.logs.items()}
        parts = [
            _table(title, ["", ""], [cells for name, value in values.items() for cells in _value_rows(name, value)])
            for title, values in (("Inputs", task.inputs), ("Outputs", outputs), ("Logs", logs))
        ]
        if task.batch:
            parts.append(_tasks("Children", platform.batch_children(task)))
        return _page(f"Task {task.name}", _table("Details", ["", ""], rows), *parts)

    async def _file(self, request: web.Request) -> web.Response:
        platform = self._platform
        file = platform.files.get(request.match_info["id"])
        if file is None:
            raise web.HTTPNotFound
        file = platform.as_read(file)
        rows: list[list[Cell]] = [
            ["Id", file.id],
            ["Name", file.name],
            ["Project", (file.project, f"{PAGES}/u/{quote(file.project)}/")],
            ["Folder", folder_of(platform, file)],
            ["Type", file.type],
            ["Size", f"{file.size} bytes"],
            ["Tags", ", ".join(file.tags)],
            ["Metadata", ", ".join(f"{key}: {value}" for key, value in file.metadata.items())],
        ]
        if file.alias:
            volume, location = platform.volumes.get(file.alias[0]), file.alias[1]
            text = f"{file.alias[0]}/{location}"
            address = _bucket(volume.bucket, platform.key(volume, location)) if volume else ""
            rows.append(["Alias of", (text, address) if volume else text])
        if task := platform.tasks.get(file.task or ""):
            rows.append(["Made by task", _task_link(task)])
        if file.type == "file":
            rows.append(["", ("Download", f"{LOCAL}/files/{quote(file.id, safe='')}")])
        jobs = [job for job in list(platform.exports.values()) if job.file == file.id]
        return _page(f"File {file.name}", _table("Details", ["", ""], rows), self._exports(jobs))

    async def _bucket(self, request: web.Request) -> web.Response:
        storage = self._platform.storage
        bucket, key = request.match_info["bucket"], request.match_info["key"]
        try:
            stored = await asyncio.to_thread(storage.stat, bucket, key) if key else None
            found = [stored] if stored else await asyncio.to_thread(storage.list, bucket, key)
        except FileNotFoundError:
            raise web.HTTPNotFound from None
        rows: list[list[Cell]] = [
            [(each.key, _bucket(bucket, each.key)), str(each.size), each.etag, f"{each.modified:%Y-%m-%d %H:%M:%S %Z}"]
            for each in found[:_MAX_ROWS]
        ]
        link = ""
        if stored and not storage.has_real_buckets:
            link = f"<p>{_cell(('Download', f'{BUCKETS}/{quote(bucket)}/{quote(key)}'))}</p>"
        title = f"Object {bucket}/{key}" if stored else f"Bucket {bucket}/{key}"
        return _page(title, _table(f"Objects: {len(found)}", ["Key", "Bytes", "ETag", "Modified"], rows), link)

    def _exports(self, jobs: Sequence[ExportJob]) -> str:
        rows: list[list[Cell]] = [
            [
                job.id,
                job.state,
                "copy" if job.copy_only else "move",
                _file_link(job.file, job.file),
                f"{job.volume}/{job.location}",
                f"{job.error.code}: {job.error.message}" if job.error else "",
            ]
            for job in jobs[-_MAX_ROWS:]
        ]
        return _table("Exports", ["Export", "State", "", "File", "Destination", "Error"], rows)


def _bucket(bucket: str, key: str) -> str:
    return f"{PAGES}/buckets/{quote(bucket, safe='')}/{quote(key)}"


def _file_link(file_id: str, text: str) -> Cell:
    return text, f"{PAGES}/files/{quote(file_id, safe='')}/"


def _task_link(task: Task) -> Cell:
    return task.name, f"{PAGES}/u/{quote(task.project)}/tasks/{task.id}"


def _tasks(title: str, tasks: Sequence[Task]) -> str:
    rows = [
        [_task_link(task), task.state, task.app.id, task.error.message if task.error else ""]
        for task in tasks[-_MAX_ROWS:]
    ]
    return _table(title, ["Task", "Status", "App", "Message"], rows)


def _value_rows(name: str, value: Any) -> Iterator[list[Cell]]:
    """Yield a row for an input or output, or one for each item of a list; files are links."""
    if isinstance(value, list):
        for item in value[:_MAX_ROWS]:
            yield from _value_rows(name, item)
    elif isinstance(value, dict) and value.get("class") in {"File", "Directory"}:
        yield [name, _file_link(str(value.get("path")), str(value.get("name") or value.get("path")))]
    else:
        yield [name, json.dumps(value, ensure_ascii=False)]


def _cell(cell: Cell) -> str:
    # Names are other people's text: escaped, and apart from the text around it whatever their direction of writing.
    if isinstance(cell, str):
        return f"<bdi>{escape(cell)}</bdi>"
    text, address = cell
    return f'<a href="{escape(address)}"><bdi>{escape(text)}</bdi></a>'


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    head = "".join(f"<th align=left>{escape(column)}</th>" for column in columns)
    lines = [f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows]
    if not lines:
        return f"<h2>{escape(title)}</h2><p>None.</p>"
    return f"<h2>{escape(title)}</h2><table border=1 cellpadding=6><tr>{head}</tr>{''.join(lines)}</table>"


def _page(title: str, *parts: str) -> web.Response:
    text = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><h1>{_cell(title)}</h1>"
    home = f'<p><a href="{PAGES}/">Local Platform: all projects, volumes, exports and tasks</a></p>'
    body = "".join([text, home, *parts, "</html>"]).encode(errors="replace")
    return web.Response(body=body, content_type="text/html", charset="utf-8")
