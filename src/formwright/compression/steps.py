"""The compressors of the registry that rest on one function of this package each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch

from formwright.batch import Batch
from formwright.compression.choices import extract, mix_and_match
from formwright.compression.depth import drop_branches
from formwright.compression.factorization import check_share, factorise
from formwright.compression.folding import fold
from formwright.compression.growth import Growth, check_factor, grow
from formwright.compression.norm_conversion import replace_layer_norms
from formwright.compression.pruning import check_targets, prune
from formwright.compression.quantization import deployed_forms, quantise
from formwright.compression.registry import COMPRESSORS, Job, Need, Single
from formwright.compression.token_merging import merge_in_blocks, merging_schedule
from formwright.compression.values import check_clusters, check_sparsity, cluster, sparsify, zeros
from formwright.errors import UserError
from formwright.measurement.macs import count_macs
from formwright.models import Network
from formwright.models.choices import Choice
from formwright.models.nesting import nested_choice
from formwright.nn.layers import Layer, check_bits

Report = dict[str, Any]


def _sizes(before: Network, after: Network) -> Report:
    return {"parameters_before": before.parameter_count(), "parameters": after.parameter_count()}


@COMPRESSORS.register("fold")
class Fold(Single):
    """Norms, scales and adapters become part of the layers beside them; the answers stay (:func:`fold`)."""

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        folded = fold(model)
        return folded, _sizes(model, folded)


@COMPRESSORS.register("merge_adapters")
class MergeAdapters(Single):
    """Adapters that were trained beside frozen layers (LoRA, affine) become part of them; the answers stay.

    Source: LoRA, arXiv 2106.09685.
    """

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        adapters = [name for name, module in model.named_modules() if isinstance(module, Layer) and module.merges]
        if not adapters:
            raise UserError(f"{model.specification.name} has no adapters to merge; leave the step out.")
        folded = fold(model)
        return folded, {"merged": len(adapters), **_sizes(model, folded)}


@COMPRESSORS.register("prune")
class Prune(Single):
    """Heads and hidden channels go that the loss would miss least for what they cost (:func:`prune`).

    Args:
        keep, macs, parameters: what may be left: a share of the multiply-accumulates, or a number of either.
        floor: share of its entries that every layer keeps.
        multiple: hidden channels are left in multiples of this.
        width: cut the channels of the tokens too.

    Source: Importance Estimation for Neural Network Pruning, arXiv 1906.10771.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})
    recovers: ClassVar[bool] = True
    in_fit: ClassVar[bool] = True
    title: ClassVar[str] = "pruning of heads and hidden channels"
    label: ClassVar[str] = "pruned"

    @classmethod
    def leaving(cls, share: float) -> Prune:
        return cls(keep=share)

    def __init__(
        self,
        keep: float | None = None,
        macs: int | None = None,
        parameters: int | None = None,
        floor: float = 0.25,
        multiple: int = 8,
        width: bool = False,
    ) -> None:
        check_targets(keep, macs, parameters, floor=floor, multiple=multiple)
        target = {"keep": keep, "macs": macs, "parameters": parameters}
        self.options = {**target, "floor": floor, "multiple": multiple, "width": width}

    def batches(self, job: Job) -> Sequence[Batch] | None:
        """What the importance is found on."""
        return job.batches

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        pruned = prune(model, self.batches(job), objective=job.objective, **self.options)  # type: ignore[arg-type]
        return pruned, _sizes(model, pruned)


@COMPRESSORS.register("prune_magnitude")
class PruneMagnitude(Prune):
    """As ``prune``, by the size of the weights alone: for want of data."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    in_fit: ClassVar[bool] = False

    def batches(self, job: Job) -> None:
        return None


@COMPRESSORS.register("drop_branches")
class DropBranches(Single):
    """Whole residual branches go, one after the other, that the loss misses least (:func:`drop_branches`).

    Args:
        count: how many.

    Source: FinerCut, arXiv 2405.18218, with the loss on data in place of its distance between outputs.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})
    recovers: ClassVar[bool] = True

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        assert job.batches is not None
        assert job.objective is not None
        smaller, dropped = drop_branches(model, self.count, job.batches, job.objective)
        return smaller, {"dropped": dropped, **_sizes(model, smaller)}


@COMPRESSORS.register("merge_tokens")
class MergeTokens(Single):
    """Tokens that are alike become one behind every attention (:func:`merge_in_blocks`); no weight changes.

    Args:
        remove: how many tokens disappear per block, on average.
        inflection: -1 to remove most in the first blocks, 1 in the last, 0 as many in each.

    Source: Token Merging: Your ViT But Faster, arXiv 2210.09461.
    """

    def __init__(self, remove: int = 8, inflection: float = 0.0) -> None:
        merging_schedule(1, remove, inflection)
        self.remove, self.inflection = remove, inflection

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        merged, schedule = merge_in_blocks(model, self.remove, self.inflection)
        x = model.example(1)
        return merged, {"removed": schedule, "macs_before": count_macs(model, x), "macs": count_macs(merged, x)}


@COMPRESSORS.register("factorise")
class Factorise(Single):
    """Dense layers become products of two thin ones where that is smaller (:func:`factorise`).

    Args:
        keep: share of the parameters of the layers that may be left, the same for each.
        layers: pattern of the names of the layers.

    Source: singular value decomposition; the nearest product by Eckart and Young (1936).
    """

    recovers: ClassVar[bool] = True

    def __init__(self, keep: float = 0.5, layers: str = "*") -> None:
        check_share(keep)
        self.keep, self.layers = keep, layers

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        smaller, ranks = factorise(model, keep=self.keep, layers=self.layers)
        return smaller, {"ranks": ranks, **_sizes(model, smaller)}


