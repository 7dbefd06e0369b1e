"""Keeps a profile per user in Mixpanel: reads the warehouse for a moment, sends what differs from what was last set.

What Mixpanel took or refused is kept in one Parquet file per project (`Lake.profiles_path`), a row per distinct id. A
run that ends early leaves it as far as it came; what was sent after the last write is sent again, with the same values.
Profiles that Mixpanel refused are tried again by every run.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from lf_dagster.config import MixpanelSettings, ProjectSettings, secret
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.locks import one_delivery
from lf_dagster.destinations.mixpanel_engage import BATCH_BYTES, BATCH_PROFILES, Engage, Profile
from lf_dagster.destinations.mixpanel_profile_properties import profile_statements
from lf_dagster.destinations.scratch import scratch_database
from lf_dagster.errors import ConfigError, LfDagsterError
from lf_dagster.events.nobody import bare
from lf_dagster.http import RetryPolicy
from lf_dagster.lake import Lake, Workspace
from lf_dagster.profiles import ProfileSettings
from lf_dagster.warehouse import Warehouse
from lf_dagster.warehouse.database import file_literal, literal
from lf_dagster.warehouse.tables import schema_of

log = logging.getLogger(__name__)

PROFILES = "mixpanel_profiles"
LOCK_TIMEOUT_SECONDS = 600.0
SAVE_SECONDS = 10.0
"""How long answers may wait until they are written."""

_TABLES = {"traces", "observations", "scores", "trace_events"}
_HELD = pa.schema(
    [
        ("distinct_id", pa.string()),
        ("properties_hash", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("properties", pa.string()),
        ("set_at", pa.timestamp("us", tz="UTC")),
        ("run_id", pa.string()),
    ]
)
"""The file: `status` is set or rejected; reason and properties (JSON) are those of rejected profiles."""


@dataclass(frozen=True)
class ProfileCounts:
    """What the warehouse says: `users` (ids) make `profiles`, fewer where long ids are the same once they are cut.

    `nobody`: ids that stand for nobody (`anonymous`, `0`, a tenant's) and make no profile; `anonymous_traces` have no
    user at all. `gone`: profiles that were set and whose user the warehouse no longer has; they stay in Mixpanel.
    `due`: profiles that are new, changed or were refused before.
    """

    users: int
    profiles: int
    nobody: int
    anonymous_traces: int
    gone: int
    due: int


@dataclass(frozen=True)
class ProfileRun:
    """What a run did: profiles = sent + unchanged + rejected. `bytes` and `requests` are those on the wire.

    `reasons` counts the reasons of the rejected, `first_rejections` are up to 5 of them (distinct_id, reason).
    """

    counts: ProfileCounts
    sent: int
    unchanged: int
    rejected: int
    requests: int
    retries: int
    bytes: int
    waited_seconds: float
    duration_seconds: float
    reasons: dict[str, int]
    first_rejections: list[dict[str, Any]]


def compare_profiles(
    project: ProjectSettings, warehouse: Warehouse, lake: Lake, *, env: Mapping[str, str] = os.environ
) -> ProfileCounts:
    """What a run would do; nothing is sent. Raises as `set_profiles`."""
    with _planned(project, warehouse, lake, resend=False, env=env) as plan:
        return plan.counts


def set_profiles(
    project: ProjectSettings,
    warehouse: Warehouse,
    lake: Lake,
    *,
    run_id: str,
    now: datetime,
    resend: bool = False,
    env: Mapping[str, str] = os.environ,
    retry: RetryPolicy | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> ProfileRun:
    """Sets the profiles that are new or changed (`resend`: all), over all that the warehouse holds.

    Raises ConfigError when profiles are off, a secret's variable is unset or nothing was ever modelled,
    WarehouseLocked, and FatalError or RetryableError of the first request that failed for good; what Mixpanel took
    until then is kept.
    """
    started = time.monotonic()
    try:
        ledger = Ledger(lake, project.name, PROFILES)
        with (
            one_delivery(ledger, timeout_seconds=LOCK_TIMEOUT_SECONDS),
            Engage(_mixpanel(project), env=env, retry=retry, sleep=sleep) as engage,
            _planned(project, warehouse, lake, resend=resend, env=env) as plan,
        ):
            _Sending(plan, engage, run_id=run_id, now=now).run(_mixpanel(project).parallel_requests)
            return _result(plan, engage, time.monotonic() - started)
    except LfDagsterError as error:
        error.with_context(project=project.name, destination="mixpanel")
        raise


@dataclass(frozen=True)
class _Plan:
    """A scratch database with the tables `wanted`, `held`, `due` and `answers`, and where the file is."""

    con: duckdb.DuckDBPyConnection
    counts: ProfileCounts
    lake: Lake
    path: str

    def one(self, sql: str) -> tuple[Any, ...]:
        return self.con.execute(sql).fetchall()[0]


@contextmanager
def _planned(
    project: ProjectSettings, warehouse: Warehouse, lake: Lake, *, resend: bool, env: Mapping[str, str]
) -> Iterator[_Plan]:
    mixpanel = _mixpanel(project)
    profiles = _kept(project, mixpanel)
    salt = secret(mixpanel.hash_user_ids_env, env=env) if mixpanel.hash_user_ids_env else None
    path = lake.profiles_path(project.name)
    with lake.workspace(f"{lake.root}/spool") as workspace:
        statements = list(profile_statements(project, profiles, mixpanel, salt=salt))
        users, nobody, anonymous = _read_warehouse(project, warehouse, statements, workspace)
        with scratch_database(workspace) as con:
            lake.register(con)
            con.execute(f"CREATE TABLE wanted AS FROM read_parquet({file_literal(str(workspace.path('wanted')))})")
            _load_held(con, lake, path)
            con.execute(f"CREATE TABLE due AS {_DUE.format(resend=str(resend).lower())}")
            con.execute("CREATE TABLE answers AS FROM nothing_held")
            gone = "SELECT count(*) FROM held ANTI JOIN wanted USING (distinct_id) WHERE status = 'set'"
            numbers = [con.execute(sql).fetchall()[0][0] for sql in ("FROM wanted SELECT count(*)", gone, _COUNT_DUE)]
            counts = ProfileCounts(
                users=users, profiles=numbers[0], nobody=nobody, anonymous_traces=anonymous, gone=numbers[1],
                due=numbers[2],
            )  # fmt: skip
            yield _Plan(con, counts, lake, path)


def _load_held(con: duckdb.DuckDBPyConnection, lake: Lake, path: str) -> None:
    """The table `held`, and the relation `nothing_held` of its form. A file that is broken is as good as none."""
    con.register("nothing_held", _HELD.empty_table())
    if lake.exists(path):
        try:
            con.execute(f"CREATE TABLE held AS FROM read_parquet({file_literal(path)})")
        except duckdb.InvalidInputException as error:
            log.warning("%s cannot be read, so every profile is set again: %s", path, error)
        else:
            return
    con.execute("CREATE TABLE held AS FROM nothing_held")


_DUE = """
    SELECT w.*, coalesce(h.status = 'rejected', false) AS suspect
    FROM wanted AS w LEFT JOIN held AS h USING (distinct_id)
    WHERE {resend} OR w.reason IS NOT NULL OR h.status IS DISTINCT FROM 'set'
        OR h.properties_hash <> w.properties_hash
"""
_COUNT_DUE = "SELECT count(*) FROM due"
_COUNTS = f"""
    SELECT count(DISTINCT user_id) FILTER (distinct_id <> ''),
        count(DISTINCT user_id) FILTER (distinct_id = '' AND {bare("user_id")} <> ''),
        count(*) FILTER (distinct_id = '' AND coalesce({bare("user_id")}, '') = '')
    FROM counted
"""


def _read_warehouse(
    project: ProjectSettings, warehouse: Warehouse, statements: Sequence[str], workspace: Workspace
) -> tuple[int, int, int]:
    """Writes all profiles to the workspace's file `wanted`; returns users, ids that are nobody, traces of nobody."""
    nothing = ConfigError(
        f"the warehouse {warehouse.location} has no tables of {project.name} yet",
        hint="Run hours of it first, with `lf-dagster sync` or in Dagster.",
    )
    if not warehouse.exists():
        raise nothing
    with warehouse.connect(read_only=True) as con:
        if not schema_of(con, project.name) >= _TABLES:
            raise nothing
        for statement in statements:
            con.execute(statement)
        con.execute(
            "COPY (SELECT *, md5(properties) AS properties_hash FROM user_profiles) "
            f"TO {literal(str(workspace.path('wanted')))} (FORMAT parquet)"
        )
        return con.execute(_COUNTS).fetchall()[0]


class _Sending:
    """Sends what is due with bounded requests in flight, and writes the answers down."""

    def __init__(self, plan: _Plan, engage: Engage, *, run_id: str, now: datetime) -> None:
        self._plan = plan
        self._engage = engage
        self._run_id = run_id
        self._now = now
        self._futures: dict[Future[dict[str, str]], list[Profile]] = {}
        self._cancel = threading.Event()
        self._saved_at = time.monotonic()

    def run(self, parallel: int) -> None:
        """Raises the first error, after the requests in flight have ended and their answers are written."""
        bad = self._plan.con.execute("SELECT distinct_id, reason FROM due WHERE reason IS NOT NULL").fetchall()
        try:
            self._note(dict(bad), [])
            with ThreadPoolExecutor(parallel, thread_name_prefix=PROFILES) as pool:
                self._send_all(pool, parallel)
        finally:
            self._save()

    def _send_all(self, pool: ThreadPoolExecutor, parallel: int) -> None:
        try:
            for batch in _batches(self._due()):
                while len(self._futures) >= parallel:
                    self._collect()
                sending = pool.submit(self._engage.set, batch, cancelled=self._cancel.is_set)
                self._futures[sending] = batch
            while self._futures:
                self._collect()
        except BaseException:
            self._cancel.set()
            wait(self._futures)
            for future in [future for future in self._futures if future.exception() is None]:
                self._note(future.result(), self._futures.pop(future))
            raise

    def _due(self) -> Iterator[Profile]:
        """Profiles that were refused before come last, so that they spoil no request of others."""
        # A cursor of its own: the connection writes answers meanwhile.
        found = self._plan.con.cursor().execute(
            "SELECT distinct_id, properties, suspect FROM due WHERE reason IS NULL ORDER BY suspect, distinct_id"
        )
        while rows := found.fetchmany(BATCH_PROFILES):
            yield from (Profile(*row) for row in rows)

    def _collect(self) -> None:
        """Wait for at least one request; raises its error."""
        ended, _ = wait(self._futures, return_when=FIRST_COMPLETED)
        for future in ended:
            batch = self._futures.pop(future)
            self._note(future.result(), batch)
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self._save()

    def _note(self, rejected: Mapping[str, str], batch: Sequence[Profile]) -> None:
        """What became of a batch; `rejected` alone when nothing of it was sent."""
        ids = [profile.distinct_id for profile in batch] or list(rejected)
        answered = pa.table(
            {
                "distinct_id": pa.array(ids, pa.string()),
                "reason": pa.array([rejected.get(distinct_id) for distinct_id in ids], pa.string()),
                "set_at": pa.array([self._now] * len(ids), _HELD.field("set_at").type),
                "run_id": pa.array([self._run_id] * len(ids), pa.string()),
            }
        )
        self._plan.con.register("answered", answered)
        self._plan.con.execute(_NOTE)

    def _save(self) -> None:
        """Write the file anew: what was held before, and over it the answers."""
        self._saved_at = time.monotonic()
        if self._plan.one("SELECT count(*) FROM answers") == (0,):
            return
        with self._plan.lake.replacing(self._plan.path) as file:
            self._plan.con.execute(
                "COPY (FROM held ANTI JOIN answers USING (distinct_id) UNION ALL BY NAME FROM answers) "
                f"TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd)"
            )


_NOTE = """
    INSERT INTO answers BY NAME
    SELECT a.distinct_id, d.properties_hash, if(a.reason IS NULL, 'set', 'rejected') AS status, a.reason,
        CASE WHEN a.reason IS NOT NULL THEN d.properties END AS properties, a.set_at, a.run_id
    FROM answered AS a JOIN due AS d USING (distinct_id)
"""


def _batches(profiles: Iterator[Profile]) -> Iterator[list[Profile]]:
    """Profiles that share a request; never one that was refused before with one that was not."""
    batch: list[Profile] = []
    size = 0
    for profile in profiles:
        full = len(batch) >= BATCH_PROFILES or size + profile.size > BATCH_BYTES
        if batch and (full or profile.suspect != batch[-1].suspect):
            yield batch
            batch, size = [], 0
        batch.append(profile)
        size += profile.size
    if batch:
        yield batch


def _result(plan: _Plan, engage: Engage, seconds: float) -> ProfileRun:
    stats = engage.stats.snapshot()
    sent, rejected = plan.one(
        "SELECT count(*) FILTER (status = 'set'), count(*) FILTER (status = 'rejected') FROM answers"
    )
    refusals = "FROM answers WHERE status = 'rejected'"
    reasons = plan.con.execute(f"SELECT reason, count(*) {refusals} GROUP BY reason").fetchall()
    first = plan.con.execute(f"SELECT distinct_id, reason {refusals} ORDER BY distinct_id LIMIT 5").fetchall()
    return ProfileRun(
        counts=plan.counts,
        sent=sent,
        unchanged=plan.counts.profiles - sent - rejected,
        rejected=rejected,
        requests=stats["requests"],
        retries=stats["retries"],
        bytes=stats["bytes_sent"],
        waited_seconds=stats["waited_seconds"],
        duration_seconds=seconds,
        reasons=dict(reasons),
        first_rejections=[{"distinct_id": distinct_id, "reason": reason} for distinct_id, reason in first],
    )


def _mixpanel(project: ProjectSettings) -> MixpanelSettings:
    if project.mixpanel is None:
        raise ConfigError(
            f"project {project.name} has no Mixpanel", hint="Set MIXPANEL_PROJECT_TOKEN, or `mixpanel` in YAML."
        )
    return project.mixpanel


def _kept(project: ProjectSettings, mixpanel: MixpanelSettings) -> ProfileSettings:
    if mixpanel.kept_profiles is None:
        raise ConfigError(
            f"project {project.name} keeps no profiles in Mixpanel",
            hint="Set MIXPANEL_PROFILES=1, or `mixpanel.profiles: true` in YAML.",
        )
    return mixpanel.kept_profiles
