"""How events at a destination are judged."""

from bench.fidelity.compare import Held, Key, Statement, compare
from bench.fidelity.truth import Expected

KEY: Key = ("langfuse trace", "id-1")
SHAPE = {"name": "chat", "cost": 0.3, "tags": ["a"]}
WANTED: dict[Key, Expected] = {KEY: Expected("langfuse trace", "id-1", 1000, "ada", SHAPE)}


def held(properties=None, *, key=KEY, time_ms=1000, distinct_id="ada"):
    return Held(key[0], key[1], time_ms, distinct_id, SHAPE if properties is None else properties)


def judged(*events, **options):
    return compare(WANTED, events, **options)


def test_an_event_is_right_when_everything_is():
    noise = {**SHAPE, "cost": 0.1 + 0.2, "more": "is not compared"}
    assert judged(held(noise)).right == 1


def test_a_difference_makes_it_stale_and_is_named():
    tally = judged(held({**SHAPE, "tags": ["b"]}))
    assert (tally.right, tally.stale, tally.differences) == (0, 1, {"tags": 1})
    assert judged(held({**SHAPE, "tags": ["b"]}), ignored=["tags"]).right == 1
    assert judged(held({**SHAPE, "cost": None})).stale == 1


def test_another_person_counts_as_stale_unless_the_ledger_accounts_for_it():
    kept = {KEY: Statement("skipped", "identity_changed")}
    assert judged(held(distinct_id="")).stale == 1
    assert judged(held(distinct_id=""), ledger={}).unexplained
    tally = judged(held(distinct_id="", time_ms=1), ledger=kept)
    assert (tally.identity_changed, tally.stale, tally.unexplained) == (1, 0, [])
    assert tally.share_right == 1.0


def test_a_stale_property_is_not_excused_by_the_kept_person():
    tally = judged(held({**SHAPE, "name": "old"}), ledger={KEY: Statement("skipped", "identity_changed")})
    assert (tally.stale, len(tally.explained), tally.unexplained) == (1, 1, [])
    tally = judged(held({**SHAPE, "name": "old"}), ledger={KEY: Statement("delivered", "identity_changed")})
    assert (tally.stale, tally.explained, len(tally.unexplained)) == (1, [], 1)


def test_a_missing_event_is_explained_by_a_rejection():
    assert judged().missing == 1
    assert len(judged(ledger={}).unexplained) == 1
    assert judged(ledger={KEY: Statement("rejected", "invalid:x")}).unexplained == []
    assert len(judged(ledger={KEY: Statement("delivered")}).unexplained) == 1


def test_an_extra_event_is_explained_when_its_ledger_row_is_marked_gone():
    other = ("langfuse trace", "id-2")
    found = judged(held(), held(key=other), ledger={other: Statement("delivered", gone=True)}, known_ids={other})
    assert (found.right, found.extra, found.deleted, found.unexplained) == (1, 1, 1, [])
    invented = judged(held(), held(key=other), ledger={})
    assert (invented.extra, invented.deleted, len(invented.unexplained)) == (1, 0, 1)


def test_copies_are_counted():
    assert judged(held(), held()).doubled == 1
