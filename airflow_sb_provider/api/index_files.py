"""Names of index files. The Platform does not say which file is the index of another."""

from __future__ import annotations

INDEX_SUFFIXES = (".bai", ".crai", ".tbi", ".csi", ".idx", ".fai", ".gzi")
# Some tools replace the main file's suffix with these.
_REPLACING_SUFFIXES = {".bam": ".bai", ".cram": ".crai"}


def index_names(name: str) -> list[str]:
    """Return the possible names of the index of a file of this name."""
    if is_index(name):
        return []
    stem, dot, suffix = name.rpartition(".")
    replacing = _REPLACING_SUFFIXES.get(dot + suffix)
    return [name + suffix for suffix in INDEX_SUFFIXES] + ([stem + replacing] if replacing else [])


def is_index(name: str | None) -> bool:
    """Whether a file of this name is an index of another."""
    return bool(name) and str(name).endswith(INDEX_SUFFIXES)
