"""What happened on this engine, told to whoever listens: the source of `GET /events`.

Owns the last 256 events, so that a listener can ask for what it missed, and the listeners' queues. A listener that
doesn't keep up loses its subscription with an error, never single events. Belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec

from gitops import errors
from gitops.objects import base

HISTORY = 256
"""Events kept for `since`, as many as Docker keeps."""
QUEUE = 4096
"""Events that a listener may lag behind."""


class Actor(base.Full, frozen=True):
    """The object that an event is about."""

    id: str = msgspec.field(name="ID")
    attributes: dict[str, str] = msgspec.field(default_factory=dict)


class Event(base.Full, frozen=True):
    """One line of GET /events; `time` in seconds and `time_ns` in nanoseconds since the epoch."""

    type: str
    action: str
    actor: Actor
    scope: str = msgspec.field(name="scope")
    time: int = msgspec.field(name="time")
    time_ns: int = msgspec.field(name="timeNano")


class Subscription:
    """An async iterator over events, registered from the moment it exists; close it, or use it as a context manager."""

    def __init__(self, bus: EventBus, backlog: list[Event], size: int) -> None:
        self._bus = bus
        self._queue: deque[Event] = deque(backlog)
        self._size = size + len(backlog)
        self._wake = asyncio.Event()
        self._closed = False
        self._overrun = False

    def close(self) -> None:
        """End it: the iteration stops after what is queued. Twice does no harm."""
        self._closed = True
        self._wake.set()
        self._bus._forget(self)

    def _deliver(self, event: Event) -> None:
        if len(self._queue) >= self._size:
            self._overrun = True
            self.close()
            return
        self._queue.append(event)
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._overrun:
                raise errors.Unavailable("events came faster than they were read: subscribe again with `since`")
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventBus:
    """Publishes events to subscriptions and remembers the last ones."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._subscriptions: set[Subscription] = set()
        self._last_ns = 0

    def publish(
        self, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None, *, scope: str = "local"
    ) -> Event:
        """Tell everybody. `type` is `container`, `image`, `network`, `volume`, …; never blocks."""
        # Strictly rising, so that `since` the last event seen can't skip one of the same nanosecond.
        self._last_ns = now = max(time.time_ns(), self._last_ns + 1)
        event = Event(
            type=type,
            action=action,
            actor=Actor(id=id, attributes=dict(attributes or {})),
            scope=scope,
            time=now // base.SECOND,
            time_ns=now,
        )
        self._history.append(event)
        for subscription in tuple(self._subscriptions):
            subscription._deliver(event)
        return event

    def subscribe(self, *, since_ns: int | None = None) -> Subscription:
        """Everything from now on; with `since_ns` (since the epoch) first what is remembered from then on."""
        backlog = [] if since_ns is None else self.recent(since_ns)
        subscription = Subscription(self, backlog, QUEUE)
        self._subscriptions.add(subscription)
        return subscription

    def recent(self, since_ns: int = 0, until_ns: int | None = None) -> list[Event]:
        """The remembered events in [since, until], oldest first."""
        return [
            event
            for event in self._history
            if event.time_ns >= since_ns and (until_ns is None or event.time_ns <= until_ns)
        ]

    def close(self) -> None:
        """End every subscription."""
        for subscription in tuple(self._subscriptions):
            subscription.close()

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
