"""Generated inputs: real responses, changed at random from a seed."""

from __future__ import annotations

import copy
import gzip
import json
import random
from dataclasses import dataclass

from tests.fuzz.samples import samples

STATUSES = (*range(200, 207), 301, 302, 304, 307, 308, 400, 401, 403, 404, 408, 409, 418, 422, 429, 500, 502, 503, 504)
STATUSES += (0, 199, 299, 600, 999)
KEYS = ["id", "state", "items", "resource", "error", "links", "rel", "href", "source", "file", "destination", "volume"]
KEYS += ["location", "status", "code", "message", "more_info", "result", "size", "storage", "type", "metadata", "rate"]
KEYS += ["started_on", "finished_on", "overwrite", "properties", "username", "limit", "remaining", "reset", "tags"]
KEYS += ["_secondary_files", "origin", "task", "name", "service", "bucket", "prefix", "etag", "active", "", "__class__"]
TIMES = ["2016-06-15T19:17:39Z", "2016-06-15T19:17:39+02:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
TIMES += ["2016-02-30T00:00:00Z", "2016-W53-7", "20160615T191739", "2016-06-15T24:00:00Z", "2016-06-15\ud80019:17:39"]
TIMES += [
    "1465989459",
    "2016-06-15T19:17:39.999999999999Z",
    "2016-06-15T19:17:39+99:99",
    "\u0662\u0660\u0661\u0666-06-15",
]
TEXTS = [
    "",
    " ",
    "\x00",
    "\ud800",
    "\udfff\ud800",
    "\ufeff",
    "a\r\nb: c",
    "\x1b[31m",
    "\u202e",
    "e\u0301",
    "null",
    "None",
]
TEXTS += [
    "true",
    "NaN",
    "-0",
    "../..",
    "\U0001f600",
    "PENDING",
    "completed",
    "FAILED",
    "VOLUME",
    "x" * 3000,
    "next",
    "s3",
]
NUMBERS = [0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**25, 10**4200, 0.5, -0.0, 1e308, 5e-324]
NUMBERS += [float("nan"), float("inf"), float("-inf")]
OTHERS = [None, True, False, [], {}, [[]], [None], [{}], {"id": None}, {"id": "x"}, {"error": {"status": 404}}]
VALUES = TIMES + TEXTS + NUMBERS + OTHERS
TOKENS = [b"null", b"NaN", b"Infinity", b"-1e999", b"1E400", b"9" * 30, b"9" * 5000, b'"\\ud800"', b"\\u0000", b"\\"]
TOKENS += [
    b"[" * 300,
    b'{"a":' * 300,
    b"}",
    b"]",
    b"{",
    b"[",
    b",",
    b":",
    b'"',
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xed\xa0\x80",
]
TOKENS += [
    b"\x00",
    b'"id":',
    b'"id":5,',
    b'"items":[],',
    b'"error":{},',
    b'"state":[],',
    b"<html>",
    b"0x10",
    b"01",
    b"/**/",
]
HEADER_NAMES = [
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Total-Matching-Query",
    "X-Request-Id",
]
HEADER_NAMES += ["Location", "Content-Encoding", "Retry-After", "Date", "Link", "Content-Type"]
HEADER_VALUES = [
    "",
    " ",
    "0",
    "-1",
    "+5",
    "1e3",
    "0x10",
    "1_000",
    "12, 12",
    "9" * 19,
    "9" * 20,
    "9" * 5000,
    "\u0663",
    "\xb2",
]
HEADER_VALUES += [
    "soon",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Fri, 31 Dec 99999 23:59:59 GMT",
    "gzip",
    "GZIP",
    "br",
    "gzip, gzip",
]
HEADER_VALUES += [
    "identity",
    "http://[bad",
    "//",
    "https://a:b@c/",
    "http://x:99999/",
    "\x00",
    "\udc80",
    "x" * 9000,
    "\u202e",
]


@dataclass(frozen=True)
class Input:
    """A response to the call of a sample; ``chunks`` are the parts of the body."""

    seed: int
    sample: int
    status: int
    headers: dict[str, str]
    chunks: tuple[bytes, ...]

    @property
    def call(self):
        return samples()[self.sample].call


def make(seed: int) -> Input:
    """Return the input of a seed, always the same."""
    dice = random.Random(seed)
    known = samples()
    sample = dice.randrange(len(known))
    origin = known[sample]
    status = origin.status if dice.random() < 0.7 else dice.choice(STATUSES)
    (change,) = dice.choices([_edited, _changed, _spliced, _grown, _bomb, _noise], [30, 45, 6, 12, 2, 5])
    body = change(dice, origin.body)
    headers = dict(origin.headers)
    while dice.random() < 0.4:
        headers[dice.choice(HEADER_NAMES)] = dice.choice(HEADER_VALUES)
    if dice.random() < 0.25:
        body = gzip.compress(body, 1, mtime=0)
        headers["Content-Encoding"] = "gzip"
        if dice.random() < 0.3:
            body = _edit(dice, body)
    return Input(seed, sample, status, headers, tuple(_cut(dice, body)))


def _edited(dice, text):
    return _edit(dice, text.encode())


def _edit(dice, body):
    """Change bytes here and there."""
    data = bytearray(body)
    for _ in range(dice.randint(1, 6)):
        at = dice.randint(0, len(data))
        end = min(len(data), at + dice.choice([1, 1, 2, 8, 40]))
        what = dice.randrange(6)
        if what == 0:
            del data[at:end]
        elif what == 1:
            data[at:at] = dice.choice(TOKENS)
        elif what == 2:
            data[at:end] = dice.choice(TOKENS)
        elif what == 3:
            data[at:at] = data[at:end] * dice.randint(1, 3)
        elif what == 4 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif what == 5 and dice.random() < 0.3:
            del data[at:]
    return bytes(data)


def _changed(dice, text):
    """Change the JSON into other valid JSON."""
    data = json.loads(text)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 6])):
        places = list(_places(data))
        if not places:
            break
        holder, key = dice.choice(places)
        what = dice.randrange(8)
        if what <= 3:
            is_time = str(key).endswith("_on") and dice.random() < 0.5
            holder[key] = copy.deepcopy(dice.choice(TIMES if is_time else VALUES))
        elif what == 4:
            del holder[key]
        elif what == 5:
            other, there = dice.choice(places)
            holder[key] = copy.deepcopy(other[there])
        elif what == 6:
            holder[key] = _nested(dice, holder[key], dice.choice([1, 2, 30, 120]))
        elif isinstance(holder, list):
            holder.insert(dice.randint(0, len(holder)), copy.deepcopy(dice.choice([holder[key], *OTHERS])))
        else:
            holder[dice.choice(KEYS)] = holder.pop(key)
    return _dumped(dice, data)


