"""Stems of classifiers of texts: padding changes nothing, n-grams count, streams agree."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from formwright.errors import UserError
from formwright.models import create_model
from formwright.models.language.text_classifiers import bag_of_embeddings, text_cct, text_cnn
from formwright.models.language.transformer import decoder
from formwright.nn import Context, build_part, part
from formwright.nn.specification import ChainSpec

COMMON = {"vocabulary": 50, "length": 24, "padding": 0, "classes": 3}
SPECIFICATIONS = {
    "bag": bag_of_embeddings(dim=8, ngrams=3, buckets=64, **COMMON),
    "cnn": text_cnn(dim=12, embedding=8, kernels=(2, 3, 4), **COMMON),
    "cct": text_cct(dim=16, depth=1, heads=2, mlp_ratio=1.0, embedding=8, **COMMON),
}
each = pytest.mark.parametrize("specification", SPECIFICATIONS.values(), ids=list(SPECIFICATIONS))


def randomised(specification: ChainSpec) -> torch.nn.Module:
    torch.manual_seed(0)
    model = create_model(specification).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def ids(*lengths: int, width: int = 24) -> torch.Tensor:
    torch.manual_seed(1)
    rows = torch.randint(1, 50, (len(lengths), width))
    for row, length in zip(rows, lengths, strict=True):
        row[length:] = 0
    return rows


@each
def test_how_far_a_text_is_padded_does_not_matter(specification):
    model = randomised(specification)
    rows = ids(9, 10, 1, 12)
    for width in (12, 13, 16):
        torch.testing.assert_close(model(rows[:, :width]), model(rows), rtol=1e-9, atol=1e-9)


@each
def test_every_parameter_learns(specification):
    model = create_model(specification)
    model(ids(9, 24, 3)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert ChainSpec.from_dict(specification.to_dict()) == specification


def test_order_matters_to_ngrams_and_not_to_words():
    rows = ids(24)
    turned = rows.flip(1)
    words = randomised(dataclasses.replace(SPECIFICATIONS["bag"], embed=part("ngram_embedding", ngrams=1)))
    torch.testing.assert_close(words(rows), words(turned))
    ngrams = randomised(SPECIFICATIONS["bag"])
    assert (ngrams(rows) - ngrams(turned)).abs().max() > 1e-3


@pytest.mark.parametrize("pieces", [[24], [1] * 24, [5, 1, 18]])
def test_a_stream_knows_the_ngrams_of_the_whole(pieces):
    specification = dataclasses.replace(
        decoder(dim=16, depth=1, heads=2, vocabulary=50, length=24),
        embed=part("ngram_embedding", ngrams=4, buckets=64),
    )
    model = randomised(specification)
    rows = ids(24, 24)
    state = model.init_state(2, 24)
    found = []
    for piece in rows.split(pieces, dim=1):
        scores, state = model.stream(piece, state)
        found.append(scores)
    torch.testing.assert_close(torch.cat(found, 1), model(rows), rtol=1e-9, atol=1e-9)


def test_padding_behind_a_piece_is_not_remembered():
    stem = build_part(part("ngram_embedding", ngrams=3, buckets=32), 50, 8)
    for table in stem.tables:
        torch.nn.init.normal_(table)
    rows = ids(12, 12, width=12)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    state = {**stem.init_state(2, 12), "length": torch.zeros(2, dtype=torch.int64)}
    _, state = stem.stream(rows[:, :5], state, Context(mask=mask))
    whole, _ = stem(rows)
    after, _ = stem.stream(torch.stack([rows[0, 5:7], rows[1, 3:5]]), state)
    torch.testing.assert_close(after[0], whole[0, 5:7])
    torch.testing.assert_close(after[1], whole[1, 3:5])


def test_the_largest_of_real_tokens():
    pool = build_part(part("max_pool"), 2)
    x = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    assert pool(x, Context(mask=mask)).tolist() == [[3.0, -5.0]]
    assert pool(x).tolist() == [[9.0, 9.0]]


def test_what_cannot_be_built():
    with pytest.raises(UserError, match="at least one token"):
        build_part(part("ngram_embedding", ngrams=0), 10, 4)
    with pytest.raises(UserError, match="shared by 3 kernels"):
        build_part(part("convolutional_ngrams", embedding=4), 10, 8)
    with pytest.raises(UserError, match="odd; got 4"):
        build_part(part("convolutional_text_tokenizer", embedding=4, kernel=4), 10, 8)
