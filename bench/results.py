"""What was measured: medians and ratios, as JSON, as a Markdown table, as a picture of growth."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.running import Facts

GROWTH = "default"
"""Shape of the figures that the picture of growth shows."""


@dataclass(frozen=True)
class Figure:
    """One leg, and the peers that ran beside it. `ours` and each of `peers` hold one entry per repeat."""

    part: str
    shape: str
    leg: str
    unit: str
    ours: Sequence[Facts]
    peers: Mapping[str, Sequence[Facts]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Medians; each ratio is the peer's over ours: per row for time, plain for memory."""
        ours = _summary(self.ours)
        peers = [{"name": name, **_compared(ours, _summary(runs))} for name, runs in self.peers.items()]
        return {
            "part": self.part,
            "shape": self.shape,
            "leg": self.leg,
            "unit": self.unit,
            "repeats": len(self.ours),
            **ours,
            "peers": peers,
        }


def _summary(runs: Sequence[Facts]) -> dict[str, Any]:
    return {
        "rows": runs[0].rows,
        "wall_seconds": _spread([run.wall_seconds for run in runs]),
        "cpu_seconds": _spread([run.cpu_seconds for run in runs]),
        "peak_mb": _spread([run.peak_mb for run in runs]),
    }


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": statistics.median(known), "min": min(known), "max": max(known)}


def _compared(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, Any]:
    per_row = ours["rows"] / peer["rows"] if peer["rows"] else 1.0
    return {
        **peer,
        "wall_ratio": _ratio(peer["wall_seconds"], ours["wall_seconds"], per_row),
        "cpu_ratio": _ratio(peer["cpu_seconds"], ours["cpu_seconds"], per_row),
        "memory_ratio": _ratio(peer["peak_mb"], ours["peak_mb"], 1.0),
    }


def _ratio(peer: Mapping[str, float] | None, ours: Mapping[str, float] | None, scale: float) -> float | None:
    return peer["median"] / ours["median"] * scale if peer and ours and ours["median"] else None


class Results:
    """The results in a folder, part by part: a part that is measured again replaces what was there of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "results.json"
        self.parts: dict[str, dict[str, Any]] = {}
        if self._file.exists():
            self.parts = json.loads(self._file.read_text())["parts"]

    def put(self, part: str, figures: Iterable[Figure]) -> None:
        """Replaces a part and writes all files."""
        self.parts[part] = {
            "measured_at": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
            "machine": machine(),
            "figures": [figure.as_dict() for figure in figures],
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({"parts": self.parts}, indent=1) + "\n")
        grown = [item for item in self._figures() if item["shape"] == GROWTH and item["part"] == "legs"]
        if grown:
            draw_growth(grown, self._folder / "growth.png")
        (self._folder / "RESULTS.md").write_text(self._markdown(with_picture=bool(grown)))

    def _figures(self) -> list[dict[str, Any]]:
        return [figure for part in self.parts.values() for figure in part["figures"]]

    def _markdown(self, *, with_picture: bool) -> str:
        sections = [_INTRODUCTION]
        for name, title in TITLES.items():
            if name in self.parts:
                sections.append(_section(title, self.parts[name]))
        if with_picture:
            sections.append("## Growth\n\n![seconds and memory by rows in one hour](growth.png)\n")
        return "\n".join(sections)


def machine() -> str:
    """Cores, memory and versions, in one line."""
    import duckdb

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3
    versions = f"Python {platform.python_version()}, DuckDB {duckdb.__version__}"
    return f"{os.cpu_count()} cores, {pages:.0f} GB, {platform.system()} {platform.machine()}, {versions}"


TITLES = {
    "legs": "Legs: hours read, modelled and shipped for the first time",
    "whole": "The whole: 24 hours as `lf-dagster sync` does them",
    "fixed": "Fixed cost: one empty hour",
    "backfill": "Nearly empty hours (one trace each), made up in one go",
    "history": "One hour beside a long history",
}

_INTRODUCTION = """# Measurements

