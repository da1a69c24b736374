"""Grafana dashboards from code: ``python -m tools.dashboards`` writes them, ``--check`` says whether they are fresh.

    panels below (texts in English and Russian) ─▶ typed builders ─▶ helm/dashboards/NAME.json, helm/dashboards/ru/NAME.json

Every PromQL target here is run on a Prometheus that scraped the demo, every SQL target on the demo's PostgreSQL
(``python -m tools.observe``). Gauges of the archive are the same on every replica, so they are taken by max; counters belong
to a replica each, so they are summed. Rule time and wall time are the same in an installation; only the demo tells them apart.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import bargauge, stat, table, timeseries
from grafana_foundation_sdk.builders import common as shown
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus as prom
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER: Final = Path(__file__).parents[1] / "helm" / "dashboards"
LANGUAGES: Final = ("en", "ru")
_PROMETHEUS: Final = dashboard.DataSourceRef("prometheus", "${datasource}")
_POSTGRES: Final = dashboard.DataSourceRef("grafana-postgresql-datasource", "${store}")
_BUILDERS: Final[dict[str, Any]] = {"stat": stat.Panel, "series": timeseries.Panel, "stacked": timeseries.Panel, "bars": bargauge.Panel, "table": table.Panel}
_HEIGHTS: Final = {"stat": 4, "series": 8, "stacked": 8, "bars": 8, "table": 8}
GREEN, AMBER, RED = "green", "orange", "red"


@dataclass(frozen=True, slots=True)
class Text:
    """What people read, in both languages."""

    en: str
    ru: str

    def in_(self, language: str) -> str:
        """In that one."""
        return self.ru if language == "ru" else self.en


@dataclass(frozen=True, slots=True)
class Query:
    """One target: PromQL with its legend, or SQL. ``now``: only the value at the end of the range."""

    text: str
    legend: str = ""
    now: bool = False

    @property
    def sql(self) -> bool:
        """Whether PostgreSQL answers it."""
        return self.text.lstrip().upper().startswith(("SELECT", "WITH"))


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``steps``: from which value on which colour; ``units`` and ``links``: by column of a table."""

    title: Text
    what: Text
    kind: str
    queries: Sequence[Query]
    unit: str = "short"
    width: int = 12
    steps: Sequence[tuple[float, str]] = ()
    units: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard: its rows of panels, the labels it can be narrowed by, and whether it asks PostgreSQL."""

    name: str
    title: Text
    what: Text
    rows: Sequence[tuple[Text, Sequence[Panel]]]
    narrow: Sequence[str] = ()
    postgres: bool = False


class Sql:
    """A query to PostgreSQL, as Grafana's datasource stores it. The SDK has a builder for many datasources, for this one not."""

    def __init__(self, ref: str, text: str) -> None:
        self._target = {
            "refId": ref, "datasource": {"type": _POSTGRES.type_val, "uid": _POSTGRES.uid},
            "format": "table", "rawQuery": True, "editorMode": "code", "rawSql": text,
        }  # fmt: skip

    def build(self) -> Sql:
        """Itself: it is built."""
        return self

    def to_json(self) -> dict[str, object]:
        """What the encoder writes."""
        return self._target


def _gauge(name: str, by: str = "rule", more: str = "") -> str:
    """A gauge of the archive, by rule and whatever else."""
    return f'max by (namespace, {by}) ({name}{{namespace=~"$namespace"{more}}})'


def _rate(name: str, by: str, more: str = "", over: str = "$__rate_interval") -> str:
    """A replica's counter per second, summed over replicas."""
    return f'sum by ({by}) (rate({name}{{namespace=~"$namespace"{more}}}[{over}]))'


def _quantile(q: float, name: str, by: str, more: str = "") -> str:
    return f"histogram_quantile({q}, " + _rate(f"{name}_bucket", f"le, {by}", more) + ")"


RULE: Final = ', rule=~"$rule"'
CONNECTOR: Final = ', connector=~"$connector"'
_HEALED_DAY: Final = 'round(sum(increase(orderheal_time_to_heal_seconds_count{namespace=~"$namespace"}[24h])))'
_HANDED_DAY: Final = 'round(sum(increase(orderheal_escalations_total{namespace=~"$namespace"}[24h])))'

