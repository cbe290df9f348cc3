from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from dataset_converters.__main__ import main
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.movielens import MovieLensConverter
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import read_item_lines

TITLES = ["Toy Story (1995)", 'Amélie: "le fabuleux" (2001)', "Seven | Se7en (1995)", "Heat (1995)"]
GENRES = ["Animation|Comedy", "Romance|Comedy", "Crime|Thriller", "Crime"]
RATINGS = [
    (user, movie, 1 + (user * movie) % 5, 900_000_000 + 100 * user + movie)
    for user in range(1, 9)
    for movie in range(1, 5)
]


def write_100k(folder: Path) -> None:
    lines = ["\t".join(map(str, row)) for row in RATINGS]
    (folder / "u.data").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ["0001010", "0000010", "0000001", "0000001"]
    rows = [
        f"{number}|{title.replace('|', '/')}|01-Jan-1995||http://x|"
        + "|".join((flag + "0" * 19)[:19])
        for number, (title, flag) in enumerate(zip(TITLES, flags, strict=True), start=1)
    ]
    (folder / "u.item").write_text("\n".join(rows) + "\n", encoding="latin-1")


def write_1m(folder: Path) -> None:
    lines = ["::".join(map(str, row)) for row in RATINGS]
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [
        f"{number}::{title}::{genres}"
        for number, (title, genres) in enumerate(zip(TITLES, GENRES, strict=True), start=1)
    ]
    (folder / "movies.dat").write_text("\n".join(rows) + "\n", encoding="latin-1")


def write_latest(folder: Path) -> None:
    names = ["userId", "movieId", "rating", "timestamp"]
    pd.DataFrame(RATINGS, columns=names).to_csv(folder / "ratings.csv", index=False)
    genres = [*GENRES[:3], "(no genres listed)"]
    movies = pd.DataFrame({"movieId": range(1, 5), "title": TITLES, "genres": genres})
    movies.to_csv(folder / "movies.csv", index=False)
    tags = [(1, 1, "Pixar"), (2, 1, "fun"), (3, 1, " fun "), (1, 2, "Paris, France"), (1, 99, "x")]
    table = pd.DataFrame(tags, columns=["userId", "movieId", "tag"])
    table.assign(timestamp=0).to_csv(folder / "tags.csv", index=False)


EXPECTED = {
    write_100k: {
        "1": "Toy Story (1995) Animation Comedy",
        "2": 'Amélie: "le fabuleux" (2001) Comedy',
        "3": "Seven / Se7en (1995) Crime",
        "4": "Heat (1995) Crime",
    },
    write_1m: {
        "1": "Toy Story (1995) Animation Comedy",
        "2": 'Amélie: "le fabuleux" (2001) Romance Comedy',
        "3": "Seven | Se7en (1995) Crime Thriller",
        "4": "Heat (1995) Crime",
    },
    write_latest: {
        "1": "Toy Story (1995) Animation Comedy fun pixar",
        "2": 'Amélie: "le fabuleux" (2001) Romance Comedy paris, france',
        "3": "Seven | Se7en (1995) Crime Thriller",
        "4": "Heat (1995)",
    },
}


@pytest.mark.parametrize("write", EXPECTED)
def test_every_layout_gives_its_ratings_and_texts(tmp_path: Path, write) -> None:
    write(tmp_path)
    report, _ = MovieLensConverter(tmp_path, "movies").run(tmp_path / "out")
    folder = tmp_path / "out" / "movies"
    assert read_item_lines(folder, "movies", "texts") == EXPECTED[write]
    assert (report.users, report.items, report.rows_read) == (8, 4, len(RATINGS))
    parts = [
        pd.read_csv(folder / f"movies.{s}.inter", sep="\t") for s in ("train", "valid", "test")
    ]
    assert sorted(map(tuple, pd.concat(parts).to_numpy().tolist())) == sorted(RATINGS)


def test_posters_are_listed_by_movie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_latest(tmp_path)
    (tmp_path / "posters").mkdir()
    for movie in (1, 3):
        (tmp_path / "posters" / f"{movie}.jpg").write_bytes(b"image")
    options = ["--posters", str(tmp_path / "posters"), "--min_rating", "2", "--no_text_features"]
    where = ["--source", str(tmp_path), "--name", "movies", "--output", str(tmp_path / "out")]
    assert main(["movielens", *where, *options]) == 0
    images = read_item_lines(tmp_path / "out" / "movies", "movies", "images")
    assert images == {movie: str(tmp_path / "posters" / f"{movie}.jpg") for movie in ("1", "3")}
    low = sum(rating < 2 for _, _, rating, _ in RATINGS)
    assert f"dropped       {low}: rating below 2.0" in capsys.readouterr().out


def test_the_name_that_recbole_keeps_for_itself_is_refused(tmp_path: Path) -> None:
    write_100k(tmp_path)
    with pytest.raises(DataError, match="RecBole reads from its own package"):
        MovieLensConverter(tmp_path, "ml-100k")


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("ratings.csv", None, "expected one of u.data, ratings.dat, ratings.csv"),
        ("movies.csv", None, "expected movies.csv beside ratings.csv"),
        ("ratings.csv", b"user,movie,rating,timestamp\n1,2,3,4\n", "no such column"),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n1,2,3,4\n1,2,3,4,5\n", "line 3"),
        ("movies.csv", b"movieId,title,genres\nx1,A,B\n", "none in common"),
        ("tags.csv", b"userId,movieId\n1,2\n", "expected one column 'tag'"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, file: str, content: bytes | None, expected: str
) -> None:
    write_latest(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError) as caught:
        MovieLensConverter(tmp_path, "movies").run(tmp_path / "out")
    assert expected in str(caught.value)


