"""What is particular to DeltaNet, GLA and LMUFormer; that they equal their references is in the golden tests."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from formwright.catalog.reference import reference_figures, reference_state
from formwright.errors import UserError
from formwright.models import Model, create_model, load_checkpoint, model_specification
from formwright.nn.specification import part
from tests.conformance.instances import randomise

SMALL = {"dim": 32, "heads": 2, "hidden": 24, "vocabulary": 13}


def layers(name: str, **changes: object) -> list[str]:
    specification = model_specification(name, **changes)
    return [block.branches[0].part.name for block in specification.stages[0].blocks]


def test_hybrids_have_attention_where_they_say() -> None:
    assert layers("deltanet_1.3b_sliding") == ["delta_rule", "attention"] * 12
    names = layers("deltanet_1.3b_global")
    assert [index for index, name in enumerate(names) if name == "attention"] == [1, 12]
    with pytest.raises(UserError, match="0 to 3"):
        model_specification("deltanet_340m", depth=4, attention_layers=(4,))


def test_a_hybrid_of_flash_linear_attention_loads() -> None:
    model = create_model("deltanet_340m", **SMALL, depth=2, attention_layers=(1,))
    layout = reference_figures("deltanet")["variants"]["deltanet_340m:small"]["layout"]
    delta = {name: shape for name, shape, _ in layout if ".0.attn." in name and "conv1d" not in name}
    state = {}
    for name, tensor in model.state_dict().items():
        theirs = name.replace("backbone.stages.0.blocks.", "model.layers.").replace(
            "backbone.embed", "model.embeddings"
        )
        theirs = theirs.replace("branches.0.norm", "attn_norm").replace("branches.1.norm", "mlp_norm")
        theirs = theirs.replace("head.norm", "model.norm").replace("head.linear", "lm_head")
        theirs = theirs.replace("branches.1.part.gate", "mlp.gate_proj").replace("branches.1.part.up", "mlp.up_proj")
        theirs = theirs.replace("branches.1.part.down", "mlp.down_proj").replace("branches.0.part.", "attn.")
        theirs = theirs.replace("attn.beta", "attn.b_proj").replace("attn.norm_weight", "attn.o_norm.weight")
        theirs = theirs.replace("attn.proj.", "attn.o_proj.")
        if ".qkv." in theirs or theirs.endswith("conv_weight"):
            ending = "_proj.weight" if ".qkv." in theirs else "_conv1d.weight"
            for letter, rows in zip("qkv", tensor.chunk(3), strict=True):
                path = theirs.rpartition("attn.")[0]
                state[f"{path}attn.{letter}{ending}"] = rows if ".qkv." in theirs else rows[:, None]
        else:
            state[theirs] = tensor
    assert {f"model.{name.removeprefix('model.')}" for name in delta} <= set(state)
    other = create_model(model.specification)
    assert load_checkpoint(other, state) == "flash-linear-attention"
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("system", "variant", "lost"),
    [
        ("deltanet", "deltanet_340m:small", "model.layers.1.attn.k_proj.weight"),
        ("gla", "gla_1.3b:small", "model.layers.0.attn.g_proj.weight"),
    ],
)
def test_a_checkpoint_that_lost_a_tensor_is_refused(system: str, variant: str, lost: str) -> None:
    figures = reference_figures(system)["variants"][variant]
    state = reference_state(figures["layout"])
    del state[lost]
    with pytest.raises(UserError, match="belong to another model"):
        load_checkpoint(create_model(variant.partition(":")[0], **figures["changes"]), state)


def test_tied_scores_need_no_matrix_of_their_own() -> None:
    figures = reference_figures("gla")["variants"]["gla_1.3b:small"]
    state = reference_state(figures["layout"])
    model = create_model("gla_340m", **{**figures["changes"]})
    with pytest.raises(UserError, match="tied=False"):  # of its own it would be lost
        load_checkpoint(model, state)
    load_checkpoint(model, {**state, "lm_head.weight": state["model.embeddings.weight"]})
    del state["lm_head.weight"]
    load_checkpoint(model, state)
    assert torch.equal(model.backbone.embed.weight.double(), state["model.embeddings.weight"].float().double())


def streaming_model() -> Model:
    torch.manual_seed(0)
    model = create_model("lmuformer_streaming", dim=16, depth=2, window=8, channels=5, classes=4).double().eval()
    randomise(model)
    return model


def test_lmuformer_streams_frame_by_frame() -> None:
    model = streaming_model()
    x = torch.randn(2, 21, 5, dtype=torch.float64)
    expected = model(x)
    state = model.init_state(2, 21)
    pieces = []
    for piece in x.split([4, 1, 1, 9, 6], dim=1):
        scores, state = model.stream(piece, state)
        pieces.append(scores)
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=1e-9, atol=1e-9)
    sizes = {name: tensor.shape for name, tensor in state.items()}
    assert sizes == {name: tensor.shape for name, tensor in model.init_state(2, 5000).items()}


def test_the_last_of_the_running_scores_are_those_of_the_classifier() -> None:
    model = streaming_model()
    whole = Model(dataclasses.replace(model.specification, head=part("classifier"))).double().eval()
    whole.load_state_dict(model.state_dict())
    x = torch.randn(2, 21, 5, dtype=torch.float64)
    for frames in (1, 8, 21):
        expected = whole(x[:, :frames])
        torch.testing.assert_close(model(x)[:, frames - 1], expected, rtol=1e-9, atol=1e-9)


def test_folding_the_norms_changes_nothing() -> None:
    model = streaming_model()
    x = torch.randn(2, 9, 5, dtype=torch.float64)
    expected = model(x)
    folded = 0
    for module in model.modules():
        if hasattr(module, "fold") and type(module).__name__ in ("LegendreMemory", "NormedMLP"):
            module.fold()
            folded += 1
    assert folded == 4
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("delta_rule", {"heads": 3}, "heads must divide"),
        ("delta_rule", {"heads": 2, "kernel": 0}, "at least 1"),
        ("gated_linear_attention", {"heads": 4, "expand_keys": 0.1}, "change expand_keys"),
        ("gated_linear_attention", {"heads": 4, "rank": 0}, "rank of at least 1"),
        ("linear_attention", {"heads": 4, "feature_map": "sine"}, "feature map"),
        ("legendre_memory", {"window": 0}, "both start at 1"),
        ("frame_convolutions", {"layers": 0}, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(name: str, options: dict[str, object], message: str) -> None:
    from formwright.nn import build_part

    sizes = (5, 16) if name == "frame_convolutions" else (16,)
    with pytest.raises(UserError, match=message):
        build_part(part(name, **options), *sizes)
