#!/bin/sh
# implicit 0.7.2: a list that was asked for without what the user has holds it all the same where too few items are left.
#
# Behaviour: recommend(..., N=n, filter_already_liked_items=True) always returns n items if there are n.  What is left
# over is filled with items that the user has: by ALS at a score of -3.4028235e+38 (the least float32), by item-item
# neighbours at a score of 0.0.
# Seen: a user with four of five items, N=4: items 4, 3, 2, 1; of these the user has 3, 2 and 1.
# Who stores such lists as they are shows users what they have; drop what was had, and not what has a low score.
# Needs Python 3.11.  Exit status 1 if the behaviour is another.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" -q install implicit==0.7.2 numpy==1.26.4 scipy==1.11.4
OPENBLAS_NUM_THREADS=1 "$folder/env/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import scipy.sparse as sp
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender

had = sp.csr_matrix(np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 1], [0, 1, 1, 1, 0], [1, 0, 0, 1, 1]], np.float32))
mine = set(had[0].indices.tolist())
least = float(np.finfo(np.float32).min)
for model, filled_at in ((AlternatingLeastSquares(factors=2, iterations=3, random_state=0), least), (CosineRecommender(K=5), 0.0)):
    model.fit(had, show_progress=False)
    items, scores = model.recommend(0, had[0], N=4, filter_already_liked_items=True)
    print(type(model).__name__, items.tolist(), scores.tolist())
    again = [float(score) for item, score in zip(items, scores) if item in mine]
    assert len(items) == 4 and again == [filled_at] * 3, "the behaviour has changed"
PYTHON
