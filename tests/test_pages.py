"""The Python code of the pages, run from top to bottom as a reader would, on small data and with fewer steps."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import formwright
from formwright.deployment import load_preparation
from formwright.deployment.runtime import OnnxModel
from formwright.fitting import FitResult, final, run, shrink
from formwright.fitting import fit as real_fit
from formwright.shapes import PictureShape, SeriesShape, TextShape
from tests.fitting.sample import few_candidates

ROOT = Path(__file__).parent.parent
PAGES = sorted(page for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if "```python" in page.read_text())
ONNX_PAGE = ROOT / "docs/how-to/ship-to-onnx-runtime.md"
HUB = "hf:sentence-transformers/all-MiniLM-L6-v2"

#: What is replaced in the code of a page, so that it takes seconds and needs no network.
INSTEAD = {
    "README.md": [],
    "docs/how-to/find-objects.md": [
        ("coloured_shapes(2048, side=48)", "coloured_shapes(32, side=48)"),
        ("coloured_shapes(128, side=48, seed=1)", "coloured_shapes(8, side=48, seed=1)"),
        ("600", "2"),
    ],
    "docs/how-to/use-a-checkpoint.md": [(HUB, "all-MiniLM-L6-v2/")],
    "docs/how-to/compare-mixers.md": [("train=2000, test=500", "train=20, test=10"), ("steps=200", "steps=1")],
    "docs/how-to/train-your-own.md": [("epochs=30", "epochs=1"), ("epochs=40", "epochs=2"), ("steps=400", "steps=2")],
    "docs/how-to/classify-light-curves.md": [
        (
            'read_light_curves("seen.csv", "labels.csv").around_detections(days=50)',
            "synthetic_light_curves(140, seed=0)",
        ),
        ("300", "2"),
    ],
    "docs/how-to/measure-scaling-laws.md": [("steps=200", "steps=4")],
    "docs/how-to/tile-large-inputs.md": [("(96, 96, 96)", "(16, 16, 16)")],
    "docs/how-to/draw-pictures.md": [("1500", "2"), ("steps=20", "steps=2"), ("(16,)", "(2,)")],
}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_of(page: Path) -> list[str]:
    """The code of a page, with what is replaced; blank lines before it keep the numbers of lines."""
    text = page.read_text()
    blocks = []
    for found in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        code = found[1]
        for old, new in INSTEAD.get(name_of(page), []):
            code = code.replace(old, new)
        blocks.append("\n" * text[: found.start(1)].count("\n") + code)
    return blocks


def test_what_is_replaced_stands_in_the_pages() -> None:
    for page, pairs in INSTEAD.items():
        code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL))
        assert [old for old, _ in pairs if old not in code] == [], page


def write_data(root: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(40):
        slope = np.linspace(0, 160, 16)[:: 1 if index % 2 else -1]
        pixels = (random.random((20, 16, 3)) * 90 + slope[None, :, None]).astype(np.uint8)
        path = root / "photos" / ("cat" if index % 2 else "dog") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    turned = Image.Exif()
    turned[0x0112] = 6
    (root / "new").mkdir()
    large = (random.random((30, 40, 3)) * 255).astype(np.uint8)
    Image.fromarray(large).resize((400, 300)).save(root / "new" / "1.jpg", exif=turned)
    words = {"good": "great fine lovely superb film", "bad": "awful poor nasty sad film"}
    lines = [
        f"{' '.join(random.choice(words[kind].split(), size=6))} {index},{kind}"
        for index in range(80)
        for kind in [("good", "bad")[index % 2]]
    ]
    (root / "reviews.csv").write_text("review,stars\n" + "\n".join(lines) + "\n")
    days = pd.date_range("2022-01-01", periods=207, freq="D")
    price = np.round(random.random(207), 2)
    units = np.round(50 + 10 * np.sin(np.arange(207) * 2 * np.pi / 7) + 5 * price + random.normal(size=207), 2)
    table = pd.DataFrame({"date": days, "units": units, "visitors": units // 2, "price": price})
    table.loc[200:, ["units", "visitors"]] = np.nan
    table.to_csv(root / "sales.csv", index=False)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """A folder with data and a small run of each task that the pages write of."""
    root = tmp_path_factory.mktemp("pages")
    write_data(root)
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (run, "SHORTEST_RUN", 1.0),
            (run, "SHRINK_LEAST", 2.0),
            (run, "SHIP_LEAST", 1.0),
            (shrink, "SHORTEST_RECOVERY", 60.0),
            (final, "SHORTEST", 60.0),
        ):
            patch.setattr(module, name, value)
        few_candidates(patch, "image-classification", ("poolformer",), PictureShape, (8,))
        few_candidates(patch, "text-classification", ("bag_of_embeddings",), TextShape, (8,))
        few_candidates(patch, "forecasting", ("linear_forecaster",), SeriesShape, (8,))
        patch.chdir(root)
        real_fit("photos", out="runs/photos", max_time=4, threads=1)
        real_fit("reviews.csv", out="runs/reviews", max_time=4, threads=1, label_column="stars")
        real_fit("sales.csv", out="runs/sales", max_time=4, threads=1, target="units", horizon=7, known="price")
    return root


@pytest.fixture
def place(workplace, tmp_path, monkeypatch):
    """The working folder of a page, in which fit finds its runs made already."""
    root = tmp_path / "page"
    shutil.copytree(workplace, root)
    monkeypatch.chdir(root)

    def fit(data, *, out, **options):
        assert os.path.exists(data), data
        return FitResult.from_dict(json.loads((root / out / "metrics.json").read_text()))

    monkeypatch.setattr(formwright, "fit", fit, raising=False)
    return root


def add_checkpoints(root: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tests.fitting.test_weights import WORDS, word_pieces

    tokenizer = word_pieces(WORDS)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=tokenizer.vocabulary, max_position_embeddings=40, **sizes)
    transformers.BertModel(config).save_pretrained(root / "all-MiniLM-L6-v2")
    (root / "all-MiniLM-L6-v2" / "tokenizer.json").write_text(json.dumps(tokenizer.to_json()))


def add_published(root: Path) -> None:
    torch.save(formwright.create_model("poolformer_s12").state_dict(), root / "poolformer_s12.pth.tar")


def add_organs(root: Path) -> None:
    formwright.create_model("unet_3d_small").save_pretrained(root / "models" / "organs")


PREPARED = {
    "README.md": [add_published],
    "docs/how-to/tile-large-inputs.md": [add_organs],
    "docs/how-to/use-a-checkpoint.md": [add_checkpoints, add_published],
}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_code_of_a_page_runs(page: Path, place: Path) -> None:
    for prepare in PREPARED.get(name_of(page), []):
        prepare(place)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "__page__", "volume": torch.randn(1, 1, 24, 24, 24)}
    for code in code_of(page):
        exec(compile(code, str(page), "exec"), names)


def plain_programs() -> dict[str, str]:
    """The programs of the page on ONNX Runtime by the run that they use; those that need Formwright left out."""
    found = [code for code in code_of(ONNX_PAGE) if "formwright" not in code]
    return {re.search(r"runs/(\w+)/model", code)[1]: code for code in found}


def test_plain_programs_read_pictures_as_prediction_does(place: Path) -> None:
    random = np.random.default_rng(1)
    pixels = (random.random((50, 70, 4)) * 255).astype(np.uint8)
    Image.fromarray(pixels).save("new/alpha.png")
    Image.fromarray(pixels[..., 0]).save("new/grey.png")
    Image.fromarray(pixels[..., :3]).convert("P").save("new/palette.gif")
    Image.fromarray(pixels[..., :3]).convert("CMYK").save("new/cmyk.tif")
    Image.fromarray(pixels[:20, :16, :3]).save("new/same.png")
    names: dict = {}
    exec(plain_programs()["photos"], names)
    files = sorted(map(str, Path("new").iterdir()))
    assert len(files) == 6
    rules, session = names["rules"], names["session"]
    for answer in formwright.predict("runs/photos", files):
        (scores,) = session.run(None, {"input": names["prepare"](answer.file)[None]})
        powers = np.exp(scores[0] - scores[0].max())
        assert rules["labels"][scores.argmax()] == answer.label
        np.testing.assert_allclose(powers / powers.sum(), list(answer.probabilities.values()), atol=1e-5)
        ours = OnnxModel("runs/photos/model.onnx")(load_preparation("runs/photos").read(answer.file)[None])
        np.testing.assert_allclose(scores, ours, atol=1e-5)


def test_plain_programs_read_texts_as_prediction_does(place: Path) -> None:
    names: dict = {}
    exec(plain_programs()["reviews"], names)
    texts = ["a film to remember", "GREAT, fine; Lovely!", "ünï", " ".join(["awful"] * 400)]
    for answer in formwright.predict("runs/reviews", texts):
        (scores,) = names["session"].run(None, {"input": np.array([names["prepare"](answer.file)])})
        powers = np.exp(scores[0] - scores[0].max())
        assert names["rules"]["labels"][scores.argmax()] == answer.label
        np.testing.assert_allclose(powers / powers.sum(), list(answer.probabilities.values()), atol=1e-5)


def test_plain_programs_read_series_as_prediction_does(place: Path) -> None:
    names: dict = {}
    exec(plain_programs()["sales"], names)
    rules = Path("runs/sales/preprocessing.json")
    rules.write_text(json.dumps({**json.loads(rules.read_text()), "weights": {"network": 1.0}}))
    (answer,) = formwright.predict("runs/sales", ["sales.csv"])
    assert answer.times[0].startswith("2022-07-20")
    np.testing.assert_allclose(names["forecast"], answer.values, atol=1e-4)
    np.testing.assert_allclose(names["forecast"] + names["low"], answer.low, atol=1e-4)


def test_shipped_files_say_how_they_are_used(workplace: Path) -> None:
    import onnxruntime

    for name, task in (
        ("photos", "image-classification"),
        ("reviews", "text-classification"),
        ("sales", "forecasting"),
    ):
        folder = workplace / "runs" / name
        for file in folder.glob("*.onnx"):
            entries = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
            written = json.loads((folder / "preprocessing.json").read_text())
            assert entries["task"] == written["task"] == task
            assert json.loads(entries["preprocessing"]).items() <= written.items()
            if task != "forecasting":
                assert json.loads(entries["labels"]) == written["labels"]