OVERVIEW: Final = Page(
    "overview",
    Text("orderheal / Overview", "orderheal / Обзор"),
    Text("Is the shop healthy: what is at risk, what was healed, what needs a person.", "Здоров ли магазин: что под угрозой, что починено, где нужен человек."),
    (
        (Text("Now", "Сейчас"), (
            Panel(Text("Needs a person", "Нужен человек"), Text("Incidents that wait for a person and that nobody has claimed.", "Инциденты, которые ждут человека и никем не взяты."),
                  "stat", [Query(f"sum({_gauge('orderheal_incidents_needing_person')})", now=True)], width=4, steps=[(1, RED)]),
            Panel(Text("Deadlines near", "Срок близко"), Text("Stuck orders with less than two hours until they must be shipped.", "Застрявшие заказы, до отгрузки которых меньше двух часов."),
                  "stat", [Query(f"sum({_gauge('orderheal_deadlines_near')})", now=True)], width=4, steps=[(1, AMBER)]),
            Panel(Text("Deadlines missed", "Срок прошёл"), Text("Orders still stuck after their shipping deadline.", "Заказы, которые всё ещё стоят, хотя срок отгрузки прошёл."),
                  "stat", [Query(f"sum({_gauge('orderheal_deadlines_missed')})", now=True)], width=4, steps=[(1, RED)]),
            Panel(Text("Healed, 24 h", "Починено за сутки"), Text("Incidents that we healed and saw clean within the last day.", "Инциденты, которые мы починили и увидели исправными за последние сутки."),
                  "stat", [Query(_HEALED_DAY, now=True)], width=4),
            Panel(Text("Without a person, 24 h", "Без человека за сутки"), Text("SLO 1: the share of what ended that no person had to touch; the objective is 95 %.", "SLO 1: доля завершённого без участия человека; цель — 95 %."),
                  "stat", [Query(f"{_HEALED_DAY} / ({_HEALED_DAY} + {_HANDED_DAY})", now=True)], "percentunit", 4, [(0, RED), (0.9, AMBER), (0.95, GREEN)]),
            Panel(Text("Held by a guard", "Остановлены защитой"), Text("Rules whose guard has tripped: more is broken than may be touched.", "Правила, которые остановила защита: сломано больше, чем разрешено трогать."),
                  "stat", [Query(f"sum({_gauge('orderheal_rule_held')})", now=True)], width=4, steps=[(1, RED)]),
            Panel(Text("Money at risk", "Деньги под угрозой"), Text("Worth of the stuck orders, per currency.", "Стоимость застрявших заказов, по валютам."),
                  "stat", [Query(f"sum by (currency) ({_gauge('orderheal_value_at_risk', 'rule, currency')})", "{{currency}}", now=True)], width=16),
            Panel(Text("Rules that have not looked", "Правила без проверки"), Text("Active rules whose last complete scan is older than three intervals and ten minutes.", "Активные правила, чья последняя полная проверка старше трёх интервалов и десяти минут."),
                  "stat", [Query('sum(namespace_rule:orderheal_scan_age:seconds{namespace=~"$namespace"} > bool on (namespace, rule) '
                                 f"(3 * {_gauge('orderheal_rule_scan_interval_seconds')} + 600))", now=True)], width=4, steps=[(1, RED)]),
            Panel(Text("Pauses", "Паузы"), Text("Pauses in force: nothing is healed there.", "Действующие паузы: там ничего не чинится."),
                  "stat", [Query('count(max by (namespace, scope, name) (orderheal_paused{namespace=~"$namespace"})) or vector(0)', now=True)], width=4, steps=[(1, AMBER)]),
        )),
        (Text("Course", "Ход"), (
            Panel(Text("Live incidents by phase", "Живые инциденты по фазам"), Text("open: we are on it; escalated, quarantined: a person is needed; proved: seen clean.", "open — чиним; escalated, quarantined — нужен человек; proved — видели исправным."),
                  "stacked", [Query(f"sum by (phase) ({_gauge('orderheal_incidents', 'rule, phase')})", "{{phase}}")]),
            Panel(Text("How incidents ended", "Чем закончились инциденты"), Text("Per interval. healed: by us; handled: by a person; self_healed: before we acted; gone: no longer there.", "За интервал. healed — мы; handled — человек; self_healed — само; gone — больше нет."),
                  "stacked", [Query('sum by (resolution) (max by (namespace, rule, resolution) (increase(orderheal_resolutions_total{namespace=~"$namespace"}[$__rate_interval])))', "{{resolution}}")]),
            Panel(Text("Money at risk by rule", "Деньги под угрозой по правилам"), Text("Worth of the stuck orders, per rule and currency.", "Стоимость застрявших заказов, по правилам и валютам."),
                  "series", [Query(_gauge("orderheal_value_at_risk", "rule, currency"), "{{rule}} {{currency}}")]),
            Panel(Text("Error budget burn", "Расход бюджета ошибок"), Text("Share handed to people over one hour and over six; the objective allows 5 %.", "Доля переданного людям за час и за шесть часов; цель допускает 5 %."),
                  "series", [Query('namespace:orderheal_handed_over:ratio_rate1h{namespace=~"$namespace"}', "1h"), Query('namespace:orderheal_handed_over:ratio_rate6h{namespace=~"$namespace"}', "6h")], "percentunit", steps=[(0, GREEN), (0.05, AMBER), (0.3, RED)]),
        )),
        (Text("Details", "Подробно"), (
            Panel(Text("Alerts that fire", "Сработавшие оповещения"), Text("With what to do in docs/runbooks/alerts.", "Что делать — в docs/runbooks/alerts."),
                  "table", [Query('sum by (alertname, severity, rule, connector) (ALERTS{alertname=~"Orderheal.+", alertstate="firing"})', now=True)]),
            Panel(Text("Oldest incident by rule", "Старейший инцидент по правилам"), Text("Age of the oldest live incident.", "Возраст старейшего живого инцидента."),
                  "bars", [Query(f"topk(12, {_gauge('orderheal_oldest_incident_seconds')}) > 0", "{{rule}}", now=True)], "s", steps=[(0, GREEN), (3600, AMBER), (86400, RED)]),
        )),
    ),
)  # fmt: skip


