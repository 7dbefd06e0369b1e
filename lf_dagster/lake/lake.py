"""Where everything lies, and reading what is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from lf_dagster.lake.schema import METADATA_PREFIX
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
        folder = f"{self.root}/raw/project={project}/stream={stream}"
        pattern = f"date=*/hour=*/{_DATA}"
        if self.is_local:
            paths = [str(path) for path in Path(folder).glob(pattern)]
        else:
            paths = self.glob(f"{folder}/{pattern}")
        found = [match for path in paths if (match := _HOUR_OF_PATH.search(path.replace("\\", "/")))]
        return sorted(Hour.from_key(f"{match[1]}-{match[2]}:00") for match in found)

    def extract_facts(self, project: str, stream: str, hour: Hour) -> dict[str, str] | None:
        """Facts that the extract was written with (names without prefix); None when there is no extract."""
        return self.facts(self.extract_path(project, stream, hour))

    @contextmanager
    def open_extract(
        self, project: str, stream: str, hour: Hour, *, buffer_bytes: int = DEFAULT_BUFFER_BYTES
    ) -> Iterator[ExtractWriter]:
        """Write one extract. It replaces the old one when the block ends well; an exception leaves the old one.

        `buffer_bytes` is how much Arrow data is held before it goes to scratch files.
        """
        target = self.extract_path(project, stream, hour)
        facts = {"project": project, "stream": stream, "hour": hour.key}
        with self.workspace(target.rpartition("/")[0]) as workspace:
            writer = ExtractWriter(workspace, target, facts=facts, buffer_bytes=buffer_bytes)
            with writer:
                yield writer
                writer.commit()

    # Ledgers and spool

    def ledger_folder(self, project: str, destination: str, hour: Hour) -> str:
        return f"{self.root}/ledger/project={project}/destination={destination}/date={hour.date}/hour={hour.hour}"

    def ledger_path(self, project: str, destination: str, hour: Hour) -> str:
        """The merged ledger of an hour."""
        return f"{self.ledger_folder(project, destination, hour)}/{_DATA}"

    def ledger_part_path(self, project: str, destination: str, hour: Hour, part: str) -> str:
        """A part that a running delivery writes after an acknowledged batch; parts sort by name."""
        return f"{self.ledger_folder(project, destination, hour)}/part-{part}.parquet"

    def ledger_part_paths(self, project: str, destination: str, hour: Hour) -> list[str]:
        """Existing parts of an hour's ledger, sorted by name."""
        return self.glob(f"{self.ledger_folder(project, destination, hour)}/part-*.parquet")

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
        if not self.exists(path):
            return None
        metadata = pq.read_metadata(path, filesystem=self._filesystem).metadata or {}
        entries = {key.decode(): value.decode() for key, value in metadata.items()}
        return {
            key.removeprefix(METADATA_PREFIX): value
            for key, value in entries.items()
            if key.startswith(METADATA_PREFIX)
        }

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the lake's paths readable in a DuckDB connection (nothing to do for a local root)."""
        if not self.is_local:
            con.register_filesystem(self._filesystem)

    def _extract_folder(self, project: str, stream: str, hour: Hour) -> str:
        return f"{self.root}/raw/project={project}/stream={stream}/date={hour.date}/hour={hour.hour}"

    def _existing_below(self, folders: Iterable[str]) -> set[str]:
        """Keys of the data files one level below the folders: one listing per day instead of a look per hour."""
        self._filesystem.invalidate_cache()
        found = (self._filesystem.glob(f"{folder}/*/{_DATA}") for folder in folders)
        return {path for paths in found for path in paths}

    def _key(self, path: str) -> str:
        return self._filesystem._strip_protocol(path)


def _local_root(root: str) -> Path | None:
    if root.startswith("file://"):
        root = root.removeprefix("file://")
    elif "://" in root:
        return None
    return Path(root).expanduser().absolute()


def _filesystem(root: str) -> Any:
    import fsspec

    try:
        return fsspec.core.url_to_fs(root)[0]
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"cannot open the lake at {root}: {error}", hint="Install the fsspec package for this kind of URL."
        ) from error
