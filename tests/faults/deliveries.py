"""How a request that changes something is delivered, and which response its sender gets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Delivery:
    """How a submission is delivered.

    :param done: how many of its exports are accepted: all, half or none.
    :param rest: when the others arrive: never, late, or too late.
    :param answer: the response that the sender gets.
    """

    done: str = "all"
    answer: str = "true"
    rest: str = "never"


DELIVERIES = {
    "requests do not arrive": [Delivery("none", "unsent")],
    "responses are lost": [Delivery("all", "lost"), Delivery("none", "lost"), Delivery("half", "lost")],
    "requests arrive late": [Delivery("none", "lost", "late"), Delivery("half", "lost", "late")],
    "requests arrive later than any bound": [Delivery("none", "lost", "too late")],
    "requests are delivered twice": [Delivery("twice"), Delivery("twice", "lost")],
    "maintenance is a lie": [Delivery("all", "maintenance")],
    "a rejection is a lie": [Delivery("all", "malformed")],
    "calls are rejected as a whole": [
        Delivery("none", "maintenance"),
        Delivery("none", "rejected"),
        Delivery("none", "rate limit"),
    ],
    "workers die": [Delivery("all", "killed"), Delivery("none", "killed"), Delivery("none", "killed", "late")],
    "bulk answers are in disorder": [
        Delivery("all", "short"),
        Delivery("all", "swapped"),
        Delivery("all", "brief and shuffled"),
    ],
    "items are in trouble": [
        Delivery("all", "an item in trouble"),
        Delivery("all", "no item"),
        Delivery("all", "no state"),
    ],
}