def _drilled(more: str = "") -> str:
    """When a rule's last drill ended, on whichever replica it ran, over restarts."""
    return f'max by (namespace, rule) (max_over_time(orderheal_drill_timestamp_seconds{{namespace=~"$namespace"{RULE}{more}}}[7d]))'


_DRILLED: Final = _drilled()
_DRILLED_PASSED: Final = _drilled(', result="passed"')
_DRILLED_FAILED: Final = _drilled(', result="failed"')
_LAST_STAGES: Final = (  # of the replica that ran the last one; the others show the stages of earlier drills
    f'orderheal_drill_stage_seconds{{namespace=~"$namespace"{RULE}}} and on (namespace, rule, instance) '
    f'(max by (namespace, rule, instance) (orderheal_drill_timestamp_seconds{{namespace=~"$namespace"{RULE}}}) '
    f"== on (namespace, rule) group_left () {_gauge('orderheal_drill_timestamp_seconds', more=RULE)})"
)
ONE_RULE: Final = Page(
    "rule",
    Text("orderheal / Rule", "orderheal / Правило"),
    Text("One rule: from candidates to proof, how long healing takes, and why something is not done.", "Одно правило: от кандидатов до доказательства, сколько занимает починка и почему что-то не делается."),
    (
        (Text("Funnel", "Воронка"), (
            Panel(Text("From candidates to proof", "От кандидатов до доказательства"), Text("Read by the last scan; live incidents now; calls, proofs and hand-overs within the shown range.", "Прочитано последней проверкой; живые инциденты сейчас; вызовы, доказательства и передачи людям за показанное время."),
                  "bars", [
                      Query(f"sum({_gauge('orderheal_candidates', more=RULE)})", "candidates", now=True),
                      Query(f"sum({_gauge('orderheal_incidents', 'rule, phase', RULE)})", "live incidents", now=True),
                      Query(f'round(sum(max by (namespace, rule, outcome) (increase(orderheal_attempts_total{{namespace=~"$namespace"{RULE}}}[$__range]))))', "attempts", now=True),
                      Query(f'round(sum(max by (namespace, rule) (increase(orderheal_resolutions_total{{namespace=~"$namespace"{RULE}, resolution="healed"}}[$__range]))))', "healed", now=True),
                      Query(f'round(sum(increase(orderheal_escalations_total{{namespace=~"$namespace"{RULE}}}[$__range])))', "handed over", now=True),
                  ]),
            Panel(Text("Why they are so", "Почему так"), Text("Live incidents by the named reason of their last decision; orderheal explain says more.", "Живые инциденты по названной причине последнего решения; подробнее — orderheal explain."),
                  "stacked", [Query(f"sum by (why) ({_gauge('orderheal_decisions', 'rule, why', RULE)})", "{{why}}")]),
            Panel(Text("Held", "Остановлено"), Text("1 while the guard holds the rule; held ones first.", "1, пока правило остановлено защитой; остановленные первыми."), "stat", [Query(f"topk(5, {_gauge('orderheal_rule_held', more=RULE)})", "{{rule}}", now=True)], width=8, steps=[(1, RED)]),
            Panel(Text("Blind", "Слепо"), Text("For how long scans could not tell broken from clean.", "Сколько времени проверки не могут отличить сломанное от исправного."), "stat", [Query(f"topk(5, {_gauge('orderheal_rule_blind_seconds', more=RULE)})", "{{rule}}", now=True)], "s", 8, [(1, RED)]),
            Panel(Text("Active", "Активно"), Text("1 while the rule is active; mode and version stand on the dashboard Daemon.", "1, пока правило активно; режим и версия — на панели «Демон»."), "stat", [Query(f"bottomk(5, {_gauge('orderheal_rule_active', more=RULE)})", "{{rule}}", now=True)], width=8, steps=[(0, RED), (1, GREEN)]),
        )),
        (Text("Healing", "Починка"), (
            Panel(Text("Time to heal", "Время починки"), Text("SLO 2: from opening to proof, for half and for nine of ten; the objective is 90 % within 30 minutes.", "SLO 2: от открытия до доказательства, для половины и для девяти из десяти; цель — 90 % за 30 минут."),
                  "series", [Query(_quantile(0.5, "orderheal_time_to_heal_seconds", "rule", RULE), "{{rule}} p50"), Query(_quantile(0.9, "orderheal_time_to_heal_seconds", "rule", RULE), "{{rule}} p90")], "s", steps=[(0, GREEN), (1800, AMBER)]),
            Panel(Text("Attempts by outcome", "Попытки по исходу"), Text("Per interval. unknown: sent, but no answer that was understood.", "За интервал. unknown — отправлено, но понятного ответа нет."),
                  "stacked", [Query(f'sum by (outcome) (max by (namespace, rule, outcome) (increase(orderheal_attempts_total{{namespace=~"$namespace"{RULE}}}[$__rate_interval])))', "{{outcome}}")]),
            Panel(Text("Handed to people by why", "Передано людям: почему"), Text("Per interval. refused: the system said no; ladder_spent: all attempts used; quarantined: too many in its life.", "За интервал. refused — система отказала; ladder_spent — попытки кончились; quarantined — слишком много за жизнь."),
                  "stacked", [Query(f'sum by (why) (increase(orderheal_escalations_total{{namespace=~"$namespace"{RULE}}}[$__rate_interval]))', "{{why}}")]),
            Panel(Text("Calls of this hour", "Вызовы за час"), Text("Calls within the last hour against guard.max_calls_per_hour, and those on their way now.", "Вызовы за последний час против guard.max_calls_per_hour и те, что в пути."),
                  "series", [Query(_gauge("orderheal_calls_last_hour", more=RULE), "{{rule}} calls"), Query(_gauge("orderheal_calls_per_hour_limit", more=RULE), "{{rule}} limit"), Query(_gauge("orderheal_attempts_open", more=RULE), "{{rule}} open")]),
        )),
        (Text("Looking", "Проверки"), (
            Panel(Text("Age of the last complete scan", "Возраст последней полной проверки"), Text("Rises until a scan is complete; three intervals and ten minutes call somebody.", "Растёт до конца полной проверки; три интервала и десять минут зовут человека."),
                  "series", [Query(f'namespace_rule:orderheal_scan_age:seconds{{namespace=~"$namespace"{RULE}}}', "{{rule}}")], "s"),
            Panel(Text("Sightings by verdict", "Взгляды по вердикту"), Text("Looks at single subjects, per second.", "Взгляды на отдельные объекты, в секунду."), "stacked", [Query(_rate("orderheal_sightings_total", "verdict", RULE), "{{verdict}}")], "ops"),
            Panel(Text("Scans", "Проверки источника"), Text("Scans that came to an end, per interval.", "Завершённые проверки, за интервал."), "stacked", [Query(f'sum by (rule, result) (increase(orderheal_scans_total{{namespace=~"$namespace"{RULE}}}[$__rate_interval]))', "{{rule}} {{result}}")]),
            Panel(Text("Scan duration", "Длительность проверки"), Text("Nine of ten scans took at most so long.", "Девять из десяти проверок уложились в это время."), "series", [Query(_quantile(0.9, "orderheal_scan_seconds", "rule", RULE), "{{rule}} p90")], "s"),
            Panel(Text("Share of unknown sightings", "Доля неизвестного"), Text("Over one hour; unknown concludes nothing.", "За час; из неизвестного ничего не следует."), "series", [Query(f'namespace_rule:orderheal_sightings_unknown:ratio_rate1h{{namespace=~"$namespace"{RULE}}}', "{{rule}}")], "percentunit", steps=[(0, GREEN), (0.2, AMBER)]),
            Panel(Text("Notices", "Сообщения"), Text("Messages to people by kind and by what became of them.", "Сообщения людям: вид и судьба."), "table", [Query(f"sum by (kind, state) ({_gauge('orderheal_notices', 'rule, kind, state', RULE)}) > 0", now=True)]),
        )),
        (Text("Drills", "Учения"), (
            Panel(Text("Last drill passed", "Последнее учение удалось"), Text("1: a planted object was brought to its proof; 0: it was not, or stayed where it was planted. Only drills that the daemon does by itself.", "1 — подложенный объект дошёл до доказательства; 0 — не дошёл или остался там, куда подложен. Только учения, которые демон проводит сам."),
                  "stat", [Query(f"({_DRILLED_PASSED} > bool {_DRILLED_FAILED}) and ({_DRILLED} > 0)", "{{rule}}", now=True)], width=12, steps=[(0, RED), (1, GREEN)]),
            Panel(Text("Age of the last drill", "Возраст последнего учения"), Text("However it ended; longer than drills' every: none comes to its end any more.", "Чем бы оно ни кончилось; больше, чем every учения, — учения больше не завершаются."),
                  "stat", [Query(f'max by (namespace) (orderheal_rule_time_timestamp_seconds{{namespace=~"$namespace"}}) - on (namespace) group_right () ({_DRILLED} > 0)', "{{rule}}", now=True)], "s", 12, [(0, GREEN), (172800, AMBER)]),
            Panel(Text("Last drill, time to each stage", "Последнее учение, время до каждой стадии"), Text("From planting until it is found, acted on, proved healed, told to a person; a stage that was not reached has no bar.", "От подкладывания до находки, действия, доказательства починки, сообщения человеку; у недостигнутой стадии полосы нет."),
                  "bars", [Query(_LAST_STAGES, "{{rule}} {{stage}}", now=True)], "s", 24),
        )),
    ),
    narrow=("rule",),
)  # fmt: skip

