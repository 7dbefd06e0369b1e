"""LG-01: a project is a name, two keys and a host; what is wrong with them is said before anything is asked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lf_dagster.config import load_project
from lf_dagster.errors import ConfigError
from lf_dagster.simulators.langfuse import ApiKey, Project, Store
from tests.automation.rows import Life
from tests.automation.works import KEY, works
from tests.source.conftest import KEYS, Connect, Standin


def test_lg01_without_a_host_it_is_the_eu_cloud() -> None:
    assert load_project({}, {}).langfuse.host == "https://cloud.langfuse.com"


def test_lg01_a_trailing_slash_is_taken_off_and_a_missing_scheme_is_refused() -> None:
    assert load_project({}, {"LANGFUSE_HOST": "https://lf.example/"}).langfuse.host == "https://lf.example"
    with pytest.raises(ConfigError, match=r"langfuse\.host: .*http:// or https://"):
        load_project({}, {"LANGFUSE_HOST": "lf.example"})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SHOP_PUBLIC", "lf-1234", "SHOP_PUBLIC holds no Langfuse public key: it does not begin with pk-lf-"),
        ("SHOP_SECRET", "secret-5678", "SHOP_SECRET holds no Langfuse secret key: it does not begin with sk-lf-"),
        ("SHOP_SECRET", "pk-lf-5678", "the Langfuse keys are swapped"),
        ("SHOP_SECRET", "  ", "environment variable SHOP_SECRET is not set"),
    ],
)
def test_lg01_a_key_that_is_none_is_refused_by_the_name_of_its_variable(
    connect: Connect, standin: Standin, variable: str, value: str, said: str
) -> None:
    env = {"SHOP_PUBLIC": "pk-lf-a", "SHOP_SECRET": "sk-lf-b", variable: value}
    with pytest.raises(ConfigError) as caught:
        connect(env, public_key_env="SHOP_PUBLIC", secret_key_env="SHOP_SECRET")
    assert said in str(caught.value)
    assert value.strip()[-4:] not in str(caught.value) or not value.strip()
    assert variable in str(caught.value)
    assert standin.requests() == []


def test_lg01_keys_of_ones_own_choice_are_taken_when_asked_for(connect: Connect, standin: Standin) -> None:
    standin.use(Store(Project(keys=(ApiKey("my_public", "my_secret"),))))
    env = {"LANGFUSE_PUBLIC_KEY": "my_public", "LANGFUSE_SECRET_KEY": "my_secret"}
    with pytest.raises(ConfigError, match="check_key_prefixes: false"):
        connect(env)
    assert connect(env, check_key_prefixes=False).describe().project.id == "proj-lf"


def test_lg01_no_log_line_and_no_representation_shows_the_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, connect: Connect
) -> None:
    caplog.set_level(logging.DEBUG)
    client = connect()
    assert KEYS["LANGFUSE_SECRET_KEY"] not in repr(client) + repr(client.settings) + repr(vars(client.settings))
    life = Life().span("root", "07T10:05")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:40") as shop:
        assert shop.rerun("2026-09-07T10").success
        assert KEY.secret not in repr(shop.settings)
    assert caplog.text
    assert KEY.secret not in caplog.text
