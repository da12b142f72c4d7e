"""Collects the deprecation warnings that the provider causes, independent of filters and loggers."""

from __future__ import annotations

import os
import sys
import warnings

KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
# Files that only pass on a warning or an import.
HELPERS = ("<frozen importlib", "<string>", "deprecation_tools.py", "typing_extensions.py", "/deprecated/")


class Deprecations:
    """Collects, from `watch()` on, the deprecation warnings that files in these folders cause or that name them."""

    def __init__(self, *folders):
        self.folders = tuple(os.path.abspath(folder) + os.sep for folder in folders)
        self.names = tuple(os.path.basename(os.path.abspath(folder)) for folder in folders)
        self.ours = []
        self.others = 0

    def watch(self):
        warn, warn_explicit = warnings.warn, warnings.warn_explicit

        def watched_warn(message, category=None, stacklevel=1, source=None, **options):
            kind = type(message) if isinstance(message, Warning) else category or UserWarning
            frame = sys._getframe(1)
            self._see(str(message), kind, {_reported(frame, stacklevel), _user(frame)})
            return warn(message, category, stacklevel + 1, source, **options)

        def watched_warn_explicit(message, category, filename, lineno, *args, **options):
            kind = type(message) if isinstance(message, Warning) else category
            self._see(str(message), kind, {filename})
            return warn_explicit(message, category, filename, lineno, *args, **options)

        warnings.warn, warnings.warn_explicit = watched_warn, watched_warn_explicit
        return self

    def _see(self, message, kind, files):
        if not issubclass(kind, KINDS):
            return
        mine = [file for file in files if file and os.path.abspath(file).startswith(self.folders)]
        if mine or any(name in message for name in self.names):
            self.ours.append(f"{kind.__name__} at {', '.join(mine) or 'elsewhere'}: {message}")
        else:
            self.others += 1


def _reported(frame, stacklevel):
    """Return the file that the warning names."""
    for _ in range(max(stacklevel, 1) - 1):
        frame = _outwards(frame)
    return frame.f_code.co_filename if frame else None


def _user(frame):
    """Return the file that uses the deprecated object."""
    warner = frame.f_code.co_filename
    while frame and (frame.f_code.co_filename == warner or any(name in frame.f_code.co_filename for name in HELPERS)):
        frame = frame.f_back
    return frame.f_code.co_filename if frame else None


def _outwards(frame):
    frame = frame.f_back if frame else None
    while frame and frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame
