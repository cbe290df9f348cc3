"""The HTTP service and its pages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_bundle import HOSTILE, made_up_bundle

from recbole_margo.cli import main
from recbole_margo.serving.bundle import Block, UserParts
from recbole_margo.serving.bundle_files import open_bundle, write_bundle
from recbole_margo.serving.recommender import Recommender

for library in ("fastapi", "uvicorn", "prometheus_client", "httpx"):
    pytest.importorskip(library, reason=f"{library} is not installed")

from fastapi.testclient import TestClient  # noqa: E402

from recbole_margo.serving.guard import CurrentBundle, ServiceLimits  # noqa: E402
from recbole_margo.serving.service import create_app  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(made_up_bundle(), tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def client(folder: Path) -> TestClient:
    return TestClient(create_app(CurrentBundle(folder)))


def test_answers_are_those_of_the_recommender(client: TestClient, folder: Path) -> None:
    recommender = Recommender(open_bundle(folder))
    for user in ("a/b c?&#", HOSTILE, "u3"):
        expected = recommender.recommend([user], 4)[0]
        found = client.get("/recommend", params={"user": user, "n": 4}).json()
        assert found == {
            "user": user,
            "popular": False,
            "items": [vars(ranked) for ranked in expected.items],
        }
        best = expected.items[0].item
        parts = client.get("/explain", params={"user": user, "item": best}).json()
        assert sum(p["value"] for p in parts["contributions"]) == pytest.approx(parts["score"])
        odd = recommender.item_row(best) % 2 == 1
        assert [part["doubtful"] for part in parts["contributions"]] == [odd, False]
        assert parts["contributions"][1]["q_value"] is None
    body = {"users": ["u2", "nobody"], "n": 3, "on_unknown": "popular", "deny": ["i5"]}
    lists = client.post("/recommend", json=body).json()["lists"]
    assert [one["popular"] for one in lists] == [False, True]
    assert all(each["item"] != "i5" for one in lists for each in one["items"])
    new = client.post("/recommend", json={"history": ["i1", "i/0 ?&#"], "n": 2}).json()["lists"]
    assert [each["item"] for each in new[0]["items"]] == [
        ranked.item for ranked in recommender.recommend(history=["i1", "i/0 ?&#"], n=2)[0].items
    ]
    similar = client.get("/similar", params={"item": "i4", "n": 2, "modality": "text"}).json()
    assert similar["items"] == [vars(one) for one in recommender.similar_items("i4", 2, "text")]


def test_items_and_the_audit_say_what_the_bundle_knows(client: TestClient) -> None:
    card = client.get("/items/i%2F0%20%3F%26%23").json()
    assert card["item"] == "i/0 ?&#" and card["title"] == HOSTILE
    assert [m["name"] for m in card["modalities"]] == ["image", "text"]
    assert not card["thumbnail"] and client.get("/items/i1").json()["thumbnail"]
    image, text = client.get("/audit", params={"n": 3}).json()["modalities"]
    assert (image["judged"], image["doubtful"]) == (12, 6)
    assert [card["item"] for card in image["least"]] == ["i/0 ?&#", "i1", "i2"]
    assert [card["item"] for card in text["least"]] == ["i11", "i10", "i9"]
    scores = [card["modalities"][1]["score"] for card in text["least"]]
    assert scores == sorted(scores)
    page = client.get("/catalogue").text
    assert "By the score, the lowest first" in page and "the same as in" in page
    # Items without a picture have a drawing in its place, the others their thumbnail.
    for shown in (page, client.get("/?user=u3").text):
        assert shown.count("<svg") > 0 and "/thumbnail?item=" in shown


def test_a_thumbnail_is_served_as_an_image_and_nothing_else(client: TestClient) -> None:
    found = client.get("/thumbnail?item=i1")
    assert found.content.startswith(b"\xff\xd8\xff")
    assert found.headers["content-type"] == "image/jpeg"
    assert found.headers["x-content-type-options"] == "nosniff"
    refused = client.get("/thumbnail?item=i2")
    assert refused.status_code == 404 and "an item with an image" in refused.json()["error"]


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/recommend?user=nobody", 404, "'nobody'"),
        ("/recommend?user=u2&n=0", 422, "from 1 to 12"),
        ("/recommend?user=u2&n=13", 422, "from 1 to 12"),
        ("/recommend?user=u2&n=101", 422, "at most 100"),
        ("/recommend?user=u2&n=many", 422, "query.n"),
        ("/recommend", 422, "query.user"),
        ("/similar?item=x", 404, "'x'"),
        ("/similar?item=i1&modality=taste", 422, "'taste'"),
        ("/explain?user=u2&item=x", 404, "'x'"),
        ("/items/x", 404, "'x'"),
        ("/nowhere", 404, "Not Found"),
    ],
)
def test_a_wrong_request_is_told_what_was_expected(
    client: TestClient, path: str, status: int, said: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == status and said in answer.json()["error"]


def test_bodies_and_lists_are_bounded(folder: Path) -> None:
    limits = ServiceLimits(n=5, users=2, history=3, body_bytes=200)
    client = TestClient(create_app(CurrentBundle(folder), limits))
    for body, status in (
        ({"users": ["u2"] * 3}, 422),
        ({"history": ["i1"] * 4}, 422),
        ({"users": ["u" * 300]}, 413),
    ):
        answer = client.post("/recommend", json=body)
        assert answer.status_code == status and "at most" in answer.json()["error"]

    def chunks() -> Iterator[bytes]:  # whose length nobody announces
        for _ in range(5):
            yield b"x" * 100

    answer = client.post("/recommend", content=chunks())
    assert answer.status_code == 413


def test_a_token_is_asked_of_everything_but_health(folder: Path) -> None:
    client = TestClient(create_app(CurrentBundle(folder), token="secret"))  # noqa: S106
    assert client.get("/health").status_code == client.get("/ready").status_code == 200
    for headers, status in (({}, 401), ({"Authorization": "Bearer wrong"}, 401)):
        for path in ("/recommend?user=u2", "/", "/metrics", "/openapi.json"):
            refused = client.get(path, headers=headers)
            assert refused.status_code == status
            assert refused.headers["www-authenticate"].startswith("Basic")
    allowed = {"Authorization": "Bearer secret"}
    assert client.get("/recommend?user=u2", headers=allowed).status_code == 200
    # A browser asks its user for a name and a password.
    assert client.get("/", auth=("anybody", "secret")).status_code == 200
    assert client.get("/", auth=("secret", "wrong")).status_code == 401
    for brought in ("Basic ***", "Basic", "Bearer", "secret", "Digest secret"):
        assert client.get("/", headers={"Authorization": brought}).status_code == 401


def test_a_request_that_takes_too_long_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(CurrentBundle(folder), ServiceLimits(seconds=0.2))
    sent: list[dict[str, Any]] = []

    async def never() -> Any:
        await asyncio.sleep(30)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/recommend", "query_string": b""}
    asyncio.run(app({**scope, "headers": []}, never, send))
    assert sent[0]["status"] == 408 and b"a body within 0.2 seconds" in sent[1]["body"]

    end = threading.Event()
    monkeypatch.setattr(Recommender, "recommend", lambda *given, **named: end.wait(10))
    answer = TestClient(app).post("/recommend", json={"users": ["u2"]})
    end.set()
    assert answer.status_code == 503 and "within 0.2 seconds" in answer.json()["error"]


def test_metrics_count_and_the_log_has_no_ids(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "recbole_margo.access"):
        client.get("/recommend?user=u2")
        client.get("/recommend?user=nobody")
        client.get("/items/i1")
    assert "u2" not in caplog.text and "nobody" not in caplog.text and "i1" not in caplog.text
    lines = [json.loads(record.message) for record in caplog.records]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/recommend", 200),
        ("/recommend", 404),
        ("/items/{item:path}", 200),
    ]
    text = client.get("/metrics").text
    assert 'recbole_margo_requests_total{route="/recommend",status="200"} 1.0' in text
    assert client.get("/openapi.json").json()["paths"].keys() >= {"/recommend", "/audit"}


def test_pages_show_hostile_texts_as_texts(client: TestClient) -> None:
    page = client.get("/", params={"user": HOSTILE, "n": 9})
    assert page.status_code == 200 and "script-src" in page.headers["content-security-policy"]
    assert HOSTILE not in page.text and "\u202e" not in page.text
    assert page.text.count("<details>") == 9 and page.text.count('<li class="card">') == 9 + 3
    assert max(map(len, re.findall("x+", page.text))) < 300
    assert 0 < page.text.count("image: no sign that it belongs") < 9
    assert "text: no sign that it belongs" not in page.text
    assert client.get("/", params={"user": "nobody"}).status_code == 404
    catalogue = client.get("/catalogue").text
    assert HOSTILE not in catalogue and catalogue.count("data-item=") == 24
    assert client.get("/").status_code == 200


def test_the_page_names_items_of_the_history_among_the_reasons(tmp_path: Path) -> None:
    bundle = made_up_bundle()
    rng = np.random.default_rng(1)
    parts = UserParts(
        own=np.zeros_like(bundle.users),
        sources=rng.normal(size=bundle.items.shape).astype(np.float32),
        starts=bundle.seen_starts,
        items=bundle.seen_items,
        weights=rng.uniform(size=(len(bundle.seen_items), 2)).astype(np.float32),
    )
    write_bundle(replace(bundle, history=parts), tmp_path / "bundle")
    client = TestClient(create_app(CurrentBundle(tmp_path / "bundle")))
    page = client.get("/?user=u3&n=1").text
    best = client.get("/recommend?user=u3&n=1").json()["items"][0]["item"]
    reasons = client.get("/explain", params={"user": "u3", "item": best}).json()["reasons"]
    of_items = [one for one in reasons if one["source"] == "history"]
    assert len(of_items) > 2
    shown = page.partition("Where it comes from")[2]
    assert 2 <= shown.count("<li><bdi>because of ") <= 4
    for one in (*reasons[:2], *of_items[:2]):
        assert f"{one['value']:+.3f} ({100 * one['share']:.0f} %)" in shown
    assert HOSTILE not in page


def test_a_swap_answers_from_the_new_bundle_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_bundle(made_up_bundle(seed=seed), tmp_path / str(seed))
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "0")
    current = CurrentBundle(link)
    client = TestClient(create_app(current))
    before = client.get("/recommend?user=u2").json()
    link.unlink()
    link.symlink_to(tmp_path / "1")
    assert client.get("/recommend?user=u2").json() == before
    assert current.reload()
    after = client.get("/recommend?user=u2").json()
    assert after != before
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    assert not current.reload()
    assert client.get("/recommend?user=u2").json() == after


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_process_serves_swaps_under_load_and_ends_cleanly(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_bundle(made_up_bundle(seed=seed), tmp_path / str(seed))
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from recbole_margo.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "serve", "--bundle", str(link), "--quiet"]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([*words, f"--port={port}"], stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_ready(address, process)
        asked = f"{address}/recommend?user=u2"

        def answer() -> str:
            with urllib.request.urlopen(asked, timeout=10) as got:  # noqa: S310
                return str(got.read().decode())

        failures: list[str] = []
        answers: set[str] = set()
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    answers.add(answer())
                except OSError as error:
                    failures.append(str(error))

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        for swap in range(20):
            before = answer()
            temporary = tmp_path / "next"
            temporary.symlink_to(tmp_path / str((swap + 1) % 2))
            temporary.replace(link)
            process.send_signal(signal.SIGHUP)
            while answer() == before:
                time.sleep(0.02)
        stop.set()
        for thread in asking:
            thread.join()
        assert failures == [] and len(answers) == 2
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0 and "Traceback" not in said, said
        assert said.count("answering from") == 20
    finally:
        process.kill()


def _wait_until_ready(address: str, process: subprocess.Popen[str]) -> None:
    for _ in range(200):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(f"{address}/ready", timeout=5) as answer:  # noqa: S310
                assert json.load(answer)["model"] == "MARGO"
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the service did not begin")


def test_a_worker_holds_neither_torch_nor_recbole() -> None:
    code = (
        "import sys, recbole_margo.serving.command, recbole_margo.serving.service, "
        "recbole_margo.serving.vector_search; print({'torch', 'recbole'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "::"], "--token_file"),
        (["--bundle", "nowhere"], "expected a bundle"),
        (["--port", "99999"], "from 0 to 65535"),
        (["--token_file", "empty"], "expected a token"),
    ],
)
def test_wrong_options_are_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("empty").write_text("\n")
    assert main(["serve", "--bundle", str(folder), *words]) == 2
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1


def test_a_modality_that_is_doubtful_as_a_whole_is_said_once(tmp_path: Path) -> None:
    bundle = made_up_bundle()
    assert bundle.reliability is not None
    q_values = np.ones_like(bundle.reliability.q_values)
    reliability = replace(bundle.reliability, q_values=q_values)
    write_bundle(replace(bundle, reliability=reliability), tmp_path / "bundle")
    page = TestClient(create_app(CurrentBundle(tmp_path / "bundle"))).get("/?user=u3").text
    assert "no sign that it belongs" not in page
    assert page.count("As a whole, image") == page.count("As a whole, text") == 1


def test_a_model_without_weights_has_no_audit(tmp_path: Path) -> None:
    bundle = made_up_bundle()
    facts = replace(bundle.facts, modalities=(), blocks=(Block("score", 0, 4),))
    write_bundle(replace(bundle, facts=facts, reliability=None), tmp_path / "plain")
    client = TestClient(create_app(CurrentBundle(tmp_path / "plain")))
    assert client.get("/audit").json() == {"modalities": []}
    assert "nothing to audit" in client.get("/catalogue").text
    assert client.get("/items/i1").json()["modalities"] == []
    assert client.get("/?user=u2").status_code == 200
