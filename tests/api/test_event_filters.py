from __future__ import annotations

import pytest

from gitops.api import eventfilters
from gitops.engine.events import Actor, Event


def _event(kind: str = "container", action: str = "start", **attributes: str) -> Event:
    return Event(kind, action, Actor("abcdef123456", attributes), "local", 1, 1_000_000_000)


@pytest.mark.parametrize(
    ("filters", "is_wanted"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["image", "network"]}, False),
        ({"event": ["die", "start"]}, True),
        ({"container": ["web"]}, True),
        ({"container": ["abcdef"]}, True),
        ({"container": ["other"]}, False),
        ({"image": ["busybox"]}, False),
        ({"label": ["tier"]}, True),
        ({"label": ["tier=front"]}, True),
        ({"label": ["tier=front", "missing"]}, False),
        ({"scope": ["swarm"]}, False),
        ({"type": ["container"], "event": ["stop"]}, False),
    ],
)
def test_words_of_a_key_are_alternatives_and_keys_must_all_match(
    filters: dict[str, list[str]], is_wanted: bool
) -> None:
    assert eventfilters.matches(_event(name="web", tier="front"), filters) is is_wanted


def test_an_action_with_an_argument_is_meant_by_its_word() -> None:
    event = _event(action="health_status: healthy")
    assert eventfilters.matches(event, {"event": ["health_status"]})
    assert eventfilters.matches(event, {"event": ["health_status: healthy"]})
    assert not eventfilters.matches(event, {"event": ["health_status: unhealthy"]})


def test_an_image_is_meant_without_its_tag() -> None:
    event = Event("image", "pull", Actor("nginx:1", {"name": "nginx"}), "local", 1, 1)
    assert eventfilters.matches(event, {"image": ["nginx"]})
    assert eventfilters.matches(event, {"image": ["nginx:1"]})
    assert not eventfilters.matches(event, {"image": ["nginx:2"]})
