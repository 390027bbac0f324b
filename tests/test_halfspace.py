"""Half-space trees: bit for bit what river computes row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.anomaly import HalfSpaceTrees
from river.tree.padded import PaddedBranch

from driftline.detectors.arrays import F64
from driftline.detectors.errors import DamagedState
from driftline.detectors.online.halfspace import Masses, Trees, grow, leaves, score_and_learn


def by_river(forest: HalfSpaceTrees, rows: F64) -> list[float]:
    """Score, then learn, one row at a time."""
    scores = []
    for row in rows.tolist():
        named = {f"{place:04d}": value for place, value in enumerate(row)}
        scores.append(float(forest.score_one(named)))
        forest.learn_one(named)
    return scores


def river_forest(trees: Trees, window_size: int, seed: int) -> HalfSpaceTrees:
    return HalfSpaceTrees(n_trees=trees.n_trees, height=trees.height, window_size=window_size, seed=seed)


def cuts(trees: Trees, tree: int) -> list[tuple[int, float]]:
    """Cuts of one tree, breadth first."""
    at = [(trees.n_trees + tree) * 2**k + place for k in range(trees.height) for place in range(2**k)]
    return [(int(trees.features[node]), float(trees.thresholds[node])) for node in at]


def river_cuts(tree: PaddedBranch, height: int) -> list[tuple[int, float]]:
    level, found = [tree], []
    for _ in range(height):
        found += [(int(node.feature), node.threshold) for node in level]
        level = [child for node in level for child in node.children]
    return found


@pytest.mark.parametrize(
    ("n_features", "n_trees", "height", "window_size"),
    [(1, 3, 1, 7), (2, 5, 3, 3), (15, 25, 8, 250), (15, 4, 8, 40), (3, 1, 10, 100), (40, 6, 5, 1), (4, 2, 6, 1000)],
)
@pytest.mark.parametrize("seed", [1, 42])
def test_trees_and_scores_equal_rivers(n_features: int, n_trees: int, height: int, window_size: int, seed: int) -> None:
    trees = grow(n_features, n_trees, height, seed)
    rng = np.random.default_rng(seed)
    n = 620
    rows = rng.normal(0.5, 0.3, (n, n_features))  # a tenth lies outside [0, 1]
    rows[:, 0] = rng.choice(trees.thresholds[n_trees:], n)  # ties with thresholds
    rows[::50] = rng.choice([-1e300, 1e300, 0.0, 1.0, 0.5], (len(rows[::50]), n_features))
    forest = river_forest(trees, window_size, seed)
    expected = by_river(forest, rows)
    scores, masses = score_and_learn(Masses.empty(n_trees, height, window_size), leaves(trees, rows))

    assert [cuts(trees, tree) for tree in range(n_trees)] == [river_cuts(each, height) for each in forest.trees]
    assert scores.tolist() == expected
    assert np.unique(scores).size > 3 or window_size == 1000
    assert masses.counter == forest.counter
    for tree, root in enumerate(forest.trees):
        river_leaves = list(root.iter_leaves())
        assert masses.latest[tree].tolist() == [leaf.l_mass for leaf in river_leaves]
        reference = np.zeros(2**height, np.int64) if masses.reference is None else masses.reference[tree]
        assert reference.tolist() == [leaf.r_mass for leaf in river_leaves]


def test_before_the_first_window_is_full_every_score_is_0() -> None:
    rows = np.random.default_rng(0).random((260, 2))
    scores, _ = score_and_learn(Masses.empty(), leaves(grow(2), rows))

    assert not scores[:250].any()
    assert scores[250:].all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 120),
    n_cuts=st.integers(0, 6),
    window_size=st.integers(1, 50),
    data=st.data(),
)
def test_it_does_not_matter_how_the_rows_were_cut_into_batches(
    seed: int, n: int, n_cuts: int, window_size: int, data: st.DataObject
) -> None:
    trees = grow(3, 4, 4)
    rows = np.random.default_rng(seed).random((n, 3))
    whole, after_whole = score_and_learn(Masses.empty(4, 4, window_size), leaves(trees, rows))
    places = sorted(data.draw(st.integers(0, n)) for _ in range(n_cuts))
    masses, pieces = Masses.empty(4, 4, window_size), []
    for start, stop in zip([0, *places], [*places, n], strict=True):
        scores, masses = score_and_learn(masses, leaves(trees, rows[start:stop]))
        pieces += scores.tolist()
        # A snapshot holds no path scores: they are worked out anew.
        masses = Masses.restored(masses.reference, masses.latest, masses.counter, masses.window_size)

    assert pieces == whole.tolist()
    assert masses.counter == after_whole.counter == n % window_size
    assert (masses.latest == after_whole.latest).all()
    assert (masses.reference is None) == (after_whole.reference is None) == (n < window_size)
    assert (masses.path_scores == after_whole.path_scores).all()


def test_a_step_leaves_its_input_as_it_was() -> None:
    trees, rng = grow(3, 4, 4), np.random.default_rng(1)
    _, masses = score_and_learn(Masses.empty(4, 4, 20), leaves(trees, rng.random((30, 3))))
    assert masses.reference is not None
    before = masses.reference.copy(), masses.latest.copy(), masses.path_scores.copy()
    found = leaves(trees, rng.random((55, 3)))
    once, _ = score_and_learn(masses, found)
    twice, _ = score_and_learn(masses, found)

    assert once.tolist() == twice.tolist()
    for held, now in zip(before, (masses.reference, masses.latest, masses.path_scores), strict=True):
        assert np.array_equal(np.asarray(held), np.asarray(now))


def test_leaves_do_not_depend_on_memory_layout_or_on_blocks() -> None:
    rows = np.random.default_rng(2).random((2500, 5))
    trees = grow(5)
    found = leaves(trees, rows)

    assert found.shape == (2500, 25)
    assert (leaves(trees, np.asfortranarray(rows)) == found).all()
    assert (np.concatenate([leaves(trees, rows[:1]), leaves(trees, rows[1:])]) == found).all()
    assert ((found >> 8) == np.arange(25)).all()


def test_trees_are_shared_and_read_only() -> None:
    assert grow(7) is grow(7)
    with pytest.raises(ValueError, match="read-only"):
        grow(7).thresholds[0] = 1.0


def test_an_outlier_scores_higher_than_nearly_all_of_its_neighbours() -> None:
    rows = np.random.default_rng(3).normal(0.5, 0.03, (1001, 6)).clip(0, 1)
    rows[-1] = 0.9
    scores, _ = score_and_learn(Masses.empty(), leaves(grow(6), rows))

    assert scores[-1] > np.quantile(scores[250:-1], 0.999)


@pytest.mark.parametrize(("window_size", "height"), [(255, 8), (256, 8), (257, 8), (258, 8), (30, 2), (3, 16), (1, 16)])
def test_short_integers_hold_the_most_that_a_window_can_bring(window_size: int, height: int) -> None:
    """All rows in one leaf, so that every node of their path holds them all: the lowest score there is, 0."""
    found = np.full((2 * window_size + 1, 2), 2**height - 1)
    found[:, 1] += 2**height
    scores, masses = score_and_learn(Masses.empty(2, height, window_size), found)

    assert masses.reference is not None
    assert masses.reference[:, -1].tolist() == [window_size] * 2
    assert not scores.any()


def damage(kind: str, masses: Masses) -> Masses:
    assert masses.reference is not None
    reference, latest, counter = masses.reference.copy(), masses.latest.copy(), masses.counter
    if kind == "counter":
        counter += 1
    elif kind == "counter at the window's size":
        counter = masses.window_size
    elif kind == "negative":
        latest = latest.astype(np.int16)  # as a snapshot of the first format may hold them
        latest[0, :2] += [-100, 100]
    elif kind == "one tree":
        reference[2, 3] += 1
    else:
        reference = reference[:3]
    return Masses.restored(reference, latest, counter, masses.window_size)


@pytest.mark.parametrize("kind", ["counter", "counter at the window's size", "negative", "one tree", "shape"])
def test_masses_that_no_stream_leads_to_are_refused(kind: str) -> None:
    rows = np.random.default_rng(4).random((30, 3))
    _, masses = score_and_learn(Masses.empty(4, 4, 20), leaves(grow(3, 4, 4), rows))
    with pytest.raises(DamagedState, match="half-space trees"):
        damage(kind, masses)
