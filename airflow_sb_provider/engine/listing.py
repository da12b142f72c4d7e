"""List through a hook the files that a selection means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import File
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesConnectionError,
    SevenBridgesInputError,
    SevenBridgesRateLimitError,
)
from airflow_sb_provider.exports.selection import Selected, index_names, is_index
from airflow_sb_provider.hooks.sevenbridges import has_next

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_sb_provider.api.models import Page
    from airflow_sb_provider.exports.selection import Selection
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

MAX_READS = 3
# A million files and folders for one selection: a list that goes on is not one.
MAX_PAGES = 10_000
# Gateways refuse longer addresses, and do not say so.
_MAX_ADDRESS = 2000


@dataclass(frozen=True)
class _Folder:
    """What is known of one folder.

    :param path: the folders below the selection's root.
    :param files: those that may be meant.
    :param beside: by name, all of its files, as far as index files are looked for.
    :param problem: why its path cannot be part of a key.
    """

    path: str
    files: list[File]
    beside: dict[str, File] = field(default_factory=dict)
    problem: str = ""


def list_selected(hook: SevenBridgesHook, selection: Selection, max_files: int | None = None) -> list[Selected]:
    """Return the files that a selection means, each once, a folder's index files after all others of it.

    What cannot be exported although it is meant has a ``problem``: one of ``file_ids`` that cannot be seen or is a
    folder, a file whose folders cannot be part of a key. Secondary files of another project, or from outside of the
    selection's folder, are left out.

    Requests:

    - ``project`` or ``folder``: one for each hundred files and folders on its level (one at least); where the Platform
      can filter, for each hundred that match. With ``recursive`` the same for every folder below.
    - ``file_ids``: one for each hundred; if the pattern has ``{path}``, one more for each hundred folders on each level
      above the files; with ``secondary_files`` the lists of the folders that they are in.
    - One for each hundred secondary files that the Platform itself lists and that are not in these folders; of a
      ``folder`` also one for each hundred folders on each level above them.

    A list that changes while it is read is read again, at most three times in all.

    The Platform filters by exact names, tags, metadata and task; but its filtered lists hide folders and index files.
    So with ``recursive`` or ``secondary_files`` whole levels are listed and filtered here; likewise where the Platform
    does not take the filters.

    :param max_files: the listing ends when there are more; None for any number.
    :raises SevenBridgesInputError: if there are more than ``max_files``.
    :raises SevenBridgesApiError: if a list is not complete in three readings.
    """
    lists = _Lists(hook, selection, max_files)
    if selection.file_ids:
        folders, found = _folders_of_ids(lists)
    else:
        folders, found = list(_walk(lists)), {}
    secondary = _SecondaryFiles(lists, folders) if selection.secondary_files else None
    for folder in folders:
        matching = [file for file in folder.files if selection.matches(file)]
        # An index that is meant itself belongs to its main file all the same.
        for file in sorted(matching, key=lambda file: is_index(file.name)):
            if file.id in found:
                continue
            others, note = secondary.of(file, folder) if secondary else ([], "")
            found[file.id] = Selected(file, folder.path, problem=folder.problem, note=note)
            for other in others:
                found.setdefault(other.id, Selected(other, folder.path, file, folder.problem))
    return list(found.values())


class _Lists:
    """Lists files for a selection: whole lists only, and not without end."""

    def __init__(self, hook: SevenBridgesHook, selection: Selection, max_files: int | None) -> None:
        self.hook = hook
        self.selection = selection
        self._max_files = max_files
        self._matching: set[str] = set()
        self._pages = 0

    def level(self, where: dict[str, Any], filters: dict[str, Any] | None = None) -> list[File]:
        """Return all files and folders on one level; with filters at least those that fit them.

        :raises SevenBridgesApiError: if they cannot be read, or not all of them.
        """
        if filters:
            try:
                return self._whole(where | filters, retry=False)
            except SevenBridgesAuthError:
                raise
            except (SevenBridgesRateLimitError, SevenBridgesConnectionError):
                return self._whole(where | filters)
            except SevenBridgesApiError as error:
                # A long query may be refused by a gateway, whose page can look like anything.
                self.hook.log.info("The Platform does not filter here (%s): listing all, and filtering.", error)
        return self._whole(where)

    def _whole(self, where: dict[str, Any], *, retry: bool = True) -> list[File]:
        """Return a list that did not change while it was read: items move between pages when others come or go.

        If it changes in each reading, the last one must at least have grown only, and have all that it grew to.
        """
        place = where.get("project") or where.get("parent")
        items: dict[str, File] = {}
        totals: list[int | None] = []
        for _ in range(MAX_READS):
            items, totals = {}, []
            more, before = True, -1
            # A page without anything new would be the first of many.
            while more and len(items) > before:
                before = len(items)
                page = self._page(where, before, retry=retry)
                retry = True
                items.update((item.id, item) for item in page.items)
                totals.append(page.total)
                more = has_next(page, self.hook.settings.endpoint)
            if set(totals) <= {len(items)} or (set(totals) <= {None, len(items)} and not more):
                return list(items.values())
        known = [total for total in totals if total is not None]
        if known and known == sorted(known) and len(items) == known[-1]:
            self.hook.log.info("The files of %s changed each time they were listed; taking the last list.", place)
            return list(items.values())
        raise SevenBridgesApiError(
            0,
            message=f"The list of files of {place} is not complete: the last of {MAX_READS} readings came to "
            f"{len(items)} of {known[-1] if known else 'more'}. If files come and go there, try again later.",
        )

    def _page(self, where: dict[str, Any], offset: int, *, retry: bool) -> Page[File]:
        self._count()
        page = self.hook.send(calls.list_files(**where, offset=offset), retry=retry)
        if not self.selection.file_ids:
            self._matching |= {file.id for file in page.items if self.selection.matches(file)}
        if self._max_files is not None and len(self._matching) > self._max_files:
            raise SevenBridgesInputError(
                f"max_files: there are {len(self._matching)} files to export at least, more than {self._max_files}; "
                "raise it or narrow."
            )
        return page

    def folders_above(self, parents: Iterable[str | None]) -> dict[str, File | SevenBridgesApiError]:
        """Return by id these folders and all above them, up to the project's root, which has no parent."""
        folders: dict[str, File | SevenBridgesApiError] = {}
        wanted = {each for each in parents if each}
        while missing := sorted(wanted - folders.keys()):
            got = self.get(missing)
            folders.update(got)
            wanted = {file.parent for file in got.values() if isinstance(file, File) and file.parent}
        return folders

    def get(self, ids: list[str]) -> dict[str, File | SevenBridgesApiError]:
        """Return files by id, or why one cannot be seen.

        :raises SevenBridgesApiError: if that may change.
        """
        self._count()
        files = dict(zip(ids, self.hook.get_files(ids), strict=True))
        for file in files.values():
            if isinstance(file, SevenBridgesApiError) and not file.permanent:
                raise file
        return files

    def _count(self) -> None:
        self._pages += 1
        if self._pages > MAX_PAGES:
            raise SevenBridgesInputError(
                f"selection: {self.selection} has more than {MAX_PAGES:,} pages of files and folders; narrow it."
            )


