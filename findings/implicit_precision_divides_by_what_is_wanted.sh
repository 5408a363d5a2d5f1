#!/bin/sh
# implicit 0.7.2: ranking_metrics_at_k(...)["precision"] is not precision@K.
#
# Behaviour: hits of all users are divided by the sum over users of min(K, number of wanted items).  One hit among four
# places counts 1 where the user wanted one item, though precision@4 is .25; and it is one quotient of two sums, so
# that a user who wanted four items weighs four times as much as one who wanted one.
# Seen: one user, one wanted item, one hit in four places: precision 1.0 (precision@4 is 0.25, recall@4 is 1.0);
# beside a second user with four wanted items and no hit: 0.2 (the mean of recall@4 over users is 0.5).
# Compare figures of implicit with those of others only after computing both by one formula from the lists themselves.
# Needs Python 3.11.  Exit status 1 if the behaviour is another.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" -q install implicit==0.7.2 numpy==1.26.4 scipy==1.11.4
OPENBLAS_NUM_THREADS=1 "$folder/env/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import scipy.sparse as sp
from implicit.evaluation import ranking_metrics_at_k
from implicit.nearest_neighbours import CosineRecommender

had = sp.csr_matrix(np.array([[1, 0, 0, 0, 0, 0, 0, 0, 0],
                              [1, 1, 1, 0, 0, 0, 0, 0, 0],
                              [1, 0, 0, 1, 1, 0, 0, 0, 0],
                              [0, 0, 0, 0, 0, 1, 1, 1, 1]], np.float32))
model = CosineRecommender(K=10)
model.fit(had, show_progress=False)
listed, _ = model.recommend(0, had[0], N=4)

def precision(wanted):
    rows, items = zip(*wanted)
    held_out = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, items)), shape=had.shape)
    return round(float(ranking_metrics_at_k(model, had, held_out, K=4, show_progress=False)["precision"]), 6)

alone = precision([(0, listed[0])])
both = precision([(0, listed[0]), *((1, item) for item in (5, 6, 7, 8))])
print("one user:", alone, " two users:", both)
assert (alone, both) == (1.0, 0.2), "the behaviour has changed"
PYTHON
