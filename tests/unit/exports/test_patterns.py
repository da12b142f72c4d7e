from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_sb_provider.exports.patterns import Glob, Pattern

# Each is a glob and a regular expression that means the same.
PLAIN = [("a", "a"), ("b.", r"b\."), (".bam", r"\.bam"), ("", "")]
SPECIAL = [("*", ".*"), ("?", "."), ("[ab]", "[ab]"), ("[!a]", "[^a]"), ("[]]", r"\]"), ("[!]a]", r"[^\]a]")]
ATOMS = st.sampled_from([*PLAIN, *SPECIAL, ("[{,}]", "[{,}]"), ("[*]", r"\*")])


def joined(parts):
    return "".join(glob for glob, _ in parts), "".join(regex for _, regex in parts)


def braced(branches):
    return "{" + ",".join(glob for glob, _ in branches) + "}", "(?:" + "|".join(regex for _, regex in branches) + ")"


GLOBS = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3).map(joined) | st.lists(inner, min_size=1, max_size=3).map(braced),
    max_leaves=8,
)


@given(GLOBS, st.text(alphabet="ab.m]{,}*[", max_size=8))
@example(("*.{bam,cram}", r".*\.(?:bam|cram)"), "a.cram")
@example(("a{,.{b,a}}[ab]", r"a(?:|\.(?:b|a))[ab]"), "a.bb")
def test_a_glob_matches_like_its_regular_expression(glob, name):
    text, regex = glob
    assert Glob((text,)).matches(name) == bool(re.fullmatch(regex, name, re.DOTALL))


@pytest.mark.parametrize(
    ("glob", "matched", "unmatched"),
    [
        ("*.{bam,cram}", ["a.bam", ".cram", "a.b.cram"], ["a.BAM", "a.bam.bai", "bam"]),
        ("*.bam{,.bai}", ["a.bam", "a.bam.bai"], ["a.bai"]),
        ("*", ["a", ".hidden", "line\nbreak"], []),
        ("a,b", ["a,b"], ["a", "b"]),
        ("[*]", ["*"], ["a"]),
        ("[{]x[}]", ["{x}"], ["x"]),
        ("{a}", ["a"], ["{a}"]),
        ("a[b", ["a[b"], ["ab"]),
        ("x.v?f", ["x.vcf"], ["x.vf", "xxvcf"]),
    ],
)
def test_globs(glob, matched, unmatched):
    for name in matched:
        assert Glob((glob,)).matches(name), name
    for name in unmatched:
        assert not Glob((glob,)).matches(name), name


def test_any_of_several_globs():
    glob = Glob(("*.bam", "notes.txt"))
    assert [glob.matches(name) for name in ("a.bam", "notes.txt", "a.txt")] == [True, True, False]


@pytest.mark.parametrize(
    ("globs", "names"),
    [(("a", "b"), ["a", "b"]), (("x.{bam,bai}",), ["x.bam", "x.bai"]), (("a", "*"), []), (("[a]",), []), ((), [])],
)
def test_names_that_the_platform_can_filter_by(globs, names):
    assert Glob(globs).exact == names


@pytest.mark.parametrize(
    ("glob", "words"),
    [
        ("runs/*.bam", "slash"),
        ("*.{bam", "not closed"),
        ("{a,{b}", "not closed"),
        ("*.bam}", "not opened"),
        ("{a,b,c}" * 8, "more than 1000"),
    ],
)
def test_an_invalid_glob_is_rejected(glob, words):
    with pytest.raises(ValueError, match=words) as caught:
        Glob(("*", glob))
    assert glob in str(caught.value)


def test_a_glob_with_many_stars_fails_quickly():
    """A match that tries every split of the name would take years."""
    assert not Glob(("*a" * 40 + "b",)).matches("a" * 250)


VALUES = {"name": "a.bam", "stem": "a", "suffix": ".bam", "id": "1", "project": "p", "project_owner": "o"}


