"""Properties of the parts that all stand-ins build on."""

import gzip
import json
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lf_dagster.simulators.bodies import BodyTooLarge, BodyUnreadable, decode_json, first_bad_text, gunzip
from lf_dagster.simulators.posthog.timestamps import iso, parse, parse_rfc3339
from lf_dagster.simulators.rates import RollingWindow

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.integers(0, 900))
def test_gunzip_inflates_any_members_up_to_the_limit(members, limit):
    body = b"".join(map(gzip.compress, members))
    plain = b"".join(members)
    if len(plain) <= limit:
        assert gunzip(body, limit=limit) == plain
    else:
        with pytest.raises(BodyTooLarge):
            gunzip(body, limit=limit)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 8))
def test_truncated_gzip_is_unreadable(plain, missing):
    with pytest.raises(BodyUnreadable):
        gunzip(gzip.compress(plain)[:-missing], limit=1_000)


@given(JSON)
def test_json_decodes_as_the_standard_library_does(value):
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    decoded, clean = decode_json(body)
    assert clean
    assert decoded == json.loads(body)
    assert first_bad_text(decoded, "x") is None


@given(JSON, st.sampled_from([b"\xff", b"\\ud800"]))
def test_broken_text_is_found_and_blamed(value, bad):
    row = {"fine": value, "bad": [{"deep": "BROKEN"}]}
    decoded, clean = decode_json(json.dumps(row).encode().replace(b"BROKEN", bad))
    assert not clean
    assert first_bad_text(decoded["fine"], "x") is None
    assert first_bad_text(decoded, "row") == "row.bad.deep"


@pytest.mark.parametrize("body", [b"NaN", b"[Infinity]", b'{"a":1e999,"b":"\xff"}', b"", b'["\x01"]', b"[1] x"])
def test_what_is_no_json_is_unreadable(body):
    with pytest.raises(BodyUnreadable):
        decode_json(body)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=40), st.integers(1, 12))
def test_no_window_ever_holds_more_than_the_limit(steps, limit):
    now = 0
    window = RollingWindow(limit, 60.0, lambda: now)
    taken = []
    for wait, amount in steps:
        now += wait
        held = sum(part for at, part in taken if at > now - 60.0)
        fits = held + amount <= limit
        assert window.fits(amount) is fits
        assert window.take(amount) is fits
        taken += [(now, amount)] if fits else []


def test_wait_is_the_time_until_the_oldest_charge_leaves():
    now = 0.0
    window = RollingWindow(1, 60.0, lambda: now)
    assert window.wait_seconds() == 0.0
    window.take()
    now = 15.0
    assert window.wait_seconds() == 45.0


@given(
    st.datetimes().filter(lambda moment: 1 < moment.toordinal() < date.max.toordinal() - 1),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_timestamps_of_any_offset_parse_to_the_microsecond(moment, minutes):
    zone = timezone(timedelta(minutes=minutes))
    text = moment.replace(tzinfo=zone).isoformat()
    expected = (moment.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)
    assert parse(text) == parse_rfc3339(text) == expected
    assert parse(iso(expected)) == expected
