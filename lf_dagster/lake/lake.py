"""Where everything lies, and reading what is there."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from lf_dagster.lake.broken import is_broken, unreadable_extract
from lf_dagster.lake.deletions import DeletionRule
from lf_dagster.lake.held import HeldExtract, open_held
from lf_dagster.lake.schema import facts_of
from lf_dagster.lake.workspace import Workspace, local_workspace, remote_workspace
from lf_dagster.lake.writer import DEFAULT_BUFFER_BYTES, ExtractWriter

if TYPE_CHECKING:
    import duckdb

_DATA = "data.parquet"
_HOUR_OF_PATH = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/hour=(\d{2})/")


class Lake:
    """Extracts, ledgers and scratch files below one root: a local folder, `file://` or any fsspec URL.

    Layout, hive style:
        {root}/raw/project=P/stream=S/date=YYYY-MM-DD/hour=HH/data.parquet
        {root}/ledger/project=P/destination=D/date=YYYY-MM-DD/hour=HH/data.parquet (part-*.parquet during a delivery)
        {root}/ledger/project=P/destination=mixpanel_profiles/data.parquet
        {root}/audit/project=P/date=YYYY-MM-DD/data.parquet
        {root}/report/project=P/date=YYYY-MM-DD/report.html
        {root}/spool/...
    Names of unfinished files begin with `.` or `_`. Raises ConfigError when the root's filesystem is not installed.
    """

    def __init__(self, root: str) -> None:
        local = _local_root(root)
        self.is_local = local is not None
        self.root = str(local) if local is not None else root.rstrip("/")
        self._filesystem: Any = None if self.is_local else _filesystem(self.root)

    def __repr__(self) -> str:
        return f"Lake({self.root!r})"

    # Extracts

    def extract_path(self, project: str, stream: str, hour: Hour) -> str:
        """Full path or URL of an extract, existing or not, as DuckDB's read_parquet takes it."""
        return f"{self._extract_folder(project, stream, hour)}/{_DATA}"

    def extract_exists(self, project: str, stream: str, hour: Hour) -> bool:
        return self.exists(self.extract_path(project, stream, hour))

    def extract_paths(self, project: str, stream: str, hours: Iterable[Hour]) -> list[str]:
        """Paths of the extracts that exist, in the order of the hours."""
        paths = [self.extract_path(project, stream, hour) for hour in hours]
        if self.is_local:
            return [path for path in paths if Path(path).is_file()]
        known = self._existing_below({path.rsplit("/", 2)[0] for path in paths})
        return [path for path in paths if self._key(path) in known]

    def extracted_hours(self, project: str, stream: str) -> list[Hour]:
        """The hours that have an extract, oldest first."""
        paths = self._glob_below(f"{self.root}/raw/project={project}/stream={stream}", f"date=*/hour=*/{_DATA}")
        found = [match for path in paths if (match := _HOUR_OF_PATH.search(path.replace("\\", "/")))]
        return sorted(Hour.from_key(f"{match[1]}-{match[2]}:00") for match in found)

    def extract_facts(self, project: str, stream: str, hour: Hour) -> dict[str, str] | None:
        """Facts that the extract was written with (names without prefix); None when there is no extract.

        Raises UnreadableFile for a broken one.
        """
        path = self.extract_path(project, stream, hour)
        try:
            return self.facts(path)
        except (pa.ArrowInvalid, OSError) as error:
            if is_broken(error):
                raise unreadable_extract(path, error) from error
            raise

    @contextmanager
    def open_extract(
        self,
        project: str,
        stream: str,
        hour: Hour,
        *,
        rule: DeletionRule | None = None,
        merge_metadata: bool = False,
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    ) -> Iterator[ExtractWriter]:
        """Write one extract. It replaces the old one when the block ends well; an exception leaves the old one.

        Rows of the old one that are not written again stay in the file, marked; `rule` says how (default: marked with
        the time of day, however many). `merge_metadata` keeps, in `metadata_gone`, metadata keys that the old one has
        and the row no longer brings. `buffer_bytes` is how much Arrow data is held before it goes to scratch files.
        An old one whose footer cannot be read is put aside, under a name of its own in the same folder.
        Raises FatalError, which leaves the old one, when the rule forbids the loss or another project was read,
        and RetryableError when another run wrote what it read later.
        """
        target = self.extract_path(project, stream, hour)
        facts = {"project": project, "stream": stream, "hour": hour.key}
        with self.workspace(target.rpartition("/")[0]) as workspace:
            writer = ExtractWriter(
                workspace,
                target,
                facts=facts,
                held=lambda: self._held_extract(target),
                put_aside=lambda name: self._rename(target, f"{target}.{name}"),
                rule=rule or DeletionRule(),
                merge_metadata=merge_metadata,
                buffer_bytes=buffer_bytes,
            )
            with writer:
                yield writer
                writer.commit()

    # Ledgers and spool

    def ledger_folder(self, project: str, destination: str, hour: Hour) -> str:
        return f"{self.root}/ledger/project={project}/destination={destination}/date={hour.date}/hour={hour.hour}"

    def delivery_lock_path(self, project: str, destination: str) -> str:
        """The file that a delivery locks; it holds nothing and stays."""
        return f"{self.root}/ledger/project={project}/destination={destination}/.delivering"

    def ledger_path(self, project: str, destination: str, hour: Hour) -> str:
        """The merged ledger of an hour."""
        return f"{self.ledger_folder(project, destination, hour)}/{_DATA}"

    def ledger_part_path(self, project: str, destination: str, hour: Hour, part: str) -> str:
        """A part that a running delivery writes after an acknowledged batch; parts sort by name."""
        return f"{self.ledger_folder(project, destination, hour)}/part-{part}.parquet"

    def ledger_part_paths(self, project: str, destination: str, hour: Hour) -> list[str]:
        """Existing parts of an hour's ledger, sorted by name."""
        return self.glob(f"{self.ledger_folder(project, destination, hour)}/part-*.parquet")

    def profiles_path(self, project: str) -> str:
        """What Mixpanel has of the project's user profiles."""
        return f"{self.root}/ledger/project={project}/destination=mixpanel_profiles/{_DATA}"

    # Audits

    def audit_path(self, project: str, date: str) -> str:
        """The audits of one UTC date (`YYYY-MM-DD`)."""
        return f"{self.root}/audit/project={project}/date={date}/{_DATA}"

    def audit_dates(self, project: str) -> list[str]:
        """Dates that have audits, oldest first."""
        paths = self._glob_below(f"{self.root}/audit/project={project}", f"date=*/{_DATA}")
        return sorted(path.rsplit("/", 2)[1].removeprefix("date=") for path in paths)

    def report_path(self, project: str, date: str) -> str:
        """The report of one UTC date (`YYYY-MM-DD`)."""
        return f"{self.root}/report/project={project}/date={date}/report.html"

    @contextmanager
    def spool(self) -> Iterator[Path]:
        """A local scratch folder for a running delivery; it goes when the block ends.

        It lies below the root when that is local, so that it can be as large as the lake's disk allows.
        """
        with self.workspace(f"{self.root}/spool") as workspace:
            yield workspace.folder

    # Any file

    @contextmanager
    def workspace(self, folder: str) -> Iterator[Workspace]:
        """Scratch space for writing into a folder of the lake; leftovers of killed writers there are removed."""
        manager = local_workspace(Path(folder)) if self.is_local else remote_workspace(self._filesystem)
        with manager as workspace:
            yield workspace

    @contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """A local path to write to; the file replaces `path` when the block ends well, atomically and durably."""
        with self.workspace(path.rpartition("/")[0]) as workspace:
            yield workspace.path("file")
            workspace.commit("file", path)

    def exists(self, path: str) -> bool:
        return Path(path).is_file() if self.is_local else bool(self._filesystem.isfile(path))

    def open(self, path: str) -> IO[bytes]:
        """An existing file for reading."""
        return Path(path).open("rb") if self.is_local else self._filesystem.open(path, "rb")

    def remove(self, path: str) -> None:
        """Remove a file; a missing one is no error."""
        if self.is_local:
            Path(path).unlink(missing_ok=True)
        elif self._filesystem.exists(path):
            self._filesystem.rm_file(path)

    def glob(self, pattern: str) -> list[str]:
        """Existing paths that match, as full paths or URLs, sorted."""
        if self.is_local:
            folder, _, name = pattern.rpartition("/")
            return sorted(str(path) for path in Path(folder).glob(name))
        return sorted(self._filesystem.unstrip_protocol(path) for path in self._filesystem.glob(pattern))

    def facts(self, path: str) -> dict[str, str] | None:
        """The `lf_dagster.` entries of a Parquet file's key-value metadata; None when there is no file."""
        if self.is_local:
            return _local_facts(path)
        if not self.exists(path):
            return None
        return facts_of(pq.read_metadata(path, filesystem=self._filesystem).metadata)

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the lake's paths readable in a DuckDB connection (nothing to do for a local root)."""
        if not self.is_local:
            con.register_filesystem(self._filesystem)

    def _glob_below(self, folder: str, pattern: str) -> list[str]:
        """Like `glob`, with wildcards in several parts of the path."""
        if self.is_local:
            return [path.as_posix() for path in Path(folder).glob(pattern)]
        return self.glob(f"{folder}/{pattern}")

    def _rename(self, path: str, target: str) -> None:
        if self.is_local:
            Path(path).replace(target)
        else:
            self._filesystem.mv(path, target)

    @contextmanager
    def _held_extract(self, path: str) -> Iterator[HeldExtract | None]:
        if not self.exists(path):
            yield None
            return
        with open_held(path, self._filesystem) as held:
            yield held

    def _extract_folder(self, project: str, stream: str, hour: Hour) -> str:
        return f"{self.root}/raw/project={project}/stream={stream}/date={hour.date}/hour={hour.hour}"

    def _existing_below(self, folders: Iterable[str]) -> set[str]:
        """Keys of the data files one level below the folders: one listing per day instead of a look per hour."""
        found = (self._filesystem.glob(f"{folder}/*/{_DATA}") for folder in folders)
        return {path for paths in found for path in paths}

    def _key(self, path: str) -> str:
        return self._filesystem._strip_protocol(path)


