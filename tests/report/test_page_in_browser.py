"""The page in a real browser, without a window: no complaints, and its controls do what they say.

Skipped without Chromium with its driver (Debian packages chromium and chromium-driver) or without selenium.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rankdet.data import Shapes
from rankdet.eval import compare, lrp_at
from rankdet.report import dataset_images, read_problem, render, report_content
from tests.report.problems import NASTY, two_cats_and_a_dog

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium with its driver")


def shapes_problem():
    """Detections of Shapes that are displaced, doubled, of another class, and that lack some."""
    shapes = Shapes(length=30, seed=0, image_size=96, num_classes=4)
    truth = shapes.ground_truth()
    truth["categories"][0]["name"] = NASTY
    results = []
    for place, entry in enumerate(truth["annotations"]):
        x, y, w, h = entry["bbox"]
        found = {"image_id": entry["image_id"], "category_id": entry["category_id"], "score": 1 - (place % 83) / 90}
        shift = (place % 5) * 0.06 * w
        if place % 4:
            results.append({**found, "bbox": [x + shift, y, w, h]})
        if place % 3 == 0:
            results.append(
                {**found, "bbox": [x + shift, y, w, h], "score": found["score"] / 2, "category_id": 1 + place % 4}
            )
    return shapes, read_problem(truth, results)


@pytest.fixture(scope="module")
def problem():
    return shapes_problem()[1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "metrics.csv").write_text("step,epoch,loss,lr,AP\n9,0,1.5,0.1,\n19,1,1.0,0.01,0.5\n29,2,0.5,0.01,0.6\n")
    shapes, problem = shapes_problem()
    fewer = read_problem(shapes.ground_truth(), [])
    content = report_content(
        problem,
        title=NASTY,
        open_image=dataset_images(shapes),
        metrics_file=folder / "metrics.csv",
        comparison=compare(problem.evaluation, fewer.evaluation, resamples=20),
    )
    (folder / "report.html").write_text(render(content), encoding="utf-8")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1280,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = CHROMIUM
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.page = (folder / "report.html").as_uri()
    yield driver
    driver.quit()


@pytest.fixture
def page(browser):
    """The page, freshly loaded, of the width of a desk."""
    browser.set_window_size(1280, 900)
    browser.get(browser.page)
    assert browser.execute_script("return document.documentElement.dataset.ready") == "true"
    yield Page(browser)
    complaints = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert complaints == []


class Page:
    """What a reader does and sees."""

    def __init__(self, browser) -> None:
        self.browser = browser

    def find(self, selector: str):
        return self.browser.find_element("css selector", selector)

    def all(self, selector: str):
        return self.browser.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def readout(self) -> dict[str, str]:
        return {item.get_attribute("data-key"): item.text for item in self.all("#readout b")}

    def choose(self, name: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.find("#category")).select_by_visible_text(name)


def test_loads_without_complaints_and_draws_everything(page):
    assert page.find("h1").text.startswith("</script><img")
    for host in ("threshold-chart", "precision-chart", "scatter", "reliability"):
        assert page.all(f"#{host} svg path, #{host} svg rect"), host
    assert len(page.all("#class-table tbody tr")) == 4
    assert len(page.all("#gallery figure image")) == 8
    assert len(page.all("#training-charts svg")) == 3
    assert page.all("img") == []


def test_names_of_classes_stay_texts(page):
    assert any(text.startswith("</script><img") for text in page.texts("#class-table tbody th"))
    assert any(text.startswith("</script><img") for text in page.texts("#matrix tbody th"))


def test_headings_sort_the_table(page):
    def column(place: int) -> list[str]:
        return page.texts(f"#class-table tbody tr > :nth-child({place})")

    objects = [int(text) for text in column(2)]
    assert objects == sorted(objects, reverse=True)
    page.find('th[data-key="AP"] button').click()
    falling = column(3)
    assert falling == sorted(falling, reverse=True)
    assert page.find('th[data-key="AP"]').get_attribute("aria-sort") == "descending"
    assert page.find('th[data-key="objects"]').get_attribute("aria-sort") is None
    assert page.browser.switch_to.active_element.text == "AP"
    page.browser.switch_to.active_element.send_keys(" ")
    assert column(3) == falling[::-1]
    page.find('th[data-key="name"] button').click()
    assert column(1) == sorted(column(1))
    page.find("#class-filter").send_keys("STAR")
    assert column(1) == ["star"]


def test_slider_shows_what_a_threshold_gives(page, problem):
    star = problem.truth.category_names.index("star")
    page.choose("star")
    best = problem.evaluation.per_class[star]
    assert float(page.readout()["lrp"]) == pytest.approx(best.oLRP, abs=6e-4)
    slider = page.find("#slider")
    before = page.readout()
    for _ in range(4):
        slider.send_keys(Keys.ARROW_LEFT)
    after, threshold = page.readout(), float(page.find("#slider-value").text)
    assert after != before
    expected = lrp_at(problem.matches, threshold - 1e-3)
    assert threshold < best.threshold
    assert float(after["lrp"]) == pytest.approx(expected.value[star, 0], abs=6e-4)
    assert 1 - float(after["precision"]) == pytest.approx(expected.false_positive[star, 0], abs=6e-4)
    assert 1 - float(after["recall"]) == pytest.approx(expected.false_negative[star, 0], abs=6e-4)
    assert "LRP" in slider.get_attribute("aria-valuetext")
    row = next(row for row in page.all("#class-table tbody tr") if row.text.startswith("star"))
    assert row.text.split()[-1] == after["lrp"]
    page.find("#optimum").click()
    assert page.readout() == before


def test_slider_of_all_classes(page, problem):
    slider = page.find("#slider")
    optimum = page.readout()
    slider.send_keys(Keys.END)
    assert float(page.readout()["recall"]) < 0.2
    slider.send_keys(Keys.HOME)
    everything = page.readout()
    assert int(everything["tp"]) + int(everything["fp"]) == len(problem.detections)
    assert int(everything["tp"]) + int(everything["fn"]) == problem.counted.sum()
    assert float(optimum["lrp"]) < float(everything["lrp"])


def test_images_are_looked_at(page, problem):
    page.find("#gallery figure button").click()
    first = page.find("#browse-note").text
    page.find("#next").click()
    assert page.find("#browse-note").text != first
    box = page.find("#image-filter")
    box.send_keys("7\n")
    note = page.find("#browse-note").text
    assert "(id 7)" in note
    drawn = len(page.all("#image rect"))
    page.find("#show-truth").click()
    assert len(page.all("#image rect")) < drawn
    box.clear()
    box.send_keys("no such image\n")
    assert "No image here" in page.find("#browse-note").text


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_kinds_of_errors(page, kind):
    page.all("#worst-kinds button")[kind].click()
    pressed = [button.get_attribute("aria-pressed") for button in page.all("#worst-kinds button")]
    assert pressed == [str(place == kind).lower() for place in range(3)]
    assert page.all("#gallery figure")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_fits_windows_and_follows_the_colour_scheme(page, width, scheme):
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        overflow, background = page.browser.execute_script(
            "const { scrollWidth } = document.documentElement, { backgroundColor } = getComputedStyle(document.body);"
            "return [scrollWidth - innerWidth, backgroundColor]"
        )
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert overflow <= 0
    brightness = sum(map(int, background.removeprefix("rgb(").rstrip(")").split(","))) / 3
    assert (brightness > 128) == (scheme == "light")


EMPTY = {"nothing": (0, 0), "no detections": (1, 0), "no objects": (0, 1), "few": (1, 1)}


@pytest.mark.parametrize("name", EMPTY)
def test_pages_of_nearly_nothing_work_for_every_class(page, tmp_path: Path, name):
    truth, results = two_cats_and_a_dog()
    truth["categories"].append({"id": 8, "name": "of which there is nothing"})
    for image in truth["images"]:
        del image["width"], image["height"], image["file_name"]
    objects, detections = EMPTY[name]
    truth["annotations"] = truth["annotations"] * objects
    content = report_content(read_problem(truth, results * detections), title=name)
    (tmp_path / "page.html").write_text(render(content), encoding="utf-8")
    page.browser.get((tmp_path / "page.html").as_uri())
    assert page.browser.execute_script("return document.documentElement.dataset.ready") == "true"
    for category in ("cat", "dog", "of which there is nothing", "All classes"):
        page.choose(category)
        for place in range(0, 13, 4):
            page.all("#class-table thead button")[place].click()
    for kind in range(3):
        page.all("#worst-kinds button")[kind].click()
    page.find("#next").click()
    visible = page.find("body").text
    assert "NaN" not in visible
    assert "undefined" not in visible
    assert "Infinity" not in visible


def test_every_control_has_a_name(page):
    unnamed = page.browser.execute_script(
        "return [...document.querySelectorAll('button, input, select')].filter((e) => "
        "!e.textContent.trim() && !e.getAttribute('aria-label') && !e.labels?.length).length"
    )
    assert unnamed == 0


def test_a_comparison_is_shown_and_leads_to_the_images(page):
    rows = {row.text.split()[0]: row.text.split() for row in page.all("#changed-metrics tbody tr")}
    assert rows["AP"][2:4] == ["0.000", f"+{rows['AP'][1]}"]
    assert page.find("#changed-metrics tbody tr:first-child td.gain").text.startswith("+")
    assert "0 are found by both" in page.find("#changes-note").text
    page.find("#worst-kinds button:last-child").click()
    assert page.all("#gallery figure")