def _spliced(dice, text):
    """Take the response to another call, or halves of two."""
    other = dice.choice(samples()).body
    if dice.random() < 0.5:
        return other.encode()
    return text[: dice.randint(0, len(text))].encode() + other[dice.randint(0, len(other)) :].encode()


def _grown(dice, text):
    """Generate a random tree with known names."""

    def grow(levels):
        if levels == 0 or dice.random() < 0.3:
            return dice.choice(VALUES)
        if dice.random() < 0.3:
            return [grow(levels - 1) for _ in range(dice.randint(0, 3))]
        return {dice.choice(KEYS): grow(levels - 1) for _ in range(dice.randint(0, 5))}

    return _dumped(dice, {dice.choice(KEYS): grow(4) for _ in range(6)})


def _bomb(dice, text):
    """Make it deep, wide or long."""
    many = dice.choice([500, 990, 5_000, 100_000])
    deep = dice.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"items":', b"}]")])
    bombs = [
        deep[0] * many + b"1" + deep[1] * many,
        deep[0] * many,
        b'{"id": "j", "state": "RUNNING", "username": "me", "result": ' + deep[0] * many + b"1" + deep[1] * many + b"}",
        b'{"items": [' + b",".join([b"{}"] * many) + b"]}",
        b'{"items": [' + b"[]," * (3 * many) + b"0]}",
        b'{"id": "' + b"x" * many + b'", "state": "' + b"\xc3\x9f" * many + b'", "username": "me"}',
        b'{"id": ' + b"9" * many + b"}",
        b'{"message": "' + b"\\n" * many + b'", "code": 1e' + b"9" * many + b"}",
        b"<" * many,
        b" " * many,
    ]
    return dice.choice(bombs)


def _noise(dice, text):
    return dice.randbytes(dice.choice([0, 1, 3, 60, 500]))


def _dumped(dice, data):
    text = json.dumps(data, ensure_ascii=dice.random() < 0.7)
    if dice.random() < 0.5:
        # Numbers that become infinite.
        text = text.replace("Infinity", "1e999")
    while dice.random() < 0.1:
        # A duplicate key.
        at = text.find("{", dice.randrange(len(text)))
        if at >= 0:
            text = f'{text[: at + 1]}"{dice.choice(KEYS)}": {json.dumps(dice.choice(VALUES))}, {text[at + 1 :]}'
    return text.encode("utf-8", "surrogatepass")


def _places(data, levels=30):
    if not levels:
        return
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(pairs):
        yield data, key
        yield from _places(value, levels - 1)


def _nested(dice, value, levels):
    for _ in range(levels):
        value = [value] if dice.random() < 0.5 else {dice.choice(KEYS): value}
    return value


def _cut(dice, body):
    while body:
        size = dice.choice([1, 7, 100, 4096, len(body), len(body)])
        yield body[:size]
        body = body[size:]
