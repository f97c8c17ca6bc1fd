"""Which techniques for which constraint: the decision that the surveys teach, as a table that ``recommend`` walks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from formwright.catalog.cards import Card, read_cards
from formwright.catalog.results import Recorded, Results, Standing, read_results, standing
from formwright.catalog.vocabulary import TASKS
from formwright.errors import UnknownNameError, UserError

#: Below this many tokens linear attention is usually slower than softmax attention on a CPU (survey-faster-lighter).
SHORT = 1024
LONG = 8192
FEW_SAMPLES = 10_000
PICTURES = {"image-classification", "object-detection", "segmentation", "multispectral", "medical-imaging"}
SERIES = {"forecasting", "series-classification", "light-curves"}


@dataclass(frozen=True)
class Need:
    """What is asked: the task and, where they are known, the constraints.

    Attributes:
        task: of the vocabulary of tasks.
        length: tokens of one input.
        max_latency: seconds for one input.
        max_size: bytes of the model.
        train_size: samples to learn from.
        pretrained: whether a trained model is there already.
    """

    task: str
    length: int | None = None
    max_latency: float | None = None
    max_size: float | None = None
    train_size: int | None = None
    pretrained: bool = False

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UnknownNameError("task", self.task, TASKS)
        for name in ("length", "train_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} is {value}; give a number of at least 1.")


@dataclass(frozen=True)
class Rule:
    """One leaf of the decision: a question, when the answer is yes, and what then to take and why.

    ``systems`` are named one by one where the survey names them, and beside them those with one of ``mechanisms``.
    """

    question: str
    applies: Callable[[Need], bool]
    advice: str
    reason: str
    source: str
    systems: tuple[str, ...] = ()
    mechanisms: frozenset[str] = frozenset()

    def candidates(self, task: str) -> list[Card]:
        """The systems of this leaf that are for the task."""
        return [
            card
            for card in read_cards().values()
            if (card.id in self.systems or self.mechanisms & {*card.mechanisms})
            and {task, "any"} & {*card.tasks}
            and not {"survey", "tool"} & {*card.kind}
        ]


RULES = (
    Rule(
        "Are inputs short?",
        lambda need: need.length is not None and need.length <= SHORT,
        "Keep softmax attention, and make the model smaller by methods that do not touch it.",
        f"Below 512 to {SHORT:,} tokens linear attention is usually slower than softmax attention on a CPU.",
        "survey-faster-lighter",
        mechanisms=frozenset({"pruning", "quantisation", "distillation", "low-rank-weights", "parameter-sharing"}),
    ),
    Rule(
        "Are inputs of medium length?",
        lambda need: need.length is not None and SHORT < need.length <= LONG,
        "Attend within windows, sparsely or through few keys, or replace attention in most layers.",
        "Softmax attention grows with the square of the length; constants decide here, so measure the candidates.",
        "survey-faster-lighter",
        systems=("long-range-arena",),
        mechanisms=frozenset({"window-attention", "sparse-attention", "low-rank-attention", "linear-attention"}),
    ),
    Rule(
        "Are inputs long?",
        lambda need: need.length is not None and need.length > LONG,
        "Mix tokens in linear time: linear attention, a state space or a recurrence.",
        "Time and memory then grow with the length and not with its square.",
        "survey-after-transformers",
        systems=("long-range-arena",),
        mechanisms=frozenset({"linear-attention", "state-space", "recurrence"}),
    ),
    Rule(
        "Is there a trained model, and must it be faster?",
        lambda need: need.pretrained and need.max_latency is not None,
        "First take what needs no retraining: merge or drop tokens, cut what matters least, compute faster.",
        "Methods that leave the weights alone, or need some samples only, cost minutes instead of a training run.",
        "survey-inference",
        systems=("pitome", "optin", "finercut", "tiny-t2", "pre-rmsnorm"),
        mechanisms=frozenset({"kernels", "serving"}),
    ),
    Rule(
        "Is there a trained model, and must it be smaller?",
        lambda need: need.pretrained and need.max_size is not None,
        "Quantise it after training; factorise its matrices or cut it if that is not enough.",
        "A ViT's hard tensors are those after LayerNorm, softmax and GELU; methods differ by which of them they treat.",
        "survey-vit-quantization",
        systems=("noisyquant", "repquant", "q-hyvit", "tiny-t2", "greenformers"),
        mechanisms=frozenset({"low-rank-weights"}),
    ),
    Rule(
        "Are samples few, and is there a trained model?",
        lambda need: need.train_size is not None and need.train_size < FEW_SAMPLES and need.pretrained,
        "Freeze the trained model and train few weights.",
        "Few samples decide few weights; the others keep what they learned elsewhere.",
        "survey-faster-lighter",
        mechanisms=frozenset({"peft"}),
    ),
    Rule(
        "Are samples few, and is there no trained model?",
        lambda need: need.train_size is not None and need.train_size < FEW_SAMPLES and not need.pretrained,
        "Take networks with locality built in, or learn from inputs without labels first.",
        "Attention alone must learn from data which tokens are neighbours.",
        "survey-after-transformers",
        systems=("cct", "dlinear"),
        mechanisms=frozenset({"convolution", "self-supervision"}),
    ),
    Rule(
        "Is there nothing trained yet, and must it be fast?",
        lambda need: not need.pretrained and need.max_latency is not None,
        "Take a design that was made for latency, or search one on your device; then quantise it.",
        "Counts of operations do not foretell latency, so candidates are compared on the device that they run on.",
        "survey-inference",
        systems=("efficientvit", "efficientnet-lite", "convnext", "poolformer", "main-job"),
        mechanisms=frozenset({"architecture-search", "conditional-computation", "reparameterisation"}),
    ),
    Rule(
        "Is there nothing trained yet, and must it be small?",
        lambda need: not need.pretrained and need.max_size is not None,
        "Share weights, factorise them, or train with few bits from the start.",
        "What is small by design loses less than what is made small afterwards by the same factor.",
        "survey-inference",
        systems=("efficientnet-lite", "cct"),
        mechanisms=frozenset({"parameter-sharing", "low-rank-weights", "binarisation", "distillation"}),
    ),
)
#: Where no rule applies.
PLAIN = Rule(
    "Does nothing but the task decide?",
    lambda need: not any(rule.applies(need) for rule in RULES),
    "Start with the plain models of the task, and let formwright fit measure small relatives of them.",
    "A comparison with the plain model tells whether anything else pays.",
    "survey-after-transformers",
    mechanisms=frozenset({"attention", "convolution", "state-space"}),
)


@dataclass(frozen=True)
class Alternative:
    """A system that is recommended, with what was measured of it here."""

    card: Card
    standing: Standing
    measured: tuple[tuple[str, Recorded, str], ...]


@dataclass(frozen=True)
class Advice:
    """A rule that applies, and its systems: built ones first, the furthest first."""

    rule: Rule
    alternatives: tuple[Alternative, ...]


def recommend(need: Need) -> list[Advice]:
    """The rules that apply to a need, each with the systems for its task.

    Raises:
        UserError: the task is unknown, or a number is not positive.
    """
    results, _ = read_results()
    return [
        Advice(rule, tuple(_ranked([_alternative(card, results.get(card.id)) for card in rule.candidates(need.task)])))
        for rule in (*RULES, PLAIN)
        if rule.applies(need)
    ]


def _ranked(found: Sequence[Alternative]) -> list[Alternative]:
    order = ("measured", "trained", "equal", "built", "none", "guide")
    return sorted(found, key=lambda one: (not one.card.built, order.index(one.standing.rung), -one.card.year))


def _alternative(card: Card, results: Results | None) -> Alternative:
    now = standing(card, results)
    told = [] if results is None or now.stale else list(results.claims.items())
    measured = tuple(
        (name, claim, results.runs[claim.run].processor)
        for name, claim in told
        if results is not None and claim.kind in ("measured", "direction") and not claim.error
    )
    return Alternative(card, now, measured)
