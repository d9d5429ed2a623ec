"""Who watches: presence of clients, and waking of everybody whose view of a task has changed.

There are two kinds of news, so that not every message of a client wakes all others: `Changes` of
anything about a task, and the turns of its rounds, which are what a client has to hear of.
Nothing is queued. A watcher that wakes asks for the present state and sends what it has not sent
yet, so a slow one skips what no longer matters and holds no memory.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from finsecure_aggregator.clock import Clock


class Changes:
    """Wakes the watchers of a task whenever something about it has changed."""

    def __init__(self) -> None:
        self._events: dict[str, set[asyncio.Event]] = defaultdict(set)

    def notify(self, task: str) -> None:
        """Wake all watchers of a task."""
        for event in self._events.get(task, ()):
            event.set()

    @contextmanager
    def watch(
        self, tasks: Iterable[str], event: asyncio.Event | None = None
    ) -> Iterator[asyncio.Event]:
        """Give an event that is set at each change of one of the tasks; clear it before looking."""
        event = event or asyncio.Event()
        watched = frozenset(tasks)
        for task in watched:
            self._events[task].add(event)
        try:
            yield event
        finally:
            for task in watched:
                self._events[task].discard(event)
                if not self._events[task]:
                    del self._events[task]


@dataclass(eq=False)
class Watcher:
    """One client's open stream.

    Attributes:
        client: its id.
        tasks: that it would take part in, by resource name.
        event: set when it should look again.
        superseded: whether the client has opened a newer stream.
    """

    client: str
    tasks: frozenset[str]
    event: asyncio.Event = field(default_factory=asyncio.Event)
    superseded: bool = False


class Presence:
    """Which clients are connected; a client with an open stream is available for its tasks.

    Args:
        clock: time.
        changes: is told when a client comes or goes.
        turns: wakes the clients' streams.
    """

    def __init__(self, clock: Clock, changes: Changes, turns: Changes) -> None:
        self._clock = clock
        self._changes = changes
        self._turns = turns
        self._watchers: dict[str, Watcher] = {}
        self._present: dict[str, set[str]] = defaultdict(set)  # by task
        self._left_ns: dict[str, int] = {}
        self._changed_ns: dict[str, int] = {}
        self._start_ns = clock.now_ns()

    @contextmanager
    def join(self, client: str, tasks: Iterable[str]) -> Iterator[Watcher]:
        """Count the client as present while the context is open; its newest stream wins."""
        with self._turns.watch(tasks := frozenset(tasks)) as event:
            watcher = Watcher(client, tasks, event)
            old = self._watchers.get(client)
            if old is not None:
                self._leave(old)
                old.superseded = True
                old.event.set()
            self._watchers[client] = watcher
            for task in watcher.tasks:
                self._present[task].add(client)
            self._changed(watcher.tasks | (old.tasks if old is not None else frozenset()))
            try:
                yield watcher
            finally:
                if self._watchers.get(client) is watcher:
                    self._leave(watcher)
                    self._left_ns[client] = self._clock.now_ns()
                    self._changed(watcher.tasks)

    def available(self, task: str) -> frozenset[str]:
        """Ids of the clients that would take part in a task now."""
        return frozenset(self._present.get(task, ()))

    def count(self, task: str) -> int:
        """How many clients are available for a task."""
        return len(self._present.get(task, ()))

    def changed_ns(self, task: str) -> int:
        """When a client last came or went."""
        return self._changed_ns.get(task, self._start_ns)

    def absent_since_ns(self, client: str) -> int | None:
        """Since when the client is gone; None while it is present.

        A client that this process has never seen counts as gone since the process started.
        """
        if client in self._watchers:
            return None
        return self._left_ns.get(client, self._start_ns)

    def _leave(self, watcher: Watcher) -> None:
        del self._watchers[watcher.client]
        for task in watcher.tasks:
            self._present[task].discard(watcher.client)
            if not self._present[task]:
                del self._present[task]

    def _changed(self, tasks: Iterable[str]) -> None:
        for task in tasks:
            if task in self._present:
                self._changed_ns[task] = self._clock.now_ns()
            else:  # clients may name any task; what nobody is there for is forgotten
                self._changed_ns.pop(task, None)
            self._changes.notify(task)
