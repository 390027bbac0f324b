"""Names of new levels: bounded, escaped, the same however the log is cut and whatever partition saw them."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.documents.new_levels import (
    LONGEST,
    MOST_NAMES,
    MOST_OF_WINDOW,
    NewLevels,
    count,
    merged,
    quoted,
    ranked,
)
from driftline.detectors.plan import Plan
from tests.logs import START_MS, by_the_minute, plain, prediction, sample, watching

seen = st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.sampled_from([*"uvwxyz", *map(str, range(12))])))


@given(seen, st.integers(0, 100))
def test_the_cut_of_the_log_does_not_matter_and_the_first_names_are_counted_whole(
    found: list[tuple[str, str]], cut: int
) -> None:
    whole: NewLevels = {}
    parts: NewLevels = {}
    count(whole, found)
    count(parts, found[:cut])
    count(parts, found[cut:])
    assert whole == parts
    times = Counter(found)
    assert all(n == times[signal, name] for signal, names in whole.items() for name, n in names.items())
    assert all(len(names) <= MOST_NAMES for names in whole.values())
    assert sum(map(len, whole.values())) <= MOST_OF_WINDOW
    for signal in {signal for signal, _ in found}:
        distinct = list(dict.fromkeys(name for own, name in found if own == signal))
        if len(distinct) <= MOST_NAMES and len(times) <= MOST_OF_WINDOW:
            assert list(whole[signal]) == distinct


@given(st.lists(seen, min_size=1, max_size=4))
def test_partitions_add_up_in_any_order(partitions: list[list[tuple[str, str]]]) -> None:
    parts = []
    for found in partitions:
        own: NewLevels = {}
        count(own, found)
        parts.append(own)
    there, back = merged(parts), merged(parts[::-1])
    assert there == back
    assert {signal: ranked(names) for signal, names in there.items()} == {
        signal: ranked(names) for signal, names in back.items()
    }


@given(st.text(max_size=200))
def test_what_is_shown_is_printable_short_and_no_markup(level: str) -> None:
    shown = quoted(level)
    assert shown.isprintable()
    assert len(shown) <= 2 + 6 * LONGEST + 4 * LONGEST
    assert not re.search(r"[<>&`*~\[\]|@]|://|\"", shown[1:-1])


def test_a_window_with_new_levels_names_the_most_frequent_first_in_verdict_and_alert() -> None:
    rows = sample(400, 1)
    new = {5: "<b>mauve</b>", 7: "pink", 9: "pink"}
    records = [
        prediction({**row.features, "colour": new[place % 20] if place % 20 in new else row.features["colour"]}, 0.5)
        for place, row in enumerate(rows)
    ]
    outcome = by_the_minute(watching(Plan(events_per_million=1e12), plain()), records)
    verdict = outcome.final["m", "1", START_MS]
    assert verdict.signals["colour"].new_levels == [("pink", 40), ("<b>mauve</b>", 20)]
    assert verdict.signals["colour"].unseen == 60
    [alert] = [each for each in outcome.judged.alerts if each.signal == "colour"]
    named = (
        r'colour has levels that the baseline never had: "pink" 40 times, "\u003cb\u003emauve\u003c/b\u003e" 20 times'
    )
    assert named in alert.summary
    first = next(event for event in outcome.events if event.detector == "category")
    assert r'colour = "\u003cb\u003emauve\u003c/b\u003e" is a level that the baseline never had' in first.summary


def test_names_of_a_flood_of_new_levels_stay_bounded() -> None:
    rows = [
        prediction({**row.features, "colour": f"{place:03d}" * 50}, 0.5) for place, row in enumerate(sample(400, 1))
    ]
    [partial, *_] = [
        item for item in by_the_minute(watching(Plan(), plain()), rows).profiles[0].items if hasattr(item, "new_levels")
    ]
    assert list(map(len, partial.new_levels["colour"])) == [LONGEST] * MOST_NAMES
