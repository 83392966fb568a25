import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pneumospark.io import plots
from pneumospark.io.gallery import Sample, explained, overlay
from pneumospark.io.report import PUBLISHED, ROWS, write_report
from pneumospark.learn.bootstrap import Terms
from pneumospark.learn.compare import compare
from pneumospark.learn.judge import Cases, judge
from pneumospark.learn.metrics import metrics
from pneumospark.spec import ImageSpec

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TRUTH = np.repeat([0, 0, 1, 1], [19, 4, 1, 38])
PROBABILITY = np.concatenate([np.linspace(0, 0.4, 19), [0.6] * 4, [0.3], np.linspace(0.5, 1, 38)])
HEAT = np.linspace(0, 1, 49, dtype=np.float32).reshape(1, 7, 7)
NASTY = 's3://x/"><script>alert(1)</script>/胸部 Röntgen & $x_1$/a.jpeg'


class Page(HTMLParser):
    """Every element's name and attributes, and the text between them."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def images(self):
        return [attributes for tag, attributes in self.elements if tag == "img"]


TERMS = Terms(resamples=50)


def sample(path="file:/a.jpeg", label="normal", prediction="normal"):
    pixels = np.arange(300 * 200, dtype=np.uint32).reshape(300, 200).astype(np.uint8)
    return Sample(path, pixels, label, prediction, 0.25)


def judged(name="test split", truth=TRUTH, probability=PROBABILITY, threshold=0.5, **more):
    findings = [("virus",) if ill else () for ill in truth]
    cases = Cases(truth, probability, np.arange(len(truth)) // 2, threshold, {"findings": findings})
    return judge(name, cases, TERMS, {"other_labels": {}, "external": [], **more})


def write(folder, internal=None, **changes):
    """The page, after a check that both files went through the opener, `metrics.json` last."""
    content = {
        "internal": internal or judged(),
        "balance": {"train": {"normal": 1349, "pneumonia": 3883}, "test": {"normal": 23}},
        "errors": explained([sample("file:/b.jpeg", prediction="pneumonia")], ImageSpec(), lambda pixels: HEAT),
        "samples": [sample(), sample("file:/c.jpeg", *["pneumonia"] * 2)],
        "facts": {"split": "test", "images": "s3://hospital/images"},
    }
    opened = []

    def open_for_write(name):
        opened.append(name)
        return Path(name).open("wb")

    write_report(f"{folder}/", **{**content, **changes}, open_for_write=open_for_write)
    assert opened == [f"{folder}/index.html", f"{folder}/metrics.json"]
    return (folder / "index.html").read_text("utf-8")


def everything(folder, path="file:/a.jpeg"):
    """A page with all its sections: two models compared, an external set, other labels, long names everywhere."""
    name, truth = "s3://hospital/" + "f" * 200, np.tile([0, 1], 60)
    probability = np.clip(np.random.default_rng(0).normal(0.4 + 0.2 * truth, 0.2), 0, 1)
    pair = compare(truth, (probability, 0.5), (probability[::-1], 0.5), np.arange(120), TERMS)
    tests = {"first": "7f3a", "second": "f" * 16, **pair}
    external = judged(name, truth, probability, other_labels={"other": {"n": 7, "called": 3}})
    internal = judged(name, comparison=tests, other_labels={"other": {"n": 9, "called": 4}})
    facts = {"model": "f" * 200}
    return write(folder, internal, externals=[external], samples=[sample(path, "pneumonia")] * 3, facts=facts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def html(folder):
    return write(folder)


def test_metrics_json_is_what_came_in(html, folder):
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures == judged().figures
    of_all = metrics(TRUTH, PROBABILITY, 0.5, np.arange(len(TRUTH)) // 2, TERMS)
    assert {name: figures[name] for name in of_all} == of_all


def test_page_is_self_contained(html):
    page = Page(html)
    assert len(page.images()) == 6 + 2 + 2
    for attributes in page.images():
        assert attributes["src"].startswith("data:image/")
        assert len(attributes["alt"]) > 20
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not any({"href", "srcset", "onload", "onerror"} & attributes.keys() for _, attributes in page.elements)
    assert not re.search(r"url\(|@import", html)


def test_every_picture_decodes(html):
    for attributes in Page(html).images():
        kind, _, content = attributes["src"].partition(";base64,")
        content = base64.b64decode(content, validate=True)
        if kind == "data:image/svg+xml":
            assert ElementTree.fromstring(content).tag.endswith("svg")
        else:
            assert Image.open(io.BytesIO(content)).size == (149, 224)  # 200 x 300, made smaller


def test_page_says_what_it_must(html):
    text = " ".join(Page(html).text.split())
    assert "Research software, not for diagnosis" in text
    assert "Another test set: for orientation, not a comparison" in text
    figures = metrics(TRUTH, PROBABILITY, 0.5)
    for name, words in ROWS.items():
        assert f"{words} {figures[name]:.3f}" in text
    assert all(f"{value:.3f}" in text for value in PUBLISHED.values())
    low, high = figures["intervals"]["roc_auc"]
    assert f"{low:.3f} to {high:.3f}" in text
    low, high = judged().figures["bootstrap"]["intervals"]["ece"]
    assert f"{low:.3f} to {high:.3f}" in text
    assert "findings: virus small 39 (20)" in text and "findings: (none) small 23 (12)" in text
    assert "s3://hospital/images" in text


def test_published_figures_are_those_of_the_published_matrix():
    truth = np.repeat([0, 0, 1, 1], [190, 44, 11, 379])
    called = np.repeat([0.0, 1.0, 0.0, 1.0], [190, 44, 11, 379])
    figures = metrics(truth, called, 0.5)
    assert {name: round(figures[name], 3) for name in PUBLISHED} == PUBLISHED


def test_alternative_texts_hold_the_figures(html):
    alts = " ".join(attributes["alt"] for attributes in Page(html).images())
    assert "19 true negatives, 4 false positives, 1 false negatives, 38 true positives" in alts
    assert "train: normal 1,349, pneumonia 3,883; test: normal 23" in alts
    assert "at threshold 0.5 recall is 0.974 and specificity 0.826" in alts


def test_only_the_wrong_sample_is_framed_and_named_wrong(html):
    frames = [attributes["class"] for tag, attributes in Page(html).elements if "sample" in attributes.get("class", "")]
    assert frames == ["samples", "sample wrong", "samples", "sample", "sample"]
    assert re.findall(r'"verdict">(\w+)<', html) == ["Wrong", "Correct", "Correct"]


@pytest.mark.parametrize(
    ("label", "prediction", "correct"),
    [("normal", "other", True), ("pneumonia", "other", False), ("normal", "pneumonia", False)],
)
def test_a_sample_is_right_where_the_figures_count_it_right(label, prediction, correct):
    assert sample("file:/a.jpeg", label, prediction).correct == correct


def test_text_from_outside_stays_text(tmp_path):
    no_utf8 = "file:/a\udcff.jpeg"
    html = write(
        tmp_path,
        judged(NASTY),
        samples=[sample(NASTY, NASTY), sample(no_utf8)],
        facts={NASTY: NASTY},
        balance={"a": {r"$\frac$": 1}},
    )
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(NASTY) == 2 + 1 + 1 + 2 + 1  # title, headings, label, fact's two cells, path
    assert "file:/a\\udcff.jpeg" in page.text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("truth", "probability", "threshold"),
    [
        ([0, 0, 0], [0.0, 0.2, 0.9], 0.5),
        ([0, 1], [0.1, 0.2], 0.5),
        ([1], [1.0], 0.0),
    ],
)
def test_undefined_figures_still_render(tmp_path, truth, probability, threshold):
    undefined = judged("all", np.array(truth), np.array(probability), threshold)
    html = write(tmp_path, undefined, balance={}, errors=[], samples=[], facts={})
    assert "undefined" in Page(html).text
    assert "nan" not in Page(html).text.lower()
    assert len(Page(html).images()) == 6


def test_the_same_data_give_the_same_bytes():
    assert plots.histogram(TRUTH, PROBABILITY, 0.5) == plots.histogram(TRUTH, PROBABILITY, 0.5)


def test_nan_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write(tmp_path, judged(mae=float("nan")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pixels", [np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8)])
def test_sample_refuses_other_pixels(pixels):
    with pytest.raises(ValueError, match=r"pixels of file:/a.jpeg: expected uint8, height x width, got \w+ \(4, 4"):
        Sample("file:/a.jpeg", pixels, "normal", "normal", 0.1)


def test_other_sets_and_another_model_stand_beside(tmp_path):
    page = Page(everything(tmp_path))
    text = " ".join(page.text.split())
    assert "9 further images are labelled “other”" in text and "calls 3 of them pneumonia" in text
    assert f"Against model {'f' * 16}" in text and "Images, of them pneumonia 62, 39 120, 60" in text
    assert len(page.images()) == 6 + 2 + 2 + 3


def test_each_set_has_a_curve_and_a_name_of_its_own(tmp_path, monkeypatch):
    drawn = []
    paint = plots.Axes.legend
    monkeypatch.setattr(plots.Axes, "legend", lambda axes, *a, **k: drawn.append(axes) or paint(axes, *a, **k))
    north, south = (f"/data/hospital-{side}/tables/radiology/images-2024" for side in ("north", "south"))
    for names in ((north, south), (north, north), ("/a", "/b")):
        drawn.clear()
        write(tmp_path, externals=[judged(name) for name in names])
        beside = [axes.get_legend_handles_labels()[1] for axes in drawn[-2:]]
        assert beside[0] == beside[1] and len(set(beside[0])) == 3
    assert beside[0] == ["test split", "/a", "/b"]


def test_heat_colours_what_it_lies_on_and_nothing_else():
    pixels = np.full((28, 28), 100, np.uint8)
    heat = np.zeros((7, 7), np.float32)
    heat[5:, 5:] = 1
    seen = overlay(pixels, heat)
    assert seen.shape == (28, 28, 3) and (seen[:14, :14] == 100).all()
    assert np.ptp(seen[27, 27].astype(int)) > 50


BROWSE = """<iframe id=f src=index.html width=WIDTH height=900></iframe><script>onload = () => {
  const page = document.getElementById("f").contentDocument, images = [...page.images];
  const boxes = [page.documentElement, ...page.querySelectorAll(".card")];
  const texts = page.querySelectorAll("td, th, p, span");
  document.title = [images.filter(i => i.complete && i.naturalWidth > 0).length,
    Math.max(...boxes.map(e => e.scrollWidth - e.clientWidth)),
    Math.min(...[...texts].map(e => parseFloat(getComputedStyle(e).fontSize)))]
}</script>"""
"""A script of the test's own page measures the report within a frame: headless windows are 500 pixels at least."""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: chromium, chromium-browser or google-chrome")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_all_without_complaint(tmp_path, width):
    """Every picture is drawn, nothing sticks out to the side, no text is below 11 pixels, the console stays empty."""
    everything(tmp_path, NASTY)
    (tmp_path / "probe.html").write_text(f"<!doctype html>{BROWSE.replace('WIDTH', str(width))}")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command += ["--enable-logging=stderr", "--v=0", (tmp_path / "probe.html").as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    pictures, hidden, smallest = re.search(r"<title>(\d+),(\d+),([\d.]+)</title>", found.stdout).groups()
    assert (int(pictures), int(hidden), float(smallest) >= 11) == (6 + 2 + 2 + 3, 0, True)
    assert not [line for line in found.stderr.splitlines() if "CONSOLE" in line]
