"""A run drawn as SVG: latency of writes and errors, second by second, with the moments at which something was done.

One picture, two panels over one axis of seconds. Latency is drawn on a logarithmic scale, since a fault makes thousands
of what was one; errors are bars. A page's style sheet gives the colours, so that both light and dark pages can be read.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import ceil, log10
from typing import Any

WIDTH, LEFT, RIGHT = 860.0, 46.0, 10.0
LATENCY_TOP, LATENCY_HEIGHT = 16.0, 120.0
ERRORS_TOP, ERRORS_HEIGHT = 152.0, 56.0
HEIGHT = 232.0
LOWEST_MS, HIGHEST_MS = 1.0, 20_000.0
GRID_MS = (1, 10, 100, 1_000, 10_000)
TICKS_MAX = 14

Second = Mapping[str, Any]
Place = Callable[[float], float]


def plot(series: Sequence[Second], marks: Sequence[tuple[float, str]]) -> str:
    """`series` are the seconds of a run (`figures.Second` as JSON), `marks` moments with a name."""
    span_s = max(1, len(series))

    def x(at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at_s / span_s

    parts = [
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="latency and errors by second">',
        *_latency_grid(),
        *_seconds_axis(span_s, x),
        *(_mark(x(at_s), name, place) for place, (at_s, name) in enumerate(marks)),
        _line("p50", [(x(each["at_s"] + 0.5), each["p50_s"]) for each in series]),
        _line("p95", [(x(each["at_s"] + 0.5), each["p95_s"]) for each in series]),
        *_bars(series, x, (WIDTH - LEFT - RIGHT) / span_s),
        "</svg>",
    ]
    return "\n".join(parts)


def _y_ms(milliseconds: float) -> float:
    within = min(max(milliseconds, LOWEST_MS), HIGHEST_MS)
    share = (log10(within) - log10(LOWEST_MS)) / (log10(HIGHEST_MS) - log10(LOWEST_MS))
    return LATENCY_TOP + LATENCY_HEIGHT * (1 - share)


def _latency_grid() -> list[str]:
    found = []
    for milliseconds in GRID_MS:
        y = _y_ms(milliseconds)
        label = f"{milliseconds // 1000} s" if milliseconds >= 1000 else f"{milliseconds} ms"
        found.append(f'<line class="grid" x1="{LEFT:g}" y1="{y:.1f}" x2="{WIDTH - RIGHT:g}" y2="{y:.1f}"/>')
        found.append(f'<text x="{LEFT - 5:g}" y="{y + 3:.1f}" text-anchor="end">{label}</text>')
    return found


def _seconds_axis(span_s: int, x: Place) -> list[str]:
    step = max(1, ceil(span_s / TICKS_MAX / 5) * 5) if span_s > TICKS_MAX else 1
    base = ERRORS_TOP + ERRORS_HEIGHT
    ticks = [
        f'<text x="{x(at_s):.1f}" y="{base + 14:g}" text-anchor="middle">{at_s} s</text>'
        for at_s in range(0, span_s + 1, step)
    ]
    return [f'<line class="axis" x1="{LEFT:g}" y1="{base:g}" x2="{WIDTH - RIGHT:g}" y2="{base:g}"/>', *ticks]


def _mark(at: float, name: str, place: int) -> str:
    line = f'<line class="mark" x1="{at:.1f}" y1="{LATENCY_TOP:g}" x2="{at:.1f}" y2="{ERRORS_TOP + ERRORS_HEIGHT:g}"/>'
    label = f'<text class="mark" x="{at + 3:.1f}" y="{LATENCY_TOP + 8 + place % 4 * 11:g}">{escape(name)}</text>'
    return line + label


def _line(name: str, points: Sequence[tuple[float, float | None]]) -> str:
    """One line, broken where nobody was answered."""
    pieces: list[list[str]] = [[]]
    for at, took_s in points:
        if took_s is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{at:.1f},{_y_ms(took_s * 1000):.1f}")
    lines = [f'<polyline class="{name}" points="{" ".join(piece)}"/>' for piece in pieces if piece]
    return "".join(lines)


def _bars(series: Sequence[Second], x: Place, width: float) -> list[str]:
    most = max([1, *(each["errors"] for each in series)])
    base = ERRORS_TOP + ERRORS_HEIGHT
    found = [f'<text x="{LEFT - 5:g}" y="{ERRORS_TOP + 8:g}" text-anchor="end">{most}</text>']
    for each in series:
        if each["errors"]:
            height = ERRORS_HEIGHT * each["errors"] / most
            title = f"<title>{each['errors']} of {each['calls']} calls</title>"
            box = f'x="{x(each["at_s"]):.1f}" y="{base - height:.1f}" width="{max(1.0, width - 1):.1f}"'
            found.append(f'<rect class="error" {box} height="{height:.1f}">{title}</rect>')
    return found
