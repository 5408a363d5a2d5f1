"""TF-IDF of the text of items: their tokens, and how much each of them tells about an item.

Owns: what a token is, and its weight.

A title gives its words; every other field gives its values as they are, each with the field's name before it: the
brand `red` is `brand=red`, which no word can be.  Case, width and blanks do not tell two tokens apart (NFKC, casefold).
A word is `\\w+`: a text without blanks between its words is one, and the vowel signs of Indic scripts end one.

    weight = ln(1 + tf) * (ln((1 + n) / (1 + df)) + 1)

tf: how often the item has the token.  df: how many of the n items with any text have it.  The damped tf and the idf are
those of Manning, Raghavan, Schuetze 2008, sections 6.2.1 and 6.4.1; one more item that has every token, and the 1 that
keeps a token which all items have, are scikit-learn's (`smooth_idf`), so that every weight is above 0.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

TITLE = "title"  # the field that is cut into words

_WORD = re.compile(r"\w+")


def token_counts(values: Mapping[str, pa.ListArray]) -> pa.MapArray:
    """How often each row has which token, map<string, int>, empty for a row without text.

    values: by field, the row's texts (list<string>), null or blank: none.  A value that a field repeats counts once.
    """
    rows = zip(*(lists.to_pylist() for lists in values.values()), strict=True)
    counts = [
        [pair for field, texts in zip(values, row, strict=True) for pair in _counted(field, texts or ()).items()]
        for row in rows
    ]
    return pa.array(counts, pa.map_(pa.string(), pa.int32()))


def _counted(field: str, texts: Sequence[str | None]) -> Mapping[str, int]:
    folded = [unicodedata.normalize("NFKC", text).casefold() for text in texts if text is not None]
    if field == TITLE:
        return Counter(word for text in folded for word in _WORD.findall(text))
    return {f"{field}={value}": 1 for text in folded if (value := " ".join(text.split()))}


def tfidf_weights(tf: np.ndarray, df: np.ndarray, n_items: int) -> np.ndarray:
    """The weight of each pair of item and token, float32 (n,), above 0; the formula is in the docstring of the module.

    tf, df: int (n,), from 1; df at most n_items.
    """
    weights: np.ndarray = np.log1p(tf) * (np.log((1 + n_items) / (1 + df)) + 1)
    return weights.astype(np.float32)
