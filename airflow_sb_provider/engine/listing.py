"""List the files of a selection through a hook."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.index_files import index_names, is_index
from airflow_sb_provider.api.models import File
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesConnectionError,
    SevenBridgesInputError,
    SevenBridgesRateLimitError,
)
from airflow_sb_provider.exports.selection import Selected
from airflow_sb_provider.hooks.sevenbridges import has_next

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from airflow_sb_provider.api.models import Page
    from airflow_sb_provider.exports.selection import Selection
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

MAX_READS = 3
# A million files and folders: a longer list has a wrong next link.
MAX_PAGES = 10_000
# Gateways reject longer URLs, without an error of their own.
_MAX_URL = 2000


@dataclass(frozen=True)
class _Folder:
    """One folder.

    :param path: the folders below the selection's root.
    :param files: those that may match.
    :param beside: by name, all of its files, if index files are included.
    :param problem: why its path cannot be part of a key.
    """

    path: str
    files: list[File]
    beside: dict[str, File] = field(default_factory=dict)
    problem: str = ""


def list_selected(
    hook: SevenBridgesHook,
    selection: Selection,
    max_files: int | None = None,
    counts: Callable[[File], bool] = lambda file: True,
    metadata: Collection[str] = (),
) -> list[Selected]:
    """Return the files of a selection, each once, the index files of a folder after its other files.

    A selected file that cannot be exported has a ``problem``: one of ``file_ids`` that is not visible or is a folder,
    or a file whose folders cannot be part of a key. Secondary files of another project, or outside the selection's
    folder, are left out.

    Requests:

    - ``project`` or ``folder``: one per hundred files and folders on its level (at least one); where the Platform can
      filter, per hundred matches. With ``recursive`` the same for every folder below.
    - ``file_ids``: one per hundred; if the pattern has ``{path}``, one more per hundred folders on each level above the
      files; with ``secondary_files`` the lists of their folders.
    - One per hundred secondary files that the Platform lists and that are not in these folders; for a ``folder`` also
      one per hundred folders on each level above them.

    A list that changes while it is read is read again, at most three times.

    The Platform filters by exact names, tags, metadata and task, but its filtered lists hide folders and index files.
    So with ``recursive`` or ``secondary_files``, whole levels are listed and filtered here; also if the Platform
    rejects the filters.

    :param max_files: the listing stops when there are more; None for any number.
    :param counts: which of the selected files count for ``max_files``.
    :param metadata: the metadata fields that the files keep, besides those that the selection needs. A file may have
        hundreds, and a hundred thousand files with all of them do not fit into a worker's memory.
    :raises SevenBridgesInputError: if there are more than ``max_files``.
    :raises SevenBridgesApiError: if a list is incomplete after three readings.
    """
    lists = _Lists(hook, selection, max_files, counts, {*metadata, *selection.metadata_fields})
    if selection.file_ids is not None:
        folders, found = _folders_of_ids(lists)
    else:
        folders, found = list(_walk(lists)), {}
    secondary = _SecondaryFiles(lists, folders) if selection.secondary_files else None
    for folder in folders:
        matching = [file for file in folder.files if selection.matches(file)]
        # A selected index file still belongs to its main file.
        for file in sorted(matching, key=lambda file: is_index(file.name)):
            if file.id in found:
                continue
            others, note = secondary.of(file, folder) if secondary else ([], "")
            found[file.id] = Selected(file, folder.path, problem=folder.problem, note=note)
            for other in others:
                found.setdefault(other.id, Selected(other, folder.path, file, folder.problem))
    return list(found.values())


class _Lists:
    """Lists files for a selection: only complete lists, and a limited number of pages."""

    def __init__(
        self,
        hook: SevenBridgesHook,
        selection: Selection,
        max_files: int | None,
        counts: Callable[[File], bool],
        metadata: Collection[str],
    ) -> None:
        self.hook = hook
        self.selection = selection
        self._max_files = max_files
        self._counts = counts
        self._metadata = metadata
        self._matching: set[str] = set()
        self._pages = 0

    def level(self, where: dict[str, Any], filters: dict[str, Any] | None = None) -> list[File]:
        """Return all files and folders on one level; with filters at least those that match.

        :raises SevenBridgesApiError: if the list is not readable or incomplete.
        """
        if filters:
            try:
                return self._whole(where | filters, retry=False)
            except SevenBridgesAuthError:
                raise
            except (SevenBridgesRateLimitError, SevenBridgesConnectionError):
                return self._whole(where | filters)
            except SevenBridgesApiError as error:
                # A gateway may reject a long query, with any error page.
                self.hook.log.info(
                    "The Platform rejects the filters (%s). Listing all files and filtering them here.", error
                )
        return self._whole(where)

    def _whole(self, where: dict[str, Any], *, retry: bool = True) -> list[File]:
        """Return a list that did not change while it was read, since changes move items between pages.

        If it changes in each reading, the list must only have grown in the last one, and be complete.
        """
        place = where.get("project") or where.get("parent")
        items: dict[str, File] = {}
        totals: list[int | None] = []
        for _ in range(MAX_READS):
            items, totals = {}, []
            more, before = True, -1
            # A page without new items could repeat forever.
            while more and len(items) > before:
                before = len(items)
                page = self._page(where, before, retry=retry)
                retry = True
                items.update((item.id, _with_metadata(item, self._metadata)) for item in page.items)
                totals.append(page.total)
                more = has_next(page, self.hook.settings.endpoint)
            if set(totals) <= {len(items)} or (set(totals) <= {None, len(items)} and not more):
                return list(items.values())
        known = [total for total in totals if total is not None]
        if known and known == sorted(known) and len(items) == known[-1]:
            self.hook.log.info("The files of %s changed each time they were listed. Using the last list.", place)
            return list(items.values())
        raise SevenBridgesApiError(
            0,
            message=f"The list of files of {place} is incomplete: the last of {MAX_READS} readings returned "
            f"{len(items)} of {known[-1] if known else 'more'}. If files are added or removed there, retry later.",
        )

    def _page(self, where: dict[str, Any], offset: int, *, retry: bool) -> Page[File]:
        self._count()
        page = self.hook.send(calls.list_files(**where, offset=offset), retry=retry)
        if self.selection.file_ids is None:
            self._matching |= {file.id for file in page.items if self.selection.matches(file) and self._counts(file)}
        if self._max_files is not None and len(self._matching) > self._max_files:
            raise SevenBridgesInputError(
                f"max_files: there are at least {len(self._matching)} files to export, more than {self._max_files}; "
                "raise max_files or narrow the selection."
            )
        return page

    def folders_above(self, parents: Iterable[str | None]) -> dict[str, File | SevenBridgesApiError]:
        """Return, by id, these folders and all above them, up to the project's root, which has no parent."""
        folders: dict[str, File | SevenBridgesApiError] = {}
        wanted = {parent for parent in parents if parent}
        while missing := sorted(wanted - folders.keys()):
            new = self.get(missing)
            folders.update(new)
            wanted = {file.parent for file in new.values() if isinstance(file, File) and file.parent}
        return folders

    def get(self, ids: list[str]) -> dict[str, File | SevenBridgesApiError]:
        """Return files, or errors, by id.

        :raises SevenBridgesApiError: for a transient error.
        """
        self._count()
        files = get_files(self.hook, ids, self._metadata)
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