CONNECTORS: Final = Page(
    "connectors",
    Text("orderheal / Connectors", "orderheal / Системы"),
    Text("The outside systems: do they answer, how fast, how much of their quota is used.", "Внешние системы: отвечают ли, как быстро, сколько квоты занято."),
    (
        (Text("State", "Состояние"), (
            Panel(Text("Refuse us", "Отказывают нам"), Text("Systems that answer 401 or 403; everything that needs them waits.", "Системы, которые отвечают 401 или 403; всё, чему они нужны, ждёт."), "bars", [Query(f"topk(10, {_gauge('orderheal_connector_ill', 'connector', CONNECTOR)})", "{{connector}}", now=True)], steps=[(1, RED)]),
            Panel(Text("Share of failed requests", "Доля неудачных запросов"), Text("Failed or not understood, over 15 minutes.", "Не удались или не поняты, за 15 минут."), "series", [Query(f'namespace_connector:orderheal_request_failures:ratio_rate15m{{namespace=~"$namespace"{CONNECTOR}}}', "{{connector}}")], "percentunit", steps=[(0, GREEN), (0.5, RED)]),
        )),
        (Text("Requests", "Запросы"), (
            Panel(Text("Requests by outcome", "Запросы по исходу"), Text("Per second.", "В секунду."), "stacked", [Query(_rate("orderheal_requests_total", "connector, outcome", CONNECTOR), "{{connector}} {{outcome}}")], "reqps"),
            Panel(Text("Failures", "Неудачи"), Text("Requests per second that failed or were not understood.", "Запросы в секунду, которые не удались или не поняты."), "series", [Query(_rate("orderheal_request_failures_total", "connector", CONNECTOR), "{{connector}}")], "reqps"),
            Panel(Text("Latency, half", "Задержка, половина"), Text("Half of the requests took at most so long.", "Половина запросов уложилась в это время."), "series", [Query(_quantile(0.5, "orderheal_request_seconds", "connector, operation", CONNECTOR), "{{connector}} {{operation}}")], "s"),
            Panel(Text("Latency, 95 of 100", "Задержка, 95 из 100"), Text("95 of 100 requests took at most so long.", "95 из 100 запросов уложились в это время."), "series", [Query(_quantile(0.95, "orderheal_request_seconds", "connector, operation", CONNECTOR), "{{connector}} {{operation}}")], "s"),
        )),
        (Text("Quota and messages", "Квоты и сообщения"), (
            Panel(Text("Use of the declared rate", "Занято от объявленной частоты"), Text("Requests per second against the rate in config.yaml, which all replicas share.", "Запросы в секунду против rate в config.yaml, общего для всех реплик."),
                  "series", [Query(_rate("orderheal_requests_total", "namespace, connector", CONNECTOR, "5m") + " / on (namespace, connector) " + _gauge("orderheal_connector_rate_limit", "connector", CONNECTOR), "{{connector}}")], "percentunit", steps=[(0, GREEN), (0.9, RED)]),
            Panel(Text("Messages by channel", "Сообщения по каналам"), Text("Per interval. later: its own rate or the other side said wait; failed: given up on this channel.", "За интервал. later — своя частота или та сторона просит подождать; failed — на этом канале оставлено."),
                  "stacked", [Query('sum by (via, state) (increase(orderheal_dispatches_total{namespace=~"$namespace"}[$__rate_interval]))', "{{via}} {{state}}")]),
        )),
    ),
    narrow=("connector",),
)  # fmt: skip

