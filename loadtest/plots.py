"""Line charts as inline SVG, made of strings: a report needs no script and no network."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 24
TICKS = 4
COLORS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#65a30d", "#475569", "#92400e")

Line = Sequence[tuple[float, float]]
"""Seconds after the begin, and a value; NaN where there is none."""


@dataclass(frozen=True, slots=True)
class Chart:
    """`span_s` is what the time axis shows; `marks` are moments (s) with a word each, drawn as upright lines."""

    title: str
    unit: str
    lines: Mapping[str, Line]
    span_s: float
    marks: Mapping[str, float]

    def svg(self) -> str:
        caption = f"<figcaption>{escape(self.title)} <small>{escape(self.unit)}</small></figcaption>"
        values = [value for line in self.lines.values() for _, value in line if not math.isnan(value)]
        if not values:
            return f"<figure>{caption}<p>no value was seen</p></figure>"
        span_s, top = max(self.span_s, 1.0), _round_up(max(values))

        def x(at_s: float) -> float:
            return LEFT + at_s / span_s * (WIDTH - LEFT - RIGHT)

        def y(value: float) -> float:
            return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

        parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}">']
        for number in range(TICKS + 1):
            value, at_s = top * number / TICKS, span_s * number / TICKS
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
                f'<text class="left" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{value:g}</text>'
                f'<text class="below" x="{x(at_s):.1f}" y="{HEIGHT - 6}">{at_s:.0f} s</text>'
            )
        for word, at_s in self.marks.items():
            if 0 <= at_s <= span_s:
                parts.append(
                    f'<line class="mark" x1="{x(at_s):.1f}" x2="{x(at_s):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
                    f'<text class="mark" x="{x(at_s) + 4:.1f}" y="{TOP + 10}">{escape(word)}</text>'
                )
        for number, line in enumerate(self.lines.values()):
            path = _path([(x(at_s), y(value)) for at_s, value in line])
            parts.append(f'<path d="{path}" stroke="{COLORS[number % len(COLORS)]}"/>')
        parts.append("</svg>")
        names = "".join(
            f'<span><i style="background:{COLORS[number % len(COLORS)]}"></i>{escape(name)}</span>'
            for number, name in enumerate(self.lines)
        )
        return f'<figure>{caption}{"".join(parts)}<p class="names">{names}</p></figure>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Straight lines between neighbours; where a value is missing the pen is lifted."""
    commands, is_down = [], False
    for x, y in points:
        if math.isnan(y):
            is_down = False
            continue
        commands.append(f"{'L' if is_down else 'M'}{x:.1f} {y:.1f}")
        is_down = True
    return "".join(commands)


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 or 10 times a power of ten, so that the ticks are numbers people read."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if value <= step * power * (1 + 1e-9))
