"""Which column holds what, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Each likelier than the next.
USER_NAMES = """
    userid user uid username reviewerid customerid customer memberid member visitorid accountid
    account clientid client profileid viewerid readerid playerid buyerid sessionid session
"""
ITEM_NAMES = """
    itemid item iid productid product parentasin asin sku articleid article movieid movie videoid
    video songid song trackid track artistid contentid bookid book isbn newsid listingid postid
    recipeid gameid appid
"""
RATING_NAMES = "rating ratings score stars overall ratingvalue userrating"
TIME_NAMES = """
    timestamp time ts datetime date unixreviewtime reviewtime createdat created eventtime
    eventtimestamp purchasedat purchasedate orderdate interactiontime
"""
TEXT_NAMES = """
    title name itemname itemtitle productname producttitle headline brand category categories
    genre genres tags keywords description summary abstract text body features
"""
INTERACTION_NAMES = {
    "user_id": USER_NAMES,
    "item_id": ITEM_NAMES,
    "rating": RATING_NAMES,
    "timestamp": TIME_NAMES,
}


def guess_column(columns: Sequence[str], names: str) -> str | None:
    """Return the column with the first of the names, or None.

    Args:
        columns: as they are written; case, spaces, '_' and RecBole's ':type' do not count.
        names: what is looked for, the likeliest first, separated by spaces.
    """
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(_plain(column), column)
    return next((by_name[name] for name in names.split() if name in by_name), None)


def guess_text_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that seem to describe an item, in the order of `TEXT_NAMES`."""
    names = TEXT_NAMES.split()
    found = [column for column in columns if _plain(column) in names]
    return sorted(found, key=lambda column: names.index(_plain(column)))


def is_column_name(text: str, alone: bool = False) -> bool:
    """Tell whether a text is among the names that people give columns.

    Args:
        text: the text.
        alone: only names that are no word of a language, such as `user_id`: one is enough to tell
            that a line names columns.
    """
    plain = _plain(text)
    known = " ".join((*INTERACTION_NAMES.values(), TEXT_NAMES)).split()
    return plain in known and (not alone or (plain.endswith("id") and len(plain) > 3))


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.partition(":")[0].lower())
