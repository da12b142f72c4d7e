"""Which deprecation warnings count as caused by the provider."""

from __future__ import annotations

import importlib.util
import sys
import warnings

import pytest

from tests.matrix.deprecations import Deprecations

LIBRARY = """
import warnings
def old(level=1):
    helper(level)
def helper(level):
    warnings.warn("old is deprecated", DeprecationWarning, stacklevel=level)
def plain():
    warnings.warn("only a word", UserWarning)
def names_ours():
    warnings.warn("ours.py is deprecated", FutureWarning)
"""


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Create the modules `library` and, in another folder that is watched, `ours`; yields the warnings."""
    for name in ("warn", "warn_explicit"):
        monkeypatch.setattr(warnings, name, getattr(warnings, name))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "library.py").write_text(LIBRARY)
    folder = tmp_path / "ours"
    folder.mkdir()
    seen = Deprecations(folder).watch()

    def run(code, inside=True):
        path = (folder if inside else tmp_path) / "module.py"
        path.write_text(f"import library\n{code}\n")
        spec = importlib.util.spec_from_file_location("module", path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        return seen

    yield run
    sys.modules.pop("library", None)


@pytest.mark.parametrize(
    "code",
    [
        "library.old()",
        "library.old(level=3)",
        "class Odd:\n    library.old(level=2)",
        "import warnings; warnings.warn_explicit('x', DeprecationWarning, __file__, 1)",
    ],
)
def test_a_warning_from_our_files_is_ours(seen, code):
    found = seen(code)
    assert (len(found.ours), found.others) == (1, 0)
    assert "module.py" in found.ours[0]


def test_a_warning_that_names_our_package_is_ours(seen):
    assert len(seen("library.names_ours()", inside=False).ours) == 1


def test_a_warning_from_other_files_is_not_ours(seen):
    found = seen("library.old()", inside=False)
    assert (found.ours, found.others) == ([], 1)


def test_other_warnings_are_ignored(seen):
    found = seen("library.plain()")
    assert (found.ours, found.others) == ([], 0)
