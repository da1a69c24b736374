"""Promises of a webhook: a call that tells."""

import dataclasses

from daemon.connectors.http import KIND
from daemon.domain.attempt import Result
from daemon.domain.notice import Dispatch, Notice, NoticeKind
from daemon.domain.rule import Severity
from tests.connectors_http.service import service, settings
from tests.net.loopback import NOW, answer, reset

HOOK = """
type: http
url: http://127.0.0.1:1
headers: {Authorization: Bearer tell-nobody-this}
calls:
  tell: {path: /hook, body: {text: "${title}\\n${text}\\n${ours}", level: "${severity}", count: "${count}"}, done: status == 200}
"""
NOTICE = Notice(
    "n1", "p1", "some-rule", 1, NoticeKind.BEGIN, 1, "team", Severity.CRITICAL, NOW, "Заказ не выгружен", 'a "b" ${x}', "1 ₽", count=3
)
DISPATCH = Dispatch("d1", NOTICE, "team", "hook", {})


def test_only_a_call_over_the_words_of_a_notice_makes_a_channel() -> None:
    assert KIND.shape(settings(HOOK)).channel
    assert not KIND.shape(settings(HOOK.replace("${count}", "${number}"))).channel
    assert not KIND.shape(settings(HOOK.replace("tell:", "notify:"))).channel


async def test_a_notice_is_told_once_and_done_only_on_an_answer() -> None:
    async with service(answer(200), text=HOOK) as (hook, server, _):
        assert (await hook.deliver(DISPATCH)).result is Result.DONE
        assert server.seen[0].json == {"text": 'Заказ не выгружен\na "b" ${x}\n1 ₽', "level": "critical", "count": 3}
        assert server.seen[0].headers["idempotency-key"] == "d1"
    async with service(reset, text=HOOK) as (hook, server, _):
        assert (await hook.deliver(DISPATCH)).result is Result.UNKNOWN
        assert len(server.seen) == 1
    async with service(answer(429, "", {"Retry-After": "5"}), text=HOOK) as (hook, _, _):
        outcome = await hook.deliver(dataclasses.replace(DISPATCH))
        assert outcome.result is Result.LATER
        assert outcome.retry_at_db is not None
