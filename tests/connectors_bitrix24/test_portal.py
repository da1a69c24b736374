"""Listing, comments, fields, messages to a chat, doctor and settings of a portal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from daemon.connectors import bitrix24
from daemon.connectors.bitrix24 import KIND, LONGEST, Bitrix24Address, Bitrix24Connector, Bitrix24Settings, classify
from daemon.domain.attempt import CONNECTOR_ILL, NOT_CONNECTED, Outcome, Result
from daemon.domain.notice import Dispatch, Notice, NoticeKind
from daemon.domain.rule import Severity
from daemon.domain.shape import Present
from daemon.domain.value import Place, Unknown, Value
from daemon.engine.events import Event, Requested
from daemon.engine.ports import Unreachable
from daemon.net import Response
from daemon.sandbox.scenario import Answer, Word
from daemon.sandbox.systems.bitrix24 import COMMENTS, DEALS, FIELDS
from daemon.sandbox.wire.bitrix24 import User
from tests.connectors_bitrix24.portal import NOW, SECRET, Quota, connector, deals, recorded, standing, world_of

# Listing


async def listed(portal: Bitrix24Connector, where: Mapping[str, Value] | None = None, cursor: str | None = None) -> list[str]:
    pages = portal.list("deals", where, None, cursor, NOW, 1000, False)
    return [str(deal["id"]) async for page in pages for deal in page.records]


async def test_deals_are_listed_a_thousand_a_request_and_a_cursor_goes_on() -> None:
    async with standing(world_of(deals(*range(1, 2521)))) as (portal, there):
        assert await listed(portal) == [str(number) for number in range(1, 2521)]
        assert there.requests == 3
        assert await listed(portal, cursor="2500") == [str(number) for number in range(2501, 2521)]


@pytest.mark.parametrize("number", [0, 49, 50, 51, 1000])
async def test_no_deal_is_left_out_at_the_end_of_a_page(number: int) -> None:
    async with standing(world_of(deals(*range(1, number + 1)))) as (portal, _):
        assert len(await listed(portal)) == number


async def test_within_leaves_out_what_was_created_longer_ago() -> None:
    world = world_of([{"id": str(number), "created_at": f"-{number}d"} for number in range(1, 20)])
    async with standing(world) as (portal, _):
        assert await listed(portal, {"within": timedelta(days=7)}) == [str(number) for number in range(1, 8)]


async def test_a_page_that_is_out_of_order_ends_the_listing_loudly() -> None:
    async with standing(world_of(deals(1, 2))) as (portal, there):
        truth = there._batch

        async def backwards(given: Any, view: Any) -> Any:
            body = await truth(given, view)
            body["result"]["result"]["p00"]["items"].reverse()
            return body

        there._batch = backwards  # type: ignore[method-assign]
        with pytest.raises(Unreachable, match="not in the order"):
            await listed(portal)


async def test_a_listing_that_is_refused_ends_loudly() -> None:
    async with standing(world_of(deals(1, 2))) as (portal, there):

        async def refused(given: Any, view: Any) -> Any:
            errors = {name: recorded("doc_crm_item_list_400_invalid_filter") for name in given["cmd"]}
            return {"result": {"result": [], "result_error": errors, "result_time": []}}

        there._batch = refused  # type: ignore[method-assign]
        with pytest.raises(Unreachable, match="INVALID_ARG_VALUE"):
            await listed(portal)


async def test_a_portal_that_is_not_there_is_unreachable() -> None:
    portal = connector("http://127.0.0.1:9/rest/1/abcdef/")
    with pytest.raises(Unreachable):
        await listed(portal)
    assert isinstance((await portal.ask("deals", "id", ["1"], True))["1"], Unknown)
    outcome = await portal.perform(portal.prepare("add_comment", {"deal_id": "1", "text": "hi"}, "k"))
    assert (outcome.result, outcome.reason) == (Result.LATER, NOT_CONNECTED)
    await portal.close()


# Calls


async def test_a_deal_gets_its_field_and_the_world_has_it() -> None:
    world = world_of(deals(5))
    async with standing(world) as (portal, _):
        request = portal.prepare("update_deal", {"id": "5", "fields": {FIELDS["delivery_status"]: "created"}}, "key")
        assert (await portal.perform(request)).result is Result.DONE
        assert world.rows[DEALS]["5"]["delivery_status"] == "created"
        answers = await portal.ask("deals", "id", ["5"], True)
        assert isinstance(answers["5"], Present)


async def test_a_comment_is_written_once_and_its_text_is_no_markup() -> None:
    world = world_of(deals(5))
    async with standing(world) as (portal, _):
        outcome = await portal.perform(portal.prepare("add_comment", {"deal_id": "5", "text": "[B]Склад[/B] №1 [x"}, "key"))
        assert outcome.result is Result.DONE
        assert outcome.reference.isdigit()
        (comment,) = world.rows[COMMENTS].values()
        assert comment["text"] == "[\u2060B]Склад[\u2060/B] №1 [\u2060x"


async def test_what_is_prepared_and_kept_holds_no_secret() -> None:
    events: list[Event] = []
    async with standing(world_of(deals(5))) as (portal, _):
        request = portal.prepare("add_comment", {"deal_id": "5", "text": "hi"}, "key")
        outcome = await portal.perform(request)
        assert SECRET not in repr((request, outcome, portal.__dict__, await portal.check()))
        refused = connector(f"{portal._portal}/rest/1/wrong{SECRET}/", events=events)
        assert (await refused.perform(refused.prepare("add_comment", {"deal_id": "5", "text": "x"}, ""))).reason == CONNECTOR_ILL
        answers = await refused.ask("deals", "id", ["5"], True)
        assert SECRET not in repr((events, answers))
        assert {event.outcome for event in events if isinstance(event, Requested)} == {"later", "error"}
        await refused.close()


async def test_a_request_that_was_prepared_for_another_portal_is_not_sent() -> None:
    async with standing(world_of(deals(5))) as (portal, there):
        other = connector("https://other.bitrix24.ru/rest/1/abcdef/")
        outcome = await portal.perform(other.prepare("add_comment", {"deal_id": "5", "text": "hi"}, ""))
        assert (outcome.result, there.requests) == (Result.NOT_SENT, 0)


async def test_a_deal_that_is_gone_refuses() -> None:
    async with standing(world_of()) as (portal, _):
        for call, args in (
            ("update_deal", {"id": "5", "fields": {"TITLE": "x"}}),
            ("add_comment", {"deal_id": "5", "text": "x"}),
        ):
            outcome = await portal.perform(portal.prepare(call, args, ""))  # type: ignore[arg-type]
            assert outcome.result is Result.REFUSED


@pytest.mark.parametrize(
    ("word", "result"),
    [
        (Word.LATER, Result.LATER),
        (Word.ERROR, Result.UNKNOWN),
        (Word.HTML, Result.UNKNOWN),
        (Word.RESET, Result.UNKNOWN),
        (Word.TIMEOUT_AFTER_EFFECT, Result.UNKNOWN),
        (Word.REFUSED, Result.REFUSED),
    ],
)
async def test_each_way_of_the_world_to_answer_is_told_apart(word: Word, result: Result) -> None:
    world = world_of(deals(5))
    world.script("bitrix24.add_comment", [Answer(answer=word)])
    async with standing(world, timeout="200ms") as (portal, _):
        outcome = await portal.perform(portal.prepare("add_comment", {"deal_id": "5", "text": "hi"}, ""))
        assert outcome.result is result
        assert len(world.rows[COMMENTS]) == (word is Word.TIMEOUT_AFTER_EFFECT)


LATER, REFUSED, UNKNOWN = Result.LATER, Result.REFUSED, Result.UNKNOWN


@pytest.mark.parametrize(
    ("status", "code", "result", "reason"),
    [
        (503, "QUERY_LIMIT_EXCEEDED", LATER, "QUERY"),
        (429, "OPERATION_TIME_LIMIT", LATER, "OPERATION"),
        (503, "OVERLOAD_LIMIT", LATER, CONNECTOR_ILL),
        (500, "INTERNAL_SERVER_ERROR", UNKNOWN, "INTERNAL"),
        (500, "ERROR_UNEXPECTED_ANSWER", UNKNOWN, "UNEXPECTED"),
        (401, "NO_AUTH_FOUND", LATER, CONNECTOR_ILL),
        (401, "expired_token", LATER, CONNECTOR_ILL),
        (200, "NO_AUTH_FOUND", LATER, CONNECTOR_ILL),
        (403, "insufficient_scope", LATER, CONNECTOR_ILL),
        (403, "ACCESS_DENIED", LATER, CONNECTOR_ILL),
        (400, "ACCESS_DENIED", REFUSED, "ACCESS_DENIED"),
        (400, "", REFUSED, "Not found"),
        (400, "OWNER_NOT_FOUND", REFUSED, "OWNER_NOT_FOUND"),
        (410, "PORTAL_DELETED", LATER, CONNECTOR_ILL),
        (200, "SOMETHING_NEW", UNKNOWN, "SOMETHING_NEW"),
    ],
)
def test_an_error_is_classified_by_its_code_first(status: int, code: str, result: Result, reason: str) -> None:
    said = Response(status, {}, {"error": code, "error_description": "Not found"})
    outcome = classify(said, lambda found: True, NOW)
    assert outcome.result is result
    assert reason in outcome.reason


@pytest.mark.parametrize("body", ["<html>", {}, {"result": False}, {"result": None}, {"result": [True]}, [], {"result": 0}])
@pytest.mark.parametrize("call", ["update_deal", "add_comment"])
def test_a_success_that_is_none_is_unknown(body: Any, call: str) -> None:
    assert classify(Response(200, {}, body), bitrix24._SUCCEEDED[call], NOW).result is Result.UNKNOWN


@pytest.mark.parametrize("name", ["doc_crm_deal_update_200", "doc_crm_timeline_comment_add_200", "doc_im_message_add_200"])
def test_a_documented_success_is_done(name: str) -> None:
    call = "update_deal" if "update" in name else "add_comment"
    assert classify(Response(200, {}, recorded(name)), bitrix24._SUCCEEDED[call], NOW).result is Result.DONE


@pytest.mark.parametrize(
    ("call", "args", "what"),
    [
        ("add_comment", {"deal_id": "5"}, "text: is missing"),
        ("add_comment", {"deal_id": "5", "text": "x", "more": "y"}, "more: is no parameter"),
        ("add_comment", {"deal_id": None, "text": "x"}, "deal_id: is null"),
        ("add_comment", {"deal_id": "not_sent", "text": "x"}, "deal_id: must be the number of a deal"),
        ("add_comment", {"deal_id": "5", "text": " "}, "text: must be text"),
        ("update_deal", {"id": "5", "fields": {}}, "fields: must be a map"),
        ("update_deal", {"id": "5", "fields": {"uf_x": "1"}}, "is no name of a field"),
        ("update_deal", {"id": "5", "fields": {"UF_CRM_X": Unknown("not read")}}, "fields.UF_CRM_X: not read"),
    ],
)
def test_what_cannot_be_said_to_a_portal_is_refused_before_anything_is_sent(call: str, args: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        connector("https://p.bitrix24.ru/rest/1/abcdef/").prepare(call, args, "")


# Telling


def letter(thread: str = "", **changes: Any) -> Dispatch:
    said = {"title": "Нет сделки", "text": "Заказ [B]M1[/B]", "ours": "1 490 ₽", **changes}
    notice = Notice("n", "p", "deal-missing", 1, NoticeKind.BEGIN, 1, "crm-support", Severity.WARNING, NOW, **said)
    return Dispatch("d", notice, "crm-support", "bitrix24", {"chat": "chat512"}, thread=thread)


async def test_a_message_arrives_in_the_chat_as_people_read_it() -> None:
    world = world_of(deals(1))
    world.contacts = {"chat512": "crm-support"}
    async with standing(world) as (portal, _):
        outcome = await portal.deliver(letter())
        assert (outcome.result, outcome.reference) == (Result.DONE, "chat512/1")
        (told,) = world.messages
        assert told.to == "crm-support"
        assert told.text.startswith("Нет сделки\nЗаказ")
        assert "1 490 ₽" in told.text
        assert told.data["message"].startswith("[B]Нет сделки[/B]\nЗаказ [\u2060B]M1")


async def test_later_messages_of_an_episode_reply_to_its_first() -> None:
    world = world_of(deals(1))
    async with standing(world) as (portal, _):
        await portal.deliver(letter(thread="chat512/34239"))
        await portal.deliver(letter(thread="chat1/5"))
        assert [told.data.get("reply_id") for told in world.messages] == [34239, None]


async def test_a_long_message_is_cut_by_us_and_says_so() -> None:
    world = world_of(deals(1))
    async with standing(world) as (portal, _):
        assert (await portal.deliver(letter(text="ы" * 50_000))).result is Result.DONE
        text = world.messages[0].data["message"]
        assert len(text) == LONGEST
        assert text.endswith("…")


@pytest.mark.parametrize(("word", "result"), [(Word.REFUSED, REFUSED), (Word.LATER, LATER), (Word.RESET, UNKNOWN), (Word.ERROR, UNKNOWN)])
async def test_what_the_chat_did_not_take_is_not_done(word: Word, result: Result) -> None:
    world = world_of(deals(1))
    world.script("bitrix24.deliver", [Answer(answer=word)])
    async with standing(world) as (portal, _):
        outcome: Outcome = await portal.deliver(letter(thread="chat512/7"))
        assert outcome.result is result
        assert world.messages == []


async def test_no_message_goes_while_the_rate_is_used_up() -> None:
    async with standing(world_of(), quota=Quota(wait=60.0)) as (portal, there):
        assert (await portal.deliver(letter())).result is Result.LATER
        assert there.requests == 0


# Doctor and settings


async def test_doctor_finds_nothing_wrong_with_a_portal_that_is_as_it_should_be() -> None:
    async with standing(world_of(deals(1))) as (portal, _):
        assert await portal.check() == ()


async def test_doctor_says_what_the_webhook_may_not_do_and_which_fields_there_are_not() -> None:
    user = User(admin=False, scopes=("crm",))
    fields = {"market_order_id": "UF_CRM_NO_SUCH", "origin": "ORIGIN_ID"}
    async with standing(world_of(deals(1)), portal={"user": user}, deal_fields=fields) as (portal, _):
        rights, administrator, field = await portal.check()
        assert "permission im" in rights
        assert "reads_all_deals" in administrator
        assert field == "deal_fields.market_order_id: deals of this portal have no field UF_CRM_NO_SUCH"


async def test_doctor_says_so_when_nobody_answers() -> None:
    (said,) = await connector("http://127.0.0.1:9/rest/1/abcdef/").check()
    assert "check url" in said


def wrong(**changes: Any) -> list[str]:
    given = {"url": "https://portal.bitrix24.ru/rest/1/abcdef0123/"} | changes
    found = KIND.lint("bitrix24", Bitrix24Settings.model_validate(given), lambda path: Place("config.yaml", 1, 1))
    return [mistake.message for mistake in found]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"url": "https://portal.bitrix24.ru"}, "webhook's address"),
        ({"url": "https://portal.bitrix24.ru/rest/1/abc?x=1"}, "webhook's address"),
        ({"url": "http://portal.bitrix24.ru/rest/1/abcdef/"}, "use https"),
        ({"fingerprint": "other.bitrix24.ru"}, "fingerprint"),
        ({"deal_fields": {"title": "UF_CRM_X"}}, "title"),
        ({"deal_fields": {"Order": "UF_CRM_X"}}, "Order"),
    ],
)
def test_a_mistake_in_the_settings_is_one_line_that_shows_no_secret(changes: Any, what: str) -> None:
    (said,) = wrong(**changes)
    assert what in said
    assert "abc" not in said


def test_the_example_and_good_settings_hold_no_mistake() -> None:
    assert wrong(fingerprint="portal.bitrix24.ru") == []
    example = {key: value for key, value in yaml.safe_load(KIND.example).items() if key != "type"}
    assert Bitrix24Settings.model_validate(example).deal_fields.keys() == {"market_order_id", "posting_number"}
    assert json.dumps(KIND.settings.model_json_schema())


@pytest.mark.parametrize("field", ["UF_X", "TITLE", "uf_crm_x", ""])
def test_only_a_field_of_the_portals_own_or_origin_id_can_be_mapped(field: str) -> None:
    with pytest.raises(ValidationError):
        Bitrix24Settings.model_validate({"url": "https://p/rest/1/a/", "deal_fields": {"x": field}})


@pytest.mark.parametrize("chat", ["", "512 ", "#general", "chat", "-100"])
def test_an_address_is_a_chat(chat: str) -> None:
    assert Bitrix24Address(chat="chat512").chat == "chat512"
    with pytest.raises(ValidationError):
        Bitrix24Address(chat=chat)
