"""Couriers: one for each target, with what it still has to deliver; and the heartbeat."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread

from ccproxy_supervisor.core.contacts import Contact, Contacts, quiet_at
from ccproxy_supervisor.core.model import Journal, Note
from ccproxy_supervisor.core.notices import Notice
from ccproxy_supervisor.core.outbox import Outbox
from ccproxy_supervisor.edge.notify.send import UndeliveredError, deliver, post

FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0  # seconds
PATIENCE = 3600.0  # seconds after which a notice is not worth delivering any more
WAITING = 50  # notices that may wait for a target that cannot be reached
LOOK = 60.0  # seconds between two looks at whether quiet hours are over: a sleeping computer does not count them

Deliver = Callable[[Contact, Notice, str], None]


class Delivery:
    """Delivers to one target, in order, in a thread."""

    def __init__(self, contact: Contact, host: str, journal: Journal, deliver: Deliver) -> None:
        self.contact, self._host, self._journal, self._deliver = contact, host, journal, deliver
        self.outbox = Outbox(contact.urgent)
        self._waiting: deque[tuple[float, Notice]] = deque(maxlen=WAITING)
        self._failing = False
        self._more = anyio.Event()

    def take(self, notice: Notice) -> None:
        self._waiting.append((anyio.current_time(), notice))
        self._more.set()

    async def run(self) -> None:
        while True:
            while self._waiting:
                first = self._waiting[0]
                await self._bring(*first)
                if self._waiting[0] is first:  # not pushed out by newer ones meanwhile
                    self._waiting.popleft()
            self._more = anyio.Event()
            await self._more.wait()

    async def _bring(self, since: float, notice: Notice) -> None:
        delay = FIRST_RETRY
        while True:
            try:
                bring = partial(self._deliver, self.contact, notice, self._host)
                await anyio.to_thread.run_sync(bring, abandon_on_cancel=True)
            except UndeliveredError as error:
                self._tell(str(error))
            else:
                return self._tell(None)
            if anyio.current_time() + delay > since + PATIENCE:
                lost = {"target": self.contact.kind, "reason": "given up", "title": notice.title}
                return self._journal(Note("notice.dropped", "warning", lost))
            await anyio.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY)

    def _tell(self, reason: str | None) -> None:
        """Note the first failure, and the first success after it."""
        if (reason is not None) is self._failing:
            return
        self._failing = reason is not None
        facts = {"target": self.contact.kind} | ({"reason": reason} if reason else {})
        self._journal(Note("notice.failed", "warning", facts) if reason else Note("notice.resumed", fields=facts))


class Notifier:
    """Hands notices to the deliveries. *well* says whether the service serves: then the heart beats."""

    def __init__(
        self, contacts: Contacts, host: str, well: Callable[[], bool], journal: Journal,
        deliver: Deliver = deliver, clock: Callable[[], time.struct_time] = time.localtime,
    ) -> None:  # fmt: skip
        self._host, self._well, self._journal, self._deliver, self._clock = host, well, journal, deliver, clock
        self._changed = anyio.Event()
        self._deliveries: dict[Contact, Delivery] = {}
        self.adopt(contacts)

    def adopt(self, contacts: Contacts) -> None:
        """Go on with other *contacts*; who stays keeps what is still to be delivered."""
        self._contacts = contacts
        known = self._deliveries
        self._deliveries = {
            each: known.get(each) or Delivery(each, self._host, self._journal, self._deliver)
            for each in contacts.targets
        }
        self._changed.set()

    def tell(self, notice: Notice) -> None:
        now = self._clock()
        for delivery in self._deliveries.values():
            for each in delivery.outbox.put(notice, time.strftime("%H:%M", now), quiet=self._quiet(now)):
                delivery.take(each)

    async def run(self) -> None:
        while True:
            self._changed = anyio.Event()
            async with anyio.create_task_group() as tasks:
                for delivery in self._deliveries.values():
                    tasks.start_soon(delivery.run)
                if self._contacts.quiet:
                    tasks.start_soon(self._wake)
                if self._contacts.heartbeat:
                    tasks.start_soon(self._beat)
                await self._changed.wait()
                tasks.cancel_scope.cancel()

    def _quiet(self, now: time.struct_time) -> bool:
        return quiet_at(self._contacts.quiet, now.tm_hour * 60 + now.tm_min)

    async def _wake(self) -> None:
        while True:
            await anyio.sleep(LOOK)
            if not self._quiet(self._clock()):
                for delivery in self._deliveries.values():
                    for each in delivery.outbox.end():
                        delivery.take(each)

    async def _beat(self) -> None:
        failing = False
        while True:
            if self._well():
                try:
                    beat = partial(post, self._contacts.heartbeat, {}, b"", "GET")
                    await anyio.to_thread.run_sync(beat, abandon_on_cancel=True)
                except UndeliveredError as error:
                    if not failing:
                        self._journal(Note("heartbeat.failed", "warning", {"reason": str(error)}))
                    failing = True
                else:
                    failing = False
            await anyio.sleep(self._contacts.interval)