def _walk(lists: _Lists) -> Iterator[_Folder]:
    """List the selection's root and, recursive, breadth first all folders below, each once."""
    selection = lists.selection
    whole = selection.recursive or selection.secondary_files
    filters = None if whole else _filters(selection)
    root: dict[str, Any] = {"project": selection.project, "parent": selection.folder}
    waiting: list[tuple[dict[str, Any], str, str]] = [(root, "", "")]
    seen = {selection.folder}
    for where, path, problem in waiting:
        items = lists.level(where, filters)
        files = [item for item in items if not item.is_folder]
        yield _Folder(path, files, _by_name(files) if selection.secondary_files else {}, problem)
        for folder in items if selection.recursive else ():
            if folder.is_folder and folder.id not in seen:
                seen.add(folder.id)
                below = f"{path}/{folder.name or ''}".lstrip("/")
                waiting.append(({"parent": folder.id}, below, problem or _folder_problem(selection, folder)))


def _folders_of_ids(lists: _Lists) -> tuple[list[_Folder], dict[str, Selected]]:
    """Get the files of ``file_ids``, with what must be known of the folders that they are in, and those without."""
    selection = lists.selection
    lost: dict[str, Selected] = {}
    by_parent: dict[str | None, list[File]] = {}
    for file_id, file in lists.get(list(selection.file_ids)).items():
        if isinstance(file, SevenBridgesApiError):
            lost[file_id] = Selected(File(file_id), problem=f"file_ids: {file_id} cannot be seen: {file}")
        elif file.is_folder:
            lost[file_id] = Selected(
                file, problem=f"file_ids: {file_id} is the folder {file.name!r}; give it as folder."
            )
        else:
            by_parent.setdefault(file.parent, []).append(file)
    above = lists.folders_above(by_parent) if selection.location_pattern.needs_path else {}
    folders = []
    for parent, children in by_parent.items():
        beside = lists.level({"parent": parent}) if selection.secondary_files and parent else []
        path, problem = _path(selection, parent, above)
        folders.append(_Folder(path, children, _by_name(beside), problem))
    return folders, lost


