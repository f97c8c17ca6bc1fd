"""Shipped folders with models that were never trained: what is read and written is to be seen, not what is learned."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from formwright.data.calendar import clock_frequency
from formwright.data.series import ColumnRoles
from formwright.data.tokenization import ByteTokenizer
from formwright.deployment.preparations.forecasting import ForecastPreparation
from formwright.deployment.preparations.language_modelling import LanguagePreparation
from formwright.deployment.preparations.text_classification import TextPreparation
from formwright.inference.intervals import Intervals

LENGTH, HORIZON = 16, 2


def save(folder, nodes, ids, output, **constants):
    folder.mkdir()
    kind = TensorProto.INT64 if ids else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "untrained",
        [helper.make_tensor_value_info("x", kind, ["batch", LENGTH] if ids else ["batch", 4, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *output])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def text_folder(folder, labels=("NA", "007"), column=""):
    """A classifier that adds up bytes."""
    cast = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
    weights = np.random.default_rng(0).normal(0, 0.01, (LENGTH, len(labels))).astype(np.float32)
    save(folder, [cast, helper.make_node("MatMul", ["f", "w"], ["y"])], True, [len(labels)], w=weights)
    TextPreparation(ByteTokenizer(), LENGTH, tuple(labels), column=column).save(folder)
    return folder


def language_folder(folder):
    """A model of language that finds all bytes alike likely."""
    table = np.zeros((258, 258), np.float32)
    save(folder, [helper.make_node("Gather", ["w", "x"], ["y"])], True, [LENGTH, 258], w=table)
    LanguagePreparation(ByteTokenizer(), LENGTH).save(folder)
    return folder


def forecast_folder(folder, series=None):
    """A forecaster of days that says what was ``HORIZON`` days before."""
    nodes = [helper.make_node("Slice", ["x", "start", "end", "axes"], ["y"])]
    places = {"start": [4 - HORIZON, 0], "end": [4, 1], "axes": [1, 2]}
    save(folder, nodes, False, [HORIZON, 1], **{name: np.array(value) for name, value in places.items()})
    ForecastPreparation(
        layout=ColumnRoles(("sales",)),
        frequency=clock_frequency(86_400_000_000_000),
        length=4,
        horizon=HORIZON,
        time_column="date",
        series_column=series,
        scalings={},
        intervals=Intervals(-np.ones((HORIZON, 1)), np.ones((HORIZON, 1)), 0.9, np.inf),
    ).save(folder)
    return folder
