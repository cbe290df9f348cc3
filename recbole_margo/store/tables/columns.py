"""Which column holds what, by the names that people give them, and the texts of items."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import joined_texts
from recbole_margo.store.tables.table_file import MISSING, TableFile, clean_ids, text_of_cell

# Each likelier than the next; in English, German, French and Spanish, without accents.
USER_NAMES = """
    userid user uid username reviewerid customerid customer memberid member visitorid accountid
    account clientid client profileid viewerid readerid playerid buyerid sessionid session
    kundenid kundennummer kundennr kunde kundin nutzerid nutzer benutzerid benutzer besteller
    kaufer kaeufer idutilisateur utilisateur idclient numeroclient acheteur idusuario usuario
    idcliente cliente comprador
"""
ITEM_NAMES = """
    itemid item iid productid product parentasin asin sku articleid article movieid movie videoid
    video songid song trackid track artistid contentid bookid book isbn newsid listingid postid
    recipeid gameid appid
    artikelid artikelnummer artikelnr artnr artikel produktid produktnummer produktnr produkt
    idproduit codeproduit referenceproduit produit idarticle idproducto codigoproducto producto
    idarticulo articulo
"""
RATING_NAMES = """
    rating ratings score stars overall ratingvalue userrating bewertung sterne wertung notation
    calificacion puntuacion valoracion
"""
TIME_NAMES = """
    timestamp time ts datetime date unixreviewtime reviewtime createdat created eventtime
    eventtimestamp purchasedat purchasedate orderdate interactiontime
    zeitstempel zeitpunkt datum datumzeit bestelldatum kaufdatum zeit horodatage dateheure
    datecommande dateachat fechahora fecha fechapedido fechacompra
"""
TITLES_ELSEWHERE = """
    titel bezeichnung artikelbezeichnung produktbezeichnung artikelname produktname
    titre libelle intitule designation nomproduit nom titulo nombreproducto nombre denominacion
"""
TITLE_NAMES = f"""
    title name itemtitle itemname movietitle producttitle productname headline {TITLES_ELSEWHERE}
"""
TEXT_NAMES = f"""
    title name itemname itemtitle productname producttitle headline {TITLES_ELSEWHERE}
    brand category categories genre genres tags keywords description summary abstract text body
    features
    marke kategorie kategorien warengruppe schlagworte beschreibung artikelbeschreibung
    produktbeschreibung kurzbeschreibung marque categorie motscles resume texte
    marca categoria categorias etiquetas descripcion resumen texto
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
        columns: as they are written; case, accents, spaces, '_' and RecBole's ':type' do not
            count.
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
    """Tell whether a text is among the names that people give columns."""
    plain = _plain(text)
    known = " ".join((*INTERACTION_NAMES.values(), TEXT_NAMES)).split()
    return plain in known and (not alone or (plain.endswith("id") and len(plain) > 3))


def _plain(column: str) -> str:
    letters = unicodedata.normalize("NFKD", column.partition(":")[0])
    return re.sub(r"[^a-z0-9]", "", letters.lower())


def choose_item_columns(
    table: TableFile, id_column: str | None, text_columns: Sequence[str] | None, preferred: str
) -> tuple[str, list[str], list[str]]:
    """Decide which columns of a table of items hold the ids and the texts, if the user names none.

    Returns:
        The column of ids, those of texts, and a note on the guesses.
    """
    guesses: list[str] = []
    listed = f"{', '.join(map(repr, table.columns))} ({table.description})"
    if id_column is None:
        guess = guess_column(table.columns, f"{ITEM_NAMES} id")
        id_column = preferred if preferred in table.columns else guess
        if id_column is None:
            raise DataError(
                f"{table.path}: expected a column of item ids, found {listed}. Name it with "
                "--item_id."
            )
        guesses.append(f"--item_id {id_column}")
    if text_columns is None:
        free = [column for column in table.columns if column != id_column]
        text_columns = guess_text_columns(free)
        if not text_columns:
            raise DataError(
                f"{table.path}: expected columns of text, found {listed}, none with a name that "
                "says so. Name them with --text_columns title,description."
            )
        guesses.append(f"--text_columns {','.join(text_columns)}")
    table.check([id_column], "Name another with --item_id.")
    table.check(text_columns, "Name others with --text_columns.")
    notes = [f"guessed {' '.join(guesses)}"] if guesses else []
    return id_column, list(text_columns), notes


