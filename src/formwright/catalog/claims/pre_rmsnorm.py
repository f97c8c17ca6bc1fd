"""Claims of Pre-RMSNorm: the authors' example, conversions of whole models, and what they save."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.reference import FLOAT64_TOLERANCE, images, reference_figures, reference_state, sample
from formwright.compression import fold, replace_layer_norms
from formwright.measurement.latency import compare
from formwright.models import Network, create_model
from formwright.nn import build_part
from formwright.nn.norms import AffineNorm
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, ImageInput, StageSpec, part
from formwright.reporting import Reporter

NORMS = ("rms_norm", "crms_norm")
#: Largest difference over the largest output.
EXACT = {torch.float64: FLOAT64_TOLERANCE, torch.float32: 1e-5}


def example() -> Network:
    """The Vision Transformer of the authors' example, with the weights that its reference was run with."""
    norm, dim, depth = part("layer_norm", affine=False), 64, 4
    branches = (part("attention", heads=4, qkv_bias=True), part("mlp"))
    block = BlockSpec(tuple(BranchSpec(each, norm=norm) for each in branches))
    model = create_model(
        ChainSpec(
            family="vit",
            name="example",
            task="image-classification",
            input=ImageInput(3, (32, 32)),
            classes=100,
            embed=part("patch_embedding", kernel=4),
            stages=(StageSpec(dim, (block,) * depth, entry=(part("position_table"), part("class_token"))),),
            head=part("classifier", norm=norm, pool=part("class_token_pool")),
        )
    )
    theirs = reference_state(reference_figures("pre-rmsnorm")["layout"])
    patches = theirs["patch_linear_weight"].view(dim, 4, 4, 3).permute(0, 3, 1, 2)
    state = {
        "backbone.embed.conv.weight": patches,
        "backbone.embed.conv.bias": theirs["patch_linear_bias"],
        "backbone.stages.0.entry.0.table": theirs["pos_embedding"].squeeze(0),
        "backbone.stages.0.entry.1.tokens": theirs["cls_token"].squeeze(0),
        "head.linear.weight": theirs["cls_head_linear_weight"],
        "head.linear.bias": theirs["cls_head_linear_bias"],
    }
    layers = {"att_in": "0.part.qkv", "att_out": "0.part.proj", "mlp_in": "1.part.fc1", "mlp_out": "1.part.fc2"}
    for index in range(depth):
        for name, path in layers.items():
            for leaf in ("weight", "bias"):
                own = f"backbone.stages.0.blocks.{index}.branches.{path}.{leaf}"
                state[own] = theirs[f"{index}.{name}_linear_{leaf}"]
    model.double().load_state_dict(state)
    return model.eval()


def example_differences() -> dict[str, float]:
    """Of the model and its conversions from the authors' three forms, over the standard deviation."""
    model, differences = example(), {}
    for norm, output in reference_figures("pre-rmsnorm")["outputs"].items():
        pictures = torch.from_numpy(images(output["input_shape"], output["input_seed"]))
        with torch.inference_mode():
            ours = (replace_layer_norms(model, norm) if norm in NORMS else model)(pictures)
        values = np.array(sample(ours.numpy()))
        differences[norm] = float(np.abs(values - output["values"]).max() / output["std"])
    return differences


def _outputs(reporter: Reporter) -> ClaimResult:
    differences = example_differences()
    told = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
    return ClaimResult(f"{told} in float64", max(differences.values()) <= FLOAT64_TOLERANCE)


@torch.no_grad()
def _with_random_norms(name: str) -> tuple[Network, Tensor]:
    """A model of published size whose norms have weights, and an input."""
    torch.manual_seed(0)
    model = create_model(name).eval()
    for module in model.modules():
        if isinstance(module, AffineNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.bias, std=0.1)  # type: ignore[arg-type]
    return model, model.specification.input.example(1)[..., :224]


@torch.inference_mode()
def _conversion(name: str, reporter: Reporter) -> ClaimResult:
    model, x = _with_random_norms(name)
    told, holds = [], True
    for dtype, limit in EXACT.items():
        model, x = model.to(dtype), x.to(dtype) if x.is_floating_point() else x
        expected = model(x)
        for norm in NORMS:
            difference = ((replace_layer_norms(model, norm)(x) - expected).abs().max() / expected.abs().max()).item()
            holds = holds and difference <= limit
            told.append(f"{norm} {difference:.1e} in {str(dtype).removeprefix('torch.')}")
    return ClaimResult(", ".join(told), holds)


def _count(reporter: Reporter) -> ClaimResult:
    count = replace_layer_norms(create_model("vit_small_patch16_224"), "crms_norm").parameter_count()
    return ClaimResult(f"{count:,}", count == COMPRESSED)


@torch.inference_mode()
def _speed(reporter: Reporter) -> ClaimResult:
    model, pictures = _with_random_norms("vit_small_patch16_224")
    models = {"layer_norm": fold(model), **{norm: fold(replace_layer_norms(model, norm)) for norm in NORMS}}
    whole = compare({name: functools.partial(each, pictures) for name, each in models.items()}, min_time=10.0)
    tokens = torch.randn(1, 197, 384)
    norms = {name: build_part(part(name), 384) for name in models}
    alone = compare({name: functools.partial(norm, tokens) for name, norm in norms.items()}, min_time=2.0)
    told = [
        f"{norm} {whole.speedup(norm, over='layer_norm'):.3f} times as fast (the norm alone "
        f"{alone.speedup(norm, over='layer_norm'):.2f})"
        for norm in NORMS
    ]
    times = ", ".join(f"{name} {latency}" for name, latency in whole.latencies.items())
    return ClaimResult("; ".join(told), whole.speedup("rms_norm", over="layer_norm") > 1, f"one image: {times}")


_READERS = 12 * (3 * 384 + 4 * 384) + 1000
_WRITERS = 12 * (384 + 1 + 4 * 384 + 1) + (3 * 16**2 + 1) + 197 + 1
_NORM_WEIGHTS = 25 * 2 * 384
#: ViT-S has 22,050,664; every reader of the stream loses a column, every writer a row, and norms have no weights.
COMPRESSED = 22_050_664 - _NORM_WEIGHTS - _READERS - _WRITERS

CLAIMS: list[Claim] = [
    Claim(
        "parameters",
        "count",
        "parameters of vit_small_patch16_224 with compressed RMS norms",
        f"{COMPRESSED:,}",
        _count,
    ),
    Claim(
        "outputs",
        "equality",
        "the authors' example in its three forms gives the outputs of ZixuanJiang/pre-rmsnorm-transformer with the "
        f"same weights (at most {FLOAT64_TOLERANCE:g} of their standard deviation)",
        "equal",
        _outputs,
    ),
    *(
        Claim(
            f"conversion:{name}",
            "equality",
            f"{name} with RMS norms, and with compressed ones, gives what it gives with layer norms (at most "
            f"{EXACT[torch.float64]:g} of the largest score in float64 and {EXACT[torch.float32]:g} in float32)",
            "equal",
            functools.partial(_conversion, name),
            slow=name == "gpt2",
        )
        for name in ("vit_small_patch16_224", "gpt2")
    ),
    Claim(
        "faster",
        "measured",
        "ViT-S with RMS norms is faster than with layer norms, both without norm weights",
        "1% to 10% faster (on GPUs)",
        _speed,
    ),
]