def write_linked(folder: Path, movies: int = 60) -> pd.DataFrame:
    """MovieLens with links in which most tmdbIds are movieIds too, of other films."""
    rows = [(user, 1 + (user * 7 + step) % movies, 4, 1_000 + step) for user in range(20)
            for step in range(movies // 2)]  # fmt: skip
    names = ["userId", "movieId", "rating", "timestamp"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "ratings.csv", index=False)
    numbers = range(1, movies + 1)
    titles = pd.DataFrame({"movieId": numbers, "title": [f"film {n}" for n in numbers]})
    titles.assign(genres="Drama").to_csv(folder / "movies.csv", index=False)
    links = pd.DataFrame(
        {
            "movieId": numbers,
            "imdbId": [f"{114_000 + 3 * n:07d}" for n in numbers],
            "tmdbId": [str(n + 20) for n in numbers],  # two thirds of them are movieIds
        }
    )
    links.loc[4, "tmdbId"] = ""
    links.to_csv(folder / "links.csv", index=False)
    return links


def add_posters(folder: Path, names: list[str]) -> ItemInputs:
    (folder / "posters").mkdir()
    for name in names:
        (folder / "posters" / f"{name}.jpg").write_bytes(b"image")
    return ItemInputs(images=folder / "posters", text_features=False)


def posters_of(folder: Path) -> dict[str, str]:
    images = read_item_lines(folder / "out" / "movies", "movies", "images")
    return {movie: Path(path).stem for movie, path in images.items()}


NAMINGS = {
    "movieId": lambda links: links["movieId"].astype(str),
    "tmdbId": lambda links: links["tmdbId"],
    "imdbId": lambda links: links["imdbId"],
    "imdbId with tt": lambda links: "tt" + links["imdbId"],
    "imdbId as a number": lambda links: links["imdbId"].str.lstrip("0"),
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("strangers", [0, 3])
def test_the_kind_of_id_that_names_posters_is_recognised(
    tmp_path: Path, naming: str, strangers: int
) -> None:
    links = write_linked(tmp_path)
    names = dict(zip(links["movieId"].astype(str), NAMINGS[naming](links), strict=True))
    names = {movie: name for movie, name in names.items() if name}
    inputs = add_posters(tmp_path, [*names.values(), *(f"extra{n}" for n in range(strangers))])
    report, _ = MovieLensConverter(tmp_path, "movies", inputs=inputs).run(tmp_path / "out")
    assert posters_of(tmp_path) == names
    kind = naming.partition(" ")[0]
    said = next(note for note in report.notes if "names of posters" in note)
    assert said.startswith(
        f"{len(names)} of {len(names) + strangers} names of posters are a {kind}"
    )
    assert said.endswith(f"guessed --poster_ids {kind.removesuffix('Id')}")
    assert ("by chance" in said) == (kind in ("movieId", "tmdbId"))


def test_ids_that_do_not_tell_are_refused_and_can_be_said(tmp_path: Path) -> None:
    write_linked(tmp_path)
    inputs = add_posters(tmp_path, [str(number) for number in range(21, 61)])  # of both kinds
    with pytest.raises(DataError, match="--poster_ids movie, tmdb or imdb"):
        MovieLensConverter(tmp_path, "movies", inputs=inputs).run(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    for kind, offset in (("tmdb", 20), ("movie", 0)):
        shutil.rmtree(tmp_path / "out")
        converter = MovieLensConverter(tmp_path, "movies", inputs=inputs, poster_ids=kind)
        converter.run(tmp_path / "out")
        found = posters_of(tmp_path)
        assert found["25"] == str(25 + offset)
        assert all(int(name) == int(movie) + offset for movie, name in found.items())


def test_posters_without_links_are_taken_by_movie_and_said_to_be(tmp_path: Path) -> None:
    write_linked(tmp_path)
    (tmp_path / "links.csv").unlink()
    inputs = add_posters(tmp_path, ["21", "22"])
    report, _ = MovieLensConverter(tmp_path, "movies", inputs=inputs).run(tmp_path / "out")
    assert posters_of(tmp_path) == {"21": "21", "22": "22"}
    assert any("taken for movieIds, unchecked" in note for note in report.notes)
    with pytest.raises(DataError, match=r"--poster_ids tmdb: expected .*links\.csv"):
        MovieLensConverter(tmp_path, "movies", inputs=inputs, poster_ids="tmdb").preview()


def test_two_posters_of_one_film_are_counted(tmp_path: Path) -> None:
    write_linked(tmp_path)
    inputs = add_posters(tmp_path, ["tt0114003", "0114003", "0114006"])
    report, _ = MovieLensConverter(tmp_path, "movies", inputs=inputs).run(tmp_path / "out")
    assert posters_of(tmp_path) == {"1": "0114003", "2": "0114006"}
    assert any(note.startswith("1 images have the name of another") for note in report.notes)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--poster_ids tmdb", "expected --posters DIR with it"),
        ("--posters posters --poster_ids imdb", "choose another --poster_ids"),
    ],
)
def test_wrong_poster_options_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    expected: str,
) -> None:
    write_linked(tmp_path)
    add_posters(tmp_path, ["21", "22"])
    monkeypatch.chdir(tmp_path)
    assert main(["movielens", "--source", ".", "--name", "movies", *options.split()])
    assert expected in capsys.readouterr().err
