"""The world keeps what its scenarios promise, and counts what others do to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.sandbox.faults import faults
from daemon.sandbox.scenario import Answer, ScenarioError, Word, parse
from daemon.sandbox.shops import shop_world
from daemon.sandbox.world import Changed, Message, Mute, Said, Spoken, Subject, Switched, World

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
CALL = "ozon-integration.upload_order"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def planted(world: World, **more: Any) -> Subject:
    order = {"posting_number": "OZ-1", **more.pop("row", {})}
    return world.plant(parse({"name": "a fault", "world": {"ozon-db.orders": [order]}, **more}), world.now)[0]


def send(world: World, minutes: float = 0, number: str = "OZ-1", key: str = "") -> Said:
    return world.perform(CALL, {"id": number, "number_type": "posting_number"}, key, at(minutes))


def order(world: World, number: str = "OZ-1") -> dict[str, Any]:
    return world.rows["ozon-db.orders"][number]


@pytest.fixture
def world() -> World:
    return shop_world(START)


def test_fields_left_out_come_from_the_example_of_the_kind(world: World) -> None:
    planted(world, row={"amount": 12})
    assert order(world)["market_order_id"] == "MOZ-1"
    assert order(world)["created_at"] == at(-60)
    assert order(world)["amount"] == 12


def test_an_order_is_sent_when_the_service_succeeds(world: World) -> None:
    planted(world)
    assert send(world) == Spoken(200, '{"success": true}', {"Content-Type": "application/json"})
    assert order(world)["bitrix_order_id"] == "90001"
    assert [(effect.call, effect.object, effect.at) for effect in world.effects] == [(CALL, "OZ-1", START)]


@pytest.mark.parametrize(
    ("word", "said", "sent"),
    [
        ("done", 200, True),
        ("refused", 422, False),
        ("later", 429, False),
        (500, 500, False),
        ("html", 200, False),
        ("reset", Mute.RESET, False),
        ("timeout", Mute.TIMEOUT, False),
        ("timeout_after_effect", Mute.TIMEOUT, True),
        ("no_effect", 200, False),
    ],
)
def test_each_word_has_its_answer_and_its_effect(world: World, word: object, said: object, sent: bool) -> None:
    planted(world, calls={CALL: word})
    answer = send(world)
    assert (answer.status if isinstance(answer, Spoken) else answer) == said
    assert (order(world)["bitrix_order_id"] != "not_sent") is sent
    assert len(world.effected("OZ-1")) == int(sent)


def test_the_last_answer_repeats(world: World) -> None:
    planted(world, calls={CALL: [500, "no_effect"]})
    for _ in range(3):
        send(world)
    assert [called.word for called in world.called("OZ-1", CALL)] == [Word.ERROR, Word.NO_EFFECT, Word.NO_EFFECT]


def test_a_known_idempotency_key_has_no_second_effect_and_is_counted(world: World) -> None:
    planted(world, calls={CALL: "timeout_after_effect"})
    assert send(world, key="k") is Mute.TIMEOUT
    world.change({"ozon-db.orders": ({"posting_number": "OZ-1", "bitrix_order_id": "not_sent"},)})
    assert isinstance(send(world, key="k"), Spoken)
    assert order(world)["bitrix_order_id"] == "not_sent"
    assert [called.repeated for called in world.called("OZ-1")] == [False, True]


def test_a_key_without_an_effect_goes_on_in_the_script(world: World) -> None:
    planted(world, calls={CALL: [500, "done"]})
    send(world, key="k")
    send(world, key="k")
    assert len(world.effected("OZ-1")) == 1


def test_an_order_that_was_sent_is_not_sent_again(world: World) -> None:
    planted(world)
    send(world)
    send(world)
    assert len(world.effected("OZ-1")) == 1
    assert len(world.called("OZ-1")) == 2


def test_a_service_refuses_what_it_cannot_find(world: World) -> None:
    assert isinstance(send(world), Spoken)
    assert world.calls[-1].word is Word.REFUSED


def test_a_late_effect_comes_at_its_time(world: World) -> None:
    planted(world, calls={CALL: {"answer": "done", "effect_after": "9m"}})
    send(world, 1)
    world.advance(at(9.9))
    assert order(world)["bitrix_order_id"] == "not_sent"
    world.advance(at(10))
    assert str(order(world)["bitrix_order_id"]).isdigit()
    assert world.effected("OZ-1")[0].at == at(10)


def test_an_answer_may_change_anything(world: World) -> None:
    change = {"ozon-db.orders": [{"posting_number": "OZ-1", "status": "odd"}]}
    planted(world, calls={CALL: {"answer": 500, "change": change}})
    send(world)
    assert order(world)["status"] == "odd"


def test_what_is_written_for_a_time_happens_in_order(world: World) -> None:
    say = [{"at": f"{n}m", "change": {"ozon-db.orders": [{"posting_number": "OZ-1", "status": str(n)}]}} for n in (3, 2)]
    subject = planted(world, then=[*say, {"at": "4m", "remove": {"ozon-db.orders": "OZ-1"}}])
    world.advance(at(3.5))
    assert order(world)["status"] == "3"
    assert subject.waiting == 1
    world.advance(at(4))
    assert "OZ-1" not in world.rows["ozon-db.orders"]


def test_what_follows_a_call_counts_from_the_first_one(world: World) -> None:
    change = {"ozon-db.orders": [{"posting_number": "OZ-1", "status": "cancelled"}]}
    planted(world, calls={CALL: "no_effect"}, then=[{"after": "called", "at": "1m", "change": change}])
    world.advance(at(30))
    assert order(world)["status"] != "cancelled"
    send(world, 30)
    send(world, 30.5)
    world.advance(at(31))
    assert order(world)["status"] == "cancelled"


def test_a_person_acts_only_after_a_message_that_names_the_object(world: World) -> None:
    change = {"ozon-db.orders": [{"posting_number": "OZ-1", "bitrix_order_id": "7"}]}
    subject = planted(world, then=[{"after": "told", "at": "2m", "change": change}])
    world.tell(Message("telegram", "team", "OZ-10 is stuck", at(1)))
    world.advance(at(10))
    assert subject.told is None
    world.tell(Message("telegram", "team", "stuck: OZ-1, since noon", at(10)))
    world.advance(at(12))
    assert order(world)["bitrix_order_id"] == "7"


def test_a_system_that_is_down_says_nothing_and_is_not_counted(world: World) -> None:
    planted(world, then=[{"at": "1m", "set": {"ozon-integration": "down"}}])
    assert send(world, 1) is Mute.DOWN
    assert not world.calls


def test_copies_have_keys_and_scripts_of_their_own(world: World) -> None:
    row = {"posting_number": "OZ-1"}
    subjects = world.plant(parse({"name": "many", "count": 2, "world": {"ozon-db.orders": [row]}, "calls": {CALL: [500, "done"]}}), START)
    assert [subject.key for subject in subjects] == ["OZ-1-1", "OZ-1-2"]
    send(world, number="OZ-1-1")
    send(world, number="OZ-1-2")
    assert [called.word for called in world.calls] == [Word.ERROR, Word.ERROR]
    assert order(world, "OZ-1-2")["market_order_id"] == "MOZ-1-2"


def test_every_change_is_told_to_the_face() -> None:
    changes: list[object] = []
    world = shop_world(START, changes.append)
    planted(world, then=[{"at": "1m", "set": {"ozon-db": "down"}, "remove": {"ozon-db.orders": "OZ-1"}}])
    world.advance(at(1))
    assert isinstance(changes[0], Changed)
    assert changes[1:] == [Changed("ozon-db.orders", "OZ-1", None), Switched("ozon-db", up=False)]


def test_a_call_about_nothing_planted_can_be_scripted(world: World) -> None:
    world.script("telegram.deliver", [Answer(answer=Word.ERROR), Answer(answer=Word.DONE)])
    said = [world.perform("telegram.deliver", {"dispatch": "x"}, "", START) for _ in range(2)]
    assert [answer.status for answer in said if isinstance(answer, Spoken)] == [500, 200]


@pytest.mark.parametrize(
    ("plain", "mistake"),
    [
        ({"name": "x", "wrld": {}}, "scenario x: wrld: unknown key"),
        ({"name": "x", "calls": {CALL: "dome"}}, "'dome' is none of: done, refused"),
        ({"name": "x", "then": [{"at": "5"}]}, "then.0.at: '5' is no duration"),
        ({"name": "x", "ends": {"resolution": "healed", "held": True}}, "an end is one of"),
        ({"name": "x", "ends": {"resolution": "heeled"}}, "'heeled' is none of: healed"),
        ({"name": "x", "world": {"ozon.nonsense": []}}, "there are no records 'ozon.nonsense'"),
        ({"name": "x", "world": {"ozon-db.orders": [{"status": "new"}]}}, "needs its key, posting_number"),
        ({"name": "x", "world": {"ozon-db.orders": [{"posting_number": "1", "stat": 1}]}}, "has no field 'stat'"),
        ({"name": "x", "world": {"ozon-db.orders": [{"posting_number": "1", "paid": "y"}]}}, "'y' is no bool"),
        ([], "scenario that is no map"),
    ],
)
def test_a_mistake_in_a_scenario_is_one_clear_line(world: World, plain: object, mistake: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        world.plant(parse(plain), START)
    assert mistake in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_shipped_faults_can_be_planted_and_name_their_end(world: World) -> None:
    for fault in faults():
        world.plant(fault, START)
        assert fault.rule
        assert fault.ends.state
        assert fault.ends.calls
