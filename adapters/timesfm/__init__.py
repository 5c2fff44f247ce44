"""TimesFM: decoders over patches of 32 observations, by Google Research.

`TimesFM25` runs on `network.py`, or on the `timesfm` package; `TimesFM20` on transformers.
"""

from adapters.timesfm.timesfm20 import TimesFM20
from adapters.timesfm.timesfm25 import TimesFM25

__all__ = ["TimesFM20", "TimesFM25"]
