"""Compare the objects of completed exports with the bucket, by its lists where that saves requests."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from airflow_sb_provider.api.times import in_words, parse_time
from airflow_sb_provider.engine import result
from airflow_sb_provider.exceptions import SevenBridgesAuthError, SevenBridgesError
from airflow_sb_provider.exports.verification import (
    ExpectedObject,
    Verdict,
    Verification,
    by_folder,
    compare,
    in_doubt,
    is_worth_listing,
)
from airflow_sb_provider.jobs.tracked import IN_DOUBT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_sb_provider.api.models import VolumeObject
    from airflow_sb_provider.exports.tracked import TrackedExport
    from airflow_sb_provider.exports.verification import Folder
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

# So many are held in memory, and share the lists of their folders.
MAX_TOGETHER = 20_000
# After so many objects in a row that may not be read, the others of their volume are not tried.
MAX_REJECTED = 3


def verify(hook: SevenBridgesHook, expected: Iterable[ExpectedObject]) -> Iterator[Verification]:
    """Compare expected objects with the bucket, and yield the result for each, in order.

    A list may show an object late or in its previous version: what is not as expected is read by itself. What was
    exported less than `result.APPEARS_WITHIN` seconds ago is read once more after that time.

    Requests: per folder one for each hundred of its objects, but never more than two per expected object; one for each
    object that is alone in its folder. `exports.verification.is_worth_listing` has the rule.
    """
    reader, remaining = _Reader(hook), iter(expected)
    while together := list(islice(remaining, MAX_TOGETHER)):
        yield from _verify(reader, together)


def verify_exports(hook: SevenBridgesHook, entries: Iterable[TrackedExport]) -> Iterator[TrackedExport]:
    """Yield all entries, in order; ``proof`` of the completed ones becomes their object.

    An export becomes ``IN_DOUBT`` if its object is missing, has another size, or cannot be read.
    """
    reader, remaining = _Reader(hook), iter(entries)
    verified = wrong = 0
    while together := list(islice(remaining, MAX_TOGETHER)):
        completed = [entry for entry in together if entry.done]
        if completed:
            hook.log.info("Verifying %d objects.", len(completed))
        for entry, verification in zip(completed, _verify(reader, [*map(_expected, completed)]), strict=True):
            if verification.error or verification.is_wrong:
                entry.fail(in_doubt(f"Export {entry.job_id or 'of an earlier task'}", verification), IN_DOUBT)
                hook.log.warning("File %s: %s", entry.request.file, entry.message)
                wrong += 1
            else:
                entry.proof = verification.object
                verified += 1
        yield from together
    if verified or wrong:
        hook.log.info("%d objects are verified, %d exports are in doubt.", verified, wrong)


def _expected(entry: TrackedExport) -> ExpectedObject:
    request, job = entry.request, entry.job
    finished_on = parse_time(entry.finished_on)
    # What the job says has priority over what was requested.
    return ExpectedObject(
        volume=(job and job.volume) or request.volume,
        location=(job and job.location) or request.location,
        size=entry.size,
        finished_at=finished_on.timestamp() if finished_on else None,
    )


def _verify(reader: _Reader, expected: Sequence[ExpectedObject]) -> list[Verification]:
    listed: dict[tuple[str, str], VolumeObject] = {}
    for folder in by_folder(expected):
        listed |= reader.list(folder)
    verifications: list[Verification] = []
    for one in expected:
        found = listed.get(one.place)
        verification = compare(one, found)
        # A list may be late, or brief.
        if verification.is_wrong or found is None or found.size is None:
            verification = reader.read(one)
        verifications.append(verification)
    now = reader.hook.clock.now()

    def may_appear_for(one: ExpectedObject) -> float:
        return (one.finished_at or now) + result.APPEARS_WITHIN - now

    late = [n for n, each in enumerate(verifications) if each.is_wrong and may_appear_for(each.expected) > 0]
    if late:
        pause = min(max(may_appear_for(expected[n]) for n in late), result.APPEARS_WITHIN)
        reader.hook.log.info(
            "%d objects of new exports are not as expected, which may change. Reading them again in %s.",
            len(late),
            in_words(pause),
        )
        time.sleep(pause)
        for n in late:
            verifications[n] = reader.read(expected[n])
    return verifications


class _Reader:
    """Lists folders and reads single objects, and does not repeat what cannot succeed."""

    def __init__(self, hook: SevenBridgesHook) -> None:
        self.hook = hook
        self._unlistable: set[str] = set()
        self._rejected: Counter[str] = Counter()
        self._errors: dict[str, SevenBridgesError] = {}
        self._failure: SevenBridgesError | None = None

    def list(self, folder: Folder) -> dict[tuple[str, str], VolumeObject]:
        """Return those of a folder's expected objects that its list shows, as far as that saves requests."""
        volume, missing = folder.volume, set(folder.locations)
        found: dict[tuple[str, str], VolumeObject] = {}
        if volume in self._unlistable or not is_worth_listing(0, len(missing)):
            return found
        try:
            for pages, page in enumerate(self.hook.volume_pages(volume, folder.prefix), 1):
                for item in page.items:
                    if item.location in missing:
                        missing.remove(item.location)
                        found[volume, item.location] = item
                if not is_worth_listing(pages, len(missing)):
                    break
        except SevenBridgesError as error:
            self._unlistable.add(volume)
            self.hook.log.warning("The objects cannot be listed, so each is read by itself: %s", error)
        return found

    def read(self, expected: ExpectedObject) -> Verification:
        """Read one object and compare it."""
        volume, location = expected.place
        if error := self._failure or self._errors.get(volume):
            return Verification(expected, Verdict.UNREADABLE, error=error)
        try:
            found = self.hook.find_volume_object(volume, location)
        except SevenBridgesError as error:
            self._rejected[volume] += 1
            if isinstance(error, SevenBridgesAuthError) or not error.permanent:
                # After all retries: there is no use in trying each of the others for as long.
                self._failure = error
            elif self._rejected[volume] == MAX_REJECTED:
                self._errors[volume] = error
            return Verification(expected, Verdict.UNREADABLE, error=error)
        self._rejected[volume] = 0
        return compare(expected, found)
