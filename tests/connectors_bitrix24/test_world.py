"""The sandbox's portal is what the documentation, recordings and public clients of Bitrix24 take for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from b24pysdk import BitrixWebhook
from b24pysdk.api.callers import call_batch, call_batches, call_list, call_list_fast
from b24pysdk.errors import BitrixAPIError
from fast_bitrix24 import BitrixAsync
from fast_bitrix24.server_response import ErrorInServerResponseException

from daemon.sandbox.scenario import parse
from daemon.sandbox.shops import SHOPS, shop_world
from daemon.sandbox.systems.bitrix24 import COMMENTS, DEALS, healthy
from daemon.sandbox.wire.bitrix24 import Limits, User, parameters
from daemon.sandbox.wire.sandbox import HEALTHY
from daemon.sandbox.world import World
from tests.connectors_bitrix24.portal import NOW, SECRET, deals, portal_of, recorded, serving, world_of

CERTIFICATE = Path(__file__).parents[1] / "net" / "nobodys.pem"


@asynccontextmanager
async def calling(world: World, **more: Any) -> AsyncIterator[Any]:
    """A method of the portal by its name: status and body."""
    async with serving(portal_of(world, **more).application()) as url, httpx.AsyncClient() as client:

        async def call(method: str, given: Mapping[str, Any] | None = None) -> tuple[int, Any]:
            answer = await client.post(f"{url}/rest/1/{SECRET}/{method}.json", json=given or {})
            return answer.status_code, answer.json()

        yield call


async def test_a_batch_is_200_though_all_of_it_failed_and_its_empty_sections_are_lists() -> None:
    async with calling(world_of(deals(1))) as call:
        status, body = await call("batch", {"cmd": {"0": "crm.deal.get?id=x", "1": "crm.deal.get?id=5"}})
        expected = recorded("recorded_crm_get_batch_of_two_error")
        assert (status, body["result"]) == (200, expected["result"])


async def test_the_numbers_of_deals_are_text_in_one_list_and_numbers_in_the_other() -> None:
    async with calling(world_of(deals(37))) as call:
        _, old = await call("crm.deal.list", {"select": ["ID", "TITLE"]})
        _, new = await call("crm.item.list", {"entityTypeId": 2, "select": ["id", "title"]})
        assert (old["result"][0]["ID"], new["result"]["items"][0]["id"]) == ("37", 37)
        assert old.keys() == recorded("doc_crm_deal_list_200").keys()
        assert new.keys() == recorded("doc_crm_item_list_200").keys()
        assert recorded("doc_time_block_full")["time"].keys() == new["time"].keys()


@pytest.mark.parametrize("condition", [{"UF_CRM_NO_SUCH": "1"}, {"@ID": []}])
async def test_the_older_list_passes_over_a_condition_that_it_does_not_know_or_that_is_empty(condition: Any) -> None:
    async with calling(world_of(deals(1, 2, 3))) as call:
        _, body = await call("crm.deal.list", {"filter": condition})
        assert len(body["result"]) == 3


async def test_the_newer_list_refuses_a_condition_that_it_does_not_know() -> None:
    async with calling(world_of(deals(1))) as call:
        status, body = await call("crm.item.list", {"entityTypeId": 2, "filter": {"FIELD": "1"}})
        assert (status, body) == (400, recorded("doc_crm_item_list_400_invalid_filter"))


async def test_what_is_missing_has_an_error_without_a_code() -> None:
    async with calling(world_of()) as call:
        expected = recorded("composed_error_bodies")["400_deal_not_found"]
        for method, given in (("crm.deal.get", {"id": 5}), ("crm.deal.update", {"id": 5, "fields": {"TITLE": "x"}})):
            assert await call(method, given) == (400, expected["body"])


async def test_the_bucket_lets_two_requests_a_second_through_and_refuses_the_rest() -> None:
    at = [0.0]
    async with calling(world_of(), limits=Limits(bucket=3), tick=lambda: at[0]) as call:
        statuses = [(await call("profile"))[0] for _ in range(5)]
        assert statuses == [200, 200, 200, 503, 503]
        expected = recorded("composed_error_bodies")["503_QUERY_LIMIT_EXCEEDED"]["body"]
        assert (await call("profile"))[1] == expected
        at[0] = 1.0
        assert [(await call("profile"))[0] for _ in range(3)] == [200, 200, 503]


async def test_a_method_that_used_its_time_is_blocked_while_others_go_on() -> None:
    async with calling(world_of(deals(1)), limits=Limits(bucket=100, cost=300)) as call:
        for _ in range(2):
            assert (await call("crm.deal.list"))[0] == 200
        expected = recorded("composed_error_bodies")["429_OPERATION_TIME_LIMIT"]
        assert await call("crm.deal.list") == (429, expected["body"])
        status, body = await call("batch", {"cmd": {"a": "crm.deal.list", "b": "profile"}})
        assert (status, body["result"]["result_error"]["a"]["error"]) == (200, "OPERATION_TIME_LIMIT")
        assert "b" in body["result"]["result"]


async def test_a_batch_takes_fifty_commands_and_no_batch() -> None:
    async with calling(world_of(deals(1))) as call:
        _, body = await call("batch", {"cmd": {f"c{number}": "profile" for number in range(52)}})
        assert len(body["result"]["result"]) == 50
        assert body["result"]["result_error"]["c51"]["error"] == "ERROR_BATCH_LENGTH_EXCEEDED"
        _, body = await call("batch", {"cmd": {"a": "batch?x=1", "b": 7}})
        assert body["result"]["result_error"]["a"]["error"] == "ERROR_BATCH_METHOD_NOT_ALLOWED"
        assert "b" not in body["result"]["result_error"]
        _, body = await call("batch", {"halt": 1, "cmd": {"a": "crm.deal.get?id=9", "b": "profile"}})
        assert body["result"]["result"] == []


async def test_a_comment_said_twice_stands_there_twice_and_one_without_a_deal_is_refused() -> None:
    world = world_of(deals(5))
    async with calling(world) as call:
        fields = {"ENTITY_ID": 5, "ENTITY_TYPE": "deal", "COMMENT": "hello"}
        for _ in range(2):
            status, body = await call("crm.timeline.comment.add", {"fields": fields})
            assert (status, type(body["result"])) == (200, int)
        assert [row["text"] for row in world.rows[COMMENTS].values()] == ["hello", "hello"]
        assert (await call("crm.timeline.comment.add", {"fields": fields | {"ENTITY_ID": 6}}))[1]["error"] == "OWNER_NOT_FOUND"
        assert (await call("crm.timeline.comment.add", {"fields": fields | {"COMMENT": ""}}))[1]["error"] == "INVALID_ARG_VALUE"
        assert (await call("im.message.add", {"DIALOG_ID": "chat1", "MESSAGE": ""})) == (400, recorded("doc_im_message_add_400"))


async def test_rights_hide_a_deal_from_lists_and_are_told_by_number() -> None:
    user = User(admin=False, sees=lambda deal: deal["id"] == "1", scopes=("crm",))
    async with calling(world_of(deals(1, 2)), user=user) as call:
        assert [deal["ID"] for deal in (await call("crm.deal.list"))[1]["result"]] == ["1"]
        assert (await call("crm.item.get", {"entityTypeId": 2, "id": 2}))[1]["error"] == "ACCESS_DENIED"
        assert (await call("crm.item.get", {"entityTypeId": 2, "id": 3}))[1]["error"] == "NOT_FOUND"
        assert (await call("im.message.add", {"DIALOG_ID": "chat1", "MESSAGE": "hi"}))[0] == 403


async def test_a_stranger_learns_nothing() -> None:
    async with serving(portal_of(world_of(deals(1))).application()) as url, httpx.AsyncClient() as client:
        answer = await client.post(f"{url}/rest/1/anothersecret/crm.deal.list")
        assert (answer.status_code, answer.json()["error"]) == (401, "NO_AUTH_FOUND")


def test_parameters_are_read_as_php_reads_them() -> None:
    query = "filter[@ID][]=1&filter%5B%40ID%5D%5B%5D=2&select[0]=ID&start=-1&a[b][c]=d"
    assert parameters(query) == {"filter": {"@ID": {"0": "1", "1": "2"}}, "select": {"0": "ID"}, "start": "-1", "a": {"b": {"c": "d"}}}


def test_an_order_that_was_sent_has_its_deal_and_healthy_ones_share_none() -> None:
    world = shop_world(NOW)
    world.plant(parse({"name": "one", "world": {"ozon-db.orders": [{"posting_number": "OZ-1"}]}}), NOW)
    world.perform("ozon-integration.upload_order", {"id": "OZ-1", "number_type": "posting_number"}, "", NOW)
    deal = world.rows["ozon-db.orders"]["OZ-1"]["bitrix_order_id"]
    (made,) = world.find(DEALS, "posting_number", "OZ-1")
    assert made["id"] == deal
    numbers = [number for shop in SHOPS for number, _ in healthy(shop.name, shop.deals_from, HEALTHY, NOW)]
    assert len(set(numbers)) == len(numbers) == HEALTHY * len(SHOPS)
    assert deal not in numbers


# Clients that nobody here wrote


async def test_fast_bitrix24_lists_deals_gets_them_by_number_and_runs_batches() -> None:
    async with serving(portal_of(world_of(deals(*range(1, 261)))).application()) as url:
        client = BitrixAsync(f"{url}/rest/1/{SECRET}/", verbose=False)
        listed = await client.get_all("crm.deal.list", {"select": ["ID", "TITLE"], "filter": {">ID": 10}})
        assert {deal["ID"] for deal in listed} == {str(number) for number in range(11, 261)}
        items = await client.get_all("crm.item.list", {"entityTypeId": 2})
        assert {item["id"] for item in items} == set(range(1, 261))
        got = await client.get_by_ID("crm.deal.get", [str(number) for number in range(1, 121)])
        assert {number: deal["ID"] for number, deal in got.items()} == {str(number): str(number) for number in range(1, 121)}
        with pytest.raises(ErrorInServerResponseException):
            await client.get_by_ID("crm.deal.get", ["1", "999"])
        asked = [{"filter": {"@UF_CRM_POSTING_NUMBER": ["P7", "P8", "P999"]}}, {"filter": {"ID": 9}}]
        with pytest.warns(UserWarning, match="get_all"):
            found = await client.call("crm.deal.list", asked)
        assert [deal["ID"] for page in found for deal in (page if isinstance(page, list) else [page])] == ["7", "8", "9"]
        assert await client.call("crm.timeline.comment.add", {"fields": {"ENTITY_ID": 5, "ENTITY_TYPE": "deal", "COMMENT": "hi"}})


async def test_b24pysdk_lists_deals_and_runs_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    async with serving(portal_of(world_of(deals(*range(1, 261)))).application(), tls=CERTIFICATE) as url:
        await asyncio.to_thread(_with_b24pysdk, url.removeprefix("https://"))


def _with_b24pysdk(domain: str) -> None:
    there: dict[str, Any] = {"domain": domain, "auth_token": f"1/{SECRET}", "is_webhook": True}
    listed = call_list(**there, api_method="crm.deal.list", params={"select": ["ID"]})
    assert {deal["ID"] for deal in listed["result"]} == {str(number) for number in range(1, 261)}
    fast = call_list_fast(**there, api_method="crm.item.list", params={"entityTypeId": 2, "select": ["id"]})
    assert [deal["id"] for deal in fast["result"]] == list(range(1, 261))
    fast = call_list_fast(**there, api_method="crm.deal.list", params={"select": ["ID"]}, descending=True)
    assert [deal["ID"] for deal in fast["result"]] == [str(number) for number in range(260, 0, -1)]
    told = call_batch(**there, methods={"a": ("crm.deal.get", {"id": 7}), "b": ("crm.deal.get", {"id": 999})})
    assert told["result"]["result"]["a"]["ID"] == "7"
    assert told["result"]["result_error"]["b"]["error_description"] == "Not found"
    many = call_batches(**there, methods=[("crm.deal.list", {"filter": {"@ID": [number, number + 1]}}) for number in range(1, 121)])
    assert [len(page) for page in many["result"]["result"].values()] == [2] * 120
    with pytest.raises(BitrixAPIError):
        BitrixWebhook(domain=domain, webhook_token=f"1/{SECRET}").call_method(api_method="crm.deal.get", params={"id": 999})
