#!/bin/sh
# implicit 0.7.2: K neighbours of an item are K - 1 others and the item itself.
#
# Behaviour: CosineRecommender(K=k), BM25Recommender(K=k) and TFIDFRecommender(K=k) keep k entries a row, and one of them
# is the item itself.  K=1 keeps nothing of any other item.
# Seen: 6 items that all go together, K=3: each row holds the item and two others; K=1: the item alone.
# A comparison "with 50 neighbours" gives implicit K=51.
# Needs Python 3.11.  Exit status 1 if the behaviour is another.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" -q install implicit==0.7.2 numpy==1.26.4 scipy==1.11.4
OPENBLAS_NUM_THREADS=1 "$folder/env/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import scipy.sparse as sp
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

rng = np.random.default_rng(0)
had = sp.csr_matrix((rng.random((40, 6)) < 0.7).astype(np.float32))
for kind in (CosineRecommender, BM25Recommender, TFIDFRecommender):
    for k in (3, 1):
        model = kind(K=k)
        model.fit(had, show_progress=False)
        rows = model.similarity.toarray()
        others = (rows > 0).sum(axis=1) - (rows.diagonal() > 0)
        print(kind.__name__, "K =", k, " others kept:", others.tolist())
        assert others.tolist() == [k - 1] * 6 and (rows.diagonal() > 0).all(), "the behaviour has changed"
PYTHON
