"""A picture of the last 24 hours at a destination: a bar of events per hour, its rejected part red.

An SVG of a few hundred characters, made by hand: it costs microseconds, where a plotting library takes longer to load
than an hour takes to ship, and it is short enough for the UI to show it without a click (`previews.SHOWN_INLINE`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lf_dagster.destinations import HourDelivery, Ledger
from lf_dagster.errors import FatalError
from lf_dagster.hours import Hour

HOURS = 24

_STEP, _HEIGHT, _WIDTH = 9, 40, 7
_LEAST = 2
"""Height of a bar of a single event, and of the mark of a single rejected one, so that both can be seen."""
_ENCODED = {" ": "%20", "<": "%3C", ">": "%3E", "#": "%23", '"': "%22", "(": "%28", ")": "%29"}


@dataclass(frozen=True)
class Bar:
    """One hour at a destination: events that were sent to it, and how many of those it rejected."""

    sent: int
    rejected: int


class LastHours:
    """What the hours before a delivered one came to: those of the same run, and others by their ledgers.

    Behind a URL each look would be a request, so there the hours of the run are all that is known.
    """

    def __init__(self, ledger: Ledger, done: Sequence[HourDelivery]) -> None:
        self._ledger = ledger
        self._known: dict[Hour, Bar | None] = {
            item.hour: Bar(item.delivered + item.rejected, item.rejected) for item in done
        }

    def until(self, last: Hour) -> dict[Hour, Bar | None]:
        """The 24 hours that end with `last`, oldest first; None for one that was never delivered."""
        return {hour: self._bar(hour) for hour in (last.shift(-back) for back in range(HOURS - 1, -1, -1))}

    def _bar(self, hour: Hour) -> Bar | None:
        if hour not in self._known:
            self._known[hour] = _bar_of(self._ledger, hour) if self._ledger.lake.is_local else None
        return self._known[hour]


def _bar_of(ledger: Ledger, hour: Hour) -> Bar | None:
    try:
        facts = ledger.facts(hour)
    except FatalError:
        return None  # the next delivery of that hour says what is wrong with its ledger
    if facts is None:
        return None
    rejected = int(facts["rejected"])
    return Bar(int(facts["delivered"]) + rejected, rejected)


def hour_chart(bars: Mapping[Hour, Bar | None]) -> str:
    """The bars as a Markdown image with a line of numbers, below 1,000 characters."""
    known = [bar for bar in bars.values() if bar is not None]
    most, rejected = max((bar.sent for bar in known), default=0), sum(bar.rejected for bar in known)
    hours = list(bars)
    svg = "".join(_svg(list(bars.values()), most, f"{_short(hours[0])} to {_short(hours[-1])} UTC"))
    encoded = "".join(_ENCODED.get(letter, letter) for letter in svg)
    words = f"{len(known)} of {len(bars)} hours are here, at most {most} events each; {rejected} rejected (red)."
    return f"![events per hour](data:image/svg+xml,{encoded})\n\n{words}"


def _short(hour: Hour) -> str:
    return f"{hour.key[5:10]} {hour.key[11:]}"


def _svg(bars: Sequence[Bar | None], most: int, label: str) -> Iterator[str]:
    width = len(bars) * _STEP
    yield f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{_HEIGHT + 14}'>"
    yield f"<path stroke='#bbb' d='M0,{_HEIGHT}h{width}'/>"
    heights = [_height(bar.sent if bar else 0, most) for bar in bars]
    yield from _bars("#5b8def", ((number, 0, height) for number, height in enumerate(heights) if height))
    yield from _bars("#d64545", _rejected(bars, heights))
    yield f"<text y='{_HEIGHT + 12}' font-family='sans-serif' font-size='10' fill='#888'>{label}</text></svg>"


def _rejected(bars: Sequence[Bar | None], heights: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(number, bottom, height) of the red tops of bars."""
    for number, (bar, height) in enumerate(zip(bars, heights, strict=True)):
        if bar is not None and bar.rejected:
            red = max(_LEAST, round(height * bar.rejected / bar.sent))
            yield number, height - red, red


def _bars(colour: str, bars: Iterator[tuple[int, int, int]]) -> Iterator[str]:
    """One path of all bars of a colour, by moves from one to the next, which are short; none for no bars."""
    drawn, x, y = "", 0, 0
    for number, bottom, height in bars:
        left, foot = 4 + number * _STEP, _HEIGHT - bottom
        drawn += f"m{left - x},{foot - y}v-{height}"
        x, y = left, foot - height
    if drawn:
        yield f"<path stroke='{colour}' stroke-width='{_WIDTH}' d='{drawn}'/>"


def _height(events: int, most: int) -> int:
    return max(_LEAST, round(events / most * _HEIGHT)) if events else 0
