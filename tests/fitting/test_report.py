"""The report is whole, alone, escaped, and says what was measured."""

from __future__ import annotations

import base64
import io
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from formwright.data import read_images
from formwright.errors import UserError
from formwright.fitting.records import FitResult
from formwright.fitting.report import BUILT_IN, fit_command, write_report
from formwright.fitting.shown import picture
from formwright.measurement.budget import Budget, format_bytes, format_seconds
from tests.fitting.sample import sample_pictures, sample_result

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The tags, attributes and text of a page; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def written(result: FitResult, folder: Path, **options) -> Page:
    path = folder / "run" / "report.html"
    pictures = options.get("pictures", sample_pictures(result))
    write_report(result, path, attachments={number: picture(one) for number, one in pictures.items()})
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    return Page(path.read_text(encoding="utf-8"))


def test_key_figures_are_there(tmp_path):
    result = sample_result()
    words = written(result, tmp_path).words
    shipped = result.shipped
    for text in (
        result.model,
        f"{100 * result.test['accuracy']:.1f} %",
        f"{100 * result.test['accuracy_low']:.1f} %",
        "meets the budget",
        "at most 2 ms",
        "at most 1 MB",
        "at most 20m",
        format_seconds(shipped.latency),
        format_bytes(shipped.size),
        "plain ResNet",
        "majority class",
        "3.8 × 10⁻⁶",
        "the loss became infinite at step 212",
        "prune heads and hidden channels ✗ tried, rejected",
        "merge tokens – not tried",
        "412 pictures are copies",
        "onnxruntime",
        "shipped: the most accurate",
        "ship 38 s exporting and checking the export rest 15 s",
        "Search time 19m25s",
        "airplane (6,000), automobile (6,000)",
    ):
        assert text in words, text
    assert all(trial.name in words for trial in result.trials)


def test_needs_nothing_but_itself(tmp_path):
    result = sample_result()
    page = written(result, tmp_path)
    html = (tmp_path / "run" / "report.html").read_text()
    assert not page.all("script")
    assert not page.all("link")
    assert not page.all("iframe")
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:image/png;base64,", "data:", "#")), tag
    assert "@import" not in html
    assert "url(" not in html
    assert "default-src 'none'" in html
    assert not re.search(r"https?://", html)
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {a["href"][1:] for a in page.all("a")} <= targets
    assert len(html) < 500_000


def test_names_of_classes_and_files_are_only_text(tmp_path):
    evil = "<script>alert('x')</script>"
    result = sample_result((evil, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "d"), test_pictures=400)
    for mistake in result.details["mistakes"]:
        mistake["file"] = f'{evil}" onload="x'
    result.data["source"] = f"photos {evil}"
    result.model = result.trials[0].name = result.trials[0].reason = evil
    page = written(result, tmp_path)
    assert not page.all("script")
    assert all(image["src"].startswith("data:image/png") for image in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert evil in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_file_names_that_are_no_text_do_not_stop_it(tmp_path):
    result = sample_result()
    result.details["mistakes"][0]["file"] = "bird/\udcff.png"
    assert "bird/?.png" in written(result, tmp_path).text


def test_mistakes_are_shown_pixel_for_pixel(tmp_path):
    result = sample_result(mistakes=3)
    pictures, first = sample_pictures(result, 8, 8, 1), result.details["mistakes"][0]
    del pictures[result.details["mistakes"][2]["index"]]
    page = written(result, tmp_path, pictures=pictures)
    images = page.all("img")
    assert len(images) == 2
    assert all(image["class"] == "tiny" for image in images)
    assert images[0]["alt"] == (f"Test picture {first['file']}: {first['true']}, taken for {first['predicted']}")
    content = base64.b64decode(images[0]["src"].partition(",")[2])
    shown = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(shown, pictures[result.details["mistakes"][0]["index"]][..., 0])
    assert "no picture" in page.words


def test_large_pictures_become_small_ones(tmp_path):
    result = sample_result(mistakes=1)
    page = written(result, tmp_path, pictures=sample_pictures(result, 900, 600))
    (image,) = page.all("img")
    assert Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))).size == (149, 224)


def test_a_perfect_model_has_no_mistakes(tmp_path):
    result = sample_result(mistakes=0)
    result.details["confusion"] = np.diag([1000] * 10).tolist()
    result.test |= {"accuracy": 1.0, "accuracy_low": 0.9996, "accuracy_high": 1.0}
    words = written(result, tmp_path).words
    assert "There are none to show." in words
    assert "every test picture is right" in words
    assert "95 % interval of the accuracy: 99.96 % to 100.0 %" in words


