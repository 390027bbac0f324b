"""What a baseline's rows would feed the ADWINs: mean and standard deviation of each of their streams."""

import msgspec
import numpy as np

from driftline.detectors.arrays import F64
from driftline.detectors.documents.baseline import NumericSignal
from driftline.detectors.layout.lookup_tables import Segments
from driftline.detectors.online.adwin_streams import STREAMS

MOST_OF = 0.5
"""Share of rows with one value, or with none, above which a signal is not fed."""


def with_fed(signal: NumericSignal, values: F64) -> NumericSignal:
    """Complete the profile of a column with the moments of what it feeds, where it is fed at all.

    A column in which one value, or none, has most of the rows is not: its scores are those of a rare event, of which
    the few in ADWIN's smallest cuts look like a change once in a million records or so.
    """
    finite = np.isfinite(values)
    _, repeats = np.unique(values[finite], return_counts=True)
    if max(repeats.max(initial=0), np.count_nonzero(~finite)) > MOST_OF * values.size or repeats.size < 2:
        return signal
    [scores] = Segments.of([signal], np.zeros(1, np.int64)).scores(np.where(finite, values, 0.0)[None])
    seen = [stream(scores, finite) for stream in STREAMS.values()]
    fed = [(round(float(each.mean()), 3), round(float(each.std()), 3)) for each in seen]
    return msgspec.structs.replace(signal, fed=fed)
