from typing import TYPE_CHECKING

import msgspec
import pytest

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.watch import MAX_REPLACED, Watch
from driftline.detectors.names import is_name
from driftline.detectors.plan import Plan
from tests.logs import plain, watching

if TYPE_CHECKING:
    from driftline.detectors.documents.predictions import Value

KEY = ("m", "1")


def named(model: str, version: str = "1") -> Baseline:
    return msgspec.structs.replace(plain(), model=model, version=version).sealed()


def hash_at(watch: Watch, start_ms: int) -> str | None:
    layout = watch.effective(KEY, start_ms)
    return layout.baseline.hash if layout else None


def test_a_window_takes_the_newest_baseline_that_is_effective_at_its_start_whatever_order_they_came_in() -> None:
    known = [plain(1, 100), plain(2, 300), plain(3, 200)]
    expected = [(99, None), (100, 0), (199, 0), (200, 2), (299, 2), (300, 1), (10**15, 1)]
    for order in (known, known[::-1]):
        watch = watching(Plan(), *order)
        found = [(start_ms, hash_at(watch, start_ms)) for start_ms, _ in expected]
        assert found == [(start_ms, None if place is None else known[place].hash) for start_ms, place in expected]


def test_a_new_baseline_makes_a_new_watch_and_leaves_the_old_one_alone() -> None:
    before = watching(Plan(), plain(1))
    after = before.with_baseline(plain(2, 100))
    assert len(before.layouts[KEY]) == 1
    assert len(after.layouts[KEY]) == 2
    assert after.effective(KEY, 0) is before.effective(KEY, 0)


def test_a_baseline_that_is_said_twice_changes_nothing() -> None:
    watch = watching(Plan(), plain(1), plain(2, 100))
    assert watch.with_baseline(plain(1)) is watch


def test_another_baseline_for_the_same_moment_takes_the_place_of_the_first() -> None:
    before = watching(Plan(), plain(1))
    watch = before.with_baseline(plain(2))
    assert hash_at(watch, 0) == plain(2).hash
    assert len(watch.layouts[KEY]) == 1
    assert watch.by_hash(KEY, plain(1).hash) is before.effective(KEY, 0)  # open windows may count by it still
    for corrected in (1, 2, 1, 2):
        watch = watch.with_baseline(plain(corrected))
    assert [each.baseline for each in watch.replaced[KEY]] == [plain(1)]


def test_of_baselines_that_were_replaced_only_the_newest_are_kept() -> None:
    seeds = range(MAX_REPLACED + 3)
    watch = watching(Plan(), *map(plain, seeds))
    assert [each.baseline for each in watch.replaced[KEY]] == [plain(seed) for seed in seeds[2:-1]]


def test_a_tombstone_withdraws_all_baselines_of_a_model_version_and_no_other_until_another_comes() -> None:
    watch = watching(Plan(max_models=2), plain(1), plain(2), plain(3, 100), named("n")).without(KEY)
    assert watch.layouts.keys() == {("n", "1")}
    assert watch.retired == frozenset({KEY})
    assert watch.by_hash(KEY, plain(1).hash) is None
    again = watch.with_baseline(plain(1))
    assert again.retired == frozenset()
    assert hash_at(again, 0) == plain(1).hash
    assert watch.with_baseline(named("o")).layouts.keys() == {("n", "1"), ("o", "1")}  # there is room again


def test_what_no_window_can_be_counted_by_any_more_is_released() -> None:
    watch = watching(Plan(), plain(1), plain(2), plain(3, 100), plain(4, 200))
    assert len(watch.layouts[KEY]) == 3
    hashes = [plain(1).hash, plain(2).hash, plain(3, 100).hash, plain(4, 200).hash]
    for closed_ms, used, kept in (
        (99, hashes, [0, 1, 2, 3]),
        (99, [], [1, 2, 3]),
        (100, [], [2, 3]),
        (199, [], [2, 3]),
        (10**15, [], [3]),
        (10**15, hashes[1:2], [1, 3]),
        (10**15, hashes[:1], [0, 3]),
    ):
        left = watch.without_superseded(closed_ms, used)
        assert [place for place, each in enumerate(hashes) if left.by_hash(KEY, each)] == kept


@pytest.mark.parametrize(
    ("features", "remedy"),
    [
        ({f"x{place}": [1.0, 2.0, 3.0] for place in range(1500)}, "fewer signals"),
        ({"x" * 70_000 + str(place): [1.0, 2.0] for place in range(3)}, "shorter names"),
        ({"shop": [f"{place}" * 100_000 for place in range(3)]}, "shorter names"),
    ],
)
def test_a_baseline_that_would_make_records_that_kafka_does_not_take_is_refused(
    features: dict[str, list[float | str]], remedy: str
) -> None:
    with pytest.raises(OperatorError, match=rf"would make .* of up to \d+ bytes, and at most 524288 .*{remedy}"):
        watching(Plan(), fit("m", "1", features))


def test_baselines_are_found_by_their_hash() -> None:
    watch = watching(Plan(), plain(1), plain(2, 100))
    found = watch.by_hash(KEY, plain(1).hash)
    assert found is watch.effective(KEY, 0)
    assert watch.by_hash(("m", "2"), plain(1).hash) is None


def test_more_models_than_the_plan_has_room_for_are_refused_but_a_known_one_may_change() -> None:
    watch = watching(Plan(max_models=2), named("a"), named("b"))
    with pytest.raises(OperatorError, match=r"plan\.max_models = 2"):
        watch.with_baseline(named("c"))
    later = msgspec.structs.replace(named("a"), effective_from_ms=5)
    assert len(watch.with_baseline(later).layouts["a", "1"]) == 2


def test_more_signals_than_the_plan_allows_are_refused() -> None:
    with pytest.raises(OperatorError, match=r"plan\.max_signals = 3: .* has 4"):
        watching(Plan(max_signals=3), plain())


def test_more_levels_or_bins_than_the_plan_allows_are_refused_and_as_many_are_not() -> None:
    signals: dict[str, list[Value]] = {"kind": list("abcabc"), "age": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
    most = {name: len(signal.counts) for name, signal in fit("m", "1", signals).signals.items()}
    for name, n in most.items():
        one = fit("m", "1", {name: signals[name]})
        with pytest.raises(OperatorError, match=rf"plan\.max_levels = {n - 1}: signal '{name}' .* has {n}"):
            watching(Plan(max_levels=n - 1), one)
        assert watching(Plan(max_levels=n), one).layouts.keys() == {KEY}


@pytest.mark.parametrize("name", ["", "a|b", "a\nb", "a\x00", "x" * 129])
def test_names_that_would_break_a_key_or_a_line_are_refused(name: str) -> None:
    assert not is_name(name)
    for model, version in ((name, "1"), ("m", name)):
        with pytest.raises(OperatorError, match="printable"):
            Watch(Plan()).with_baseline(named(model, version))


@pytest.mark.parametrize("name", ["churn", "v1.2", "Ölpreis ✓", "x" * 128, " "])
def test_any_other_name_is_a_name(name: str) -> None:
    assert is_name(name)
