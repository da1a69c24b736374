"""What a cycle proposes to tell about the rule itself."""

from __future__ import annotations

from dataclasses import replace

from builders import UPLOAD, field, rule
from laws.stage import Stage

from daemon.domain.notice import NoticeKind
from daemon.domain.rule import Guard


async def test_one_mistake_of_a_rule_is_one_message_however_many_subjects_meet_it() -> None:
    wrong = replace(UPLOAD, args={"id": field("deal")})
    stage = Stage(rule(ladder=(wrong,), guard=Guard(max_broken_percent=100)))
    stage.plant(*(f"N{n}" for n in range(40)))
    await stage.begin(1)
    await stage.wait(20)
    (fault,) = stage.notices(NoticeKind.FAULT)
    said, *keys, rest = fault.text.splitlines()
    assert said.startswith("40 ")
    assert "(upload: argument id: " in said
    assert set(keys) < {f"N{n}" for n in range(40)}
    assert str(40 - len(keys)) in rest


async def test_two_mistakes_are_two_messages_and_a_lone_subject_is_named_before_its_mistake() -> None:
    wrong = (replace(UPLOAD, args={"id": field("deal")}), replace(UPLOAD, id="again", args={"id": field("owner")}))
    stage = Stage(rule(ladder=wrong))
    stage.plant("N1")
    await stage.begin(1)
    await stage.wait(20)
    texts = sorted(one.text for one in stage.notices(NoticeKind.FAULT))
    assert [text[:4] for text in texts] == ["N1: ", "N1: "]
    assert ["(again: " in texts[0], "(upload: " in texts[1]] == [True, True]
