"""The pages in a real browser: keyboard, screen reader, narrow screens, hostile titles."""

from __future__ import annotations

import csv
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_bundle import HOSTILE, made_up_bundle

from recbole_margo.serving.bundle_files import write_bundle

for library in ("fastapi", "uvicorn", "prometheus_client", "playwright"):
    pytest.importorskip(library, reason=f"{library} is not installed")

import uvicorn  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

from recbole_margo.serving.guard import CurrentBundle  # noqa: E402
from recbole_margo.serving.service import create_app  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
WIDTHS = (1100, 360)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pages") / "bundle"
    write_bundle(made_up_bundle(), folder)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(CurrentBundle(folder)), log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        # Chromium's own sandbox asks for rights that a container seldom has.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    opened = browser.new_page(base_url=address)
    told: list[str] = []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("dialog", lambda dialog: told.append(dialog.message))
    yield opened
    # Nothing of a title ran, nothing was refused by the policy, no picture was missing.
    assert [line for line in told if "favicon" not in line and "404" not in line] == []
    opened.close()


def test_a_user_is_found_and_a_score_explained_with_the_keyboard(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")  # past the two pages
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("U7")
    page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    assert "No user of this model has the id U7" in alert.inner_text()
    assert page.get_by_role("main").get_by_role("link").all_inner_texts()[:2] == ["u7", "u70"]
    page.get_by_role("link", name="u7", exact=True).press("Enter")
    assert page.get_by_role("heading", name="For u7").is_visible()
    first = page.get_by_role("list").first.get_by_role("listitem").first
    summary = first.locator("summary")
    summary.focus()
    assert not first.get_by_role("table").is_visible()
    page.keyboard.press("Enter")
    cells = [float(text) for text in first.locator("tr > td:nth-child(2)").all_inner_texts()]
    assert len(cells) == 3 and sum(cells[:2]) == pytest.approx(cells[2], abs=0.002)
    heading = first.get_by_role("heading").inner_text()
    title = heading.partition(". ")[2]
    # What a screen reader says of a card: its title, the shares in words, and what opens.
    said = first.aria_snapshot()
    assert f'heading "{heading}"' in said and "image" in said and " %" in said and title in said
    page.get_by_role("link", name="Catalogue").press("Enter")
    assert page.get_by_role("heading", level=1).inner_text() == "Which contents cannot be trusted?"


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_titles_are_texts_and_fit_narrow_screens(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("/?user=%3Cscript%3Ealert(1)%3C%2Fscript%3E&n=9", "/?user=u3&n=9", "/catalogue"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.locator("main script").count() == ("catalogue" in path)
    page.goto("/?user=a%2Fb%20c%3F%26%23&n=9")
    assert page.get_by_role("heading", name="For a/b c?&#").is_visible()
    assert page.get_by_text(HOSTILE).count() > 0
    pictures = page.locator("img.picture")
    assert pictures.count() > 2
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
    page.wait_for_function(
        "() => [...document.images].every((one) => one.complete && one.naturalWidth > 0)"
    )


def test_what_is_repaired_is_kept_and_saved_as_csv(page: Page, tmp_path: Path) -> None:
    page.goto("/catalogue")
    save = page.get_by_role("button", name="Save what is repaired as CSV")
    assert save.is_disabled()
    page.get_by_role("checkbox", name=f"image of {HOSTILE} is repaired").check()
    page.get_by_role("checkbox", name="text of Film 11 is repaired").press("Space")
    assert page.get_by_role("status").inner_text() == "2 marked."
    page.reload()
    assert page.get_by_role("checkbox", checked=True).count() == 2
    with page.expect_download() as download:
        save.click()
    download.value.save_as(tmp_path / "repaired.csv")
    with (tmp_path / "repaired.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["item", "modality"], ["i/0 ?&#", "image"], ["i11", "text"]]
    page.get_by_role("checkbox", name="text of Film 11 is repaired").uncheck()
    page.get_by_role("checkbox", name=f"image of {HOSTILE} is repaired").uncheck()
    assert save.is_disabled()