def _local_facts(path: str) -> dict[str, str] | None:
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return dict(_facts_of_version(path, found.st_ino, found.st_mtime_ns, found.st_size))


@functools.lru_cache(maxsize=50_000)
def _facts_of_version(path: str, *_version: int) -> dict[str, str]:
    """Files are replaced, never changed, so a footer is read once; whoever looks at years of hours looks often."""
    return facts_of(pq.read_metadata(path).metadata)


def _local_root(root: str) -> Path | None:
    if root.startswith("file://"):
        root = root.removeprefix("file://")
    elif "://" in root:
        return None
    return Path(root).expanduser().absolute()


def _filesystem(root: str) -> Any:
    import fsspec

    protocol, _, rest = root.partition("://")
    if ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise ConfigError(
            "the URL of the lake has a password in it, which would be shown wherever a path of the lake is",
            hint=f"Leave it out and set the variable FSSPEC_{protocol.upper()}_PASSWORD.",
        )
    try:
        filesystem = fsspec.core.url_to_fs(root)[0]
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"cannot open the lake at {root}: {error}", hint="Install the fsspec package for this kind of URL."
        ) from error
    # Other processes write too. What a filesystem remembers of folders names files, sizes and versions of before.
    filesystem.dircache.use_listings_cache = False
    filesystem.invalidate_cache()
    return filesystem
