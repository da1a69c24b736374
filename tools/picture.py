"""A dashboard's JSON and the answers to its targets as one HTML page of plain SVG, for a browser to take a picture of.

It is a stand-in for Grafana, true in what matters for a check by eye: which panels there are and where, their titles, units
and thresholds, and what the live data look like in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

_COLUMN, _ROW, _GAP = 64, 34, 8
WIDTH: Final = 24 * _COLUMN + 2 * _GAP
_COLOURS: Final = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#37872d", "#fade2a", "#c4162a", "#8f3bb8", "#96d98d")
_NAMED: Final = {"green": "#37872d", "orange": "#c15c17", "red": "#ad0317"}
_STYLE: Final = """
body { margin: 0; background: #111217; color: #ccccdc; font: 13px 'DejaVu Sans', sans-serif; }
.panel { position: absolute; background: #181b1f; border: 1px solid #2c3235; border-radius: 3px; overflow: hidden; }
.title { padding: 5px 9px; font-weight: bold; white-space: nowrap; } .row { background: none; border: none; font-size: 15px; }
.stats { display: flex; height: calc(100% - 28px); } .stat { flex: 1; display: flex; flex-direction: column; align-items: center;
justify-content: center; } .stat b { font-size: 26px; } .legend { padding: 2px 9px; font-size: 10.5px; max-height: 46px; overflow: hidden; }
.legend i { display: inline-block; width: 12px; height: 4px; margin: 2px 4px 2px 8px; } table { border-collapse: collapse; width: 100%;
font-size: 11px; } th, td { text-align: left; padding: 2px 7px; border-bottom: 1px solid #2c3235; white-space: nowrap; max-width: 260px;
overflow: hidden; text-overflow: ellipsis; } th { color: #8ab8ff; } .bar { display: flex; align-items: center; padding: 2px 9px; }
.bar span { width: 210px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .bar em { height: 14px; margin-right: 8px; }
h1 { margin: 0; padding: 12px 16px 0; font-size: 20px; } p { margin: 2px 16px; color: #8e8e9e; } text { fill: #8e8e9e; font-size: 10px; }
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A series: its name and (seconds, value) in order."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a panel's targets gave: series, or the rows of a table."""

    lines: list[Line] = field(default_factory=list)
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be seen."""
        return not self.rows and not any(math.isfinite(value) for line in self.lines for _, value in line.points)


def page(dashboard: Mapping[str, Any], answers: Mapping[int, Answer]) -> tuple[str, int]:
    """The HTML of a dashboard, and its height in pixels."""
    panels = "\n".join(_panel(panel, answers.get(panel["id"], Answer())) for panel in dashboard["panels"])
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * _ROW + 90
    head = f"<h1>{escape(dashboard['title'])}</h1><p>{escape(dashboard['description'])}</p>"
    return f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>{head}<div style='position:relative;top:8px'>{panels}</div>", height


def _panel(panel: Mapping[str, Any], answer: Answer) -> str:
    at = panel["gridPos"]
    width, height = at["w"] * _COLUMN - _GAP, at["h"] * _ROW - _GAP
    place = f"left:{at['x'] * _COLUMN + _GAP}px;top:{at['y'] * _ROW}px;width:{width}px;height:{height}px"
    if panel["type"] == "row":
        return f"<div class='panel row' style='{place}'><div class=title>▾ {escape(panel['title'])}</div></div>"
    inside = {"stat": _stat, "timeseries": _series, "bargauge": _bars, "table": _table}[panel["type"]](panel, answer, width, height - 28)
    return f"<div class=panel style='{place}'><div class=title>{escape(panel['title'])}</div>{inside}</div>"


def _defaults(panel: Mapping[str, Any]) -> Mapping[str, Any]:
    defaults: Mapping[str, Any] = panel["fieldConfig"]["defaults"]
    return defaults


def _colour(panel: Mapping[str, Any], value: float) -> str:
    colour = "green"
    for step in _defaults(panel)["thresholds"]["steps"]:
        if step.get("value") is None or value >= step["value"]:
            colour = step["color"]
    return _NAMED.get(colour, colour)


def _last(line: Line) -> float:
    return next((value for _, value in reversed(line.points) if math.isfinite(value)), math.nan)


def _stat(panel: Mapping[str, Any], answer: Answer, width: int, height: int) -> str:
    cells = []
    for line in answer.lines:
        value = _last(line)
        back = f"background:{_colour(panel, value)};" if panel["options"].get("colorMode") == "background" else ""
        name = escape(line.name) if len(answer.lines) > 1 or line.name else ""
        cells.append(f"<div class=stat style='{back}color:#fff'><b>{said(value, _defaults(panel)['unit'])}</b>{name}</div>")
    return f"<div class=stats>{''.join(cells)}</div>"


def _bars(panel: Mapping[str, Any], answer: Answer, width: int, height: int) -> str:
    top = max((abs(_last(line)) for line in answer.lines if math.isfinite(_last(line))), default=1) or 1
    each = (
        f"<div class=bar><span>{escape(line.name)}</span><em style='background:{_colour(panel, _last(line))};"
        f"width:{max(2, round((width - 330) * _last(line) / top))}px'></em>{said(_last(line), _defaults(panel)['unit'])}</div>"
        for line in answer.lines
        if math.isfinite(_last(line))
    )
    return "".join(each)


def _table(panel: Mapping[str, Any], answer: Answer, width: int, height: int) -> str:
    columns = list(answer.rows[0]) if answer.rows else []
    units = {
        over["matcher"]["options"]: prop["value"]
        for over in panel["fieldConfig"].get("overrides", [])
        for prop in over["properties"]
        if prop["id"] == "unit"
    }
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row[column], units.get(column))}</td>" for column in columns) + "</tr>"
        for row in answer.rows[: height // 19]
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any, unit: str | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return said(float(value), unit or "short")
    return escape(f"{value:%d.%m %H:%M}" if hasattr(value, "strftime") else str(value))


def _series(panel: Mapping[str, Any], answer: Answer, width: int, height: int) -> str:
    lines = [line for line in answer.lines if line.points]
    stacked = _defaults(panel)["custom"].get("stacking", {}).get("mode") == "normal"
    moments = sorted({at for line in lines for at, _ in line.points})
    if not moments:
        return ""
    drawn = _stacked(lines, moments) if stacked else [(line, [0.0] * len(line.points), line.points) for line in lines]
    top = max((value for _, _, points in drawn for _, value in points if math.isfinite(value)), default=1.0) or 1.0
    tall, wide = height - 62, width - 70

    def x(at: float) -> float:
        return 58 + wide * (at - moments[0]) / max(moments[-1] - moments[0], 1)

    def y(value: float) -> float:
        return 4 + tall * (1 - value / top)

    shapes = [f"<line x1=58 x2={width - 12} y1={y(top * n / 4):.0f} y2={y(top * n / 4):.0f} stroke='#2c3235'/>"
              f"<text x=2 y={y(top * n / 4) + 4:.0f}>{said(top * n / 4, _defaults(panel)['unit'])}</text>" for n in range(5)]  # fmt: skip
    shapes += [f"<text x={58 + wide * n / 4 - 12:.0f} y={tall + 16}>{(moments[-1] - moments[0]) * n / 4:.0f} s</text>" for n in range(5)]
    for number, (_, floor, points) in enumerate(drawn):
        colour = _COLOURS[number % len(_COLOURS)]
        for part in _whole([(x(at), y(value), y(low)) for (at, value), low in zip(points, floor, strict=True)]):
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in part)
            back = " ".join(f"{px:.1f},{low:.1f}" for px, _, low in reversed(part))
            if stacked:
                shapes.append(f"<polygon points='{path} {back}' fill='{colour}' fill-opacity=.55 />")
            shapes.append(f"<polyline points='{path}' fill=none stroke='{colour}' stroke-width=1.4 />")
    legend = "".join(f"<i style='background:{_COLOURS[n % len(_COLOURS)]}'></i>{escape(line.name)}" for n, line in enumerate(lines))
    return f"<svg width={width} height={height - 42}>{''.join(shapes)}</svg><div class=legend>{legend}</div>"


def _stacked(lines: Sequence[Line], moments: Sequence[float]) -> list[tuple[Line, list[float], Sequence[tuple[float, float]]]]:
    """Each line on top of those before it; missing values count as nothing."""
    floor = [0.0] * len(moments)
    drawn: list[tuple[Line, list[float], Sequence[tuple[float, float]]]] = []
    for line in lines:
        values = {at: value for at, value in line.points if math.isfinite(value)}
        above = [low + values.get(at, 0.0) for low, at in zip(floor, moments, strict=True)]
        drawn.append((line, floor, list(zip(moments, above, strict=True))))
        floor = above
    return drawn


def _whole(points: Iterable[tuple[float, float, float]]) -> list[list[tuple[float, float, float]]]:
    """Runs without a gap."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


_SIZES: Final = {
    "s": ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (0.001, "ms")),
    "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
}
_PLAIN: Final = ((1e9, "G"), (1e6, "M"), (1e3, "K"), (1, ""))
_SUFFIX: Final = {"reqps": " req/s", "ops": " ops/s"}


def said(value: float, unit: str) -> str:
    """A value the way Grafana would write it."""
    if not math.isfinite(value):
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    sizes = _SIZES.get(unit, _PLAIN)
    size, name = next(((size, name) for size, name in sizes if abs(value) >= size), sizes[-1] if value and unit == "s" else (1, ""))
    space = " " if name and unit in _SIZES else ""
    return f"{value / size:.3g}{space}{name}{_SUFFIX.get(unit, '')}"


__all__ = ["WIDTH", "Answer", "Line", "page", "said"]
