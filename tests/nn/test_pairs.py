"""Classifiers with a hidden layer: of one text, and of two that are compared."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.nn import build_part, part


def test_hidden_classifier_is_its_formula() -> None:
    head = build_part(part("hidden_classifier", hidden=8), 16, 5)
    x = torch.randn(2, 7, 16)
    expected = head.fc2(torch.relu(head.fc1(x.mean(1))))
    torch.testing.assert_close(head(x), expected)


def test_pair_classifier_is_its_formula() -> None:
    head = build_part(part("pair_classifier", hidden=8, norm=part("layer_norm")), 16, 5)
    first, second = torch.randn(3, 7, 16), torch.randn(3, 4, 16)
    a, b = head.pooled(first), head.pooled(second)
    torch.testing.assert_close(a, torch.nn.functional.layer_norm(first, (16,)).mean(1))
    hidden = head.fc1(torch.cat([a, b, a * b, a - b], dim=1)).relu()
    expected = head.fc3(head.fc2(hidden).relu())
    torch.testing.assert_close(head(torch.stack([a, b], dim=1)), expected)


def test_anything_but_two_vectors_is_refused() -> None:
    head = build_part(part("pair_classifier", hidden=8), 16, 5)
    with pytest.raises(UserError, match=r"Two vectors per sample are compared, \(batch, 2, dim\); got \(4, 16\)"):
        head(torch.randn(4, 16))