@pytest.mark.parametrize(
    ("pattern", "path", "location"),
    [
        ("{path}/{name}", "", "a.bam"),
        ("{path}/{name}", "x/y", "x/y/a.bam"),
        ("in/{path}/{name}", "", "in/a.bam"),
        ("{project_owner}/{project}/{id}{suffix}", "x", "o/p/1.bam"),
        ("{{{stem}}}.txt", "", "{a}.txt"),
        ("{metadata[a/b c]}-{metadata[n]}-{metadata[t]}", "", "v-7-true"),
        ("{name}/{path}", "x", "a.bam/x"),
    ],
)
def test_filled_patterns(pattern, path, location):
    assert Pattern(pattern).fill(VALUES, {"a/b c": "v", "n": 7, "t": True}, path) == location
    assert Pattern(pattern).needs_path == ("{path}" in pattern)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{title}", ["'{title}'", "{name}", "{stem}", "{metadata[field]}"]),
        ("{}", ["'{}'"]),
        ("{name!r}", ["'{name!r}'"]),
        ("{name:>9}", ["'{name:>9}'"]),
        ("{name.__class__}", ["is unknown"]),
        ("{metadata}", ["is unknown"]),
        ("{metadata[]}", ["is unknown"]),
        ("{metadata[a][b]}", ["is unknown"]),
        ("{name", ["single '{'", "'{{'"[1:-1]]),
        ("name}", ["single '}'"]),
        ("/{name}", ["slash"]),
        ("a//{name}", ["empty"]),
        ("{name}/", ["slash"]),
        ("../{name}", ["'..'"]),
        ("./{name}", ["'.'"]),
        ("x{path}/{name}", ["slashes around"]),
    ],
)
def test_an_invalid_pattern_is_rejected(pattern, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        Pattern(pattern)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "values", "words"),
    [
        ("{metadata[s]}/{name}", {}, ["{metadata[s]}", "missing or empty"]),
        ("{metadata[empty]}/{name}", {}, ["{metadata[empty]}", "missing or empty"]),
        ("{metadata[none]}/{name}", {}, ["{metadata[none]}", "missing or empty"]),
        ("{metadata[list]}/{name}", {}, ["{metadata[list]}", "missing or empty"]),
        ("{metadata[up]}/{name}", {}, ["{metadata[up]}", "'..'", "escapes"]),
        ("{metadata[slash]}/{name}", {}, ["{metadata[slash]}", "'a/b'", "escapes"]),
        ("{metadata[root]}/{name}", {}, ["{metadata[root]}", "'/a'", "escapes"]),
        ("x{metadata[up]}/{name}", {}, ["{metadata[up]}", "escapes"]),
        ("{name}", {"name": ""}, ["{name}", "missing"]),
        ("in/{name}", {"name": "../x"}, ["{name}", "'../x'", "escapes"]),
        ("in/{name}", {"name": "."}, ["{name}", "'.'", "escapes"]),
        ("{suffix}/{name}", {"suffix": ""}, ["'/a.bam'", "escapes"]),
        ("{suffix}/{name}", {"suffix": "."}, ["escapes"]),
        (".{suffix}/{name}", {"suffix": "."}, ["escapes"]),
        (".{suffix}/{name}", {"suffix": ""}, ["'./a.bam'", "escapes"]),
        ("{path}/{name}", {"path": "a/../.."}, ["escapes"]),
        ("{path}/{name}", {"path": "/etc"}, ["escapes"]),
        ("{path}/{name}", {"path": "a//b"}, ["escapes"]),
        ("{path}", {"path": ""}, ["escapes"]),
    ],
)
def test_values_that_escape_the_folder_are_rejected(pattern, values, words):
    metadata = {"empty": "", "none": None, "list": ["a"], "up": "..", "slash": "a/b", "root": "/a"}
    path = values.get("path", "")
    with pytest.raises(ValueError, match=r"missing|escapes") as caught:
        Pattern(pattern).fill({**VALUES, **values}, metadata, path)
    for word in words:
        assert word in str(caught.value)
