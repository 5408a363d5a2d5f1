"""What a half-iteration over a matrix in blocks is made of, whatever it solves.

Owns: these words.  `kernels.als` and `kernels.low_pass` say them of their own; `adapters.als_exchange` brings the rows.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from recsys_spark.kernels.csr import Csr


class Answer(NamedTuple):
    """Vectors of a block's rows, float32 (n, f), and sums over them: of losses, penalties and confidences."""

    vectors: np.ndarray
    loss: float
    penalty: float
    confidence: float


class Solver(Protocol):
    """How vectors of rows come from those of the side that is held fixed; sent to every task."""

    def space(self, gram: np.ndarray, n_cols: int) -> Any:
        """What a task must know of the whole fixed side; gram: its Gramian (f, f).  On the driver."""

    def fixed(self, rows: np.ndarray, space: Any) -> Any:
        """Rows of the fixed side, float32 (n, f), made ready."""

    def solve(self, weights: Csr, fixed: Any) -> Answer:
        """The rows of `weights`, (n, rows of `fixed`)."""