_RULE_IN: Final = "(${rule:sqlstring})"
_LINKS: Final = {
    "key": "${crm_url}${__value.raw}",
    "rule": "${sentry_url}${__value.raw}",
    "runbook": "${docs_url}${__value.raw}",
}
_LIVE_COLUMNS: Final = """\
       incident.id, incident.rule, incident.key, incident.phase, incident.why, incident.cause,
       extract(epoch FROM moment.now - incident.opened)::double precision AS age,
       extract(epoch FROM (incident.body ->> 'deadline')::timestamptz - moment.now)::double precision AS to_deadline,
       incident.amount::double precision AS amount, incident.currency,
       (SELECT notice.body ->> 'runbook' FROM notice
        WHERE notice.body -> 'incidents' @> to_jsonb(incident.id) ORDER BY notice.place DESC LIMIT 1) AS runbook"""
_LIVE_UNITS: Final = {"age": "s", "to_deadline": "s"}
INCIDENTS: Final = Page(
    "incidents",
    Text("orderheal / Incidents", "orderheal / Инциденты"),
    Text("The rows themselves, from orderheal's own PostgreSQL (a role with SELECT is enough).", "Сами строки, из собственной базы orderheal (хватит роли с SELECT)."),
    (
        (Text("Who is needed", "Кто нужен"), (
            Panel(Text("Waiting for a person", "Ждут человека"), Text("Escalated or quarantined. Take one with orderheal incidents claim.", "Переданы человеку или в карантине. Взять: orderheal incidents claim."),
                  "table", [Query(f"""\
SELECT {_LIVE_COLUMNS.strip()},
       incident.body #>> '{{marks,claimed_by}}' AS claimed_by
FROM incident, (SELECT rule_time(db_now()) AS now) AS moment
WHERE incident.phase IN ('escalated', 'quarantined') AND incident.rule IN {_RULE_IN}
ORDER BY to_deadline NULLS LAST, incident.opened LIMIT 200""")], width=24, units=_LIVE_UNITS, links=_LINKS),
            Panel(Text("Problems people were told about", "Проблемы, о которых сказано"), Text("One thread of messages each.", "Каждая — одна нить сообщений."),
                  "table", [Query(f"""\
SELECT problem.id, problem.rule, problem.body ->> 'contact' AS contact, (problem.body ->> 'told')::integer AS subjects,
       (problem.body ->> 'episode')::integer AS episode, (problem.body ->> 'begun')::timestamptz AS begun, problem.delivered
FROM problem WHERE (problem.body ->> 'active')::boolean AND problem.rule IN {_RULE_IN}
ORDER BY begun LIMIT 200""")], links={"rule": _LINKS["rule"]}),
            Panel(Text("Messages by what became of them", "Судьба сообщений"), Text("Per channel, over the shown range.", "По каналам, за показанное время."),
                  "table", [Query("""\
SELECT dispatch.via, dispatch.contact, dispatch.state, count(*) AS messages, max(dispatch.tries) AS most_tries,
       max(dispatch.reason) AS a_reason, max(notice.at) AS last
FROM dispatch JOIN notice ON notice.id = dispatch.notice
WHERE $__timeFilter(notice.at) OR dispatch.state = 'pending'
GROUP BY dispatch.via, dispatch.contact, dispatch.state ORDER BY dispatch.state, messages DESC""")]),
        )),
        (Text("All live ones", "Все живые"), (
            Panel(Text("We are on it", "Чиним"), Text("Live incidents that wait for no person, the most pressing first.", "Живые инциденты, которым человек не нужен; самые срочные сверху."),
                  "table", [Query(f"""\
SELECT {_LIVE_COLUMNS.strip()}
FROM incident, (SELECT rule_time(db_now()) AS now) AS moment
WHERE incident.phase IN ('open', 'proved', 'parked') AND incident.rule IN {_RULE_IN}
ORDER BY to_deadline NULLS LAST, incident.opened LIMIT 200""")], width=24, units=_LIVE_UNITS, links=_LINKS),
        )),
        (Text("What happened", "Что было"), (
            Panel(Text("Attempts", "Попытки"), Text("Calls and what became of them, the newest first.", "Вызовы и чем они кончились, новые сверху."),
                  "table", [Query(f"""\
SELECT attempt.begun, attempt.rule, incident.key, attempt.body ->> 'step' AS step, coalesce(attempt.result, 'open') AS outcome,
       attempt.reason, attempt.incident AS id
FROM attempt JOIN incident ON incident.id = attempt.incident
WHERE $__timeFilter(attempt.begun) AND attempt.rule IN {_RULE_IN}
ORDER BY attempt.begun DESC LIMIT 200""")], links=_LINKS),
            Panel(Text("Ended", "Закончены"), Text("Incidents that ended, the newest first.", "Завершённые инциденты, новые сверху."),
                  "table", [Query(f"""\
SELECT incident.ended, incident.rule, incident.key, incident.resolution, incident.cause,
       extract(epoch FROM incident.ended - incident.opened)::double precision AS lasted,
       incident.amount::double precision AS amount, incident.currency, incident.id
FROM incident
WHERE incident.phase = 'resolved' AND $__timeFilter(incident.ended) AND incident.rule IN {_RULE_IN}
ORDER BY incident.ended DESC LIMIT 200""")], units={"lasted": "s"}, links=_LINKS),
        )),
    ),
    narrow=("rule",),
    postgres=True,
)  # fmt: skip

