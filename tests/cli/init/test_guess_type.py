"""Names of actions are understood by their words, in any spelling, and what is not understood is said."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.cli.init.guess_type import guess_type, type_name, value_kind_of


@pytest.mark.parametrize(
    ("raw", "role", "weight"),
    [
        *(
            (raw, "engage", 1.0)
            for raw in ("view", "VIEW", "click", "pv", "pageView", "product-detail", "play", "rate")
        ),
        *(
            (raw, "engage", 3.0)
            for raw in ("addtocart", "add_to_cart", "ADD TO BASKET", "fav", "like", "addToWishlist")
        ),
        *((raw, "engage", 5.0) for raw in ("purchase", "buy", "transaction", "Order", "completed_purchase")),
        *((raw, "engage", -5.0) for raw in ("return", "refund", "order_cancelled")),
        *((raw, "engage", -3.0) for raw in ("remove_from_cart", "removefromcart", "unlike")),
        *((raw, "impression", 0.0) for raw in ("impression", "show", "exposure", "view_item_list", "display")),
        *((raw, "dislike", 0.0) for raw in ("dislike", "hide", "not_interested", "notInterested", "thumbs_down")),
    ],
)
def test_guess_type_understands_common_names(raw: str, role: str, weight: float) -> None:
    guess = guess_type(raw, "")
    assert (guess.role, guess.weight, guess.known) == (role, weight, True)


@pytest.mark.parametrize("raw", ["login", "zzz", "3", "配送", "overlay"])
def test_guess_type_says_when_a_name_is_not_understood(raw: str) -> None:
    guess = guess_type(raw, "")
    assert (guess.weight, guess.known) == (1.0, False)


@pytest.mark.parametrize(
    ("raw", "kind", "transform"),
    [
        ("purchase", "quantity", "log"),
        ("return", "quantity", "log"),
        ("play", "duration", "log"),
        ("purchase", "duration", "none"),
        ("view", "quantity", "none"),
        ("purchase", "any", "log"),
        ("like", "any", "log"),
        ("hide", "any", "none"),
        ("purchase", "", "none"),
    ],
)
def test_guess_type_uses_the_value_where_it_suits_the_type(raw: str, kind: str, transform: str) -> None:
    assert guess_type(raw, kind).value_transform == transform  # type: ignore[arg-type]


def test_guess_type_scales_ratings_to_the_highest() -> None:
    guess = guess_type("rating", "rating", largest_value=5.0)
    assert (guess.value_transform, guess.weight) == ("cap", 1 / 5)


def test_guess_type_lets_a_return_take_back_what_a_purchase_gave() -> None:
    assert guess_type("return", "quantity").weight == -guess_type("purchase", "quantity").weight


@pytest.mark.parametrize(
    ("raw", "name"), [("AddToCart", "add_to_cart"), ("3", "type_3"), ("", "type"), ("a b-c", "a_b_c"), ("_x_", "x")]
)
def test_type_name_writes_snake_case(raw: str, name: str) -> None:
    assert type_name(raw) == name


@given(st.text(max_size=200))
def test_type_name_is_always_a_name_of_the_settings(raw: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,63}", type_name(raw))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("qty", "quantity"),
        ("watch_time", "duration"),
        ("overall", "rating"),
        ("value", "any"),
        ("PlayCount", "quantity"),
    ],
)
def test_value_kind_of_reads_the_name_of_the_column(name: str, kind: str) -> None:
    assert value_kind_of(name) == kind
