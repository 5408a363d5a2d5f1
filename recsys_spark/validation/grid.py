"""The settings that validation tries, source by source; the first trial of each is what is configured.

Owns: the grids.  FIRST is tried whole; each stage of THEN is laid over the best so far.
"""

from collections.abc import Mapping, Sequence

from recsys_spark.choices import Settings


def _near(similarity: str, alpha: float, beta: float, gamma: float, shrinkage: float, least: int, n: int) -> Settings:
    return {
        "item_cf.similarity": similarity,
        "item_cf.alpha": alpha,
        "item_cf.beta": beta,
        "item_cf.gamma": gamma,
        "item_cf.shrinkage": shrinkage,
        "item_cf.min_co_occurrence": least,
        "item_cf.num_neighbors": n,
    }


def _als(alpha: float, regularization: float, unobserved: float) -> Settings:
    ridge = {"als.alpha": alpha, "als.regularization": regularization, "als.unobserved": unobserved}
    return {"als.factors": 64, **ridge}


def _low_pass(exponent: float) -> Settings:
    return {"sources.low_pass.rank": 128, "sources.low_pass.popularity_exponent": exponent}


FIRST: Mapping[str, Sequence[Settings]] = {
    "item_cf": (
        _near("jaccard", 0.8, 0.2, 0.8, 10.0, 1, 200),
        _near("cosine", 0.8, 0.2, 0.8, 10.0, 1, 200),
        _near("rp3beta", 0.5, 0.25, 0.5, 0.0, 1, 200),
        _near("rp3beta", 0.5, 0.25, 1.0, 0.0, 1, 200),
        _near("rp3beta", 0.5, 0.5, 0.5, 0.0, 1, 200),
    ),
    "als": (
        _als(2.0, 0.006, 1.0),
        _als(10.0, 0.006, 1.0),
        _als(50.0, 0.006, 1.0),
        _als(10.0, 0.05, 0.0),
        _als(50.0, 0.05, 0.0),
        _als(10.0, 0.2, 0.0),
        _als(200.0, 0.05, 0.0),
    ),
    "low_pass": (_low_pass(0.25), _low_pass(0.5), _low_pass(0.0)),
    "content": (),
    "successors": tuple(
        {"sources.successors.window": window, "sources.successors.beta": beta}
        for window, beta in ((3, 0.25), (10, 0.5))
    ),
}

_AGES = (0.0, 180.0)  # days, beside that of the fallback

THEN: Mapping[str, Sequence[Sequence[Settings]]] = {
    "item_cf": ([{"sources.item_cf.half_life_days": days} for days in _AGES], [{"item_cf.num_neighbors": 500}]),
    "als": ([{"als.half_life_days": days} for days in _AGES], [{"als.factors": n} for n in (128, 256)]),
    "low_pass": (
        [{"sources.low_pass.half_life_days": days} for days in _AGES],
        [{"sources.low_pass.rank": rank} for rank in (64, 256, 512)],
    ),
}