DAEMON: Final = Page(
    "daemon",
    Text("orderheal / Daemon", "orderheal / Демон"),
    Text("The daemon itself: replicas, what they take of the machine, whether their work ends well.", "Сам демон: реплики, сколько они занимают, хорошо ли заканчивается их работа."),
    (
        (Text("Replicas", "Реплики"), (
            Panel(Text("Replicas by version", "Реплики по версиям"), Text("Those that Prometheus scrapes.", "Те, что видит Prometheus."), "stat", [Query('sum by (version) (orderheal_build_info{namespace=~"$namespace"})', "{{version}}", now=True)], width=8, steps=[(0, RED), (1, GREEN)]),
            Panel(Text("Store can be read", "База читается"), Text("Of every replica: did its last reading of the archive work.", "По репликам: удалось ли последнее чтение архива."), "stat", [Query('orderheal_archive_up{namespace=~"$namespace"}', "{{instance}}", now=True)], width=8, steps=[(0, RED), (1, GREEN)]),
            Panel(Text("Up for", "Работает"), Text("Since the process started.", "С запуска процесса."), "stat", [Query('time() - (process_start_time_seconds{namespace=~"$namespace"} and on (instance) orderheal_build_info)', "{{instance}}", now=True)], "s", 8),
            Panel(Text("Memory", "Память"), Text("Resident.", "Резидентная."), "series", [Query('process_resident_memory_bytes{namespace=~"$namespace"} and on (instance) orderheal_build_info', "{{instance}}")], "bytes", 8),
            Panel(Text("CPU", "Процессор"), Text("Cores in use.", "Занятые ядра."), "series", [Query('rate(process_cpu_seconds_total{namespace=~"$namespace"}[$__rate_interval]) and on (instance) orderheal_build_info', "{{instance}}")], "short", 8),
            Panel(Text("Open files", "Открытые файлы"), Text("Connections among them.", "Соединения в том числе."), "series", [Query('process_open_fds{namespace=~"$namespace"} and on (instance) orderheal_build_info', "{{instance}}")], "short", 8),
        )),
        (Text("Work", "Работа"), (
            Panel(Text("Cycles by fate", "Циклы по исходу"), Text("Per second. fenced: another replica took over; conflict: somebody wrote meanwhile; failed: see the log.", "В секунду. fenced — перехватила другая реплика; conflict — кто-то записал раньше; failed — смотрите лог."), "stacked", [Query(_rate("orderheal_cycles_total", "fate"), "{{fate}}")], "ops"),
            Panel(Text("Unfinished cycles", "Незаконченные циклы"), Text("In a row, by rule; three and more: the rule may kill its process.", "Подряд, по правилам; три и больше: правило, возможно, убивает процесс."), "series", [Query(_gauge("orderheal_rule_unfinished_cycles"), "{{rule}}")], steps=[(0, GREEN), (3, RED)]),
            Panel(Text("Mishaps", "Неполадки"), Text("Survived, per interval; the log names each. telling: a log or metric failed to take an event.", "Пережитые, за интервал; каждая есть в логе. telling — лог или метрика не приняли событие."),
                  "series", [Query('sum(increase(orderheal_troubles_total{namespace=~"$namespace"}[$__rate_interval]))', "troubles"), Query('sum(increase(orderheal_telling_failures_total{namespace=~"$namespace"}[$__rate_interval]))', "telling")]),
            Panel(Text("Messages that reached nobody", "Недоставленные сообщения"), Text("By rule.", "По правилам."), "series", [Query(_gauge("orderheal_notices_undelivered"), "{{rule}}")], steps=[(0, GREEN), (1, RED)]),
            Panel(Text("Rules and their versions", "Правила и их версии"), Text("What is active, in which mode, and whose it is.", "Что активно, в каком режиме и чьё."), "table", [Query(_gauge("orderheal_rule_info", "rule, mode, owner, digest"), now=True)], width=24),
        )),
    ),
)  # fmt: skip

