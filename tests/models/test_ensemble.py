"""An ensemble says the mean of its members' probabilities, and is a network like any other."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from formwright.deployment.export import export_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.models import create_model, from_pretrained
from tests.conformance.instances import tiny_network


def test_it_says_the_mean_of_the_probabilities():
    model = tiny_network("ensemble")
    pictures = model.example(3).double()
    mean = sum(member(pictures).softmax(-1) for member in model.members) / len(model.members)
    torch.testing.assert_close(model(pictures).exp(), mean)


def test_it_is_saved_and_exported_as_one(tmp_path):
    model = tiny_network("ensemble").float()
    model.save_pretrained(tmp_path)
    again, pictures = from_pretrained(tmp_path), model.example(2)
    assert torch.equal(again(pictures), model(pictures))
    export_onnx(again, tmp_path / "model.onnx", model.example())
    scores = torch.from_numpy(OnnxModel(tmp_path / "model.onnx")(pictures.numpy()))
    torch.testing.assert_close(scores, model(pictures), rtol=1e-4, atol=1e-4)


def test_members_take_the_same_inputs():
    specification = tiny_network("ensemble").specification
    with pytest.raises(UserError, match="at least one member"):
        create_model(dataclasses.replace(specification, members=()))
    other = tiny_network("pair").specification.to_dict()
    with pytest.raises(UserError, match="take the same inputs"):
        create_model(dataclasses.replace(specification, members=(*specification.members, other)))
