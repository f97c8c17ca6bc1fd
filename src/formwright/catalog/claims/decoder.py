"""Claims of the decoder: streaming gives the parallel form's scores, and rows do not disturb each other."""

from __future__ import annotations

import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.inference.generation import generate
from formwright.inference.sampling import Sampling
from formwright.models import Network, create_model
from formwright.nn.specification import part
from formwright.reporting import Reporter

LIMIT = 1e-9
#: Attention with a window, with shared keys, and both in turns with plain attention.
MIXERS = {
    "attention": ("attention",),
    "window": (part("attention", window=16),),
    "hybrid": ("attention", part("attention", window=8, kv_heads=2)),
}


def _model(mixers: object) -> Network:
    torch.manual_seed(0)
    return create_model("decoder_tiny", mixers=mixers).double().eval()


@torch.inference_mode()
def _streams(reporter: Reporter) -> ClaimResult:
    ids = torch.randint(256, (2, 100), generator=torch.Generator().manual_seed(0))
    worst = {}
    for name, mixers in MIXERS.items():
        model = _model(mixers)
        state, pieces = model.init_state(2, 100), []
        for piece in torch.split(ids, [40, 1, 1, 30, *[1] * 28], dim=1):
            scores, state = model.stream(piece, state)
            pieces.append(scores)
        expected = model(ids)
        worst[name] = float((torch.cat(pieces, dim=1) - expected).abs().max() / expected.std())
    measured = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    return ClaimResult(measured, max(worst.values()) <= LIMIT)


def _rows(reporter: Reporter) -> ClaimResult:
    prompts = [[1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11]]
    same = 0
    for mixers in MIXERS.values():
        model = _model(mixers)
        together = list(generate(model, prompts, tokens=20, sampling=Sampling(seed=3)))
        for row, prompt in enumerate(prompts):
            alone = list(generate(model, [prompt], tokens=20, sampling=Sampling(seed=3 + row)))
            same += [step[row] for step in together] == [step[0] for step in alone]
    return ClaimResult(f"{same} of {3 * len(MIXERS)} texts are equal", same == 3 * len(MIXERS))


CLAIMS: list[Claim] = [
    Claim(
        id="stream-equals-parallel",
        kind="equality",
        statement=f"a text read in pieces gets the scores of the text read at once, to {LIMIT:g} in float64",
        published="equal",
        run=_streams,
    ),
    Claim(
        id="rows-alone-or-together",
        kind="equality",
        statement="prompts of different lengths go on side by side as each would alone with the same chance",
        published="equal",
        run=_rows,
    ),
]
