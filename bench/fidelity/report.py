"""The results as tables: one per seed, and the sum over all seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from bench.fidelity.compare import Tally
from bench.fidelity.usage import HOBBY_METRICS_PER_DAY, HOBBY_READS_PER_MINUTE, Usage
from bench.fidelity.week import Result

_COUNTS = ("expected", "right", "identity_changed", "stale", "missing", "extra", "deleted", "doubled")
_HEAD = (
    "| sender | destination | expected | right | person or time kept | stale | missing | extra | of them deleted "
    "| doubled | right, % |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def week_table(result: Result) -> str:
    """One week: both senders, both destinations."""
    plan = result.plan
    title = f"seed {plan.seed}: {plan.days} days, {plan.traces_per_hour} traces an hour" + (
        f", {result.kills} kills" if plan.kill else ""
    )
    lines = [title, "", *_HEAD]
    for sender, tallies in (("lf_dagster", result.ours), ("Langfuse's own", result.native)):
        lines += [_row(sender, name, tally) for name, tally in tallies.items()]
    lines += ["", f"Outages: {'; '.join(result.outages) or 'none'}."]
    lines += [f"Runs: {_counted(result.runs)}. Reasons of hourly runs: {_counted(result.reasons)}."]
    lines += [_usage(result.usage), f"Took {result.seconds:.0f} s."]
    for name, tally in result.ours.items():
        lines += _unexplained(name, tally)
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> str:
    """All weeks together."""
    lines = [f"{len(results)} weeks together", "", *_HEAD]
    for sender, kind in (("lf_dagster", "ours"), ("Langfuse's own", "native")):
        for name in results[0].ours:
            lines.append(_row(sender, name, total(getattr(result, kind)[name] for result in results)))
    share = sum(result.native_with_slips["posthog"] for result in results) / len(results)
    lines += [
        "",
        f"Langfuse's own integration is not charged here for its token counts, its seconds and its missing users; with "
        f"them {100 * share:.1f} % of its events are as documented.",
        f"Reads per hour of data: {max(result.usage.per_hour for result in results):.1f} at most; busiest "
        f"{results[0].usage.step_minutes} minutes: {max(result.usage.busiest_step for result in results)} reads; "
        f"metrics calls: {max(result.usage.metrics_per_day for result in results)} on the busiest day.",
    ]
    return "\n".join(lines)


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of tallies."""
    found = Tally()
    differences: Counter[str] = Counter()
    for tally in tallies:
        for name in _COUNTS:
            setattr(found, name, getattr(found, name) + getattr(tally, name))
        differences.update(tally.differences)
        found.explained += tally.explained
        found.unexplained += tally.unexplained
    found.differences = dict(differences)
    return found


def _row(sender: str, destination: str, tally: Tally) -> str:
    counts = " | ".join(str(getattr(tally, name)) for name in _COUNTS)
    return f"| {sender} | {destination} | {counts} | {100 * tally.share_right:.2f} |"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def _usage(usage: Usage) -> str:
    verdict = "within" if usage.fits_hobby else "BEYOND"
    return (
        f"Requests to Langfuse: {usage.reads} reads, {usage.per_hour:.1f} per hour of data; busiest "
        f"{usage.step_minutes} minutes {usage.busiest_step} = {usage.per_minute:.1f} a minute (Hobby: "
        f"{HOBBY_READS_PER_MINUTE}); metrics {usage.metrics}, {usage.metrics_per_day} on the busiest day (Hobby: "
        f"{HOBBY_METRICS_PER_DAY}): {verdict} the smallest plan."
    )


def _unexplained(destination: str, tally: Tally) -> list[str]:
    if not tally.unexplained:
        return []
    shown = tally.unexplained[:10]
    return [
        f"{destination}: {len(tally.unexplained)} that no ledger explains, such as",
        *(f"  {item}" for item in shown),
    ]
