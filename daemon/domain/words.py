"""How values and the daemon's own sentences read to a person: one language, one time zone, no clock.

A message is put together in ``notice.py``; whatever it says comes through here, so that a second language or another way
to write money is one change. ``Words.show`` is what a rule's ``${…}`` in messages goes through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from zoneinfo import ZoneInfo

from daemon.domain.value import Money, Unknown, Value

DASH = "—"
LIST_LIMIT = 10
"""A list reads one item a line, this many at most; the rest is counted."""

_SIGNS = {"RUB": "₽", "KZT": "₸", "USD": "$", "EUR": "€"}
_UNITS = ((86400, "д", "d"), (3600, "ч", "h"), (60, "мин", "m"), (1, "с", "s"))

_SAYINGS = {
    "yes": ("да", "yes"),
    "no": ("нет", "no"),
    "more": ("… и ещё {count}", "… and {count} more"),
    # what a title begins with, by kind of notice
    "title_begin": ("{title}", "{title}"),
    "title_growth": ("Растёт: {title}", "Growing: {title}"),
    "title_deadline": ("Близок срок: {title}", "Deadline near: {title}"),
    "title_reminder": ("Напоминание: {title}", "Reminder: {title}"),
    "title_end": ("Снова в порядке: {title}", "Well again: {title}"),
    "title_left": ("Больше не у вас: {title}", "No longer with you: {title}"),
    "title_guard": ("Остановлено предохранителем: {title}", "Held by its guard: {title}"),
    "title_guard_end": ("Предохранитель отпустил: {title}", "Guard released: {title}"),
    "title_blind": ("Не видно, в порядке ли: {title}", "Blind: {title}"),
    "title_blind_end": ("Снова видно: {title}", "Can see again: {title}"),
    "title_connector_ill": ("Система нас не пускает: {title}", "Connector refuses us: {title}"),
    "title_connector_well": ("Система снова нас пускает: {title}", "Connector lets us in again: {title}"),
    "title_fault": ("Сбой правила: {title}", "Fault of a rule: {title}"),
    "title_parked": ("Правило убрано, его объекты оставлены: {title}", "Rule is gone, its subjects are parked: {title}"),
    # the message and the lines, where a rule says nothing
    "message": (
        "Сам orderheal с этим не справился, нужен человек. Инструкция: {runbook}",
        "orderheal could not mend this by itself, a person is needed. Runbook: {runbook}",
    ),
    "message_deadline": (
        "Срок близко, а исправить пока не удалось. Инструкция: {runbook}",
        "The deadline is near and this is not mended yet. Runbook: {runbook}",
    ),
    "until": ("до {time}", "until {time}"),
    # the engine's part
    "count": ("Сейчас {subjects}.", "Now {subjects}."),
    "rising": ("Сейчас {subjects}, было {before}: растёт.", "Now {subjects}, before {before}: rising."),
    "falling": ("Сейчас {subjects}, было {before}: убывает.", "Now {subjects}, before {before}: falling."),
    "money": ("Под угрозой: {money}.", "At risk: {money}."),
    "deadline": ("Ближайший срок: {time}, осталось {left}.", "First deadline: {time}, {left} left."),
    "overdue": ("Срок прошёл: {time}, {left} назад.", "Deadline passed: {time}, {left} ago."),
    "since": ("Сломано с {time} ({age}).", "Broken since {time} ({age})."),
    "cause": ("Причина: {cause}.", "Cause: {cause}."),
    "causes": ("Причины: {causes}.", "Causes: {causes}."),
    "at_fault": ("Похоже, дело в {connector}: у всех последняя неудача там.", "It looks like {connector}: all failed there last."),
    "tried": ("Пробовали: {steps}.", "Tried: {steps}."),
    "step": ("{step} × {tries}, {result}", "{step} × {tries}, {result}"),
    "untried": ("Ничего не пробовали.", "Nothing was tried."),
    "result_done": ("принято, но не помогло", "accepted, but did not help"),
    "result_refused": ("отказ", "refused"),
    "result_later": ("просили подождать", "asked to wait"),
    "result_unknown": ("ответа не поняли", "answer not understood"),
    "result_not_sent": ("не отправляли", "not sent"),
    "result_waited": ("ждали", "waited"),
    "held": ("Предохранитель правила держит попытки: без вас их не будет.", "The rule's guard holds attempts: none without you."),
    "next_none": (
        "Без вас: попыток больше не будет, проверяем дальше раз в {every}.",
        "Without you: no more attempts, we keep looking every {every}.",
    ),
    "next_event": (
        "Без вас: ничего не будет. Это событие, сообщение о нём одно; о новом придёт новое.",
        "Without you: nothing. This is an event and told once; a new one gets a new message.",
    ),
    "next_at": ("Без вас: следующий ход {time}.", "Without you: next move {time}."),
    "next_level": ("Если не поможет, {time} позовём: {contact}.", "If that does not help, {contact} is called {time}."),
    "also": ("Тот же объект видят и другие правила: {rules}.", "Other rules see the same object: {rules}."),
    "runbook": ("Инструкция: {runbook}", "Runbook: {runbook}"),
    "commands": ("Команды:", "Commands:"),
    # an end
    "was": ("Было: {subjects}, с {begun}, длилось {lasted}.", "It was: {subjects}, from {begun}, for {lasted}."),
    "ended": ("Чем кончилось: {ways}.", "How it ended: {ways}."),
    "left": ("Эти объекты ушли к другим или снова в работе.", "These subjects went to others or are being worked on again."),
    "way_healed": ("исправлено нами", "healed by us"),
    "way_handled": ("исправлено с вашей помощью", "handled with your help"),
    "way_self_healed": ("прошло само", "healed by itself"),
    "way_gone": ("исчезло из поля зрения", "gone out of scope"),
    "way_dismissed": ("снято человеком", "dismissed"),
    "way_told": ("сообщено", "told"),
    "way_proved": ("проверено: в порядке", "seen clean"),
    # others
    "guard": (
        "Сломано {broken}, а предел {limit}: попытки и сообщения остановлены, пока полный просмотр не уложится в предел.",
        "{broken} are broken, the limit is {limit}: attempts and messages are held until a complete scan is within it.",
    ),
    "guard_percent": (
        "Сломано {broken} из {population}, а предел {limit} %: попытки и сообщения остановлены, пока полный просмотр не уложится.",
        "{broken} of {population} are broken, the limit is {limit} %: attempts and messages are held until a scan is within it.",
    ),
    "guard_end": ("Снова в пределах: попытки и сообщения идут дальше.", "Within the limits again: attempts and messages go on."),
    "guard_was": ("Остановлено было с {begun}, {lasted}.", "It was held from {begun}, for {lasted}."),
    "fault": (
        "{key}: шаг правила не выполнен или не известно, выполнен ли ({fault}). Повторять не будем: проверьте и, если нужно, сделайте сами.",
        "{key}: a step of the rule was not done, or nobody knows ({fault}). It is not tried again: look, and do it yourself if need be.",
    ),
    "blind": (
        "Ничего не известно: {subjects}. Последняя причина: {reason}.",
        "Nothing is known of {subjects}. Last reason: {reason}.",
    ),
    "blind_end": ("Ответы снова приходят.", "Answers are coming again."),
    "ill": (
        "{connector} не пускает нас с {time}: {reason}. Попытки через неё стоят, время их шагов тоже. Проверьте ключ и права.",
        "{connector} has refused us since {time}: {reason}. Its attempts stand still, timeouts too. Check key and rights.",
    ),
    "well": ("{connector} снова отвечает; не пускала с {time}.", "{connector} answers again; it refused us since {time}."),
    "parked": (
        "Правила больше нет или оно выключено; {subjects} оставлены без присмотра.",
        "The rule is gone or disabled; {subjects} are left alone.",
    ),
    "unfinished": (
        "{count} проходов правила подряд не дошли до конца. Его берут всё реже, чтобы не мешать остальным.",
        "{count} cycles in a row did not come to their end. The rule is taken ever more rarely, to spare the others.",
    ),
    "stands_in": ("Это для {contact}: им сейчас не доставить.", "This is for {contact}, whom it cannot reach now."),
}


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@dataclass(frozen=True, slots=True)
class Words:
    """A reader's language (``ru``, else English), time zone (IANA name), and how many items of a list are shown."""

    language: str = "ru"
    timezone: str = "UTC"
    items: int = LIST_LIMIT

    @property
    def russian(self) -> bool:
        """Whether the reader reads Russian."""
        return self.language == "ru"

    def say(self, saying: str, **holes: object) -> str:
        """One of the daemon's own sentences with its holes filled."""
        return _SAYINGS[saying][0 if self.russian else 1].format(**holes)

    def show(self, value: Value) -> str:
        """A value as this reader sees it; null and ``Unknown`` as a dash. The domain's ``Show``."""
        match value:
            case None | Unknown():
                return DASH
            case bool():
                return self.say("yes" if value else "no")
            case int() | float() | Decimal():
                return number(value)
            case str():
                return value
            case datetime():
                return self.time(value)
            case timedelta():
                return self.duration(value)
            case {"amount": int() | float() | Decimal() as amount, "currency": str(currency), **rest} if not rest:
                return self.money(Money(Decimal(str(amount)), currency))
            case Mapping():
                return ", ".join(f"{key}: {self.show(item)}" for key, item in value.items()) or DASH
            case Sequence():
                return self.lines([self.show(item) for item in value]) or DASH

    def lines(self, items: Sequence[str]) -> str:
        """One line each, at most ``items``, the rest counted."""
        limit = self.items
        rest = len(items) - limit
        return "\n".join([*items[:limit], *([self.say("more", count=rest)] if rest > 0 else [])])

    def time(self, at: datetime) -> str:
        """To the minute, in the reader's zone, with the zone."""
        local = at.astimezone(_zone(self.timezone))
        zone = local.tzname() or ""
        shown = f"UTC{zone}" if zone[:1] in "+-" else zone
        return f"{local.strftime('%d.%m.%Y %H:%M' if self.russian else '%Y-%m-%d %H:%M')} {shown}".rstrip()

    def duration(self, span: timedelta) -> str:
        """The two largest units: ``2 ч 15 мин``, ``2h 15m``. The sign is left out; sentences say "left" or "ago"."""
        left, parts = int(abs(span.total_seconds())), list[str]()
        for size, russian, english in _UNITS:
            amount, left = divmod(left, size)
            if amount:
                parts.append(f"{amount} {russian}" if self.russian else f"{amount}{english}")
            if len(parts) == 2 or (parts and not amount):
                break
        return " ".join(parts) or ("0 с" if self.russian else "0s")

    def money(self, money: Money) -> str:
        """Thousands apart, cents only if there are any, with the currency's sign or code."""
        exact = money.amount.quantize(Decimal("0.01"))
        text = f"{exact:,.2f}".removesuffix(".00")
        if self.russian:
            text = text.replace(",", "\N{NO-BREAK SPACE}").replace(".", ",")
        return f"{text}\N{NO-BREAK SPACE}{_SIGNS.get(money.currency, money.currency)}"

    def subjects(self, count: int) -> str:
        """``5 объектов``, ``5 subjects``."""
        if not self.russian:
            return f"{count} subject" if count == 1 else f"{count} subjects"
        tens, ones = count % 100, count % 10
        if ones == 1 and tens != 11:
            return f"{count} объект"
        return f"{count} объекта" if ones in (2, 3, 4) and tens not in (12, 13, 14) else f"{count} объектов"


def number(value: float | Decimal) -> str:
    """Plain digits: never an exponent, no zeros after the point that say nothing."""
    text = format(Decimal(repr(value)) if isinstance(value, float) else Decimal(value), "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


RUSSIAN = Words()
"""What the shop's staff reads where nothing else is known of the reader."""
