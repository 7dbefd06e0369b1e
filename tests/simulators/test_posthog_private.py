"""Dashboards and insights of the PostHog stand-in: who may, what is refused, pages, and what the server adds."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from lf_dagster.simulators.posthog import PersonalKey, create_app

TREND = {"kind": "InsightVizNode", "source": {"kind": "TrendsQuery", "series": [{"kind": "EventsNode"}]}}


@pytest.fixture
def app() -> Any:
    reader = PersonalKey(key="phx_r", project_ids=(7,), scopes=("dashboard:read", "insight:read"))
    return create_app(personal_keys=[PersonalKey(key="phx_w", project_ids=(7,)), reader])


@pytest.fixture
def http(app: Any, origin_of: Any) -> Any:
    with httpx.Client(base_url=f"{origin_of(app)}/api/projects/7", headers={"Authorization": "Bearer phx_w"}) as client:
        yield client


def test_rows_are_made_read_changed_and_hidden(http: httpx.Client, app: Any) -> None:
    made = http.post("/dashboards/", json={"name": "Board", "tags": ["a"]})
    assert made.status_code == 201
    board = made.json()
    assert (board["name"], board["pinned"], board["deleted"]) == ("Board", False, False)
    changed = http.patch(f"/dashboards/{board['id']}/", json={"pinned": True})
    assert changed.json() == {**board, "pinned": True}
    assert http.get(f"/dashboards/{board['id']}/").json() == changed.json()
    assert http.delete(f"/dashboards/{board['id']}/").status_code == 405
    assert http.patch(f"/dashboards/{board['id']}/", json={"deleted": True}).status_code == 200
    assert http.get(f"/dashboards/{board['id']}/").status_code == 404
    assert http.get("/dashboards/").json()["results"] == []
    assert app.state.standin.private.writes == 3
    httpx.post(f"{http.base_url.copy_with(path='/')}_standin/reset")
    assert app.state.standin.private.writes == 0


def test_insights_show_queries_on_dashboards_that_exist(http: httpx.Client) -> None:
    board = http.post("/dashboards/", json={"name": "Board"}).json()["id"]
    made = http.post("/insights/", json={"name": "i", "query": TREND, "dashboards": [board]}).json()
    assert made["query"]["source"].items() > TREND["source"].items(), "the server adds defaults"
    refused = {
        "dashboards": [board + 99],
        "query": {"kind": "TrendsQuery"},
        "filters": {},
        "name": 5,
    }
    for name, value in refused.items():
        answer = http.post("/insights/", json={name: value})
        assert (answer.status_code, answer.json()["attr"]) == (400, name)
        assert answer.json()["type"] == "validation_error"
    empty = {"kind": "InsightVizNode", "source": {"kind": "TrendsQuery", "series": []}}
    assert http.post("/insights/", json={"query": empty}).status_code == 400
    assert http.post("/insights/", content=b"[").status_code == 400


def test_lists_come_in_pages(http: httpx.Client) -> None:
    for number in range(5):
        http.post("/insights/", json={"name": f"i{number}"})
    first = http.get("/insights/", params={"limit": 3}).json()
    assert (first["count"], len(first["results"])) == (5, 3)
    assert [row["name"] for row in httpx.get(first["next"], headers=http.headers).json()["results"]] == ["i1", "i0"]
    assert http.get("/insights/", params={"limit": 3, "offset": 3}).json()["next"] is None


@pytest.mark.parametrize(
    ("key", "path", "method", "status", "code"),
    [
        ("phx_other", "/insights/", "GET", 401, "authentication_failed"),
        ("phc_token", "/insights/", "GET", 401, "authentication_failed"),
        ("phx_r", "/insights/", "GET", 200, None),
        ("phx_r", "/insights/", "POST", 403, "permission_denied"),
        ("phx_w", "/../8/insights/", "GET", 404, "not_found"),
        ("phx_w", "/insights/12/", "GET", 404, "not_found"),
    ],
)
def test_who_may(http: httpx.Client, key: str, path: str, method: str, status: int, code: str | None) -> None:
    answer = http.request(method, path, json={}, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == status
    assert answer.json().get("code") == code


def test_plans_without_tags_forget_them(http: httpx.Client, app: Any) -> None:
    app.state.standin.private.tagging = False
    assert http.post("/dashboards/", json={"tags": ["a"]}).json()["tags"] == []