Written by `make bench`; `results.json` has the spread of each figure beside its median.

Everything runs on one machine, side by side with its peers: per repeat ours, then each peer, against the same servers
(a Langfuse stand-in that keeps its pages, and destinations that count and answer at once). A run is a process of its
own; its interpreter and modules are loaded before the clock starts. CPU and peak resident memory are those of that
process. What was sent is compared with what arrived. A peer takes the same rows, or fewer where it is slow (its rows
are given).

Ratios are the peer's number over ours, so that above 1 we are the better one: time per row, memory plain. Memory is
not per row: a peer on fewer rows has an easier task. `dlt` reads with its REST source and types into DuckDB in one go,
so it stands both beside our extract, which writes Parquet, and beside extract and model together. The clients of the
destinations only send; our legs also keep a ledger of what was delivered.
"""

_HEAD = (
    "| shape | leg | rows | wall s | rows/s | CPU s | peak MB | peer | its rows | its wall s | its CPU s | its peak MB "
    "| wall ratio | CPU ratio | memory ratio |\n"
    "|---|---|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|\n"
)


def _section(title: str, part: Mapping[str, Any]) -> str:
    lines = [line for figure in part["figures"] for line in _lines(figure)]
    repeats = sorted({figure["repeats"] for figure in part["figures"]})
    of = " or ".join(str(count) for count in repeats)
    return f"## {title}\n\nMedians of {of}; {part['measured_at']}; {part['machine']}.\n\n{_HEAD}" + "".join(lines)


def _lines(figure: Mapping[str, Any]) -> Iterable[str]:
    wall = figure["wall_seconds"]["median"]
    ours = [
        figure["shape"],
        figure["leg"],
        f"{figure['rows']:,} {figure['unit']}",
        f"{wall:.2f}",
        f"{figure['rows'] / wall:,.0f}" if figure["rows"] > 1 else "",
        _number(figure["cpu_seconds"], "{:.2f}"),
        _number(figure["peak_mb"], "{:.0f}"),
    ]
    for peer in figure["peers"] or [None]:
        yield "| " + " | ".join([*ours, *(_peer_cells(peer) if peer else [""] * 8)]) + " |\n"


def _peer_cells(peer: Mapping[str, Any]) -> list[str]:
    ratios = [peer["wall_ratio"], peer["cpu_ratio"], peer["memory_ratio"]]
    return [
        peer["name"],
        f"{peer['rows']:,}",
        _number(peer["wall_seconds"], "{:.2f}"),
        _number(peer["cpu_seconds"], "{:.2f}"),
        _number(peer["peak_mb"], "{:.0f}"),
        *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
    ]


def _number(spread: Mapping[str, float] | None, form: str) -> str:
    return form.format(spread["median"]) if spread else ""


def draw_growth(figures: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Seconds and peak MB of each leg over the rows of its hour, both axes logarithmic for the seconds."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10, 4), dpi=110, layout="constrained")
    seconds, memory = canvas.subplots(1, 2)
    for leg in dict.fromkeys(figure["leg"] for figure in figures):
        points = sorted(
            (item["rows"], item["wall_seconds"]["median"], item["peak_mb"]["median"])
            for item in figures
            if item["leg"] == leg
        )
        rows, walls, peaks = zip(*points, strict=True)
        seconds.plot(rows, walls, marker="o", label=leg)
        memory.plot(rows, peaks, marker="o", label=leg)
    for axes, label in ((seconds, "seconds"), (memory, "peak MB")):
        axes.set_xscale("log")
        axes.set_xlabel("rows or events of the hour")
        axes.set_ylabel(label)
        axes.grid(visible=True, alpha=0.3)
    seconds.set_yscale("log")
    memory.set_ylim(bottom=0)
    seconds.legend(frameon=False, fontsize=8)
    canvas.savefig(file)
