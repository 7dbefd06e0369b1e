"""`lf-dagster sql`: every query of docs/sql.md gives what stands there, in every format, at a prompt too."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from tests.e2e.sql_world import Answer, call, shop
from tests.e2e.stack import REPOSITORY, _inherited, command, run_cli

PAGE = (REPOSITORY / "docs" / "sql.md").read_text(encoding="utf-8")
QUERY = re.compile(r"^### (?P<title>.+?)$.*?```sql\n(?P<sql>.*?)```\n\n(?P<table>(?:\|[^\n]*\|\n)+)", re.M | re.S)
EXAMPLES = {match["title"]: match for match in QUERY.finditer(PAGE)}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with shop(tmp_path_factory.mktemp("sql")) as env:
        yield env


def sql(world: dict[str, str], *arguments: str, stdin: str = "") -> Answer:
    return call(world, "sql", *arguments, stdin=io.StringIO(stdin))


def test_every_query_of_the_page_has_its_answer() -> None:
    assert PAGE.count("```sql") == len(EXAMPLES) == 11


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_queries_give_what_the_page_shows(world: dict[str, str], title: str) -> None:
    done = sql(world, "--format", "markdown", EXAMPLES[title]["sql"])
    assert done.code == 0, done.err
    assert done.out == EXAMPLES[title]["table"]


ODD = "SELECT 1::HUGEINT << 70 AS big, 0.10::DECIMAL(18, 12) AS cost, NULL AS none, ['a|b', NULL] AS list, '{\"a\": 1}'::JSON AS json, TIMESTAMPTZ '2026-11-21 05:00:00+00' AS moment, E'\\x1b[31mred' AS text, 1 AS text, true AS yes"  # fmt: skip  # noqa: E501


def test_json_has_every_value_as_it_is(world: dict[str, str]) -> None:
    [row] = json.loads(sql(world, "-f", "json", ODD).out)
    assert row == {
        "big": 2**70, "cost": 0.1, "none": None, "list": ["a|b", None], "json": {"a": 1},
        "moment": "2026-11-21T05:00:00.000Z", "text": "\x1b[31mred", "text_1": 1, "yes": True,
    }  # fmt: skip
    assert json.loads(sql(world, "-f", "json", "FROM traces WHERE false").out) == []


def test_csv_is_read_back_by_a_csv_reader(world: dict[str, str]) -> None:
    [header, row] = csv.reader(io.StringIO(sql(world, "-f", "csv", ODD).out, newline=""))
    assert header == ["big", "cost", "none", "list", "json", "moment", "text", "text", "yes"]
    assert row[:4] == [str(2**70), "0.1", "", '["a|b",null]']
    assert row[4:] == ['{"a": 1}', "2026-11-21T05:00:00.000Z", "\x1b[31mred", "1", "true"]


def test_a_table_lets_no_control_character_through(world: dict[str, str]) -> None:
    for output in ("table", "markdown"):
        done = sql(world, "-f", output, ODD)
        assert "\x1b" not in done.out
        assert "\\x1b[31mred" in done.out


def test_tables_are_cut_with_a_note_and_files_are_whole(world: dict[str, str]) -> None:
    done = sql(world, "SELECT i FROM range(1500) AS r(i)")
    assert done.out.splitlines()[-1].strip() == "999"
    assert "the first 1,000 rows; there are more" in done.err
    assert len(sql(world, "-f", "csv", "SELECT i FROM range(1500) AS r(i)").out.splitlines()) == 1501
    few = sql(world, "-f", "csv", "-n", "2", "SELECT i FROM range(3) AS r(i)")
    assert few.out.split() == ["i", "0", "1"]
    assert "the first 2 rows" in few.err
    assert sql(world, "-n", "3", "SELECT i FROM range(3) AS r(i)").err == ""


def test_a_wrong_query_is_one_line_and_exit_code_1(world: dict[str, str]) -> None:
    done = sql(world, "SELECT * FROM trces")
    assert done.code == 1
    assert done.out == ""
    assert done.err == 'Catalog Error: Table with name trces does not exist! Did you mean "traces"?\n'
    assert sql(world, "-f", "xml", "SELECT 1").code == 2
    assert "no project 'other'" in sql(world, "-p", "other", "SELECT 1").err


def test_a_file_of_queries_comes_through_stdin(world: dict[str, str]) -> None:
    done = sql(world, "-f", "csv", stdin="CREATE TEMP TABLE few AS SELECT 7 AS n;\nFROM few;\nSELECT 'b' AS a;\n")
    assert (done.code, done.out.split()) == (0, ["n", "7", "a", "b"])
    broken = sql(world, "-f", "csv", stdin="SELECT 1 AS n; SELECT 'x'::INT")
    assert (broken.code, broken.out.split()) == (1, ["n", "1"]), "what came before the error is there"


def test_nothing_but_the_result_is_on_stdout(world: dict[str, str], tmp_path: Path) -> None:
    # In a process of its own: DuckDB looks at how it was started, and would draw a bar while a long query runs.
    done = run_cli(["sql", "-f", "csv", "SELECT current_setting('enable_progress_bar') AS drawn"], world, tmp_path)
    assert (done.stdout, done.stderr) == ("drawn\nfalse\n", "")


def test_no_secret_is_in_the_warehouse_or_in_the_ledger(world: dict[str, str]) -> None:
    tables = sql(world, "-f", "csv", "SELECT table_name FROM information_schema.tables WHERE table_schema = 'langfuse'")
    for table in [*tables.out.split()[1:], "deliveries", "duckdb_settings()", "duckdb_databases()"]:
        done = sql(world, "-f", "json", f"FROM {table}")
        assert done.code == 0, done.err
        for name in ("LANGFUSE_SECRET_KEY", "MIXPANEL_PROJECT_TOKEN", "POSTHOG_API_KEY"):
            assert world[name] not in done.out, table


class Typing(io.StringIO):
    """Stdin of somebody who sits at a terminal."""

    def isatty(self) -> bool:
        return True


def at_the_prompt(world: dict[str, str], folder: Path, *entries: str) -> Answer:
    """Types the entries, each followed by Enter, and leaves."""
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("".join(f"{entry}\r" for entry in (*entries, ".quit")))
        return call({**world, "XDG_STATE_HOME": str(folder)}, "sql", stdin=Typing())


def test_the_prompt_answers_queries_of_several_lines(world: dict[str, str], tmp_path: Path) -> None:
    done = at_the_prompt(world, tmp_path, "SELECT count(*) AS n", "FROM traces WHERE trace_name <> ';';")
    assert (done.code, done.out.split()) == (0, ["n", "72"])
    assert "FROM traces" in (history := tmp_path / "lf-dagster" / "sql_history").read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_the_prompt_lists_tables_and_explains_columns(world: dict[str, str], tmp_path: Path) -> None:
    done = at_the_prompt(world, tmp_path, ".tables", ".schema weekly_retention", ".schema trace_events", ".help")
    assert re.search(r"daily_usage +One row per day", done.out)
    assert re.search(r"cohort_week +DATE +Monday of the week", done.out)
    assert re.search(r"langfuse_count_observations +BIGINT", done.out)
    assert ".format FORMAT" in done.out


def test_the_prompt_goes_on_after_errors_and_remembers_settings(world: dict[str, str], tmp_path: Path) -> None:
    entries = ("SELECT * FROM trces;", ".nothing", ".format xml", ".limit x", ".format csv", ".limit 2")
    done = at_the_prompt(world, tmp_path, *entries, "SELECT i FROM range(5) AS r(i);")
    assert done.out.split() == ["i", "0", "1"]
    [note, *said, cut] = done.err.splitlines()
    assert ".help" in note
    assert "Did you mean" in said[0]
    assert [text.partition(" [")[0] for text in said[1:]] == [
        "there is no .nothing .help lists what there is.",
        "there is no format 'xml' One of table, csv, json, markdown.",
        "not a number of rows: 'x' .limit 100",
    ]
    assert cut == "the first 2 rows; there are more (--limit)"


def test_ctrl_c_at_a_terminal_cancels_the_query_alone(world: dict[str, str], tmp_path: Path) -> None:
    with terminal(world, tmp_path) as screen:
        screen.type("SELECT 6 * 7 AS answer;\r")
        assert screen.shows("42", seconds=60)
        for _ in range(10):
            screen.type("SELECT count(*) FROM range(100000000000) AS a(i), range(100000) AS b(j);\r")
            time.sleep(1)
            screen.type("\x03")
            if screen.shows("cancelled", seconds=3):
                break
        screen.type("SELECT 5 * 9 AS answer;\r")
        assert screen.shows("45", seconds=20)
        screen.type(".quit\r")


class Screen:
    """What a terminal shows, and somebody who types."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def shows(self, text: str, *, seconds: float) -> bool:
        seen, ends = "", time.monotonic() + seconds
        while text not in seen and (left := ends - time.monotonic()) > 0:
            if select.select([self._fd], [], [], left)[0]:
                raw = os.read(self._fd, 65536).decode(errors="replace")
                if "\x1b[6n" in raw:  # it asks where the cursor is
                    os.write(self._fd, b"\x1b[1;1R")
                seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)
        return text in seen


@contextmanager
def terminal(world: dict[str, str], folder: Path) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    env = {**_inherited(), **world, "TERM": "xterm", "XDG_STATE_HOME": str(folder)}
    with subprocess.Popen(
        command("sql"), env=env, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(theirs)
        try:
            yield Screen(ours)
            process.wait(30)
        finally:
            process.kill()
            os.close(ours)
    assert process.returncode == 0