def get_files(
    hook: SevenBridgesHook, ids: Sequence[str], metadata: Collection[str]
) -> dict[str, File | SevenBridgesApiError]:
    """Return files, or errors, by id, with one request per hundred.

    :param metadata: the metadata fields that the files keep.
    """
    files: dict[str, File | SevenBridgesApiError] = {}
    for start in range(0, len(ids), calls.BULK_LIMIT):
        part = ids[start : start + calls.BULK_LIMIT]
        for file_id, file in zip(part, hook.get_files(part), strict=True):
            files[file_id] = _with_metadata(file, metadata) if isinstance(file, File) else file
    return files


def _with_metadata(file: File, names: Collection[str]) -> File:
    return replace(file, metadata={name: file.metadata[name] for name in names if name in file.metadata})


def _walk(lists: _Lists) -> Iterator[_Folder]:
    """List the selection's root and, if recursive, all folders below, breadth first, each once."""
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
    """Return the folders with the files of ``file_ids`` and, by id, the results for ids that are not files."""
    selection = lists.selection
    not_files: dict[str, Selected] = {}
    by_parent: dict[str | None, list[File]] = {}
    for file_id, file in lists.get(list(selection.file_ids or ())).items():
        if isinstance(file, SevenBridgesApiError):
            problem = f"file_ids: {file_id} is not visible: {file.summary}"
            not_files[file_id] = Selected(File(file_id), problem=problem, code=file.code)
        elif file.is_folder:
            not_files[file_id] = Selected(
                file, problem=f"file_ids: {file_id} is the folder {file.name!r}; use the parameter folder."
            )
        else:
            by_parent.setdefault(file.parent, []).append(file)
    above = lists.folders_above(by_parent) if selection.location_pattern.needs_path else {}
    folders = []
    for parent, children in by_parent.items():
        siblings = lists.level({"parent": parent}) if selection.secondary_files and parent else []
        path, problem = _path(selection, parent, above)
        folders.append(_Folder(path, children, _by_name(siblings), problem))
    return folders, not_files


def _path(selection: Selection, parent: str | None, above: dict[str, File | SevenBridgesApiError]) -> tuple[str, str]:
    """Return a folder's path below the project's root, which is a folder too but has no parent; and its problem."""
    names: list[str] = []
    problem = ""
    folder = above.get(parent or "")
    while folder and len(names) < len(above):
        if isinstance(folder, SevenBridgesApiError):
            return "", f"location_pattern: {{path}}: folder {parent} is not visible: {folder.summary}"
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
        f"location_pattern: {{path}}: folder {folder.id}: its name {folder.name!r} is not valid in a path; "
        "rename it on the Platform."
    )


class _SecondaryFiles:
    """Finds the index files in the folder of a file, and the secondary files that the Platform lists for it."""

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
        """Return the files that belong to a file, and a note about those that are left out."""
        others = [folder.beside[name] for name in index_names(file.name or "") if name in folder.beside]
        left_out = []
        for other_id in file.secondary_files:
            other = self._files[other_id]
            if isinstance(other, SevenBridgesApiError):
                left_out.append(f"The secondary file {other_id} is left out, since it is not visible: {other.summary}")
            elif other.project != file.project or other_id in self._outside:
                left_out.append(
                    f"The secondary file {other_id} is left out, since it does not belong to the selection."
                )
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
    """Return the filters for the Platform; None if there are none, or if the URL would be too long."""
    filters: dict[str, Any] = {
        "names": selection.name.exact,
        "tags": selection.tags,
        "metadata": selection.metadata,
        "origin_task": selection.origin_task,
    }
    if not any(filters.values()):
        return None
    url = calls.list_files(project=selection.project, parent=selection.folder, **filters).url("")
    return filters if len(url) <= _MAX_URL else None


def _by_name(files: Iterable[File]) -> dict[str, File]:
    return {file.name: file for file in files if file.name and not file.is_folder}
