"""What people ask for in words that cards may not use: how it is asked, and the tags and texts that answer it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Concept:
    """Something that is asked for.

    Attributes:
        name: what is told as the reason of a match.
        asked: a pattern of the question, in lower case.
        tags: tasks and mechanisms that answer it.
        text: a pattern of what a card says that answers it, in lower case.
    """

    name: str
    asked: str
    tags: frozenset[str] = frozenset()
    text: str = ""

    def is_asked(self, question: str) -> bool:
        return re.search(rf"\b(?:{self.asked})\b", question) is not None

    def answered(self, tags: set[str], text: str) -> bool:
        return bool(self.tags & tags) or bool(self.text and re.search(self.text, text))


def _concept(name: str, asked: str, tags: str = "", text: str = "") -> Concept:
    return Concept(name, asked, frozenset(tags.split()), text)


CONCEPTS = (
    _concept(
        "faster",
        r"fast\w*|quick\w*|speed\w*|accelerat\w*|latency|cheap\w*|throughput",
        "token-reduction pruning quantisation conditional-computation kernels",
    ),
    _concept(
        "without retraining",
        r"(?:without|no|needs? no|not) (?:any )?(?:re-?|fine-?)?(?:train|tun)\w*|training-free|post-training|untrained",
        text=r"(?<!not )without (?:any )?(?:re|fine-?)?(?:train|tun)|no (?:re|fine-?)?(?:train|tun)|training-free"
        r"|post-training|calibrat",
    ),
    _concept(
        "smaller",
        r"small\w*|shrink|light\w*|compress\w*|compact|tiny|memory|ram|size",
        "pruning quantisation low-rank-weights parameter-sharing distillation binarisation",
    ),
    _concept("vision Transformer", r"vits?|vision transformers?|deit", text=r"\bvits?\b|\bdeit|vision transformer"),
    _concept(
        "pictures",
        r"pictures?|images?|photos?|vision|vits?|vision transformers?",
        "image-classification object-detection segmentation",
    ),
    _concept(
        "audio",
        r"audio|sounds?|speech|voice|recordings?|music",
        "speech-recognition speech-enhancement speech-synthesis audio-classification music",
    ),
    _concept(
        "long inputs",
        r"long|longer|length|context",
        "long-range linear-attention state-space recurrence sparse-attention",
    ),
    _concept(
        "linear cost",
        r"linear|sub-?quadratic",
        "linear-attention state-space recurrence",
        r"cost: o\(n(?!\^)",
    ),
    _concept("language", r"llms?|language models?|gpt|chat\w*|text", "language-modelling"),
    _concept(
        "time series",
        r"time series|series|forecast\w*|predict\w* (?:sales|demand)",
        "forecasting series-classification",
    ),
    _concept("bits", r"int8|int4|[1-8]-?bits?|quanti[sz]\w*", "quantisation binarisation"),
    _concept("few labels", r"few labels|unlabell?ed|without labels|no labels", "self-supervision"),
    _concept("fine-tuning", r"fine-?tun\w*|adapters?|lora|adapt\w*", "peft"),
    _concept("recurrent", r"rnns?|recurren\w*|ssms?|state.space\w*|streaming", "recurrence state-space"),
    _concept(
        "small devices", r"phones?|mobile|edge|microcontrollers?|embedded", "quantisation architecture-search pruning"
    ),
    _concept("explanation", r"explain\w*|interpret\w*|why|attribution|saliency", "explanation"),
    _concept("restoration", r"denois\w*|derain\w*|deblur\w*|noise|noisy|rain|blur\w*|inpaint\w*", "restoration"),
    _concept("enlarging", r"upscal\w*|enlarg\w*|super-?resolution", "super-resolution"),
    _concept(
        "drawing", r"generat\w* (?:pictures|images)|draw\w*|text-to-image|diffusion", "image-generation diffusion"
    ),
    _concept("medicine", r"medical|mri|ct|x-?rays?|organs?|tumou?rs?", "medical-imaging"),
    _concept("biology", r"proteins?|dna|genom\w*|molecul\w*", "biology"),
    _concept("experts", r"moe|experts?", "mixture-of-experts"),
    _concept("serving", r"serv(?:e|ing)|kv.?cache|decoding|generation speed|batching", "serving kernels"),
    _concept(
        "removing tokens", r"(?:token|patch)\w* (?:merging|pruning|dropping|reduction)|merge tokens", "token-reduction"
    ),
)