def choose_title_column(
    table: TableFile, given: str | None, id_column: str, text_columns: Sequence[str] | None
) -> tuple[str | None, str]:
    """Decide which column of a table of items holds the titles, if the user names none.

    Returns:
        The column, None if there is none, and a note on the choice.
    """
    if given is not None:
        table.check([given], "Name another with --title_column.")
        return given, f"title: {given}"
    free = [column for column in table.columns if column != id_column]
    title = guess_column(free, TITLE_NAMES)
    if title is not None:
        table.check([title], "Name another with --title_column.")
        return title, f"title: {title} (guessed; --title_column names another)"
    if text_columns:
        first = text_columns[0]
        return first, f"title: {first} (the first of --text_columns; --title_column names another)"
    return None, "no column is taken as title; --title_column names one"


def read_item_texts(
    table: TableFile, id_column: str, text_columns: Sequence[str], items: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Read the texts of items; ids are mended as `clean_ids` does it.

    Returns:
        Text columns by item token, in the order of `items`, without those that have no text; and
        notes on rows that were left out.
    """
    rows = _item_rows(table, id_column, text_columns)
    written = list(dict.fromkeys(rows.index))
    cleaned = clean_ids(written, f"{table.path}, column {id_column!r}")
    rows = rows.rename(index=dict(zip(written, cleaned, strict=True)))
    notes = table.notes()
    repeated = rows.index.duplicated()
    if repeated.any():
        notes.append(f"{repeated.sum():,} rows of {table.path.name} repeat an item; first kept")
        rows = rows[~repeated]
    check_overlap(rows.index.tolist(), items, table.path)
    strangers = len(rows) - rows.index.isin(items).sum()
    if strangers:
        notes.append(f"{strangers:,} items of {table.path.name} have no interaction; left out")
    rows = rows.reindex([item for item in items if item in rows.index])
    return rows[(rows != "").any(axis=1)], notes


def texts_by_item(table: TableFile, id_column: str, columns: Sequence[str]) -> dict[str, str]:
    """Return item -> its cells joined by spaces; the first row of an item counts.

    What a report of a conversion would say of the rows is logged.
    """
    rows = _item_rows(table, id_column, columns)
    for note in table.notes():
        logging.getLogger().warning("%s", note.removeprefix("warning: "))
    return joined_texts(rows[~rows.index.duplicated()])


def _item_rows(table: TableFile, id_column: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of text by item token, of all rows that have one, in the order of the file."""
    pieces = []
    for chunk in table.read(list(dict.fromkeys([id_column, *columns])), "reading items"):
        table.check_ids(chunk[id_column])
        tokens = chunk[id_column].map(str).str.strip()
        kept = chunk[id_column].notna() & ~tokens.isin(MISSING)
        piece = chunk.loc[kept, list(columns)].apply(lambda cells: cells.map(text_of_cell))
        pieces.append(piece.set_axis(tokens[kept].astype(object), axis=0))
    rows: pd.DataFrame = pd.concat(pieces) if pieces else pd.DataFrame(columns=list(columns))
    rows.index.name = None
    return rows


def check_overlap(found: Sequence[str], items: Sequence[str], path: Path) -> None:
    """Check that a file speaks of the same items as the interactions."""
    if set(found).isdisjoint(items):
        raise DataError(
            f"{path}: expected ids of items with interactions, such as {_some(items)}; found "
            f"{_some(found)}, none in common. Use the same ids in both files."
        )


def _some(values: Sequence[str]) -> str:
    return ", ".join(map(repr, values[:3])) or "none"
