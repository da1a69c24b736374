"""Notices on their way out: leased from the outbox, folded, sent by their channels, settled. Ports only.

A notifier is idle until it is run; every replica has one. What it leased and did not settle comes back to some notifier
after the lease. Which message follows a failure is decided by ``notice.after_failure``; here is only the sending, the
contact's own rate, what an external contact must not see, and what nobody must: a record may hold a secret of ours.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from daemon.domain.attempt import Outcome, Result
from daemon.domain.message import words_of
from daemon.domain.notice import DeliveryState, Dispatch, after_failure
from daemon.domain.rule import Contact, Severity
from daemon.domain.value import Timescale, share
from daemon.engine.events import Noticed, Trouble
from daemon.engine.ports import Channel, Clock, Events, Outbox
from daemon.settings import Redactor

HOUR = timedelta(hours=1)
LONGEST_WAIT = timedelta(minutes=5)
"""Between two tries of a channel that answers with "later" or not at all (database time)."""

_SAID = ("title", "text", "ours", "context", "cards", "tables")

Letter = tuple[Dispatch, ...]
"""Dispatches of one episode to one contact by one channel, oldest first. They leave as one message, the newest: every
message tells all there is to tell at its time, so it says what the older ones said."""


class PostOffice(Outbox, Protocol):
    """An outbox that knows the time; the store is one."""

    async def now(self) -> datetime:
        """Rule time now."""
        ...

    async def timescale(self) -> Timescale:
        """Origin and factor."""
        ...


@dataclass(frozen=True, slots=True)
class Notifier:
    """Sends what is due. ``lease`` (database time) is how long one batch may take."""

    outbox: PostOffice
    channels: Mapping[str, Channel]
    contacts: Mapping[str, Contact]
    clock: Clock
    events: Events
    holder: str
    lease: timedelta = timedelta(seconds=60)
    limit: int = 50
    redact: Redactor = field(default_factory=Redactor)

    async def run_once(self) -> int:
        """Lease a batch and see it through; how many dispatches were settled. Channels do not wait for each other."""
        began = self.clock.monotonic()
        by_channel: dict[str, list[Dispatch]] = defaultdict(list)
        for dispatch in await self.outbox.lease(self.holder, self.limit, self.lease):
            by_channel[dispatch.via].append(dispatch)
        settled = await asyncio.gather(*(self._post(batch, began) for batch in by_channel.values()))
        return sum(settled)

    async def _post(self, batch: Sequence[Dispatch], began: float) -> int:
        """One channel's messages, one after the other. When half the lease is over, the rest is left for the next time."""
        settled = 0
        for dispatch in batch:
            if self.clock.monotonic() - began > self.lease.total_seconds() / 2:
                break
            letter = (dispatch, *await self._behind(dispatch))
            settled += await self._settle(letter, await self._send(letter[-1]))
        return settled

    async def _behind(self, dispatch: Dispatch) -> Sequence[Dispatch]:
        """The copies for ``alerts.via`` are a record of begins and ends: each goes alone."""
        return () if dispatch.mirror else await self.outbox.behind(dispatch, self.holder, self.lease)

    async def _send(self, dispatch: Dispatch) -> Outcome:
        contact = self.contacts.get(dispatch.contact)
        channel = self.channels.get(dispatch.via)
        if channel is None:
            return Outcome(Result.REFUSED, f"there is no channel {dispatch.via} any more")
        if contact is None and not dispatch.mirror:
            return Outcome(Result.REFUSED, f"there is no contact {dispatch.contact} any more")
        if contact is not None and await self._over_rate(dispatch, contact):
            return Outcome(Result.NOT_SENT, f"rate of {contact.name}: {contact.rate_per_hour} an hour")
        try:
            return await channel.deliver(self._without_secrets(addressed(dispatch, contact, self.contacts)))
        except Exception as error:  # a channel's fault is one message's, never the batch's
            self.events(Trouble("a channel raised instead of answering", {"via": dispatch.via, "error": repr(error)}))
            return Outcome(Result.UNKNOWN, type(error).__name__)

    def _without_secrets(self, dispatch: Dispatch) -> Dispatch:
        """What is said, redacted; whose and where it is stays."""
        notice = dispatch.notice
        return replace(dispatch, notice=replace(notice, **{name: self.redact.whole(getattr(notice, name)) for name in _SAID}))

    async def _over_rate(self, dispatch: Dispatch, contact: Contact) -> bool:
        """Whether the contact has had its share of this hour. What is critical is not kept from our own people."""
        if dispatch.mirror or (dispatch.notice.severity is Severity.CRITICAL and not contact.external):
            return False
        return await self.outbox.sent(contact.name, await self.outbox.now() - HOUR) >= contact.rate_per_hour

    async def _settle(self, letter: Letter, outcome: Outcome) -> int:
        now, timescale, settled = await self.outbox.now(), await self.outbox.timescale(), 0
        tried = max(one.tries for one in letter)
        for dispatch in letter:
            again = self._again(dispatch, outcome, now, timescale)
            after, following = after_failure(dispatch, outcome, self.contacts, now, again, tried)
            last = dispatch is letter[-1]
            if await self.outbox.settle(after, outcome, following if last else (), now):
                settled += 1
                self._tell(after, outcome)
        return settled

    def _again(self, dispatch: Dispatch, outcome: Outcome, now: datetime, timescale: Timescale) -> datetime:
        """When another try is worth it, in rule time: what the channel asked for, or a growing wait with jitter."""
        if outcome.retry_at_db is not None:
            return max(now, timescale.rule(outcome.retry_at_db))
        contact = self.contacts.get(dispatch.contact)
        if outcome.result is Result.NOT_SENT and contact is not None:
            return now + HOUR / max(contact.rate_per_hour, 1)
        ceiling = min(timedelta(seconds=2 ** min(dispatch.tries + 1, 16)), LONGEST_WAIT)
        return now + ceiling * (0.5 + share(f"{dispatch.id}/{dispatch.tries}") / 2) * timescale.factor

    def _tell(self, dispatch: Dispatch, outcome: Outcome) -> None:
        notice = dispatch.notice
        state = "later" if dispatch.state is DeliveryState.PENDING else dispatch.state.value
        self.events(Noticed(notice.rule, notice.id, notice.kind.value, dispatch.contact, dispatch.via, state, outcome.reason))


def addressed(dispatch: Dispatch, contact: Contact | None, contacts: Mapping[str, Contact]) -> Dispatch:
    """The dispatch as its reader may see it: an external contact gets nothing of ours, a stand-in hears whom it stands for."""
    notice = dispatch.notice
    if dispatch.mirror:
        return dispatch
    if contact is None or contact.external:
        return replace(dispatch, notice=replace(notice, ours="", context={}))
    if contact.name == notice.contact:
        return dispatch
    away = contacts.get(notice.contact)
    stands_in = words_of(contact).say("stands_in", contact=away.title if away else notice.contact)
    return replace(dispatch, notice=replace(notice, text=f"{stands_in}\n{notice.text}"))
