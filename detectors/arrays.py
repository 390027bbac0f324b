"""Array types of the package: ``I64`` holds counts, which add exactly, and ``F64`` real numbers."""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

Mask = npt.NDArray[np.bool_]
"""One truth a row."""
