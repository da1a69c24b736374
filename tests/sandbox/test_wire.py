"""The same world over real sockets: databases that answer, services that fail as they are told, receivers that keep."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from sentry_sdk.envelope import Envelope

from daemon.sandbox.faults import faults
from daemon.sandbox.scenario import Answer, Word, parse
from daemon.sandbox.shops import SHOPS, shop_world
from daemon.sandbox.wire.sandbox import Sandbox
from daemon.sandbox.wire.telegram import Refused, read
from daemon.sandbox.world import Mute, Spoken, Switched

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
HEALTHY = 40


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=0.5) as client:
        yield client


async def rows(sandbox: Sandbox, shop: str, question: str, *values: object) -> list[dict[str, Any]]:
    url = sandbox.environment[f"{shop.upper()}_DB_URL"]
    async with await psycopg.AsyncConnection.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        return await (await connection.execute(question, values)).fetchall()  # type: ignore[arg-type]


async def order(sandbox: Sandbox, shop: str, number: str) -> dict[str, Any]:
    found = await rows(sandbox, shop, "SELECT * FROM orders WHERE posting_number = %s", number)
    return found[0]


async def plant(sandbox: Sandbox, number: str, **more: Any) -> None:
    world = {"ozon-db.orders": [{"posting_number": number, **more.pop("row", {})}]}
    await sandbox.plant(parse({"name": number, "world": world, **more}))


async def send(sandbox: Sandbox, client: httpx.AsyncClient, number: str, key: str = "") -> httpx.Response:
    url, token = sandbox.environment["OZON_INTEGRATION_URL"], sandbox.environment["OZON_INTEGRATION_TOKEN"]
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    return await client.post(f"{url}/upload_order", json={"id": number, "number_type": "posting_number"}, headers=headers)


async def test_the_databases_hold_healthy_orders_in_the_shops_own_zone(sandbox: Sandbox) -> None:
    question = "SELECT max(created_at) AS last, count(*) AS n FROM orders WHERE posting_number LIKE 'kaspi-%%'"
    found = await rows(sandbox, "kaspi", question)
    almaty = (START + timedelta(hours=5)).replace(tzinfo=None)
    assert found == [{"last": almaty - timedelta(hours=1) - SHOPS[2].apart, "n": HEALTHY}]


async def test_the_reader_may_only_read(sandbox: Sandbox) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await rows(sandbox, "ozon", "DELETE FROM orders RETURNING 1")


async def test_a_planted_order_stands_in_the_table_with_null_where_it_is_unreadable(sandbox: Sandbox, now: Any) -> None:
    await plant(sandbox, "W-1", row={"status": None, "amount": 12})
    found = await order(sandbox, "ozon", "W-1")
    assert found["status"] is None
    assert found["market_order_id"] == "MW-1"
    assert found["created_at"] == (now.at + timedelta(hours=2)).replace(tzinfo=None)


async def test_a_call_that_succeeds_has_changed_the_database_before_it_answers(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    await plant(sandbox, "W-2")
    answer = await send(sandbox, client, "W-2")
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert (await order(sandbox, "ozon", "W-2"))["bitrix_order_id"].isdigit()


async def test_silence_lasts_until_the_client_leaves_and_the_effect_is_there(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    await plant(sandbox, "W-3", calls={"ozon-integration.upload_order": "timeout_after_effect"})
    with pytest.raises(httpx.ReadTimeout):
        await send(sandbox, client, "W-3")
    assert (await order(sandbox, "ozon", "W-3"))["bitrix_order_id"].isdigit()


async def test_a_reset_is_a_reset(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    await plant(sandbox, "W-4", calls={"ozon-integration.upload_order": "reset"})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await send(sandbox, client, "W-4")


async def test_a_wait_that_is_asked_for_stands_in_the_header(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    await plant(sandbox, "W-5", calls={"ozon-integration.upload_order": {"answer": "later", "retry_after": "3s"}})
    answer = await send(sandbox, client, "W-5")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")


async def test_a_stranger_is_not_served_and_not_counted(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    before = len(sandbox.world.calls)
    answer = await client.post(f"{sandbox.environment['OZON_INTEGRATION_URL']}/upload_order", json={})
    assert answer.status_code == 401
    assert len(sandbox.world.calls) == before


async def test_the_worlds_time_moves_the_tables(sandbox: Sandbox, now: Any) -> None:
    change = {"ozon-db.orders": [{"posting_number": "W-6", "status": "cancelled"}]}
    then = [{"at": "5m", "change": change}, {"at": "9m", "remove": {"ozon-db.orders": "W-6"}}]
    await plant(sandbox, "W-6", then=then)
    now.at += timedelta(minutes=5)
    await sandbox.live(lambda: None)
    assert (await order(sandbox, "ozon", "W-6"))["status"] == "cancelled"
    now.at += timedelta(minutes=4)
    await sandbox.live(lambda: None)
    assert not await rows(sandbox, "ozon", "SELECT 1 FROM orders WHERE posting_number = 'W-6'")


async def test_a_database_that_goes_down_breaks_connections_until_it_is_back(sandbox: Sandbox) -> None:
    url = sandbox.environment["KASPI_DB_URL"]
    held = await psycopg.AsyncConnection.connect(url)
    await sandbox.live(lambda: sandbox.world.switch("kaspi-db", up=False))
    with pytest.raises(psycopg.OperationalError):
        await held.execute("SELECT 1")
    await held.close()
    with pytest.raises(psycopg.OperationalError):
        await psycopg.AsyncConnection.connect(url)
    await sandbox.live(lambda: sandbox.world.switch("kaspi-db", up=True))
    assert await rows(sandbox, "kaspi", "SELECT 1 AS one") == [{"one": 1}]


async def test_a_service_that_goes_down_comes_back_on_its_port(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    await plant(sandbox, "W-7")
    await sandbox.live(lambda: sandbox.world.switch("ozon-integration", up=False))
    with pytest.raises(httpx.ConnectError):
        await send(sandbox, client, "W-7")
    await sandbox.live(lambda: sandbox.world.switch("ozon-integration", up=True))
    assert (await send(sandbox, client, "W-7")).status_code == 200


async def test_a_chat_keeps_what_it_was_told_under_the_contacts_name(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    bot = f"{sandbox.environment['TELEGRAM_URL']}/bot{sandbox.environment['TELEGRAM_TOKEN']}"
    body = {"chat_id": "-1001", "text": "<b>W-8</b> &amp; more", "parse_mode": "HTML"}
    answer = (await client.post(f"{bot}/sendMessage", json=body)).json()
    assert answer["ok"]
    assert (sandbox.world.messages[-1].to, sandbox.world.messages[-1].text) == ("integration-team", "W-8 & more")
    assert (await client.get(f"{bot}/getMe")).json()["ok"]


async def test_a_chat_answers_as_it_is_told_to(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    bot = f"{sandbox.environment['TELEGRAM_URL']}/bot{sandbox.environment['TELEGRAM_TOKEN']}"
    later = Answer.model_validate({"answer": "later", "retry_after": "2s"})
    sandbox.world.script("telegram.deliver", [later, Answer(answer=Word.DONE)])
    kept = len(sandbox.world.messages)
    answer = await client.post(f"{bot}/sendMessage", json={"chat_id": "-1001", "text": "x"})
    assert (answer.status_code, answer.json()["parameters"]) == (429, {"retry_after": 2})
    assert len(sandbox.world.messages) == kept
    assert (await client.post(f"{bot}/sendMessage", json={"chat_id": "-1001", "text": "x"})).json()["ok"]


@pytest.mark.parametrize(
    ("body", "description"),
    [
        ({"text": "x"}, "chat not found"),
        ({"chat_id": 1, "text": " "}, "message text is empty"),
        ({"chat_id": 1, "text": "x" * 4097}, "message is too long"),
        ({"chat_id": 1, "text": "😀" * 2049}, "message is too long"),
        ({"chat_id": 1, "text": "<b>x", "parse_mode": "HTML"}, "can't parse entities"),
        ({"chat_id": 1, "text": "<b>x</i>", "parse_mode": "HTML"}, "can't parse entities"),
        ({"chat_id": 1, "text": "a < b", "parse_mode": "HTML"}, "can't parse entities"),
        ({"chat_id": 1, "text": "<order>", "parse_mode": "HTML"}, "Unsupported start tag"),
    ],
)
def test_a_message_that_telegram_refuses_is_refused(body: dict[str, Any], description: str) -> None:
    with pytest.raises(Refused, match=description):
        read(body)


def test_the_length_of_a_message_is_counted_after_its_markup() -> None:
    assert len(read({"chat_id": 1, "text": f"<b>{'x' * 4090}</b>&amp;", "parse_mode": "HTML"})[1]) == 4091


async def test_a_check_in_is_taken_and_is_no_event(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    dsn = httpx.URL(sandbox.environment["SENTRY_DSN"])
    envelope = Envelope()
    envelope.add_checkin({"check_in_id": "c1", "monitor_slug": "orderheal-r", "status": "ok"})
    url = f"http://127.0.0.1:{dsn.port}/api/1/envelope/"
    before = len(sandbox.world.messages)
    answer = await client.post(url, content=envelope.serialize(), headers={"X-Sentry-Auth": f"Sentry sentry_key={dsn.username}"})
    assert (answer.status_code, answer.json()) == (200, {})
    assert len(sandbox.world.messages) == before


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_an_event_of_sentry_is_kept_and_read(sandbox: Sandbox, client: httpx.AsyncClient, pack: Any) -> None:
    dsn = httpx.URL(sandbox.environment["SENTRY_DSN"])
    envelope = Envelope()
    envelope.add_event({"event_id": "ab" * 16, "message": "беда", "extra": {"orders": ["W-9"]}})
    url = f"http://127.0.0.1:{dsn.port}/api/1/envelope/"
    answer = await client.post(url, content=pack(envelope.serialize()), headers={"X-Sentry-Auth": f"Sentry sentry_key={dsn.username}"})
    assert answer.json() == {"id": "ab" * 16}
    assert "W-9" in sandbox.world.messages[-1].text
    assert sandbox.world.messages[-1].data["message"] == "беда"
    assert (await client.post(url, content=b"{}")).status_code == 401


async def test_the_control_page_shows_what_was_done(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    await plant(sandbox, "W-10")
    await send(sandbox, client, "W-10", "k")
    state = (await client.get(f"{sandbox.control}/state")).json()
    mine = next(found for found in state["objects"] if found["object"] == "W-10")
    assert (mine["calls"], mine["effects"], mine["repeated"]) == (1, 1, 0)
    assert "W-10" in (await client.get(sandbox.control)).text


def sends(shop: str, key: str) -> tuple[str, dict[str, str]]:
    found = next(each for each in SHOPS if each.name == shop)
    return f"{found.service}.{found.method}", {"id": key, "number_type": "posting_number"}


@pytest.mark.parametrize("fault", [fault for fault in faults() if fault.count < 100 and fault.rule.endswith("order-not-sent")], ids=lambda fault: fault.name)
async def test_both_faces_answer_the_same_calls_alike(sandbox: Sandbox, client: httpx.AsyncClient, now: Any, fault: Any) -> None:
    """The same fault, the same calls at the same times: equal answers, equal rows, equally many effects."""
    began = now.at
    inside = shop_world(began)
    kind = next(iter(fault.world))
    [alone, *_], [wired, *_] = inside.plant(fault, began), await sandbox.plant(fault)
    shop = kind.removesuffix("-db.orders")
    call, args = sends(shop, alone.key)
    service = shop.upper()
    url, token = sandbox.environment[f"{service}_INTEGRATION_URL"], sandbox.environment[f"{service}_INTEGRATION_TOKEN"]
    for step in range(4):
        now.at = began + timedelta(minutes=6 * step)
        said = inside.perform(call, args, f"{fault.name}/{step}", now.at)
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"{fault.name}/{step}"}
        try:
            answer = await client.post(f"{url}/{call.partition('.')[2]}", json=args, headers=headers)
            assert isinstance(said, Spoken)
            assert (answer.status_code, answer.text) == (said.status, said.body)
        except httpx.ReadTimeout:
            assert said is Mute.TIMEOUT
        except httpx.TransportError:
            assert said is Mute.RESET
    now.at = began + timedelta(hours=1)
    inside.advance(now.at)
    await sandbox.live(lambda: None)
    found = await rows(sandbox, shop, "SELECT * FROM orders WHERE posting_number = %s", wired.key)
    here = inside.rows[kind].get(alone.key)
    assert bool(found) is bool(here)
    if here:
        assert found[0]["status"] == here["status"]
        assert (found[0]["bitrix_order_id"] == "not_sent") is (here["bitrix_order_id"] == "not_sent")
    assert len(inside.effected(alone.key)) == len(sandbox.world.effected(wired.key))
    assert [made.word for made in inside.called(alone.key)] == [made.word for made in sandbox.world.called(wired.key)]


async def test_a_storm_is_seen_all_at_once(sandbox: Sandbox, now: Any) -> None:
    storm = next(fault for fault in faults() if fault.count >= 1000)
    await sandbox.plant(storm)
    found = await rows(
        sandbox,
        "storm",
        "SELECT count(*) AS n, count(DISTINCT xmin::text) AS t FROM orders WHERE posting_number ~ '^ST-'",
    )
    assert found == [{"n": storm.count, "t": 1}]


def test_a_switch_is_the_only_way_down() -> None:
    seen: list[object] = []
    world = shop_world(START, seen.append)
    world.switch("kaspi-db", up=False)
    assert not world.up("kaspi-db")
    assert seen == [Switched("kaspi-db", up=False)]
