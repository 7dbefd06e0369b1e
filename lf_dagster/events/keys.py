"""SQL about the keys of delivered events, and about PostHog events that are to be emptied under theirs."""

from __future__ import annotations

from importlib.metadata import version

from lf_dagster.events.ids import is_nobody_sql

LIBRARY = "lf_dagster"

DELETED_PROPERTY = "langfuse_deleted"
"""The only property, `true`, of an event that is no longer in Langfuse (posthog.md 13)."""


def iso(milliseconds: str) -> str:
    """Epoch milliseconds as ISO 8601 text in UTC."""
    return f"strftime(make_timestamp({milliseconds} * 1000), '%Y-%m-%dT%H:%M:%S.%gZ')"


def posthog_id(identity: str) -> str:
    """The distinct id of an identity `<distinct id>|<YYYY-MM-DD>`."""
    return f"left({identity}, -11)"


def posthog_time(identity: str, milliseconds: str) -> str:
    """Milliseconds that lie on an identity's UTC day: the given ones, else its midnight.

    Ledgers of earlier versions may hold a later time of an event than the one that was delivered.
    """
    day = f"right({identity}, 10)"
    sent = f"strftime(make_timestamp({milliseconds} * 1000), '%Y-%m-%d') = {day}"
    return f"if({sent}, {milliseconds}, epoch_ms(try_cast({day} AS DATE)))"


def may_be_sent(distinct_id: str, *, hashed: bool) -> str:
    """Whether a delivered distinct id may be sent again: with hashed user ids only hashes and ids of no user are."""
    if not hashed:
        return "true"
    return f"({is_nobody_sql(distinct_id)} OR regexp_full_match({distinct_id}, '[0-9a-f]{{64}}'))"


def tombstone_sql(protocol: str, relation: str, *, hashed: bool) -> str:
    """A SELECT of a relation's rows with what PostHog is sent for each so that nothing but its key remains.

    The relation has event, event_id, identity (as delivered) and time_ms; added are distinct_id and payload, and
    time_ms is what is sent. Rows whose id must not be sent (`may_be_sent`) are left out. A person is neither made
    nor touched.
    """
    options = '"disable_skew_correction":true,"process_person_profile":false'
    sender = f'"$process_person_profile":false,"$lib":"{LIBRARY}","$lib_version":"{version("lf-dagster")}"'
    content = f'"$geoip_disable":true,"{DELETED_PROPERTY}":true'
    tail = f'"options":{{{options}}},"properties":{{{content}}}' if protocol == "v1" else None
    tail = tail or f'"properties":{{{content},{sender}}}'
    keyed = (
        f"SELECT * REPLACE ({posthog_time('identity', 'time_ms')} AS time_ms), {posthog_id('identity')} AS distinct_id "
        f"FROM ({relation}) WHERE {may_be_sent(posthog_id('identity'), hashed=hashed)}"
    )
    return (
        f"""SELECT *, concat('{{"event":', to_json(event), ',"distinct_id":', to_json(distinct_id), ',"uuid":"', """
        f"""event_id, '","timestamp":"', {iso("time_ms")}, '",{tail}}}') AS payload FROM ({keyed})"""
    )


def mixpanel_time(identity: str) -> str:
    """The time (milliseconds, as text) that a Mixpanel identity ends with."""
    return f"regexp_extract({identity}, '[0-9]+$')"
