"""The notifier: leased, folded, sent, settled; what an outcome leads to is seen in what is sent next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from daemon.clock import HandClock
from daemon.domain.attempt import Outcome, Result
from daemon.domain.message import Card, Table
from daemon.domain.notice import Dispatch, Notice, NoticeKind, route
from daemon.domain.rule import ChannelRef, Contact, Delivery, Severity
from daemon.engine.change import Change, RuleVersion
from daemon.engine.deliver import LONGEST_WAIT, Notifier, addressed
from daemon.engine.events import Event, Noticed, Trouble
from daemon.language.hours import parse_hours
from daemon.settings import Redactor, Secret
from daemon.store.memory import MemoryStore
from tests.builders import T0, Always

OFFICE = parse_hours("Mo-Fr 09:00-18:00", "Europe/Moscow")
NIGHT = T0 + timedelta(hours=14)
"""Two at night in Moscow."""


@dataclass
class Chat:
    """A channel that answers from a script, then takes everything; keeps what it was told."""

    script: list[Outcome | Exception] = field(default_factory=list)
    got: list[Dispatch] = field(default_factory=list)

    async def deliver(self, dispatch: Dispatch) -> Outcome:
        self.got.append(dispatch)
        answer = self.script.pop(0) if self.script else Outcome(Result.DONE, reference=f"m{len(self.got)}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def titles(self) -> list[str]:
        return [one.notice.title for one in self.got]


def contact(name: str, *vias: str, **changes: Any) -> Contact:
    channels = tuple(ChannelRef(via, {"chat": name}) for via in vias or ("chat",))
    return Contact(name, name, channels, **{"hours": Always(), **changes})


def notice(id: str = "n1", title: str = "begin", **changes: Any) -> Notice:
    base = Notice(id, "p1", "r", 1, NoticeKind.BEGIN, 1, "team", Severity.WARNING, T0, title, "text", ours="ours", context={"a": 1})
    return replace(base, **changes)


class Office:
    """A memory store with a rule, channels, and a notifier on them."""

    def __init__(self, *people: Contact, start: datetime = T0, **channels: Chat) -> None:
        self.clock = HandClock()
        self.start = start
        self.store = MemoryStore(self.clock, start)
        self.contacts: Mapping[str, Contact] = {one.name: one for one in people}
        self.channels = {"chat": Chat(), **channels}
        self.events: list[Event] = []
        self.notifier = Notifier(self.store, self.channels, self.contacts, self.clock, self.events.append, "n1")

    @property
    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.clock.monotonic())

    async def write(self, *notices: Notice, alerts: str | None = None) -> None:
        """Commit notices as a cycle does, routed."""
        await self.store.activate([RuleVersion("r", "d", timedelta(minutes=5), 200, 1, "team", "enforce")], None)
        tenure = await self.store.take({"r": "d"}, "n1", timedelta(seconds=30))
        if tenure is None:
            await self.clock.move(31)
            tenure = await self.store.take({"r": "d"}, "n1", timedelta(seconds=30))
        assert tenure is not None
        ways = [way for one in notices for way in route(one, self.contacts[one.contact], self.contacts, self.now, alerts)]
        await self.store.commit(Change("r", notices=notices, dispatches=tuple(ways)), tenure)

    def said(self) -> Sequence[tuple[str, str, str]]:
        return [(one.contact, one.via, one.state) for one in self.events if isinstance(one, Noticed)]


async def test_a_message_is_sent_once_and_settled() -> None:
    office = Office(contact("team"))
    await office.write(notice())
    assert await office.notifier.run_once() == 1
    assert await office.notifier.run_once() == 0
    assert [one.address for one in office.channels["chat"].got] == [{"chat": "team"}]
    assert office.said() == [("team", "chat", "done")]


async def test_a_secret_that_a_record_holds_is_told_to_nobody_in_no_part_of_a_message() -> None:
    office = Office(contact("team"))
    said, masked = "a remark: canaryword", "a remark: [secret]"
    card, table = Card(said, (("remark", said),)), Table("a.csv", ("remark",), ((said,),))
    told = notice(title=said, text=said, ours=said, context={"subjects": [{"line": said}]}, cards=(card,), tables=(table,))
    await office.write(told)
    await replace(office.notifier, redact=Redactor([Secret("canaryword")])).run_once()
    (got,) = office.channels["chat"].got
    assert got.notice == replace(
        told, title=masked, text=masked, ours=masked, context={"subjects": [{"line": masked}]},
        cards=(Card(masked, (("remark", masked),)),), tables=(Table("a.csv", ("remark",), ((masked,),)),),
    )  # fmt: skip


async def test_what_a_night_gathered_leaves_as_one_message() -> None:
    office = Office(contact("team", hours=OFFICE), start=NIGHT)
    growth = notice("n2", "growth", kind=NoticeKind.GROWTH, sequence=2)
    other = notice("n3", "other", problem="p2")
    await office.write(notice(), growth, other)
    assert await office.notifier.run_once() == 0
    await office.clock.move(7 * 3600)
    assert await office.notifier.run_once() == 3
    assert office.channels["chat"].titles == ["growth", "other"]
    assert await office.notifier.run_once() == 0


async def test_the_record_of_begins_and_ends_is_not_folded() -> None:
    office = Office(contact("team"), record=Chat())
    await office.write(notice(), notice("n2", "end", kind=NoticeKind.END, sequence=2), alerts="record")
    while await office.notifier.run_once():
        pass
    assert office.channels["record"].titles == ["begin", "end"]
    assert office.channels["chat"].titles == ["end"]


async def test_well_again_stands_in_the_thread_of_its_episode() -> None:
    office = Office(contact("team"))
    await office.write(notice())
    await office.notifier.run_once()
    await office.write(notice("n2", "end", kind=NoticeKind.END, sequence=2))
    await office.notifier.run_once()
    assert [one.thread for one in office.channels["chat"].got] == ["", "m1"]


async def test_retry_after_is_waited_for_and_not_longer() -> None:
    until = T0 + timedelta(seconds=30)
    office = Office(contact("team"), chat=Chat([Outcome(Result.LATER, "429", retry_at_db=until)]))
    await office.write(notice())
    assert await office.notifier.run_once() == 1
    await office.clock.move(29)
    assert await office.notifier.run_once() == 0
    await office.clock.move(1)
    assert await office.notifier.run_once() == 1
    assert office.said() == [("team", "chat", "later"), ("team", "chat", "done")]


async def test_the_wait_grows_and_never_gives_up() -> None:
    office = Office(contact("team"), chat=Chat([Outcome(Result.LATER, "down")] * 20))
    await office.write(notice())
    waits = []
    while len(office.channels["chat"].got) < 21:
        began = office.now
        while not await office.notifier.run_once():
            await office.clock.move(1)
        waits.append(office.now - began)
    assert waits[1] <= timedelta(seconds=2)
    assert max(waits) <= LONGEST_WAIT
    assert waits[-1] >= LONGEST_WAIT / 2
    assert office.said()[-1] == ("team", "chat", "done")


async def test_a_channel_that_stays_away_has_the_next_one_told_as_well() -> None:
    office = Office(contact("team", "down", "chat"), down=Chat([Outcome(Result.LATER, "down")] * 99))
    await office.write(notice())
    for _ in range(200):
        await office.notifier.run_once()
        await office.clock.move(1)
    assert office.channels["chat"].titles == ["begin"]


async def test_news_that_keeps_joining_does_not_keep_it_from_the_next_channel() -> None:
    office = Office(contact("team", "chat", "mail"), mail=Chat())
    office.channels["chat"].script = [Outcome(Result.LATER)] * 40
    await office.store.activate([RuleVersion("r", "d", timedelta(minutes=5), 200, 1, "team", "enforce")], None)
    tenure = await office.store.take({"r": "d"}, "n1", timedelta(days=1))
    assert tenure is not None
    for number in range(12):
        news = notice(f"n{number}", f"event {number}", kind=NoticeKind.GROWTH, sequence=number)
        ways = route(news, office.contacts["team"], office.contacts, office.now, None)
        await office.store.commit(Change("r", notices=(news,), dispatches=ways), tenure)
        while await office.notifier.run_once():
            pass
        await office.clock.move(LONGEST_WAIT.total_seconds())
    assert len(office.channels["chat"].got) == 12
    assert office.channels["mail"].titles == [f"event {number}" for number in range(5, 12)], "from the sixth try on, and all that came later"


async def test_a_dead_channel_keeps_no_later_message_from_a_living_one() -> None:
    office = Office(contact("team", "down", "pager"), down=Chat([Outcome(Result.LATER, "down")] * 99), pager=Chat())
    severe = notice(severity=Severity.CRITICAL)
    await office.write(severe)
    await office.notifier.run_once()
    await office.write(replace(severe, id="n2", title="deadline", kind=NoticeKind.DEADLINE, sequence=2))
    await office.notifier.run_once()
    assert office.channels["pager"].titles == ["begin", "deadline"]


async def test_a_refusal_goes_to_the_next_channel_and_then_to_whoever_stands_in() -> None:
    refused = Outcome(Result.REFUSED, "chat not found")
    team = contact("team", "down", "chat", fallback="boss")
    office = Office(team, contact("boss", "pager"), down=Chat([refused]), chat=Chat([refused]), pager=Chat())
    await office.write(notice())
    while await office.notifier.run_once():
        pass
    assert office.said() == [("team", "down", "failed"), ("team", "chat", "failed"), ("boss", "pager", "done")]
    assert office.channels["pager"].got[0].notice.text.startswith("Это для team:")
    assert office.channels["chat"].got[0].notice.text == "text"


async def test_a_message_of_which_two_are_worse_than_none_is_not_sent_twice() -> None:
    office = Office(contact("team"), chat=Chat([Outcome(Result.UNKNOWN, "timeout")]))
    await office.write(notice(delivery=Delivery.AT_MOST_ONCE))
    while await office.notifier.run_once():
        await office.clock.move(600)
    assert len(office.channels["chat"].got) == 1
    assert office.said() == [("team", "chat", "failed")]


async def test_an_unknown_outcome_is_tried_again_otherwise() -> None:
    office = Office(contact("team"), chat=Chat([Outcome(Result.UNKNOWN, "timeout")]))
    await office.write(notice())
    while await office.notifier.run_once():
        await office.clock.move(600)
    assert len(office.channels["chat"].got) == 2


async def test_a_contact_gets_no_more_than_its_rate() -> None:
    office = Office(contact("team", rate_per_hour=2))
    await office.write(*(notice(f"n{n}", problem=f"p{n}") for n in range(5)))
    await office.notifier.run_once()
    assert len(office.channels["chat"].got) == 2
    await office.clock.move(3601)
    await office.notifier.run_once()
    assert len(office.channels["chat"].got) == 4


async def test_what_left_as_one_message_is_one_of_its_rate() -> None:
    office = Office(contact("team", rate_per_hour=2), chat=Chat([Outcome(Result.LATER, "down")]))
    await office.write(*(notice(f"n{n}", kind=NoticeKind.GROWTH, sequence=n + 1) for n in range(5)))
    await office.notifier.run_once()
    await office.clock.move(60)
    await office.notifier.run_once()
    await office.write(notice("n9", "end", kind=NoticeKind.END, sequence=9))
    await office.notifier.run_once()
    assert office.channels["chat"].titles[-1] == "end"


async def test_what_is_critical_is_not_kept_from_our_own_people_by_a_rate() -> None:
    office = Office(contact("team", rate_per_hour=1), contact("cdek", rate_per_hour=1, external=True))
    severe = [notice(f"n{n}", problem=f"p{n}", severity=Severity.CRITICAL) for n in range(3)]
    await office.write(*severe, *(replace(one, id=f"e{one.id}", problem=f"e{one.problem}", contact="cdek") for one in severe))
    await office.notifier.run_once()
    assert sorted(one.contact for one in office.channels["chat"].got) == ["cdek", "team", "team", "team"]


async def test_one_channel_that_raises_spoils_no_other_message() -> None:
    broken = Chat([RuntimeError("a bug")])
    office = Office(contact("team", "broken"), contact("boss"), broken=broken)
    await office.write(notice(), notice("n2", contact="boss", problem="p2"))
    assert await office.notifier.run_once() == 2
    assert ("boss", "chat", "done") in office.said()
    assert ("team", "broken", "later") in office.said()
    assert any(isinstance(one, Trouble) for one in office.events)


async def test_a_channel_or_a_contact_that_is_gone_is_known_as_undelivered() -> None:
    office = Office(contact("team", "gone"))
    await office.write(notice())
    await office.notifier.run_once()
    assert office.said() == [("team", "gone", "failed")]
    await office.write(notice("n2", problem="p2"))
    nobody = replace(office.notifier, contacts={})
    await nobody.run_once()
    assert office.said()[-1] == ("team", "gone", "failed")


async def test_what_does_not_fit_into_the_lease_is_left_for_the_next_time() -> None:
    class Slow(Chat):
        async def deliver(self, dispatch: Dispatch) -> Outcome:
            await office.clock.move(20)
            return await super().deliver(dispatch)

    office = Office(contact("team"), chat=Slow())
    await office.write(*(notice(f"n{n}", problem=f"p{n}") for n in range(5)))
    assert await office.notifier.run_once() == 2, "half of a lease of 60 seconds is over"
    await office.clock.move(60)
    assert await office.notifier.run_once() == 2


async def test_an_external_contact_gets_nothing_of_ours_but_the_record_does() -> None:
    office = Office(contact("team", external=True), record=Chat())
    await office.write(notice(), alerts="record")
    while await office.notifier.run_once():
        pass
    (outside,), (record,) = office.channels["chat"].got, office.channels["record"].got
    assert (outside.notice.ours, outside.notice.context, outside.notice.text) == ("", {}, "text")
    assert (record.notice.ours, record.notice.context) == ("ours", {"a": 1})


def test_whom_we_do_not_know_is_taken_for_a_stranger() -> None:
    sent = Dispatch("d1", notice(), "gone", "chat", {})
    assert addressed(sent, None, {}).notice.ours == ""
