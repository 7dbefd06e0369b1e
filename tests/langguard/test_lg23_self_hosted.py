"""LG-23: a self-hosted server with a certificate of its own is one setting away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lf_dagster.cli.check import check_project
from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.simulators.langfuse import create_app
from tests.source.conftest import KEYS, World
from tests.tls import serve_tls


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def project(folder: Path, **langfuse: Any) -> ProjectSettings:
    return load_project({"data": str(folder / "data"), "langfuse": langfuse})


def test_lg23_a_certificate_of_ones_own_fails_with_the_setting_that_fixes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve_tls(create_app(World().observation("o", 5).store), tmp_path) as (origin, certificate):
        assert check_project(project(tmp_path, host=origin))[0] is False
        said = " ".join(capsys.readouterr().err.split())
        assert "TLS failed" in said
        assert "CERTIFICATE_VERIFY_FAILED" in said
        assert "set `ca_bundle` to the path of its CA bundle" in said
        assert check_project(project(tmp_path, host=origin, ca_bundle=str(certificate)))[0] is True
        assert f"Connection successful: project LF Project (proj-lf) at {origin}" in " ".join(
            capsys.readouterr().out.split()
        )


def test_lg23_a_host_that_does_not_answer_names_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The waits between tries are the HTTP layer's, which has tests of its own.
    monkeypatch.setattr("lf_dagster.http.retry.RetryPolicy.wait", lambda *_: 0.0)
    assert check_project(project(tmp_path, host="http://127.0.0.1:9"))[0] is False
    said = " ".join(capsys.readouterr().err.split())
    assert "Is `host` right and reachable from here (DNS, firewall, proxy variables)?" in said