PAGES: Final = (OVERVIEW, ONE_RULE, CONNECTORS, INCIDENTS, DAEMON)

MARKS: Final = (
    (Text("Pauses", "Паузы"), 'max by (scope, name) (orderheal_paused{namespace=~"$namespace"})', "{{scope}} {{name}}", "blue"),
    (Text("Storms", "Лавины"), 'max by (rule) (orderheal_rule_held{namespace=~"$namespace"}) == 1', "{{rule}}", "red"),
    (
        Text("Deployments", "Выкладки"),
        'sum by (version) (orderheal_build_info{namespace=~"$namespace"}) unless sum by (version) (orderheal_build_info{namespace=~"$namespace"} offset 1m)',
        "{{version}}",
        "green",
    ),
    (
        Text("Rule changes", "Изменения правил"),
        'max by (rule, digest) (orderheal_rule_info{namespace=~"$namespace"}) unless max by (rule, digest) (orderheal_rule_info{namespace=~"$namespace"} offset 1m)',
        "{{rule}}",
        "purple",
    ),
)
"""Annotations on every dashboard that asks Prometheus."""


def drawn(page: Page, language: str) -> str:
    """A dashboard as Grafana reads it."""
    made = (
        build.Dashboard(page.title.in_(language))
        .uid(f"orderheal-{page.name}")
        .description(page.what.in_(language))
        .tags(["orderheal"])
        .time("now-6h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    made = made.link(build.DashboardLink("orderheal").type(dashboard.DashboardLinkType.DASHBOARDS).tags(["orderheal"]).keep_time(True))
    for variable in _variables(page, language):
        made = made.with_variable(variable)
    for title, expr, _, colour in MARKS:
        made = made.annotation(build.AnnotationQuery().name(title.in_(language)).datasource(_PROMETHEUS).enable(True).icon_color(colour).expr(expr))
    for place, row in _placed(page, language):
        made = made.with_row(row) if isinstance(row, build.Row) else made.with_panel(row.grid_pos(place))
    whole = json.loads(JSONEncoder(sort_keys=True, indent=2).encode(made.build()))
    return json.dumps(_finished(whole), ensure_ascii=False, sort_keys=True, indent=2) + "\n"


def _finished(whole: dict[str, Any]) -> dict[str, Any]:
    """Ids of panels, and what annotations say: the SDK has no words for either."""
    for number, panel in enumerate(whole["panels"], 1):
        panel["id"] = number
    for mark, (_, expr, legend, _) in zip(whole["annotations"]["list"], MARKS, strict=True):
        del mark["expr"]
        mark |= {"titleFormat": mark["name"], "textFormat": legend, "target": {"refId": "mark", "expr": expr}}
    for variable in whole["templating"]["list"]:
        for key in ("auto", "auto_min", "auto_count"):
            variable.pop(key, None)
    for panel in whole["panels"]:
        for step in panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds", {}).get("steps", ()):
            step.setdefault("value", None)
    return whole


def _variables(page: Page, language: str) -> Iterator[Any]:
    said = {"namespace": Text("Namespace", "Пространство имён"), "rule": Text("Rule", "Правило"), "connector": Text("System", "Система")}
    yield build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    if page.postgres:
        yield build.DatasourceVariable("store").label("PostgreSQL").type("grafana-postgresql-datasource")
    sources = {"namespace": "orderheal_build_info", "rule": "orderheal_rule_info", "connector": "orderheal_connector_ill"}
    for label in ("namespace", *page.narrow):
        values = build.QueryVariable(label).label(said[label].in_(language)).datasource(_PROMETHEUS)
        values = values.query({"query": f"label_values({sources[label]}, {label})", "refId": "labels"})
        values = values.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        everything = values.include_all(True).multi(True)
        yield everything if page.postgres and label == "rule" else everything.all_value(".*")
    if page.postgres:
        yield _address("crm_url", Text("CRM, search", "CRM, поиск"), language)
        yield _address("sentry_url", Text("Sentry, search by rule", "Sentry, поиск по правилу"), language)
        yield _address("docs_url", Text("Runbooks", "Инструкции"), language)


def _address(name: str, label: Text, language: str) -> Any:
    """An address that links begin with; an installation fills it in once."""
    return build.TextBoxVariable(name).label(label.in_(language)).default_value("https://example.invalid/")


def _placed(page: Page, language: str) -> Iterator[tuple[dashboard.GridPos, Any]]:
    """Panels from left to right, row by row, 24 columns wide."""
    top = 0
    for title, panels in page.rows:
        yield dashboard.GridPos(h=1, w=24, x=0, y=top), build.Row(title.in_(language)).grid_pos(dashboard.GridPos(h=1, w=24, x=0, y=top))
        top, left, height = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > 24:
                top, left, height = top + height, 0, 0
            yield dashboard.GridPos(h=_HEIGHTS[panel.kind], w=panel.width, x=left, y=top), _panel(panel, language)
            left, height = left + panel.width, max(height, _HEIGHTS[panel.kind])
        top += height


def _panel(panel: Panel, language: str) -> Any:
    asks_sql = any(query.sql for query in panel.queries)
    made = _BUILDERS[panel.kind]().title(panel.title.in_(language)).description(panel.what.in_(language))
    made = made.datasource(_POSTGRES if asks_sql else _PROMETHEUS).unit(panel.unit).thresholds(_thresholds(panel))
    for number, query in enumerate(panel.queries):
        made = made.with_target(_target(chr(ord("A") + number), query, panel.kind))
    return _dressed(made, panel)


def _target(ref: str, query: Query, kind: str) -> Any:
    if query.sql:
        return Sql(ref, query.text)
    target = prom.Dataquery().ref_id(ref).expr(query.text).legend_format(query.legend or "__auto").datasource(_PROMETHEUS)
    target = target.instant() if query.now else target.range()
    return target.format(PromQueryFormat.TABLE if kind == "table" else PromQueryFormat.TIME_SERIES)


def _thresholds(panel: Panel) -> Any:
    steps = [dashboard.Threshold(value=value, color=colour) for value, colour in panel.steps]
    first = panel.steps[0][1] if panel.steps and panel.steps[0][0] == 0 else GREEN
    lowest = dashboard.Threshold(value=None, color=first)
    rest = steps[1:] if panel.steps and panel.steps[0][0] == 0 else steps
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps([lowest, *rest])


def _dressed(made: Any, panel: Panel) -> Any:
    """What is peculiar to a kind of panel."""
    match panel.kind:
        case "series" | "stacked":
            made = made.legend(shown.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM).display_mode(common.LegendDisplayMode.LIST))
            made = made.fill_opacity(60 if panel.kind == "stacked" else 8).show_points(common.VisibilityMode.NEVER).min(0)
            if panel.kind == "stacked":
                made = made.stacking(shown.StackingConfig().mode(common.StackingMode.NORMAL))
        case "stat" | "bars":
            made = made.reduce_options(shown.ReduceDataOptions().calcs(["lastNotNull"]))
            if panel.kind == "stat":
                made = made.color_mode(common.BigValueColorMode.BACKGROUND if panel.steps else common.BigValueColorMode.VALUE)
            else:
                made = made.orientation(common.VizOrientation.HORIZONTAL)
        case "table":
            for column in sorted({*panel.units, *panel.links}):
                made = made.override_by_name(column, [*_column(panel, column)])
            if any(not query.sql for query in panel.queries):
                made = made.with_transformation(dashboard.DataTransformerConfig("organize", options={"excludeByName": {"Time": True, "Value": False}}))
    return made


def _column(panel: Panel, column: str) -> Iterator[dashboard.DynamicConfigValue]:
    if column in panel.units:
        yield dashboard.DynamicConfigValue("unit", panel.units[column])
    if column in panel.links:
        yield dashboard.DynamicConfigValue("links", [{"title": column, "url": panel.links[column], "targetBlank": True}])


def files() -> dict[Path, str]:
    """Every file with what belongs in it."""
    folders = {"en": FOLDER, "ru": FOLDER / "ru"}
    return {folders[language] / f"{page.name}.json": drawn(page, language) for language in LANGUAGES for page in PAGES}


def stale() -> list[Path]:
    """Files that do not hold what belongs in them, and files that nobody makes."""
    wanted = files()
    there = {path: path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.json")}
    return sorted(path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path))


def main(words: Sequence[str]) -> int:
    """Write the files, or (``--check``) say which are stale; the exit code."""
    if "--check" in words:
        for path in (found := stale()):
            print(f"{path.relative_to(FOLDER.parents[1])} is not what tools/dashboards.py makes: run make docs")
        return int(bool(found))
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
