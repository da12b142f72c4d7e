"""Values as users, templates and XCom give them."""

from __future__ import annotations

from numbers import Integral, Real

import pytest

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.inputs import (
    as_list,
    check_seconds,
    from_text,
    read_boolean,
    read_count,
    read_ids,
    read_item,
    read_switches,
    read_text,
    read_texts,
)


class Whole(int):
    """A number as other libraries have them, which is no ``int`` by its type."""


@Integral.register
class Foreign:
    def __int__(self):
        return 7


@Real.register
class ForeignReal:
    def __repr__(self):
        return "foreign(1.5)"


def test_texts_and_whole_numbers_are_text():
    assert read_text("a", "x") == "a"
    assert read_text(7, "x") == "7"
    assert read_text(Whole(7), "x") == "7"
    assert read_text(Foreign(), "x") == "7"
    assert read_text(-5, "x") == "-5"
    assert read_item("None", "x") == "None"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None is empty or not text"),
        ("", "'' is empty"),
        ("None", "'None' is empty"),
        (True, "True is a boolean"),
        (1e23, "1e+23 is a number: native rendering"),
        (float("nan"), "nan is a number"),
        (ForeignReal(), r"foreign\(1.5\) is a number"),
        (b"a", "b'a' is empty or not text"),
        (["a"], r"\['a'\] is empty or not text"),
        ({"a": 1}, "not text"),
        (object(), "not text"),
    ],
)
def test_other_values_are_not_text(value, words):
    with pytest.raises(ValueError, match=words.replace("+", r"\+")):
        read_text(value, "a key")


@pytest.mark.parametrize("value", [None, "", "None", 0, 1, 1.0, [], "perhaps", b"true", object()])
def test_other_values_are_not_booleans(value):
    with pytest.raises(ValueError, match="use true or false"):
        read_boolean(value)


@pytest.mark.parametrize(("value", "count"), [(1, 1), ("7", 7), (" 7 ", 7), (Foreign(), 7), (10**6, 10**6)])
def test_whole_numbers_above_zero_are_counts(value, count):
    assert read_count(value) == count


@pytest.mark.parametrize("value", [0, -1, True, 1.0, 1e5, "1.5", "-1", "0", "²", "9" * 5000, None, [1]])
def test_other_values_are_not_counts(value):
    with pytest.raises(ValueError, match="not a whole number above 0"):
        read_count(value)


class Unresolved:
    """As Airflow's XComArg."""

    def __iter__(self):
        raise TypeError("not iterable")


@pytest.mark.parametrize("value", ["a", b"a", bytearray(b"a"), memoryview(b"a"), {"a": 1}, None, 7, Unresolved()])
def test_values_that_are_not_lists(value):
    assert as_list(value) is None


def test_iterables_and_their_text_are_lists():
    assert as_list({"b", "a", "c"}) == ["a", "b", "c"]
    assert as_list(each for each in "ab") == ["a", "b"]
    assert as_list(range(2)) == [0, 1]
    assert from_text('["a"]') == from_text("['a']") == from_text(" ['a',] ") == ["a"]
    assert from_text("[a]") == "[a]"
    assert read_texts('["a", 7, "a"]') == ("a", "7")
    assert read_texts(None) == read_texts("None") == ()


@pytest.mark.parametrize("value", ["[]", [], (), set(), {"a": 1}, b"a", [b"a"], [["a"]], [None], [""], Unresolved()])
def test_values_that_are_not_lists_of_text(value):
    with pytest.raises(ValueError, match=r"list is empty|not text"):
        read_texts(value)


def test_a_list_of_ids_or_one_id():
    assert read_ids("abc") == ["abc"]
    assert read_ids(("a", 7)) == ["a", "7"]
    assert read_ids(iter(())) == []
    for wrong, words in [
        (None, "ids: None is not a list"),
        ({"a": 1}, "is not a list"),
        ([1.5], r"ids\[0\]: 1.5"),
        (7, "7 is"),
    ]:
        with pytest.raises(SevenBridgesInputError, match=words):
            read_ids(wrong)


def test_switches_are_booleans():
    assert read_switches(a=True, b="false", c="Yes") == [True, False, True]
    with pytest.raises(
        SevenBridgesInputError, match=r"a: None is not a boolean.*\nb: 1 is not a boolean.*not templated"
    ):
        read_switches(a=None, b=1, c=True)


def test_a_number_of_seconds_is_positive():
    check_seconds(poll_interval=1, timeout=None)
    check_seconds(poll_interval=0.5, timeout=10**9)
    for wrong in (
        {"timeout": "60"},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"other": None},
        {"other": True},
    ):
        with pytest.raises(SevenBridgesInputError, match="not a number of seconds above 0"):
            check_seconds(**wrong)
