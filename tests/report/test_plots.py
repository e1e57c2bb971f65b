"""Charts: pictures that can be opened, whatever the classes are called."""

import io

import numpy as np
import pytest
from PIL import Image

from crossatnet.report.plots import class_bars, class_map, code_length_curve, confusion_map, precision_recall_curves

ODD = ["$a_{$", "<b>", "c%d"]
RANDOM = np.random.default_rng(0)
CHARTS = {
    "bars": lambda: class_bars(dict.fromkeys(ODD, 0.5), 0.5),
    "one bar": lambda: class_bars({"a": 1.0}, 1.0),
    "curves": lambda: precision_recall_curves({name: np.linspace(1, 0.1, 101) for name in ODD}),
    "one curve": lambda: precision_recall_curves({"float": np.ones(101)}),
    "code lengths": lambda: code_length_curve({64: 0.2, 16: 0.1}, 0.3),
    "no score": lambda: code_length_curve({64: 0.0}, 0.0001),
    "map": lambda: class_map(RANDOM.normal(size=(6, 2)).astype(np.float32), ODD * 2, [True] * 3 + [False] * 3),
    "confusion": lambda: confusion_map(np.eye(3), ODD),
}


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_pictures(name: str) -> None:
    picture = Image.open(io.BytesIO(CHARTS[name]()))
    assert picture.format == "PNG"
    assert len(np.unique(np.asarray(picture.convert("L")))) > 10  # something is drawn
    assert picture.width >= 500


def test_more_classes_make_a_larger_chart() -> None:
    few, many = ({f"class {number}": number / 50 for number in range(size)} for size in (5, 50))
    heights = [Image.open(io.BytesIO(class_bars(scores, 0.5))).height for scores in (few, many)]
    assert heights[1] > 3 * heights[0]
