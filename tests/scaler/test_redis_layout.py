"""Key names and stored bytes, compared with what kombu itself makes of the same input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.redis import Channel
from kombu.transport.virtual.exchange import TopicExchange

from scaler.broker.redis_layout import (
    Address,
    Binding,
    Entry,
    Layout,
    bindings_in,
    entry_in,
    eta_in,
    layout_of,
    queues_of_message,
)


def test_defaults_are_kombus() -> None:
    """Without transport options the scaler reads where kombu writes."""
    assert Layout() == Layout(
        separator=Channel.sep,
        priority_steps=tuple(Channel.priority_steps),
        key_prefix=Channel.global_keyprefix,
        unacked=Channel.unacked_key,
    )


def test_options_change_the_names() -> None:
    """Options that name keys are followed, all others ignored."""
    layout = layout_of(
        {
            "sep": ":",
            "priority_steps": [0, 1],
            "global_keyprefix": "shop-",
            "unacked_key": "held",
            "visibility_timeout": 60,
            "queue_order_strategy": "priority",
        }
    )

    assert layout.lists_of("sums") == ("shop-sums", "shop-sums:1")
    assert layout.unacked_key == "shop-held"
    assert layout.bindings_key("news") == "shop-_kombu.binding.news"


def test_wrong_options_are_all_named() -> None:
    """One message holds every wrong option."""
    with pytest.raises(ValueError, match="priority_steps") as caught:
        layout_of({"sep": "", "priority_steps": "0,3", "global_keyprefix": 1, "unacked_key": None})

    assert [line.split()[0] for line in str(caught.value).splitlines()] == [
        "priority_steps",
        "sep",
        "global_keyprefix",
        "unacked_key",
    ]


@pytest.mark.parametrize("steps", [[], [-1], [0.5], ["0"], [True], None])
def test_steps_that_are_no_list_of_numbers_are_refused(steps: object) -> None:
    """A step of another kind would name a key that nobody writes."""
    with pytest.raises(ValueError, match="priority_steps"):
        layout_of({"priority_steps": steps})


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        pytest.param(["m", "", "sums"], Address("", "sums"), id="the empty exchange"),
        pytest.param([{}, "news", "a.b"], Address("news", "a.b"), id="a named exchange"),
        pytest.param([{}, None, None], Address("", ""), id="no address at all"),
        pytest.param([{}, "news"], None, id="too short"),
        pytest.param({"a": 1, "b": 2}, None, id="of another form"),
        pytest.param([{}, 1, 2], None, id="an address of numbers"),
        pytest.param(7, None, id="a number"),
    ],
)
def test_address_is_read_from_an_entry(entry: Any, address: Address | None) -> None:
    """The unacked hash holds `[message, exchange, routing key]` as JSON."""
    found = entry_in(json.dumps(entry).encode())

    assert (found and found.address) == address


@given(st.binary())
def test_any_bytes_are_an_address_or_none(entry: bytes) -> None:
    """Garbage in the hash is nobody's message, never an exception."""
    assert entry_in(entry) is None or isinstance(entry_in(entry), Entry)
    assert eta_in(entry) is None or isinstance(eta_in(entry), float)


def test_nested_garbage_is_none() -> None:
    """JSON nested beyond Python's stack is garbage like any other."""
    assert entry_in(b"[" * 200_000) is None
    assert eta_in(b"[" * 200_000) is None


@pytest.mark.parametrize(
    ("eta", "seconds"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("2024-01-01T00:00:00+00:00", 1_704_067_200.0, id="in UTC"),
        pytest.param("2024-01-01T02:00:00.500000+02:00", 1_704_067_200.5, id="in another zone"),
        pytest.param("2024-01-01T00:00:00Z", 1_704_067_200.0, id="with a Z"),
        pytest.param("2024-01-01T00:00:00", None, id="in no zone: it may be now"),
        pytest.param("soon", None, id="no time"),
        pytest.param(7, None, id="a number"),
    ],
)
def test_eta_and_task_are_read_from_the_headers(eta: object, seconds: float | None) -> None:
    """The same message in a queue's list and in the unacked hash; what cannot be told counts as due."""
    message = {"body": "e30=", "headers": {"id": "t-1", "eta": eta}, "properties": {"delivery_tag": "d"}}

    assert eta_in(json.dumps(message).encode()) == seconds
    assert entry_in(json.dumps([message, "", "sums"]).encode()) == Entry(Address("", "sums"), "t-1", seconds)


def test_words_of_an_argument_are_not_taken_for_the_header() -> None:
    """The quick look for a message without an ETA sees the header's own bytes only."""
    headers = {"id": "t", "eta": "2024-01-01T00:00:00+00:00", "argsrepr": '("eta": null)'}

    assert eta_in(json.dumps({"headers": headers}).encode()) == 1_704_067_200.0


words = st.sampled_from(["a", "b", "news", "x-1", "*", "#"])
keys = st.lists(words, min_size=1, max_size=4).map(".".join)


@given(keys, st.lists(st.sampled_from(["a", "b", "news", "x-1"]), min_size=1, max_size=4).map(".".join))
def test_topics_match_as_kombu_matches_them(bound: str, routing_key: str) -> None:
    """A topic binding takes a routing key exactly where kombu's own exchange would."""
    exchange = TopicExchange(None)
    _, pattern, queue = exchange.prepare_bind("q", "topics", bound, {})
    expected = exchange.lookup([(bound, pattern, queue)], "topics", routing_key, None)

    members = [f"{bound}\x06\x16{pattern}\x06\x16{queue}".encode()]
    found = queues_of_message(Address("topics", routing_key), bindings_in(members, "\x06\x16"))

    assert found == expected


def test_message_of_several_queues_names_them_all() -> None:
    """One publication to a topic may lie in many queues, under one delivery tag."""
    bindings = (
        Binding("a.*", r"^a\.[^\.]+$", "one"),
        Binding("#", "^.*?$", "all"),
        Binding("b", "^b$", "no"),
    )

    assert queues_of_message(Address("topics", "a.b"), bindings) == {"one", "all"}


@pytest.mark.parametrize(
    ("address", "queues"),
    [
        pytest.param(Address("", "sums"), {"sums"}, id="the empty exchange delivers to the queue it names"),
        pytest.param(Address("direct", "k"), {"bound"}, id="a direct exchange delivers by equality"),
        pytest.param(Address("direct", "K"), set(), id="nothing bound to the key means nothing is known"),
        pytest.param(Address("", ""), set(), id="nor does an address without a name tell anything"),
    ],
)
def test_direct_message_finds_its_queue(address: Address, queues: set[str]) -> None:
    """Equality decides where a binding has no pattern."""
    assert queues_of_message(address, (Binding("k", "", "bound"),)) == queues


def test_broken_binding_takes_nothing() -> None:
    """A member of another form, or a pattern that is none, matches nothing instead of failing."""
    bindings = bindings_in([b"only\x06\x16two", b"k\x06\x16(\x06\x16q", b"\xff\xfe"], "\x06\x16")

    assert queues_of_message(Address("topics", "k"), bindings) == frozenset()
