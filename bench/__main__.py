"""`python -m bench`: measures the project beside its peers and writes results.json, RESULTS.md and growth.png.

`python -m bench profile LEG` writes a profile of one leg to bench/profiles instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from bench.parts import PARTS, LegWorld, Options
from bench.profiling import PROFILED, profile
from bench.results import Results
from bench.running import REPOSITORY, prepare_peers
from bench.worlds import World
from lf_dagster.hours import Hour

_SMALL_HOURS = "24 small hours"
_LARGE_METADATA = "large metadata"
_LARGE_HOUR = 200_000
"""Large hours are measured for themselves, fewer times, without peers."""


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["profile"]:
        _profile(given[1:])
        return
    chosen = _parser().parse_args(given)
    options = _options(chosen)
    if options.peers:
        prepare_peers()
    results = Results(chosen.out)
    for part in chosen.only:
        began = time.monotonic()
        results.put(part, list(PARTS[part](options)))
        print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)
    print(f"see {chosen.out / 'RESULTS.md'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="everything once and small: does the bench work at all?")
    size.add_argument("--full", action="store_true", help="also a million observations: in one hour, and in the whole")
    parser.add_argument("--repeat", type=int, help="runs of each leg (5; the whole at most 3, the backfill 1)")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="only ours")
    parser.add_argument("--peer-rows", type=int, default=20_000, help="most rows for the peer of a leg (%(default)s)")
    parser.add_argument("--whole-peer-rows", type=int, default=200_000, help="the same for the whole (%(default)s)")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"parts, by comma: {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench", help="folder of the results")
    return parser


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return names


def _options(chosen: argparse.Namespace) -> Options:
    if chosen.quick:
        few = min(chosen.peer_rows, 2_000)
        worlds = (
            LegWorld("default", "default", 1, 20_000, 1, few),
            LegWorld(_SMALL_HOURS, "default", 24, 24 * 50, 1, few),
            LegWorld(_LARGE_METADATA, "large metadata", 1, 500, 1, few),
        )
        return Options(
            chosen.repeat or 1, chosen.peers, 20_000, worlds,
            whole_observations=2_400, backfill_hours=24, history_hours=48,
        )  # fmt: skip
    large = ((_LARGE_HOUR, 3), (1_000_000, 1)) if chosen.full else ()
    worlds = (
        *(LegWorld("default", "default", 1, size, 5, chosen.peer_rows) for size in (10_000, 100_000)),
        *(LegWorld("default", "default", 1, size, repeat, 0) for size, repeat in large),
        LegWorld(_SMALL_HOURS, "default", 24, 24 * 1_000, 3, chosen.peer_rows),
        LegWorld(_LARGE_METADATA, "large metadata", 1, 20_000, 3, min(chosen.peer_rows, 5_000)),
    )
    return Options(
        chosen.repeat or 5, chosen.peers, chosen.whole_peer_rows, worlds,
        whole_observations=1_000_000 if chosen.full else 200_000, backfill_hours=720, history_hours=8_760,
    )  # fmt: skip


def _profile(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench profile")
    parser.add_argument("leg", choices=PROFILED)
    parser.add_argument("--observations", type=int, default=100_000)
    chosen = parser.parse_args(arguments)
    hour = Hour.containing(datetime.now(timezone.utc)).shift(-2)
    print(profile(chosen.leg, World(hour.key, 1, chosen.observations)))


if __name__ == "__main__":
    main()
