"""List through a hook the files that a selection means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesInputError
from airflow_sb_provider.exports.selection import Selected, first_problems, index_names, is_index
from airflow_sb_provider.hooks.sevenbridges import has_next

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_sb_provider.api.models import File
    from airflow_sb_provider.exports.selection import Selection
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

MAX_READS = 3
# Gateways refuse addresses much longer than this; so does the official client.
_MAX_ADDRESS = 6000


@dataclass(frozen=True)
class _Folder:
    """What is looked at of one folder.

    :param path: the folders below the selection's root.
    :param files: those that may be meant.
    :param beside: by name, all of its files, as far as index files are looked for.
    """

    path: str
    files: list[File]
    beside: dict[str, File] = field(default_factory=dict)


def list_selected(hook: SevenBridgesHook, selection: Selection) -> list[Selected]:
    """Return the files that a selection means, each once, a folder's index files after all others of it.

    Requests:

    - ``project`` or ``folder``: one for each hundred files and folders on its level (one at least); where the Platform
      can filter, for each hundred that match. With ``recursive`` the same for every folder below.
    - ``file_ids``: one for each hundred; if the pattern has ``{path}``, one more for each hundred folders on each level
      above the files; with ``secondary_files`` the lists of the folders that they are in.
    - One for each hundred secondary files that the Platform itself lists and that are not in these folders.

    A list that changes while it is read is read again, at most three times in all.

    The Platform filters by exact names, tags, metadata and task; but its filtered lists hide folders and index files.
    So with ``recursive`` or ``secondary_files`` whole levels are listed and filtered here.

    :raises SevenBridgesInputError: naming each of ``file_ids`` that cannot be seen or is a folder.
    """
    folders = list(_folders_of_ids(hook, selection) if selection.file_ids else _walk(hook, selection))
    listed = _listed_secondary_files(hook, selection, folders)
    found: dict[str, Selected] = {}
    for folder in folders:
        matching = [file for file in folder.files if selection.matches(file)]
        # An index that is meant itself belongs to its main file all the same.
        for file in sorted(matching, key=lambda file: is_index(file.name)):
            if file.id in found:
                continue
            found[file.id] = Selected(file, folder.path)
            if selection.secondary_files:
                beside = [folder.beside.get(name) for name in index_names(file.name or "")]
                for other in beside + [listed.get(each) for each in file.secondary_files]:
                    if other:
                        found.setdefault(other.id, Selected(other, folder.path, file))
    return list(found.values())


def _walk(hook: SevenBridgesHook, selection: Selection) -> Iterator[_Folder]:
    """List the selection's root and, recursive, breadth first all folders below, each once."""
    whole = selection.recursive or selection.secondary_files
    filters = {} if whole else _filters(selection)
    waiting: list[tuple[dict[str, Any], str]] = [({"project": selection.project, "parent": selection.folder}, "")]
    seen = {selection.folder}
    for where, path in waiting:
        items = _list_level(hook, **where, **filters)
        files = [item for item in items if not item.is_folder]
        yield _Folder(path, files, _by_name(files) if selection.secondary_files else {})
        for folder in items if selection.recursive else ():
            if folder.is_folder and folder.id not in seen:
                seen.add(folder.id)
                waiting.append(({"parent": folder.id}, f"{path}/{_name(folder)}".lstrip("/")))


def _folders_of_ids(hook: SevenBridgesHook, selection: Selection) -> Iterator[_Folder]:
    """Get the files of ``file_ids``, and what must be known of the folders that they are in."""
    files = _get(hook, selection.file_ids, "file_ids")
    if folders := [file for file in files if file.is_folder]:
        raise SevenBridgesInputError(
            first_problems([f"file_ids: {each.id} is the folder {each.name!r}; give it as folder." for each in folders])
        )
    by_parent: dict[str | None, list[File]] = {}
    for file in files:
        by_parent.setdefault(file.parent, []).append(file)
    paths = _paths(hook, by_parent) if selection.location_pattern.needs_path else {}
    for parent, children in by_parent.items():
        beside = _list_level(hook, parent=parent) if selection.secondary_files and parent else []
        yield _Folder(paths.get(parent, ""), children, _by_name(beside))


