from __future__ import annotations

import base64
import html
import json
import traceback
from urllib.parse import quote, quote_plus

import pytest

from airflow_sb_provider.api.masking import Mask
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesConnectionError, SevenBridgesReplyLost

HEX = "3259c50e1ac5426ea8f1273259740f74"
JWT = "eyJhbGciOi.JIUzI1NiIsInR5.cCI6IkpXVCJ9-x_y"
ODD = "Ab1/Cd2+Ef3=Gh4&Ij5%Kl6/Mn7+"
TOKENS = pytest.mark.parametrize("token", [HEX, JWT, ODD], ids=["hex", "jwt", "odd"])


def base64_of(text):
    return base64.b64encode(text.encode()).decode()


def url_base64_of(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


SPELLINGS = {
    "plain": lambda token: token,
    "upper case": str.upper,
    "lower case": str.lower,
    "in JSON": lambda token: json.dumps(token)[1:-1],
    "in JSON, slashes escaped": lambda token: token.replace("/", "\\/"),
    "in JSON, all escaped": lambda token: "".join(f"\\u{ord(mark):04x}" for mark in token),
    "in JSON, all escaped, upper case": lambda token: "".join(f"\\u{ord(mark):04X}" for mark in token),
    "in an address": lambda token: quote(token, safe=""),
    "in a form": quote_plus,
    "in an address, all escaped": lambda token: "".join(f"%{ord(mark):02x}" for mark in token),
    "in an address, escaped twice": lambda token: quote("".join(f"%{ord(mark):02X}" for mark in token)),
    "in HTML": html.escape,
    "in HTML, decimal": lambda token: "".join(f"&#{ord(mark)};" for mark in token),
    "in HTML, hexadecimal": lambda token: "".join(f"&#x{ord(mark):x};" for mark in token),
    "base64": base64_of,
    "base64 for addresses": url_base64_of,
    "base64 of a user and it": lambda token: base64_of(f"user:{token}"),
    "base64 of no user and it": lambda token: base64_of(f":{token}"),
    "base64 of a header": lambda token: base64_of(f"Basic {token}\r\n"),
    "base64 in an address": lambda token: quote(base64_of(token), safe=""),
}
spelled = pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
PLACES = [
    "{}",
    "You sent X-SBG-Auth-Token: {} and that is wrong.",
    '{{"a":"{}"}}',
    "<b>{}</b>",
    "?a=b&token={}&c",
    "({})",
]


def parts_of(text, size):
    return (text[at : at + size] for at in range(len(text) - size + 1))


@TOKENS
@spelled
@pytest.mark.parametrize("place", PLACES)
def test_every_encoding_of_the_token_is_masked(token, spell, place):
    hidden = Mask(token).parts(place.format(spell(token)))
    assert not any(part in hidden for part in parts_of(spell(token), 12))
    assert "***" in hidden


@TOKENS
@spelled
def test_every_encoding_of_the_whole_token_in_a_response_is_masked(token, spell):
    hidden = Mask(token).whole(f'"{spell(token)}"')
    if spell not in (str.lower, str.upper) or token == HEX:
        assert "***" in hidden
    assert spell(token) not in hidden or spell is str.lower


@pytest.mark.parametrize("spell", [each for name, each in SPELLINGS.items() if "twice" not in name])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cut", [slice(0, 20), slice(0, 13), slice(-13, None), slice(7, 25), slice(9, None)])
def test_a_part_of_the_token_is_masked(spell, place, cut):
    hidden = Mask(HEX).parts(place.format(spell(HEX[cut])))
    assert not any(part in hidden for part in parts_of(spell(HEX[cut]), 11))


def test_a_token_split_over_lines_is_masked():
    encoded = base64_of(f"user:{HEX}")
    text = f"{HEX[:16]}\n{HEX[16:]} {encoded[:24]}\n{encoded[24:]}"
    hidden = Mask(HEX).parts(text)
    assert hidden == "***\n*** ***\n***"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Export of file 567890abc9b0307bc0414164 to rfranklin/output/a%20b.vcf failed (HTTP 403, code 9006).",
        "https://docs.sevenbridges.com/reference/api-status-codes?x=1&amp;y=2 \\u00e9 \\n ***",
        "3259c50 74",
        "=====%%%%%&&&&&\\\\\\\\;;;;; " + "A" * 500,
    ],
)
def test_other_texts_are_unchanged(text):
    assert Mask(HEX).parts(text) == text
    assert Mask(HEX).whole(text) == text


def test_ids_that_resemble_the_token_are_not_masked_in_a_response():
    text = f"{HEX[:24]} {HEX[8:]}"
    assert Mask(HEX).whole(text) == text


def test_words_of_a_token_made_of_words_are_not_masked():
    mask = Mask("local-platform-demonstration-token-0123456789")
    assert mask.parts("The platform is a demonstration.") == "The platform is a demonstration."


@pytest.mark.parametrize("secret", ["", "username", "x" * 15])
def test_a_token_that_is_too_short_masks_nothing(secret):
    assert Mask(secret).parts(f"a {secret} b") == f"a {secret} b"


@pytest.mark.parametrize(
    "error",
    [
        SevenBridgesApiError(400, 1, f"a {HEX}", f"http://x/{HEX}", HEX),
        SevenBridgesConnectionError(f"a {HEX}"),
        SevenBridgesReplyLost(f"a {HEX}"),
    ],
)
def test_every_text_of_an_error_is_masked(error):
    Mask(HEX).error(error)
    assert HEX not in repr(vars(error)) + repr(error.args) + str(error) + "".join(traceback.format_exception(error))
    assert "***" in str(error)
