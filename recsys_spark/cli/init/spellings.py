"""Synonyms of column names: how logs call user, item, time, type and value, and the checks of such columns' values.

Owns: the spellings, as data, and the checks beside them.  Only generic words stand here: a data set is never recognised
by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from recsys_spark.cli.init.column_profile import Profile
from recsys_spark.cli.init.guess_time import guess_time

Feed = Literal["events", "items", "users"]

# To tell that a column holds times at all; their format is then guessed from all of the sample.
_TIMES_TRIED = 50
_LAST_DAY = date(2100, 1, 1)


@dataclass(frozen=True)
class ColumnRule:
    """How a column is told.

    spellings: whole names with the separators taken out, best first.  things: words that together with a word such as
    `id` or `time` make a name of this column.
    """

    spellings: tuple[str, ...]
    check: Callable[[Profile], bool]
    things: frozenset[str] = frozenset()
    marks: frozenset[str] = frozenset()


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ID_WORDS = _words("id ids no nr num number key code hash uuid guid pk ref token")
_USER_WORDS = _words(
    "user users usr customer cust client visitor member account subscriber viewer reader listener "
    "shopper buyer consumer person profile player reviewer household guest passenger patient student "
    "learner device cookie u"
)
_ITEM_WORDS = _words(
    "item items product prod article sku movie film show series episode anime song track book video "
    "clip news story content offer listing material stock goods game business restaurant recipe hotel "
    "property post photo image page course job ad creative app package part asset artist album "
    "podcast station beer wine joke place venue poi location entity object variant style doc document "
    "i"
)
_TIME_WORDS = _words("time timestamp ts datetime date at when epoch unix day utc tms")

# What happens at a time; the time of a birth or of an expiry is not when an event happened.
_TIMED_WORDS = _words(
    "event server client unix review log view click play listen watch occurred received visit session "
    "start order invoice purchase transaction payment rating action request"
)


def _is_id(profile: Profile) -> bool:
    return profile.is_id


def is_time(profile: Profile) -> bool:
    """Whether the values are times in any known form."""
    return guess_time(profile.values[:_TIMES_TRIED], frozenset(), _LAST_DAY) is not None


def _is_number(profile: Profile) -> bool:
    return bool(profile.numbers)


def _is_kind(profile: Profile) -> bool:
    return profile.is_kind


def _is_event_id(profile: Profile) -> bool:
    # It identifies a line: if a value came twice, an event would be lost.
    return profile.is_id and profile.is_unique and len(profile.values) == profile.n_rows


def _is_position(profile: Profile) -> bool:
    # Ours are from 1: a position 0 would be refused.
    return bool(profile.numbers) and all(number >= 1 and number == int(number) for number in profile.numbers)


def _is_place(profile: Profile) -> bool:
    return bool(profile.numbers) and all(0 <= number < 2**31 and number == int(number) for number in profile.numbers)


def _is_probability(profile: Profile) -> bool:
    return bool(profile.numbers) and all(0 <= number <= 1 for number in profile.numbers)


def _is_text(profile: Profile) -> bool:
    return bool(profile.values) and all(isinstance(value, str) for value in profile.values)


def _is_one_text(profile: Profile) -> bool:
    # Several in one value, as in `Action|Comedy`, are tags.
    return _is_text(profile) and not any("|" in text for text in profile.texts)


def _is_list_or_text(profile: Profile) -> bool:
    return bool(profile.values) and all(isinstance(value, str | list) for value in profile.values)


# In a log without times: the column that orders a user's events.
ORDER = ColumnRule(_names("position pos order seq sequence sequenceno step index idx place rank turn n"), _is_place)

_USER = ColumnRule(
    _names(
        "userid customerid visitorid clientid memberid accountid user customer visitor uid userno "
        "customerno msno cid custid usercode customercode fullvisitorid userpseudoid anonymousid deviceid "
        "cookieid"
    ),
    _is_id,
    _USER_WORDS,
    _ID_WORDS,
)
_ITEM = ColumnRule(
    _names(
        "itemid productid articleid sku skuid asin parentasin movieid songid trackid bookid videoid "
        "newsid contentid item product article movie song track book video iid pid stockcode productcode "
        "itemcode isbn isbn13 ean upc gtin titleid goodsid objectid entityid"
    ),
    _is_id,
    _ITEM_WORDS,
    _ID_WORDS,
)
_CREATED = ColumnRule(
    _names(
        "createdat created creationdate createdtime releasedate releasedat publishedat publishdate "
        "publicationdate published launchdate launchedat dateadded addedat firstseen listedat signupdate "
        "signupat registeredat registrationdate registered joinedat joindate joined membersince "
        "accountcreated"
    ),
    is_time,
)
_VALID_FROM = ColumnRule(
    _names("validfrom asof asofdate snapshotdate snapshotat updatedat lastupdated modifiedat lastmodified"),
    is_time,
)

# In the order in which columns are assigned: a column has one meaning.
RULES: dict[Feed, dict[str, ColumnRule]] = {
    "events": {
        "user_id": _USER,
        "item_id": _ITEM,
        "event_time": ColumnRule(
            _names(
                "eventtime eventtimestamp timestamp ts time datetime eventts eventdate occurredat happenedat "
                "loggedat date createdat unixtime servertime servertimestamp clienttime receivedat sentat"
            ),
            is_time,
            _TIMED_WORDS | _TIME_WORDS,
            _TIME_WORDS,
        ),
        "event_type": ColumnRule(
            _names(
                "eventtype event eventname action actiontype activity activitytype behavior behaviour "
                "behaviortype behaviourtype interactiontype interaction feedbacktype feedback engagement "
                "engagementtype verb type linetype transactiontype kind op"
            ),
            _is_kind,
        ),
        "event_id": ColumnRule(
            _names("eventid eventuuid messageid insertid hitid logid recordid uuid guid reviewid id"),
            _is_event_id,
        ),
        "value": ColumnRule(
            _names(
                "rating stars overall score value eventvalue quantity qty count units pieces numitems plays "
                "playcount listencount dwelltime dwell dwelltimems dwellseconds duration durationms watchtime "
                "watchseconds playtime msplayed secondsplayed playduration watchratio completion progress amount "
                "hours hoursplayed"
            ),
            _is_number,
        ),
        "session_id": ColumnRule(
            _names(
                "sessionid session sid visitid basketid basket orderid invoice invoiceno invoiceid transactionid "
                "cartid receiptid ticketid orderno ordernumber usersession visitnumber"
            ),
            _is_id,
        ),
        "surface": ColumnRule(
            _names("surface placement pagetype screen screenname widget module slot feedname tab"),
            _is_kind,
        ),
        "position": ColumnRule(_names("position pos rank itemposition slotindex rankposition"), _is_position),
        "propensity": ColumnRule(
            _names("propensity propensityscore pscore probability prob actionprob"), _is_probability
        ),
    },
    "items": {
        "item_id": _ITEM,
        "title": ColumnRule(
            _names("title name productname itemname producttitle itemtitle moviename headline description"),
            _is_text,
        ),
        "category": ColumnRule(
            _names(
                "category categoryname maincategory categoryid productcategory department section genre genres "
                "producttype productgroup topic categorycode type"
            ),
            _is_one_text,
        ),
        "brand": ColumnRule(
            _names("brand brandname manufacturer maker vendor publisher author authors artist label studio"),
            _is_text,
        ),
        "price": ColumnRule(
            _names("price unitprice listprice currentprice saleprice retailprice priceusd priceeur amount"),
            _is_number,
        ),
        "length": ColumnRule(
            _names("length duration durations durationms runtime runtimeminutes numpages pages wordcount"),
            _is_number,
        ),
        "created_at": _CREATED,
        "tags": ColumnRule(_names("tags tag keywords genres labels topics"), _is_list_or_text),
        "valid_from": _VALID_FROM,
    },
    "users": {"user_id": _USER, "created_at": _CREATED, "valid_from": _VALID_FROM},
}

# The columns that a line of the feed must have.
REQUIRED: dict[Feed, tuple[str, ...]] = {
    "events": ("user_id", "item_id", "event_time"),
    "items": ("item_id",),
    "users": ("user_id",),
}

FEED_WORDS: dict[Feed, frozenset[str]] = {
    "items": _words(
        "items item products product catalog catalogue catalogs inventory assortment movies books "
        "articles songs tracks videos metadata meta goods skus"
    ),
    "users": _words("users user customers customer members member accounts profiles subscribers visitors"),
}
LOG_WORDS = _words(
    "events event logs log clicks views orders transactions purchases ratings reviews interactions "
    "actions behavior plays streams sessions activity clickstream"
)
