"""Mamba and Mamba-2 give what transformers' models give with the same random weights; sizes are the published ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from formwright.errors import UserError
from formwright.models import Model, create_model, empty_copy, load_checkpoint, model_specification
from formwright.models.language.mamba2 import allocate_layers
from tests.conformance.instances import randomise

EIGHT_BILLION = "M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-"
HYBRID = {"M": "linear_attention", "*": "full_attention", "-": "mlp"}
SHARED = {"vocab_size": 19, "hidden_size": 32, "num_hidden_layers": 2, "conv_kernel": 4}


def theirs(kind: str, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SHARED, **options})
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    randomise(model)
    return model


def mamba(**options: Any) -> tuple[Any, Model]:
    return theirs("Mamba", state_size=5, **options), create_model(
        "mamba_130m", vocabulary=19, dim=32, depth=2, states=5
    )


def mamba2(groups: int, tied: bool = True) -> tuple[Any, Model]:
    heads = {"head_dim": 8, "num_heads": 8, "n_groups": groups, "tie_word_embeddings": tied}
    source = theirs("Mamba2", state_size=6, chunk_size=16, **heads)
    sizes = {"vocabulary": 19, "dim": 32, "depth": 2, "states": 6, "head_dim": 8, "groups": groups, "tied": tied}
    return source, create_model("mamba2_130m", **sizes)


def hybrid(pattern: str = "M*-M") -> tuple[Any, Model]:
    """Nemotron-H with the GELU of the study's MLPs."""
    source = theirs(
        "NemotronH",
        num_hidden_layers=len(pattern),
        layers_block_type=[HYBRID[letter] for letter in pattern],
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=128,
        mlp_hidden_act="gelu",
        ssm_state_size=6,
        mamba_num_heads=8,
        mamba_head_dim=8,
        n_groups=2,
        chunk_size=16,
    )
    sizes = {"vocabulary": 19, "dim": 32, "states": 6, "head_dim": 8, "groups": 2, "heads": 4, "kv_heads": 2}
    shares = {"attention_ratio": 0.25, "mlp_ratio": 0.25, "pattern": pattern, "depth": len(pattern)}
    return source, create_model("mamba2_hybrid_800m", **sizes, **shares)


PAIRS = {"mamba": mamba, "mamba2": lambda: mamba2(1), "mamba2-groups": lambda: mamba2(2, tied=False), "hybrid": hybrid}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("length", [1, 3, 17, 128])
def test_equals_transformers(pair: str, length: int) -> None:
    source, model = PAIRS[pair]()
    assert load_checkpoint(model, source.state_dict()) == "transformers"
    ids = torch.randint(19, (2, length), generator=torch.Generator().manual_seed(length))
    with torch.inference_mode():
        single = model.eval()(ids)
        expected = source(ids, use_cache=False).logits
        assert (single - expected).abs().max() <= 1e-4 * expected.std()
        double, wide = model.double()(ids), source.double()(ids, use_cache=False).logits
    # Parts of transformers' recurrences are float32 whatever the model is.
    assert (double - wide).abs().max() <= 1e-5 * wide.std()


@pytest.mark.parametrize("pair", PAIRS)
def test_the_authors_names_load_as_well(pair: str) -> None:
    source, model = PAIRS[pair]()
    names = {name.replace(".embeddings.", ".embedding."): tensor for name, tensor in source.state_dict().items()}
    assert load_checkpoint(model, names) == "mamba_ssm"
    other = PAIRS[pair]()[1]
    load_checkpoint(other, source.state_dict())
    ids = torch.tensor([[3, 1, 4]])
    assert torch.equal(model.eval()(ids), other.eval()(ids))


def test_a_head_of_its_own_is_not_lost() -> None:
    source, _ = mamba2(1, tied=False)
    _, model = mamba2(1, tied=True)
    with pytest.raises(UserError, match="tied=False"):
        load_checkpoint(model, source.state_dict())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mamba_130m", 129_135_360),
        ("mamba_2.8b", 2_768_345_600),
        ("mamba2_130m", 128_989_632),
        ("mamba2_2.7b", 2_702_599_680),
        ("mamba2_8b", 8_236_999_680),
        ("mamba2_hybrid_8b", 8_654_517_248),
    ],
)
def test_published_sizes(name: str, count: int) -> None:
    assert empty_copy(model_specification(name)).parameter_count() == count


def test_layers_are_allocated_as_the_authors_do() -> None:
    assert allocate_layers(56, 0.08, 0.5) == EIGHT_BILLION
    assert allocate_layers(48, 0.08, 0.5) == "M-M-M--M-*M-M-M-M--*M-M-M-M-*M--M-M-M-*M-M--M-M-"
    assert allocate_layers(4, 0.0, 0.0) == "MMMM"
    assert allocate_layers(4, 0.25, 0.0, "M*MM") == "M*MM"


@pytest.mark.parametrize(
    ("depth", "attention", "mlp", "pattern"),
    [(4, 0.7, 0.5, None), (0, 0.0, 0.0, None), (4, 0.25, 0.0, "MxMM"), (4, 0.25, 0.0, "M*M"), (4, 0.25, 0.0, "**MM")],
)
def test_impossible_allocations_are_refused(depth: int, attention: float, mlp: float, pattern: str | None) -> None:
    with pytest.raises(UserError):
        allocate_layers(depth, attention, mlp, pattern)


def test_a_hybrid_has_each_part_where_the_pattern_says() -> None:
    sizes = {"dim": 32, "depth": 4, "heads": 4, "kv_heads": 2, "head_dim": 16, "groups": 2, "vocabulary": 11}
    model = model_specification("mamba2_hybrid_800m", **sizes, attention_ratio=0.25, mlp_ratio=0.25, pattern="M*-M")
    names = [block.branches[0].part.name for block in model.stages[0].blocks]
    assert names == ["mamba2", "attention", "mlp", "mamba2"]
