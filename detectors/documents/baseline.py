"""The baseline profile: what a model version's signals looked like in training, as bins, counts and bounds.

A profile holds no raw rows. Its bins are fixed once, so every window of every worker is counted over the same bins and
counts can be added. Bin i of a numeric signal holds ``edges[i-1] <= x < edges[i]``; the first and the last are open.
"""

import hashlib
from math import isfinite
from typing import Literal

import msgspec
import orjson

from driftline.detectors.documents import outlier_profile
from driftline.detectors.documents.bloom_filter import is_level_set
from driftline.detectors.documents.outlier_profile import OutlierProfile
from driftline.detectors.errors import BUILD_BASELINE, OperatorError, UnknownFormat

FORMAT = "driftline.baseline/2"
N_TAILS, N_FEW = 10, 8
N_STREAMS = 2
LARGEST = 1e150
"""Largest magnitude of a value that a profile can hold: the squares of larger ones are infinite."""
MOST_ROWS = 2**53
PREDICTION = "prediction"
"""Name of the signal that holds the model's output."""


class NumericSignal(msgspec.Struct, tag="numeric", frozen=True, kw_only=True, omit_defaults=True):
    """Profile of one numeric signal.

    Parameters
    ----------
    edges
        k ascending edges of k + 1 bins.
    counts
        Baseline rows per bin, k + 1 integers.
    missing, nonfinite
        Baseline rows without a value, and with NaN or an infinity.
    low, high
        Bounds outside which a value is counted as out of range.
    least, most
        Bounds that hardly one value in ten million lies beyond, so that a single one is told at once; values between
        them and ``low`` or ``high`` are told where they are too many for chance. Infinite bounds are left out.
    mean, sd
        Of the finite values; reported, and the unit of the Wasserstein distance. Never compared with a threshold.
    tails
        Smallest and largest finite value and the quantiles between them and the outer edges, ascending, at the shares
        of ``normal_scores.TAIL_SHARES``. With the edges they turn a value into the normal score that ADWIN is fed.
    fed
        Mean and standard deviation of what the baseline's rows would feed the ADWIN of level, then that of spread; empty
        where one value, or none, has most of the rows: changes of a rare event's rate are left to the windows.
    text
        Baseline rows whose value was text that holds a number. Such text is read as that number in live records too.
    markers
        Texts that stand for a missing value.
    sensitive
        Whether values are never shown: all numbers here are coarse then, and none of them is a value of the column.
    """

    edges: list[float]
    counts: list[int]
    missing: int
    nonfinite: int
    low: float
    high: float
    mean: float
    sd: float
    tails: list[float]
    least: float | None = None
    most: float | None = None
    fed: list[tuple[float, float]] = []
    text: int = 0
    markers: tuple[str, ...] = ()
    sensitive: bool = False


class CategoricalSignal(msgspec.Struct, tag="categorical", frozen=True, kw_only=True, omit_defaults=True):
    """Profile of one categorical signal.

    Parameters
    ----------
    levels
        The L levels that have a cell of their own, in the order of their names: the order in which tests pool them must
        not know their counts.
    counts
        Baseline rows per level, L integers. Where the column has more levels than a profile keeps, L of them are chosen
        on one half of the rows and counted on the other, so that they are a fair sample.
    other
        Counted rows of the further levels; zero where all levels are kept.
    missing
        Baseline rows without a value.
    few
        How many levels exactly one baseline row has, how many exactly two, and so on up to eight: by them Good and Turing
        estimate the share of levels yet unseen, and how their records clump.
    further
        The further levels as a set of hashes (``further_levels``); empty where all levels are kept.
    closed
        Whether every level was seen at least twice. By the Good-Turing estimate the chance of a new level is then 0,
        so a single new level is worth an event; otherwise only their share in a window is judged.
    boolean
        Whether the values are booleans: then 0, 1, "True" and the like are read as the levels "false" and "true".
    markers
        Texts that stand for a missing value.
    sensitive
        Whether values are never shown: ``levels`` are keyed hashes then, and so is what ``further`` holds.
    """

    levels: list[str]
    counts: list[int]
    other: int = 0
    missing: int
    few: list[int]
    further: str = ""
    closed: bool
    boolean: bool = False
    markers: tuple[str, ...] = ()
    sensitive: bool = False


Signal = NumericSignal | CategoricalSignal


