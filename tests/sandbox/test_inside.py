"""The world behind the Connector port keeps the port's promises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.clock import HandClock
from daemon.domain.attempt import NOT_CONNECTED, Result
from daemon.domain.notice import Dispatch, Notice, NoticeKind
from daemon.domain.rule import Severity
from daemon.domain.shape import Absent, Page, Present
from daemon.domain.value import Unknown
from daemon.engine.ports import Channel, Connector, Unreachable
from daemon.sandbox.inside import InsideConnector, by_hand
from daemon.sandbox.scenario import parse
from daemon.sandbox.shops import shapes, shop_world
from daemon.sandbox.world import World

START = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Face:
    """A world with the connectors of one shop and a channel."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.world: World = shop_world(START)
        self.now = by_hand(START, self.clock)

    def connector(self, name: str) -> InsideConnector:
        return InsideConnector(name, shapes()[name], self.world, self.now)

    def plant(self, *numbers: str, **more: Any) -> None:
        rows = [{"posting_number": number, **more.pop("row", {})} for number in numbers]
        self.world.plant(parse({"name": "a fault", "world": {"ozon-db.orders": rows}, **more}), self.now())

    async def pages(self, size: int = 1000, cursor: str | None = None, since: datetime | None = None) -> list[Page]:
        listing = self.connector("ozon-db").list("orders", None, since, cursor, self.now(), size, False)
        return [page async for page in listing]

    async def send(self, number: str = "OZ-1") -> Any:
        service = self.connector("ozon-integration")
        request = service.prepare("upload_order", {"id": number, "number_type": "posting_number"}, "k")
        return await service.perform(request)


@pytest.fixture
def face() -> Face:
    return Face()


def test_it_is_a_connector_and_a_channel(face: Face) -> None:
    connector: Connector = face.connector("ozon-db")
    channel: Channel = face.connector("telegram")
    assert connector.name == "ozon-db"
    assert channel


async def test_a_listing_goes_on_from_its_cursor(face: Face) -> None:
    face.plant("OZ-1", "OZ-2", "OZ-3")
    pages = await face.pages(size=2)
    assert [[row["posting_number"] for row in page.records] for page in pages] == [["OZ-1", "OZ-2"], ["OZ-3"]]
    assert pages[-1].cursor is None
    assert [row["posting_number"] for page in await face.pages(cursor=pages[0].cursor) for row in page.records] == ["OZ-3"]


async def test_what_has_left_the_window_is_not_listed_but_answers_by_key(face: Face) -> None:
    face.plant("OZ-1", row={"created_at": "-61d"})
    assert [page.records for page in await face.pages()] == [()]
    assert isinstance((await face.connector("ozon-db").ask("orders", "posting_number", ["OZ-1"], True))["OZ-1"], Present)


async def test_every_asked_key_has_its_answer(face: Face) -> None:
    face.plant("OZ-1", row={"status": None})
    answers = await face.connector("ozon-db").ask("orders", "market_order_id", ["MOZ-1", "MOZ-2"], False)
    assert answers["MOZ-2"] == Absent()
    present = answers["MOZ-1"]
    assert isinstance(present, Present)
    assert present.records[0]["status"] == Unknown("status is null")
    assert present.records[0]["posting_number"] == "OZ-1"


async def test_a_system_that_is_down_is_unreachable_and_never_absent(face: Face) -> None:
    face.plant("OZ-1", then=[{"at": "1m", "set": {"ozon-db": "down", "ozon-integration": "down"}}])
    await face.clock.move(60)
    with pytest.raises(Unreachable):
        await face.pages()
    with pytest.raises(Unreachable):
        await face.connector("ozon-db").count("orders", face.now())
    answers = await face.connector("ozon-db").ask("orders", "posting_number", ["OZ-1"], True)
    assert isinstance(answers["OZ-1"], Unknown)
    outcome = await face.send()
    assert (outcome.result, outcome.reason) == (Result.LATER, NOT_CONNECTED)


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("done", Result.DONE),
        ("no_effect", Result.DONE),
        ("refused", Result.REFUSED),
        ("later", Result.LATER),
        (500, Result.UNKNOWN),
        ("html", Result.UNKNOWN),
        ("reset", Result.UNKNOWN),
        ("timeout", Result.UNKNOWN),
        ("timeout_after_effect", Result.UNKNOWN),
    ],
)
async def test_an_answer_is_classified_by_what_is_known_of_it(face: Face, word: object, result: Result) -> None:
    face.plant("OZ-1", calls={"ozon-integration.upload_order": word})
    assert (await face.send()).result is result


async def test_a_wait_that_is_asked_for_is_counted_from_the_answer(face: Face) -> None:
    face.plant("OZ-1", calls={"ozon-integration.upload_order": {"answer": "later", "retry_after": "30s"}})
    await face.clock.move(60)
    assert (await face.send()).retry_at_db == START + timedelta(seconds=90)


@pytest.mark.parametrize("args", [{}, {"id": None, "number_type": "x"}, {"id": Unknown("why"), "number_type": "x"}])
def test_what_cannot_be_said_is_no_request(face: Face, args: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ozon-integration\.upload_order"):
        face.connector("ozon-integration").prepare("upload_order", args, "k")


def test_a_request_is_the_same_each_time_and_carries_its_key(face: Face) -> None:
    args = {"id": "OZ-1", "number_type": "posting_number"}
    first, second = (face.connector("ozon-integration").prepare("upload_order", args, "k") for _ in range(2))
    assert first == second
    assert first.headers == {"Idempotency-Key": "k"}


async def test_a_person_who_is_told_reads_title_text_and_evidence(face: Face) -> None:
    change = {"ozon-db.orders": [{"posting_number": "OZ-1", "bitrix_order_id": "7"}]}
    face.plant("OZ-1", then=[{"after": "told", "at": "2m", "change": change}])
    notice = Notice(
        id="n", problem="p", rule="r", episode=1, kind=NoticeKind.BEGIN, sequence=1, contact="team",
        severity=Severity.WARNING, at=START, title="title", text="OZ-1", ours="evidence",
    )  # fmt: skip
    outcome = await face.connector("telegram").deliver(Dispatch("d", notice, "team", "telegram", {}))
    assert outcome.result is Result.DONE
    assert face.world.messages[0].text == "title\nOZ-1\nevidence"
    assert face.world.messages[0].to == "team"
    await face.clock.move(120)
    found = (await face.pages())[0].records
    assert found[0]["bitrix_order_id"] == "7"
