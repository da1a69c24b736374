"""Law 5: one attempt is one request on the wire. The wire itself is held by tests/connectors_http."""

from dataclasses import replace

import pytest
from builders import UPLOAD, minutes, rule
from laws.stage import Stage

from daemon.domain.attempt import Result
from daemon.domain.incident import Phase, Resolution
from daemon.domain.rule import Delivery

AGAIN = replace(UPLOAD, delivery=Delivery.AT_LEAST_ONCE)
ANSWERS = ["done", "no_effect", "refused", "later", "500", "html", "reset", "timeout", "timeout_after_effect"]


async def played(answers: object, step: object = AGAIN, length: float = 90) -> Stage:
    stage = Stage(rule(ladder=(step,)))
    stage.plant("N1", calls={"api.upload": answers})
    await stage.begin(1)
    await stage.wait(length)
    return stage


@pytest.mark.law("5.1")
@pytest.mark.parametrize("answer", ANSWERS)
async def test_one_attempt_is_one_request_whatever_is_answered(answer: str) -> None:
    stage = await played(answer)
    sent = [one for one in stage.attempts() if one.outcome.result is not Result.NOT_SENT]
    assert len(sent) == stage.calls() > 0


@pytest.mark.law("5.2")
@pytest.mark.parametrize("answer", ["500", "html", "reset", "timeout"])
async def test_what_was_not_recognised_is_unknown(answer: str) -> None:
    stage = await played([answer, "done"], length=16)
    assert stage.attempts()[0].outcome.result is Result.UNKNOWN


@pytest.mark.law("5.3")
async def test_the_idempotency_key_stays_while_the_outcome_is_unknown_and_changes_after_a_known_one() -> None:
    stage = await played(["timeout", "500", "no_effect", "done"], replace(AGAIN, attempts=4))
    keys = [one.idempotency_key for one in stage.world.called("N1")]
    assert keys[0] == keys[1] == keys[2]
    assert keys[3] != keys[2]


@pytest.mark.law("5.3")
async def test_a_later_after_an_unknown_does_not_free_the_key() -> None:
    stage = await played(["timeout", {"answer": "later", "retry_after": "1m"}, "done"])
    assert len({one.idempotency_key for one in stage.world.called("N1")}) == 1
    assert stage.incident().resolution is Resolution.HEALED


@pytest.mark.law("5.3")
async def test_no_two_subjects_and_no_two_steps_share_a_key() -> None:
    stage = Stage(rule(ladder=(AGAIN, replace(AGAIN, id="second", call="second"))))
    stage.plant("N1", "N2", calls={"api.upload": "timeout", "api.second": "timeout"})
    await stage.begin(1)
    await stage.run(minutes(120))
    by_whom = {(one.call, one.object): one.idempotency_key for one in stage.world.calls if not one.call.endswith("deliver")}
    assert len(set(by_whom.values())) == len(by_whom) == 4


@pytest.mark.law("5.4")
async def test_delivery_says_whether_twice_or_never_is_worse() -> None:
    often = await played("timeout")
    once = await played("timeout", replace(UPLOAD, delivery=Delivery.AT_MOST_ONCE))
    assert (often.calls(), once.calls()) == (3, 1)
    assert often.incident().phase is once.incident().phase is Phase.ESCALATED


@pytest.mark.law("5.4")
async def test_at_most_once_is_about_unknown_alone_a_known_failure_may_be_tried_again() -> None:
    stage = await played("no_effect", replace(UPLOAD, delivery=Delivery.AT_MOST_ONCE))
    assert stage.calls() == 3
