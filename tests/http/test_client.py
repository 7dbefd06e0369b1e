"""Bodies, redirects, TLS and secrets."""

from __future__ import annotations

import base64
import logging
import ssl
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lf_dagster.errors import ConfigError, RequestTooLarge, ServiceUnavailable
from lf_dagster.http import HttpClient, RetryPolicy, basic_auth, redact
from lf_dagster.simulators.faults import Fault
from tests.http.conftest import Echo, FakeTime
from tests.tls import self_signed

SECRET = "sk-lf-very-secret-Ü/+"


def test_a_gzip_body_is_undone_and_counted_as_it_came(echo: Echo, client: HttpClient):
    response = client.request("GET", "/gzip", params={"size": 1_000_000}, endpoint="gzip")
    assert response.json() == "x" * 1_000_000
    assert response.wire_bytes == client.stats.bytes_received < 10_000


@pytest.mark.parametrize("keep", [5, 500])
def test_a_gzip_body_that_ends_early_is_a_cut_connection(keep: int, echo: Echo, client: HttpClient):
    with pytest.raises(ServiceUnavailable, match="gzip"):
        client.request("GET", "/gzip", params={"size": 1_000_000, "keep": keep}, endpoint="gzip")


@pytest.mark.parametrize(("path", "bound"), [("/gzip", 5000), ("/gzip", 50), ("/echo", 50)])
def test_an_answer_beyond_the_bound_is_too_large_also_when_compressed(path: str, bound: int, echo: Echo):
    with (
        HttpClient(echo.origin, max_response_bytes=bound) as client,
        pytest.raises(RequestTooLarge, match=f"{bound} bytes"),
    ):
        client.request("GET", path, params={"size": 100_000, "q": "x" * 100}, endpoint="big")


def test_an_excerpt_is_one_short_masked_line(echo: Echo):
    echo.faults.add(Fault(status=400, body=f"<html>\n\n token {SECRET} {'y' * 1000}", content_type="text/html"))
    with HttpClient(echo.origin, secrets=[SECRET]) as client:
        response = client.request("GET", "/echo", endpoint="echo")
    assert response.excerpt.startswith("<html> token *** yyy")
    assert len(response.excerpt) == 300
    assert not response.is_json


def test_redirects_on_the_same_host_are_followed_with_credentials(echo: Echo):
    with HttpClient(echo.origin, auth="Bearer token-of-mine") as client:
        response = client.request("GET", "/go", params={"to": "/echo?a=1"}, endpoint="go")
        assert response.json()["authorization"] == "Bearer token-of-mine"
        response = client.request("POST", "/go", params={"to": "/echo"}, content=b"body", endpoint="go")
        assert response.json()["body"] == "body"


@pytest.mark.parametrize(
    ("method", "to", "status", "text"),
    [
        ("GET", "http://other.invalid/echo", 307, "another host, http://other.invalid"),
        ("GET", "http://127.0.0.1:1/echo", 302, "another host"),
        ("GET", "http://127.0.0.1:99999/echo", 302, "something that is no URL"),
        ("GET", "/go?to=/go", 307, "more than 3 redirects"),
        ("POST", "/echo", 302, "would drop the body"),
    ],
)
def test_other_redirects_are_refused_with_the_setting_to_change(
    method: str, to: str, status: int, text: str, echo: Echo, time: FakeTime
):
    target = (
        to
        if to.startswith(("http", "/echo"))
        else "/go?" + "to=" + quote("/go?to=" + quote("/go?to=" + quote("/go?to=/echo")))
    )
    with (
        HttpClient(echo.origin, setting="langfuse.host", sleep=time.sleep) as client,
        pytest.raises(ConfigError, match=text) as caught,
    ):
        client.request(method, "/go", params={"to": target, "status": status}, content=b"x", endpoint="go")
    assert "langfuse.host" in str(caught.value)
    assert time.slept == []


def test_a_redirect_from_https_to_http_is_refused(tls: Tls, time: FakeTime):
    with (
        HttpClient(tls.origin, verify=str(tls.certificate)) as client,
        pytest.raises(ConfigError, match="from https to http://"),
    ):
        client.request("GET", "/down", endpoint="down")


