"""Properties of the parsers, with Hypothesis and fixed examples. FUZZ_EXAMPLES sets their number."""

from __future__ import annotations

import gzip
import json
import math
import os
import pickle
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from airflow_sb_provider.api.models import RateLimit, error_from_json
from airflow_sb_provider.api.replies import Body
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.api.times import parse_time
from airflow_sb_provider.api.values import parse_integer
from tests.fuzz.check import check, check_rate, check_value
from tests.fuzz.inputs import HEADER_VALUES, KEYS, VALUES, Input
from tests.fuzz.samples import samples

many = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
CALL = samples()[0].call
TEXT = st.text() | st.text(st.characters()) | st.sampled_from([each for each in VALUES if isinstance(each, str)])
NUMBER = st.integers() | st.floats() | st.integers(-(10**400), 10**400)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | TEXT, inner, max_size=6),
    max_leaves=30,
)
HEADER = st.sampled_from(HEADER_VALUES) | st.text(max_size=30) | st.integers().map(str)


@many
@given(JSON)
def test_a_time_is_usable_or_none(value):
    time = parse_time(value)
    assert time is None or time.astimezone(UTC) == time


@many
@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)), st.integers(-1439, 1439))
def test_every_common_time_format_is_parsed(moment, minutes):
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_time(moment.isoformat()) == moment
    assert parse_time(moment.astimezone(UTC).isoformat().replace("+00:00", "Z")) == moment


@many
@given(st.integers(-(2**70), 2**70))
def test_every_64_bit_number_is_parsed(number):
    held = number if -(2**63) < number < 2**63 else None
    assert parse_integer(number) == held
    if number >= 0:
        assert parse_integer(str(number)) == held
        assert parse_integer(f" {number}") in (held, None)


@many
@given(HEADER, HEADER, HEADER)
def test_no_rate_limit_header_causes_an_endless_pause(limit, remaining, reset):
    headers = {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": reset}
    check_rate(RateLimit.from_headers(CaseInsensitiveDict(headers)))


@many
@given(st.dictionaries(st.sampled_from(["limit", "remaining", "reset"]), JSON))
def test_no_requested_pause_is_endless(rate):
    check_rate(RateLimit.from_json({"rate": rate}))


@many
@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.none() | st.integers(100, 599), TEXT)
def test_every_error_can_be_shown_and_pickled(data, status, request_id):
    error = error_from_json(data, status, readable(request_id, 100))
    check_value(error)
    assert str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@many
@given(TEXT, st.integers(1, 50))
def test_sanitized_text_is_one_line_and_stable(text, limit):
    clean = readable(text, limit)
    assert clean.isprintable()
    assert len(clean) <= limit
    assert readable(clean, limit).strip() == clean.strip()
    clean.encode()


@many
@given(st.sampled_from(samples()), st.integers(100, 999), st.dictionaries(HEADER, HEADER), JSON, st.booleans())
def test_any_json_becomes_a_value_or_an_error(sample, status, headers, data, with_sample_status):
    body = json.dumps(data).encode()
    check(Input(0, samples().index(sample), sample.status if with_sample_status else status, headers, (body,)))


@many
@given(st.lists(st.binary(max_size=200), max_size=4), st.lists(st.integers(1, 50), min_size=1), st.booleans())
def test_a_body_is_the_same_in_any_chunks(parts, sizes, packed):
    whole = b"".join(parts)
    data = b"".join(gzip.compress(part) for part in parts) if packed else whole
    body = Body(CALL, 200, CaseInsensitiveDict({"Content-Encoding": "gzip"} if packed else {}))
    number = 0
    while data:
        size = sizes[number % len(sizes)]
        body.add(data[:size])
        data, number = data[size:], number + 1
    assert body.whole() == whole


@many
@given(st.binary(max_size=300), st.sampled_from(["gzip", "GZIP", "x-gzip", "identity", "br", "gzip, gzip", ""]))
def test_any_encoding_becomes_a_body_or_an_error(data, encoding):
    check(Input(0, 0, 200, {"Content-Encoding": encoding}, (data,)))


@many
@given(st.floats())
def test_an_endless_number_is_an_error(number):
    data = json.dumps({"username": "me", "x": number}).encode()
    word = check(Input(0, [sample.name for sample in samples()].index("get_user"), 200, {}, (data,)))
    assert (word == "value") == math.isfinite(number)