def test_one_variant_and_no_budget(tmp_path):
    result = sample_result()
    result.variants, result.shrink = [result.shipped], []
    result.budget = {"latency": None, "size": None, "macs": None, "time": None}
    words = written(result, tmp_path).words
    assert "without a limit" in words
    assert "the budget" not in words
    assert words.count("no limit was set") == 4
    assert "1 exported form of the best was measured" in words
    assert "shaded" not in words


def test_a_missed_budget_is_said_in_words(tmp_path):
    result = sample_result()
    result.budget_met, result.violations = False, ["latency 2.6 ms is over 2 ms"]
    result.shipped.latency = 0.0026
    result.time["total"] = 1290.0
    words = written(result, tmp_path).words
    assert "misses the budget: latency 2.6 ms is over 2 ms." in words
    assert "✗ over the limit" in words
    assert "✓ within a tenth of the limit" in words


def test_what_must_not_be_missed_is_said_at_the_top(tmp_path):
    result = sample_result()
    assert "Note:" not in written(result, tmp_path / "well").words
    result.baselines[1].score = 0.963
    result.time["total"] = 1500.0
    words = written(result, tmp_path / "badly").words
    assert "A simple competitor is better on the test pictures: logistic regression, 96.3 %." in words
    assert "The search took 25m instead of 20m." in words


def test_a_hundred_classes_are_a_picture_with_every_name(tmp_path):
    classes = tuple(f"kind {index}" for index in range(100))
    result = sample_result(classes, best=0.6)
    page = written(result, tmp_path)
    (matrix,) = page.all("image")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(matrix["href"].partition(",")[2]))))
    counts = np.array(result.details["confusion"])
    assert pixels.shape == (100, 100, 4)
    np.testing.assert_array_equal(pixels[..., 3] > 0, counts > 0)
    assert all(name in page.text for name in classes)
    true, guess = divmod(int(np.argmax(counts - np.diag(np.diag(counts)))), 100)
    assert f"kind {true} taken for kind {guess}: {counts[true, guess]} times" in page.words


def test_only_failed_trials_beside_the_winner(tmp_path):
    result = sample_result()
    for trial in result.trials:
        if trial.number != result.shipped.trial:
            trial.status, trial.reason, trial.curve = "failed", "the loss became infinite", []
    words = written(result, tmp_path).words
    assert "18 candidates were considered: 1 trained to the end, 17 failed." in words


def test_the_command_repeats_the_run():
    result = sample_result()
    result.data["source"] = "my photos/cifar"
    result.budget = {"latency": 0.0021234, "size": 1_234_567, "macs": 1_500_000, "time": 5400.0}
    words = shlex.split(fit_command(result, "runs/mine"))
    assert words[:3] == ["formwright", "fit", "my photos/cifar"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options.pop("--out") == "runs/mine-again"
    assert options.pop("--seed") == "0"
    assert options.pop("--task") == "image-classification"
    budget = Budget.parse(**{name[2:].replace("-", "_"): value for name, value in options.items()})
    assert (budget.latency, budget.size) == (pytest.approx(0.0021234), 1_234_567)
    assert (budget.macs, budget.time) == (1_500_000, 5400.0)


def test_the_command_names_no_data_for_what_is_built_in():
    result = sample_result()
    result.data["source"] = read_images(None).source
    assert result.data["source"] == BUILT_IN
    assert shlex.split(fit_command(result, "out"))[:3] == ["formwright", "fit", "--max-latency"]


def test_paths_are_quoted_for_the_shell_and_for_python(tmp_path):
    result = sample_result(mistakes=0)
    folder = tmp_path / "it's mine"
    write_report(result, folder / "report.html", attachments={})
    text = Page((folder / "report.html").read_text()).text
    assert f"formwright predict {shlex.quote(str(folder))} picture.png" in text
    assert f"from_pretrained({str(folder)!r})" in text


def test_the_same_after_a_round_trip_through_json(tmp_path):
    result = sample_result()
    again = FitResult.from_dict(result.to_dict())
    write_report(result, tmp_path / "report.html", attachments={})
    first = (tmp_path / "report.html").read_bytes()
    write_report(again, tmp_path / "report.html", attachments={})
    assert (tmp_path / "report.html").read_bytes() == first


def test_a_place_that_cannot_be_written_is_a_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        write_report(sample_result(), tmp_path / "file" / "report.html", attachments={})