def test_a_self_signed_certificate_fails_with_the_setting_that_fixes_it(tls: Tls, time: FakeTime):
    with (
        HttpClient(tls.origin, sleep=time.sleep) as client,
        pytest.raises(ConfigError, match="CERTIFICATE_VERIFY_FAILED") as caught,
    ):
        client.request("GET", "/", endpoint="root")
    assert "`ca_bundle`" in str(caught.value)
    assert time.slept == []
    with HttpClient(tls.origin, verify=str(tls.certificate)) as client:
        assert client.request("GET", "/", endpoint="root").json() == {}


def test_https_to_a_plain_http_port_is_a_matter_of_settings(echo: Echo, time: FakeTime):
    with (
        HttpClient(echo.origin.replace("http://", "https://"), sleep=time.sleep) as client,
        pytest.raises(ConfigError, match="`host`"),
    ):
        client.request("GET", "/echo", endpoint="echo")


def test_a_ca_bundle_that_is_none_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such CA bundle") as caught:
        HttpClient("https://localhost", verify=str(tmp_path / "missing.pem"))
    assert "ca_bundle" in str(caught.value)
    (tmp_path / "empty.pem").write_text("nothing\n")
    with pytest.raises(ConfigError, match="not a CA bundle"):
        HttpClient("https://localhost", verify=str(tmp_path / "empty.pem"))


def test_no_secret_reaches_errors_tracebacks_or_logs(echo: Echo, caplog: pytest.LogCaptureFixture, time: FakeTime):
    caplog.set_level(logging.DEBUG, "lf_dagster")
    auth = basic_auth("pk-lf-user", SECRET)
    echoed = f"you sent {auth} and {SECRET} and {quote(SECRET, safe='')}"
    echo.faults.add(Fault(status=500, body=echoed, content_type="text/plain", times=None))
    policy = RetryPolicy(attempts=2)
    with (
        HttpClient(echo.origin, auth=auth, secrets=[SECRET], retry=policy, sleep=time.sleep) as client,
        pytest.raises(ServiceUnavailable) as caught,
    ):
        client.request("GET", "/echo", endpoint="echo")
    shown = caplog.text + "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for form in (
        SECRET,
        quote(SECRET, safe=""),
        auth.removeprefix("Basic "),
        base64.b64encode(SECRET.encode()).decode(),
    ):
        assert form not in shown
    assert "***" in shown


def test_a_header_that_httpx_refuses_does_not_show_in_the_error(echo: Echo):
    with (
        HttpClient(echo.origin, headers={"X-Key": "line\nbreak-secret"}, secrets=["break-secret"]) as client,
        pytest.raises(ConfigError) as caught,
    ):
        client.request("GET", "/echo", endpoint="echo")
    assert "break-secret" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@given(before=st.text(max_size=7), secret=st.text(min_size=6, max_size=40), after=st.text(max_size=7))
def test_redaction_finds_a_secret_inside_base64_of_a_longer_text(before: str, secret: str, after: str):
    raw = secret.encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(before.encode() + raw + after.encode()).decode()
        masked = redact(f"credential={encoded};", [secret])
        assert masked != f"credential={encoded};"
        # What is left of either end is less than one group of base64.
        assert len(masked) <= len("credential=***;") + len(encoded) - (len(raw) * 8 - 10) // 6 + 1


def test_redaction_leaves_ordinary_text_alone():
    text = "GET v2/observations: status 503, retry in 2 s (Basic plan)"
    assert redact(text, ["sk-lf-1234", ""]) == text


@dataclass(frozen=True)
class Tls:
    origin: str
    certificate: Path


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Tls]:
    certificate, key = self_signed(tmp_path)
    server = HTTPServer(("127.0.0.1", 0), _Plain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    # A refused handshake is what the tests are about, not worth a traceback on stderr.
    server.handle_error = lambda request, client_address: None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Tls(f"https://127.0.0.1:{server.server_port}", certificate)
    server.shutdown()
    thread.join()
    server.server_close()


class _Plain(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        down = self.path == "/down"
        self.send_response(302 if down else 200)
        if down:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/")  # type: ignore[attr-defined]
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.mark.parametrize(
    ("variable", "value"), [("NO_PROXY", "localhost,fd00::/8"), ("ALL_PROXY", "ftp://someone:pass-word@proxy:21")]
)
def test_unusable_proxy_variables_are_named_without_what_they_hold(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match="proxy variables") as caught:
        HttpClient("https://lf.example")
    assert variable in str(caught.value)
    assert "pass-word" not in str(caught.value)