@COMPRESSORS.register("int8")
class Int8(Single):
    """Weights and what dense and convolutional layers are given become integers of 8 bits, with scales from data.

    Source: Integer Quantization for Deep Learning Inference, arXiv 2004.09602.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})
    bits: int = 8

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        quantised = quantise(model, bits=self.bits, activations=8, calibration=job.batches)
        return quantised, {"bits": self.bits, "stored": deployed_forms(quantised), **_sizes(model, quantised)}


@COMPRESSORS.register("quantise_weights")
class QuantiseWeights(Single):
    """Weights become integers of few bits; the layers compute in floating point. No data is needed.

    Args:
        bits: 2 to 8; 8 and 4 are stored so, the others are simulated.
        granularity: what shares a scale: ``tensor``, ``channel`` or ``group`` of ``group`` input channels.
        group: input channels of a group.
    """

    def __init__(
        self, bits: int = 8, granularity: Literal["tensor", "channel", "group"] = "channel", group: int = 32
    ) -> None:
        check_bits(bits)
        self.options: dict[str, Any] = {"bits": bits, "granularity": granularity}
        if granularity == "group":
            self.options["group"] = group

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        quantised = quantise(model, **self.options)
        return quantised, {**self.options, "stored": deployed_forms(quantised), **_sizes(model, quantised)}


@COMPRESSORS.register("train")
class Train(Single):
    """The model learns on, from the data and from the answers of the model before the first step.

    Args:
        minutes: how long.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"training"})

    def __init__(self, minutes: float = 1.0) -> None:
        if not minutes > 0:
            raise UserError(f"A model is trained for some minutes, got {minutes}.")
        self.minutes = minutes

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        assert job.train is not None
        trained = job.train(copy.deepcopy(model), job.teacher, 60 * self.minutes, job.seed)
        return trained, {"minutes": self.minutes}


def _changed(function: Callable[..., Network], model: Network, **options: Any) -> tuple[Network, Report]:
    made = function(model, **options)
    return made, _sizes(model, made)


@COMPRESSORS.register("grow")
class Grow(Single):
    """Parameter tokens are appended: a larger model that answers like the smaller one (:func:`grow`).

    Source: TokenFormer, arXiv 2410.23168.
    """

    recovers: ClassVar[bool] = True

    def __init__(self, factor: float = 2.0, form: Growth = "exact") -> None:
        check_factor(factor)
        self.options = {"factor": factor, "form": form}

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        torch.manual_seed(job.seed)
        return _changed(grow, model, **self.options)


@COMPRESSORS.register("extract")
class Extract(Single):
    """A smaller model of the first entries of axes, and without some branches (:func:`extract`).

    Args:
        ratios: share of the hidden channels, one for all or one per channel mixer.
        parameters: how many parameters may be left, in place of shares (:func:`mix_and_match`).
        choice: sizes of axes by ``path:axis``, and dropped branches, in place of both
            (:meth:`~formwright.models.choices.Choice.to_dict`).

    Source: MatFormer, arXiv 2310.07707.
    """

    def __init__(
        self,
        ratios: float | Sequence[float] | None = None,
        parameters: int | None = None,
        choice: Mapping[str, Any] | None = None,
    ) -> None:
        if [ratios, parameters, choice].count(None) != 2:
            raise UserError(
                "A smaller model is extracted by ratios, by a number of parameters or by a choice: give one of them."
            )
        self.ratios, self.parameters = ratios, parameters
        self.choice = None if choice is None else Choice.from_dict(choice)

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        chosen = self.choice
        if self.ratios is not None:
            chosen = nested_choice(model, self.ratios)
        elif self.parameters is not None:
            chosen = mix_and_match(model, self.parameters)
        assert chosen is not None
        return _changed(extract, model, choice=chosen)


@COMPRESSORS.register("replace_layer_norms")
class ReplaceLayerNorms(Single):
    """RMS norms in place of layer norms; the answers stay (:func:`replace_layer_norms`).

    Source: Pre-RMSNorm and Pre-CRMSNorm Transformers, arXiv 2305.14858.
    """

    def __init__(self, by: Literal["rms_norm", "crms_norm"] = "rms_norm") -> None:
        self.by = by

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        return _changed(replace_layer_norms, model, by=self.by)


@COMPRESSORS.register("sparsify")
class Sparsify(Single):
    """The smallest weights become zero: files shrink once they are zipped, latency does not (:func:`sparsify`)."""

    recovers: ClassVar[bool] = True

    def __init__(self, sparsity: float = 0.5) -> None:
        check_sparsity(sparsity)
        self.sparsity = sparsity

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        made = sparsify(model, self.sparsity)
        shares = zeros(made)
        return made, {"zeros": sum(shares.values()) / max(len(shares), 1)}


@COMPRESSORS.register("cluster")
class Cluster(Single):
    """Weights become one of a few values each: files shrink once they are zipped (:func:`cluster`).

    Source: Deep Compression, arXiv 1510.00149.
    """

    recovers: ClassVar[bool] = True

    def __init__(self, clusters: int = 16) -> None:
        check_clusters(clusters)
        self.clusters = clusters

    def compress(self, model: Network, job: Job) -> tuple[Network, Report]:
        return cluster(model, self.clusters), {"clusters": self.clusters}