class Baseline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model version's baseline profile, the document on topic ``baselines``.

    Parameters
    ----------
    format
        Of this document.
    model, version
        Whose baseline it is.
    n
        Baseline rows.
    signals
        Profile per signal; the prediction is the signal of that name.
    outliers
        Profile of the half-space trees; absent where no feature is numeric.
    effective_from_ms
        Windows that start at or after this are binned and judged by this baseline.
    hash
        First 16 hexadecimal digits of the SHA-256 of everything but ``hash`` and ``effective_from_ms``.
    """

    format: Literal["driftline.baseline/2"] = msgspec.field(default="driftline.baseline/2")
    model: str
    version: str
    n: int
    hash: str = ""
    effective_from_ms: int = 0
    signals: dict[str, Signal]
    outliers: OutlierProfile | None = None

    def to_json(self) -> bytes:
        """The document, with ``format`` always present.

        Signals keep their order: features that a logger gives by position are named by it, and a window's cells follow
        it, so it is part of what the hash is of.
        """
        document = msgspec.to_builtins(self)
        return orjson.dumps({"format": FORMAT, "effective_from_ms": self.effective_from_ms} | document)

    @classmethod
    def from_json(cls, raw: bytes) -> "Baseline":
        """Read a document and check it whole.

        Raises
        ------
        UnknownFormat
            For a format that this version does not know.
        OperatorError
            For a document that does not fit the format; the message names the place.
        """
        try:
            found = msgspec.json.decode(raw, type=_Envelope).format
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise OperatorError(f"not a baseline profile: {error}; make one with {BUILD_BASELINE}") from error
        if found != FORMAT:
            raise UnknownFormat(
                f"baseline format {found!r} is not {FORMAT!r}: rebuild it with {BUILD_BASELINE}, or upgrade driftline"
            )
        try:
            baseline = msgspec.json.decode(raw, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise OperatorError(f"baseline profile: {error}") from error
        return baseline.checked()

    def checked(self) -> "Baseline":
        """This baseline, if every window can be counted and judged by it and its hash is its content's."""
        if not self.signals:
            raise OperatorError(f"baseline {self.model}|{self.version}: signals: there must be at least one")
        if not 0 < self.n <= MOST_ROWS or abs(self.effective_from_ms) > MOST_ROWS:
            raise OperatorError(f"n = {self.n}, effective_from_ms = {self.effective_from_ms}: beyond 1 to 2**53")
        for name, signal in self.signals.items():
            _check_signal(name, signal, self.n)
        if self.outliers is not None:
            numeric = {name for name, signal in self.signals.items() if isinstance(signal, NumericSignal)}
            outlier_profile.check(self.outliers, numeric, self.n)
        if self.hash != (expected := content_hash(self)):
            raise OperatorError(
                f"baseline {self.model}|{self.version}: hash is {self.hash!r} but the content's is {expected!r}; "
                f"rebuild it with {BUILD_BASELINE}, and override thresholds in the plan, not here"
            )
        return self

    def sealed(self) -> "Baseline":
        """This baseline as it will be read back, with the hash of its content."""
        as_read = msgspec.json.decode(self.to_json(), type=Baseline)  # 0 becomes 0.0 where the field is a float
        return msgspec.structs.replace(as_read, hash=content_hash(as_read))


class _Envelope(msgspec.Struct):
    format: str


def content_hash(baseline: Baseline) -> str:
    """Hash of what the baseline says, whatever its hash field and its effective time are."""
    content = msgspec.structs.replace(baseline, hash="", effective_from_ms=0)
    return hashlib.sha256(content.to_json()).hexdigest()[:16]


def _check_signal(name: str, signal: Signal, rows: int) -> None:
    """Refuse what would make counting impossible."""
    others: tuple[int, ...]
    if isinstance(signal, NumericSignal):
        bins, others = len(signal.edges) + 1, (signal.missing, signal.nonfinite, signal.text)
    else:
        bins, others = len(signal.levels), (signal.other, signal.missing, *signal.few)
    if len(signal.counts) != bins:
        raise OperatorError(f"signals.{name}.counts: {len(signal.counts)} counts for {bins} bins")
    if min([*signal.counts, *others]) < 0:
        raise OperatorError(f"signals.{name}.counts: negative")
    if max([*signal.counts, *others]) > rows:
        raise OperatorError(f"signals.{name}.counts: more than the {rows} rows of the baseline")
    if isinstance(signal, NumericSignal):
        _check_numbers(name, signal)
    else:
        _check_levels(name, signal)


def _check_numbers(name: str, signal: NumericSignal) -> None:
    if sorted(set(signal.edges)) != signal.edges:
        raise OperatorError(f"signals.{name}: edges must ascend")
    if sorted(signal.tails) != signal.tails or len(signal.tails) != N_TAILS:
        raise OperatorError(f"signals.{name}.tails: must be {N_TAILS} ascending values")
    moments = [each for pair in signal.fed for each in pair]
    if not all(abs(each) <= LARGEST for each in (*signal.edges, *signal.tails, signal.mean, signal.sd, *moments)):
        raise OperatorError(f"signals.{name}: edges, tails, moments must be finite, and at most {LARGEST:g}")
    if len(signal.fed) not in (0, N_STREAMS):
        raise OperatorError(f"signals.{name}.fed: must be empty, or moments of {N_STREAMS} streams")
    if signal.sd < 0 or any(spread < 0 for _, spread in signal.fed):
        raise OperatorError(f"signals.{name}.sd: negative")
    bounds = [each for each in (signal.least, signal.low, signal.high, signal.most) if each is not None]
    if not all(map(isfinite, bounds)) or sorted(bounds) != bounds:
        raise OperatorError(f"signals.{name}.low: bounds must be finite and ascend: least, low, high, most")


def _check_levels(name: str, signal: CategoricalSignal) -> None:
    if sorted(set(signal.levels)) != signal.levels:
        raise OperatorError(f"signals.{name}: levels must ascend, and differ")
    if not is_level_set(signal.further):
        raise OperatorError(f"signals.{name}.further: no set of hashes")
    if len(signal.few) != N_FEW:
        raise OperatorError(f"signals.{name}.few: must be {N_FEW} counts")
