"""Grids of settings that validation tries, source by source; the first trial of each is what is configured.

Owns: the grids of the run, and of the wide search of `recsys-spark tune`.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

from recsys_spark.config.choices import Settings
from recsys_spark.warehouse.tables import ITEM_CATEGORIES, ITEM_LISTS


class Stage(NamedTuple):
    """Settings that are laid over each of the `n_best` best settings so far.

    follows: the stage is tried only where the one before found more.
    """

    settings: Sequence[Settings]
    n_best: int = 1
    follows: bool = False


class Grid(NamedTuple):
    """first: by source the settings that are all tried.  then: by source the stages that follow.

    kinds: by source the setting whose values are kinds of it: the best of each is judged beside the other sources.
    """

    first: Mapping[str, Sequence[Settings]]
    then: Mapping[str, Sequence[Stage]]
    kinds: Mapping[str, str] = MappingProxyType({})


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


def _ridge(ridge: float, n: int) -> Settings:
    return _near("ridge", 0.8, 0.2, 0.8, 0.0, 1, n) | {"item_cf.ridge": ridge}


def _als(alpha: float, regularization: float, unobserved: float, nu: float = 1.0) -> Settings:
    ridge = {"als.alpha": alpha, "als.regularization": regularization, "als.unobserved": unobserved, "als.nu": nu}
    return {"als.factors": 64, **ridge}


def _low_pass(exponent: float) -> Settings:
    return {"sources.low_pass.rank": 128, "sources.low_pass.popularity_exponent": exponent}


_FIRST: Mapping[str, Sequence[Settings]] = {
    "item_cf": (
        _near("jaccard", 0.8, 0.2, 0.8, 10.0, 1, 200),
        _near("cosine", 0.8, 0.2, 0.8, 10.0, 1, 200),
        _near("rp3beta", 0.5, 0.25, 0.5, 0.0, 1, 200),
        _near("rp3beta", 0.5, 0.25, 1.0, 0.0, 1, 200),
        _near("rp3beta", 0.5, 0.5, 0.5, 0.0, 1, 200),
        _ridge(50.0, 200),
    ),
    "als": (
        _als(2.0, 0.006, 1.0),
        _als(10.0, 0.006, 1.0),
        _als(50.0, 0.006, 1.0),
        _als(10.0, 0.05, 0.0),
        _als(50.0, 0.05, 0.0),
        _als(10.0, 0.2, 0.0),
        _als(200.0, 0.05, 0.0),
        _als(50.0, 2.0, 0.0, 0.5),
    ),
    "low_pass": (_low_pass(0.25), _low_pass(0.5), _low_pass(0.0)),
    "content": (),
    "successors": tuple(
        {"sources.successors.window": window, "sources.successors.beta": beta}
        for window, beta in ((3, 0.25), (10, 0.5))
    ),
}

_N_BEST = 3  # longer factors need another ridge: the best with 64 were the fourth with 256 on one log of five

ATTRIBUTES = [*ITEM_CATEGORIES, *ITEM_LISTS]  # attributes of items that may enter the factors

_AGES = (0.0, 180.0)  # half-lives in days that are tried beside that of the fallback

_THEN: Mapping[str, Sequence[Stage]] = {
    "item_cf": (
        Stage([{"sources.item_cf.half_life_days": days} for days in _AGES]),
        Stage([{"item_cf.num_neighbors": 500}]),
    ),
    "als": (
        Stage([{"als.half_life_days": days} for days in _AGES]),
        Stage([{"als.item_attributes": ATTRIBUTES}]),
        Stage([{"als.factors": 256}], n_best=_N_BEST),
        Stage([{"als.factors": 512}], follows=True),
        Stage([{"als.factors": 1024}], follows=True),
    ),
    "low_pass": (
        Stage([{"sources.low_pass.half_life_days": days} for days in _AGES]),
        Stage([{"sources.low_pass.rank": rank} for rank in (64, 256, 512)]),
    ),
}

_KINDS = {"item_cf": "item_cf.similarity"}

USUAL = Grid(_FIRST, _THEN, _KINDS)

_WIDE_RP3BETA = product((0.4, 0.6, 0.8), (0.1, 0.25, 0.5, 0.7), (0.25, 0.5, 1.0))
_WIDE_NEAR = (
    *(
        _near(name, 0.8, 0.2, 0.8, shrinkage, least, 200)
        for name, shrinkage, least in product(("jaccard", "cosine"), (1.0, 10.0, 100.0), (1, 2))
    ),
    *(_near("conditional", 0.8, beta, 0.8, 10.0, 1, 200) for beta in (0.25, 0.5)),
    *(_near("rp3beta", alpha, beta, gamma, 0.0, 1, 200) for alpha, beta, gamma in _WIDE_RP3BETA),
    *(_ridge(ridge, 200) for ridge in (20.0, 50.0, 100.0)),
)

WIDE = Grid(
    first={
        "item_cf": _WIDE_NEAR,
        "als": (
            *(_als(alpha, ridge, 1.0) for alpha, ridge in product((1.0, 5.0, 20.0, 50.0, 200.0), (0.001, 0.006, 0.03))),
            *(_als(alpha, ridge, 0.0) for alpha, ridge in product((1.0, 5.0, 20.0, 50.0, 200.0), (0.02, 0.1, 0.5))),
        ),
        "low_pass": tuple(_low_pass(exponent) for exponent in (0.0, 0.1, 0.25, 0.4, 0.5)),
        "content": (),
        "successors": tuple(
            {"sources.successors.window": window, "sources.successors.beta": beta}
            for window, beta in product((1, 3, 10, 20), (0.0, 0.25, 0.5, 0.75))
        ),
    },
    then={
        "item_cf": (
            Stage([{"sources.item_cf.half_life_days": days} for days in (0.0, 7.0, 90.0, 365.0)]),
            Stage([{"item_cf.num_neighbors": n} for n in (50, 100, 500, 1000)]),
        ),
        "als": (
            Stage([{"als.half_life_days": days} for days in (0.0, 7.0, 90.0, 365.0)]),
            Stage([{"als.item_attributes": ATTRIBUTES}]),
            Stage([{"als.factors": n} for n in (32, 128, 256)], n_best=_N_BEST),
            Stage([{"als.factors": 512}], n_best=_N_BEST),
            Stage([{"als.factors": 1024}], follows=True),
        ),
        "low_pass": (
            Stage([{"sources.low_pass.half_life_days": days} for days in (0.0, 7.0, 90.0, 365.0)]),
            Stage([{"sources.low_pass.rank": rank} for rank in (32, 64, 256, 512, 1024)]),
        ),
    },
    kinds=_KINDS,
)