def _paths(hook: SevenBridgesHook, parents: Iterable[str | None]) -> dict[str | None, str]:
    """Return for each folder its path below the project's root, which is a folder too but has no parent."""
    folders: dict[str, File] = {}
    wanted = set(parents)
    while missing := sorted(each for each in wanted if each and each not in folders):
        folders.update((folder.id, folder) for folder in _get(hook, missing, "location_pattern: {path}"))
        wanted = {folders[each].parent for each in missing}
    paths: dict[str | None, str] = {}
    for parent in parents:
        names: list[str] = []
        folder = folders.get(parent or "")
        while folder and folder.parent and len(names) < len(folders):
            names.insert(0, _name(folder))
            folder = folders.get(folder.parent)
        paths[parent] = "/".join(names)
    return paths


def _listed_secondary_files(
    hook: SevenBridgesHook, selection: Selection, folders: Iterable[_Folder]
) -> dict[str, File]:
    if not selection.secondary_files:
        return {}
    known = {file.id: file for folder in folders for file in (*folder.files, *folder.beside.values())}
    wanted = {
        each for folder in folders for file in folder.files if selection.matches(file) for each in file.secondary_files
    }
    missing = sorted(wanted - known.keys())
    for file_id, file in zip(missing, hook.get_files(missing), strict=True):
        if isinstance(file, SevenBridgesApiError):
            if not file.permanent:
                raise file
            hook.log.warning("The secondary file %s cannot be seen, so it does not come along: %s", file_id, file)
        else:
            known[file_id] = file
    return {file_id: known[file_id] for file_id in wanted & known.keys() if not known[file_id].is_folder}


def _list_level(hook: SevenBridgesHook, **where: Any) -> list[File]:
    """Return all files and folders on one level.

    Items move between pages when others come or go meanwhile. If the number of them changed, or not all were
    seen, the list is read again.
    """
    seen: dict[str, File] = {}
    for _ in range(MAX_READS):
        items: dict[str, File] = {}
        totals: set[int | None] = set()
        offset = 0
        while True:
            page = hook.send(calls.list_files(**where, offset=offset))
            items.update((item.id, item) for item in page.items)
            totals.add(page.total)
            offset += len(page.items)
            if not page.items or not has_next(page, hook.settings.endpoint):
                break
        if totals <= {None, len(items)}:
            return list(items.values())
        seen |= items
    hook.log.warning(
        "The files of %s changed each time they were listed; a file that came meanwhile may be missing.",
        where.get("project") or where.get("parent"),
    )
    return list(seen.values())


def _filters(selection: Selection) -> dict[str, Any]:
    """Return what the Platform can filter by; nothing if the address would be too long for it."""
    filters: dict[str, Any] = {
        "names": selection.name.exact,
        "tags": selection.tags,
        "metadata": selection.metadata,
        "origin_task": selection.origin_task,
    }
    address = calls.list_files(project=selection.project, parent=selection.folder, **filters).url("")
    return filters if len(address) <= _MAX_ADDRESS else {}


def _get(hook: SevenBridgesHook, ids: Iterable[str], what: str) -> list[File]:
    wanted = list(ids)
    files: list[File] = []
    problems: list[str] = []
    for file_id, file in zip(wanted, hook.get_files(wanted), strict=True):
        if not isinstance(file, SevenBridgesApiError):
            files.append(file)
        elif not file.permanent:
            raise file
        else:
            problems.append(f"{what}: {file_id} cannot be seen: {file}")
    if problems:
        raise SevenBridgesInputError(first_problems(problems))
    return files


def _by_name(files: Iterable[File]) -> dict[str, File]:
    return {file.name: file for file in files if file.name and not file.is_folder}


def _name(folder: File) -> str:
    if not folder.name or "/" in folder.name:
        raise SevenBridgesInputError(
            f"folder {folder.id}: its name {folder.name!r} is no folder's name in a path; rename it at the Platform."
        )
    return folder.name