def _path(selection: Selection, parent: str | None, above: dict[str, File | SevenBridgesApiError]) -> tuple[str, str]:
    """Return a folder's path below the project's root, which is a folder too but has no parent; and what is wrong."""
    names: list[str] = []
    problem = ""
    folder = above.get(parent or "")
    while folder and len(names) < len(above):
        if isinstance(folder, SevenBridgesApiError):
            return "", f"location_pattern: {{path}}: {parent} cannot be seen: {folder}"
        if not folder.parent:
            break
        names.insert(0, folder.name or "")
        problem = problem or _folder_problem(selection, folder)
        parent, folder = folder.parent, above.get(folder.parent)
    return "/".join(names), problem


def _folder_problem(selection: Selection, folder: File) -> str:
    if not selection.location_pattern.needs_path or (folder.name and "/" not in folder.name):
        return ""
    return (
        f"location_pattern: {{path}}: folder {folder.id}: its name {folder.name!r} is no folder's name in a path; "
        "rename it at the Platform."
    )


class _SecondaryFiles:
    """Finds the index files that lie beside a file, and the secondary files that the Platform lists for it."""

    def __init__(self, lists: _Lists, folders: list[_Folder]) -> None:
        self._log = lists.hook.log
        selection = lists.selection
        here = {file.id: file for folder in folders for file in (*folder.files, *folder.beside.values())}
        wanted = {
            other
            for folder in folders
            for file in folder.files
            if selection.matches(file)
            for other in file.secondary_files
        }
        self._files: dict[str, File | SevenBridgesApiError] = {**here, **lists.get(sorted(wanted - here.keys()))}
        elsewhere = [file for key, file in self._files.items() if key not in here and isinstance(file, File)]
        self._outside: set[str] = set()
        if selection.folder and elsewhere:
            above = lists.folders_above(file.parent for file in elsewhere)
            self._outside = {file.id for file in elsewhere if not _is_below(file, selection.folder, above)}

    def of(self, file: File, folder: _Folder) -> tuple[list[File], str]:
        """Return the files that belong to a file, and what is to be known of those that do not come along."""
        others = [folder.beside[name] for name in index_names(file.name or "") if name in folder.beside]
        left_out = []
        for other_id in file.secondary_files:
            other = self._files[other_id]
            if isinstance(other, SevenBridgesApiError):
                left_out.append(f"The secondary file {other_id} cannot be seen, so it does not come along: {other}")
            elif other.project != file.project or other_id in self._outside:
                left_out.append(f"The secondary file {other_id} does not belong to the selection, so it stays.")
            elif not other.is_folder:
                others.append(other)
        for line in left_out:
            self._log.warning("File %s: %s", file.id, line)
        return others, " ".join(left_out)


def _is_below(file: File, root: str, above: dict[str, File | SevenBridgesApiError]) -> bool:
    parents: set[str] = set()
    parent = file.parent
    while parent and parent not in parents:
        if parent == root:
            return True
        parents.add(parent)
        folder = above.get(parent)
        parent = folder.parent if isinstance(folder, File) else None
    return False


def _filters(selection: Selection) -> dict[str, Any] | None:
    """Return what the Platform can filter by; None if there is nothing, or the address would be too long for it."""
    filters: dict[str, Any] = {
        "names": selection.name.exact,
        "tags": selection.tags,
        "metadata": selection.metadata,
        "origin_task": selection.origin_task,
    }
    if not any(filters.values()):
        return None
    address = calls.list_files(project=selection.project, parent=selection.folder, **filters).url("")
    return filters if len(address) <= _MAX_ADDRESS else None


def _by_name(files: Iterable[File]) -> dict[str, File]:
    return {file.name: file for file in files if file.name and not file.is_folder}
