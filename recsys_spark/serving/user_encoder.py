"""User encoder at request time: the embedding of a user who may not have been in the run, and exact nearest items.

Owns: what a service gives of a user, and the exact search; numpy alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_spark.errors import ArgumentError, ContractError
from recsys_spark.serving.answers import Scored
from recsys_spark.serving.item_factors import best_scored
from recsys_spark.two_tower.kernels.inputs import Encoded
from recsys_spark.two_tower.kernels.model_file import TowerModel, load_model
from recsys_spark.two_tower.kernels.towers import embed, pool_history
from recsys_spark.warehouse.blobs import read_blob
from recsys_spark.warehouse.location import Location


@dataclass(frozen=True)
class UserEncoder:
    """The model of a bundle with its items: ids and vectors, float32 (m, d), in the order of item_idx.

    shown: bool (m,), may stand in a list.  places: the row of every id.
    """

    model: TowerModel
    ids: tuple[str, ...]
    vectors: np.ndarray
    shown: np.ndarray
    places: Mapping[str, int]

    def encode(self, features: Mapping[str, Any], recent_items: Sequence[str]) -> np.ndarray:
        """The embedding of a user with these features and items (newest first), float32 (d,).

        features: by the names in [two_tower] user_features; what is missing is null, what the model does not take is
        ignored.  recent_items: those that the bundle does not know are ignored.
        Raises ArgumentError if a feature is of another type than the model takes.
        """
        rows = [self.places.get(item_id) for item_id in recent_items[: self.model.shape.history_items]]
        known = np.array([row for row in rows if row is not None], np.int64)
        pooled = pool_history(self.vectors, known, np.array([len(known)]), self.model.shape.half_life_items)
        vector: np.ndarray = embed(self.model.user, self._encoded(features), pooled, self.model.shape.normalize)[0]
        return vector

    def _encoded(self, features: Mapping[str, Any]) -> Encoded:
        names = [field.name for field in self.model.user_inputs.fields]
        faults = []
        columns = {}
        for name in names:
            try:
                columns[name] = pa.array([features.get(name)])
            except (ValueError, TypeError, NotImplementedError, OverflowError) as err:
                faults.append(f"{name}: expected a number, text, or a list, got {features[name]!r:.80} ({err})")
        if not faults:
            try:
                # A model without features of users has one row too.
                return self.model.user_inputs.encode(pa.table(columns | {"": pa.nulls(1)}))
            except ContractError as err:
                faults.append(str(err))
        raise ArgumentError(f"encode_user: {'; '.join(faults)}; give the features as `user_features` has them")

    def nearest(self, vector: np.ndarray, k: int, exclude: Iterable[str]) -> tuple[Scored, ...]:
        """The `k` items with the greatest product with `vector` that may be shown, ties by the smaller item_idx.

        exclude: ids of items that are left out.  Raises ArgumentError if the vector is not one of this model.
        """
        given = np.asarray(vector)
        if given.shape != (self.model.shape.dim,) or given.dtype.kind not in "fiu" or not np.isfinite(given).all():
            raise ArgumentError(
                f"nearest: expected a vector of {self.model.shape.dim} finite numbers, got {given.dtype} of shape "
                f"{given.shape}; take it from encode_user of this bundle"
            )
        listed = self.shown.copy()
        listed[[self.places[item_id] for item_id in exclude if item_id in self.places]] = False
        candidates = np.flatnonzero(listed)
        scores = (self.vectors @ given.astype(np.float32))[candidates]
        return best_scored(self.ids, candidates, scores, k)


def user_encoder(models: pa.Table, items: pa.Table, root: Location, run_id: str) -> UserEncoder:
    """The encoder of a bundle.  models: its `two_tower_models`.  items: item_id, item_idx, vector, shown, of all items.

    Raises ArgumentError if the run has trained no model, DamagedError if the model is not the one that was trained.
    """
    if not models.num_rows:
        raise ArgumentError(
            f"bundle {run_id}: expected a run that has trained a two-tower model, got none; put two_tower into "
            "[sources] enabled and run the date"
        )
    row = models.to_pylist()[0]
    model = load_model(read_blob(root, row["rel_path"], row["model_version"]))
    items = items.sort_by("item_idx").combine_chunks()
    ids = tuple(items["item_id"].to_pylist())
    vectors = items["vector"].combine_chunks().flatten().to_numpy()
    return UserEncoder(
        model,
        ids,
        vectors.reshape(len(ids), model.shape.dim),
        items["shown"].to_numpy(),
        {item_id: place for place, item_id in enumerate(ids)},
    )
