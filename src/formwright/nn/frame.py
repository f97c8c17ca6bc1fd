"""The frame: residual branches make a block, blocks make a stage, stages make a backbone.

Blocks and stages map ``(x, context)`` to ``(x, context)``: what stands behind a branch may merge or drop tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context, on_grid
from formwright.nn.gates import build_gate
from formwright.nn.norms import AffineNorm
from formwright.nn.parts import (
    INCOMING,
    RESIDUAL,
    Axis,
    InnerAxes,
    Part,
    Width,
    build_part,
    settled,
    sharing,
)
from formwright.nn.specification import BlockSpec, BranchSpec, PartSpec, StageSpec
from formwright.nn.streaming import Streams


class DropPath(nn.Module):
    """Stochastic depth: in training a sample's branch is dropped with probability ``rate``, the others scaled up.

    Source: Deep Networks with Stochastic Depth, arXiv 1603.09382.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep).div_(keep)


class Branch(nn.Module):
    """``x = post_norm(residual_scale * x + drop_path(layer_scale * part(norm(x))))``, or a gate instead of the sum.

    What stands ``after`` it, if anything does, maps ``(x, context)`` to ``(x, context)``: it may merge or drop tokens.

    Raises:
        UserError: there are both a gate and a scale of the residual.
    """

    norm: Part | None
    post_norm: Part | None
    after: Part | None
    layer_scale: nn.Parameter | None
    residual_scale: nn.Parameter | None

    def __init__(self, spec: BranchSpec, dim: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.dim, self.grid = dim, grid
        self.norm = None if spec.norm is None else build_part(spec.norm, dim, grid=grid)
        self.part: Part = build_part(spec.part, dim, grid=grid)
        self.post_norm = None if spec.post_norm is None else build_part(spec.post_norm, dim, grid=grid)
        self.layer_scale = _vector(spec.layer_scale, dim)
        self.residual_scale = _vector(spec.residual_scale, dim)
        self.drop_path = DropPath(spec.drop_path)
        if spec.gate is not None and spec.residual_scale is not None:
            raise UserError("A branch has a gate or a residual_scale, not both: the gate scales the residual.")
        self.gate = None if spec.gate is None else build_gate(spec.gate, dim)
        self.after = None if spec.after is None else self.build_slot("after", spec.after)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *kept_grid channels"], Context]:
        if not context.checked:
            context = settled(self, context)
        y = x if self.norm is None else self.norm(x, context)
        if self.after is not None and self.after.needs_keys and self.part.shares_keys:
            y, told = self.part(y, context.replace(keys_wanted=True))
            context = context.replace(keys=told.keys)
        else:
            y = self.part(y, context)
        if self.gate is not None:
            x = self.gate(x, self.drop_path(y if self.layer_scale is None else y * self.layer_scale))
        elif self.drop_path.rate and self.training:
            y = self.drop_path(y if self.layer_scale is None else y * self.layer_scale)
            x = (x if self.residual_scale is None else x * self.residual_scale) + y
        elif self.layer_scale is not None:
            x = torch.addcmul(x if self.residual_scale is None else x * self.residual_scale, y, self.layer_scale)
        elif self.residual_scale is not None:
            x = torch.addcmul(y, x, self.residual_scale)
        else:
            x = x + y
        if self.post_norm is not None:
            x = self.post_norm(x, context)
        return (x, context) if self.after is None else self.after(x, context)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"layer_scale": (RESIDUAL,), "residual_scale": (RESIDUAL,)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm", "part", "post_norm", "gate", "after")

    def build_slot(self, slot: str, spec: PartSpec) -> Part:
        """Another part for what is called ``slot``.

        Raises:
            UserError: it would stand behind the branch and needs keys that the branch's part does not give.
        """
        built: Part = build_part(spec, self.dim, grid=self.grid)
        if slot == "after" and built.needs_keys and not self.part.shares_keys:
            raise UserError(
                f"{type(built).__name__} compares tokens by their keys, and {type(self.part).__name__} gives none; let "
                "it compare the tokens themselves (by='tokens'), or put it behind attention."
            )
        return built

    def parts(self) -> Iterator[tuple[str, Part]]:
        """The parts that the branch calls, in order, by name.

        Raises:
            UserError: tokens are merged behind it, which a stream cannot do.
        """
        if self.after is not None:
            raise UserError("A model that merges or drops tokens behind its branches cannot stream.")
        for name in ("norm", "part", "post_norm"):
            module = getattr(self, name)
            if module is not None:
                yield name, module

    def stream(self, x: Tensor, path: str, streams: Streams, context: Context = EMPTY) -> Tensor:
        """The branch on the next tokens; ``path`` is its name in the backbone."""
        y = x if self.norm is None else streams.step(f"{path}.norm", self.norm, x, context)
        y = streams.step(f"{path}.part", self.part, y, context)
        if self.layer_scale is not None:
            y = y * self.layer_scale
        if self.gate is not None:
            x = self.gate(x, y)
        else:
            x = y + (x if self.residual_scale is None else x * self.residual_scale)
        return x if self.post_norm is None else streams.step(f"{path}.post_norm", self.post_norm, x, context)

    @torch.no_grad()
    def fold(self) -> None:
        """Take the weights of the norm and LayerScale into the part between them, in place, where it can hold them."""
        if isinstance(self.norm, AffineNorm):
            self.norm.fold_into(self.part)
            weight = self.norm.weight
            if self.part.passes_scale and self.layer_scale is not None and weight is not None:
                self.layer_scale.mul_(weight)
                self.norm.weight = self.norm.bias = None
        if self.layer_scale is not None and self.part.fold_scale_after(self.layer_scale):
            self.layer_scale = None


class DroppedBranch(nn.Module):
    """What is left in the place of a branch that was dropped: ``x`` stays as it is."""

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid channels"], Context]:
        return x, context

    def parts(self) -> Iterator[tuple[str, Part]]:
        return iter(())

    def stream(self, x: Tensor, path: str, streams: Streams, context: Context = EMPTY) -> Tensor:
        return x


def _vector(value: float | None, dim: int) -> nn.Parameter | None:
    return None if value is None else nn.Parameter(torch.full((dim,), value))


class Block(nn.Module):
    """Residual branches, one after the other."""

    def __init__(self, spec: BlockSpec, dim: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Branch(branch, dim, grid) for branch in spec.branches)

    def inner_axes(self) -> InnerAxes:
        return sharing(*(f"branches.{index}" for index in range(len(self.branches))))

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *kept_grid channels"], Context]:
        if not context.checked:
            context = settled(self, context)
        for branch in self.branches:
            x, context = branch(x, context)
        return x, context

    def parts(self, path: str) -> Iterator[tuple[str, Part]]:
        """The parts that the block calls, in order, by name; ``path`` is its own."""
        for r, branch in enumerate(self.branches):
            for name, module in branch.parts():  # type: ignore[operator]
                yield f"{path}.branches.{r}.{name}", module

    def stream(self, x: Tensor, path: str, streams: Streams, context: Context = EMPTY) -> Tensor:
        """The block on the next tokens; ``path`` is its name in the backbone."""
        for r, branch in enumerate(self.branches):
            x = branch.stream(x, f"{path}.branches.{r}", streams, context)  # type: ignore[operator]
        return x


class Stage(nn.Module):
    """Blocks of one width, after what brings the tokens to it.

    ``downsample``, every ``entry`` part and every block map ``(x, context)`` to ``(x, context)``. A looped stage has
    the same blocks ``repeats`` times.

    Raises:
        UserError: the number of channels does not match the stage, or it would not run once.
    """

    downsample: Part | None

    def __init__(self, spec: StageSpec, in_dim: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        if spec.downsample is None and in_dim != spec.dim:
            raise UserError(f"A stage of {spec.dim} channels after {in_dim} needs a downsampling part between them.")
        if spec.repeats < 1:
            raise UserError(f"A stage passes its tokens through its blocks at least once, not {spec.repeats} times.")
        self._incoming, self.in_grid = in_dim, grid
        self.repeats, self.inject = spec.repeats, spec.inject
        self.downsample = None if spec.downsample is None else build_part(spec.downsample, in_dim, spec.dim, grid=grid)
        self.grid = grid if self.downsample is None else self.downsample.output_grid(grid)
        self.dim = spec.dim
        self.entry = nn.ModuleList(build_part(entry, spec.dim, grid=self.grid) for entry in spec.entry)
        self.blocks = nn.ModuleList(Block(block, spec.dim, self.grid) for block in spec.blocks)

    @property
    def in_dim(self) -> int:
        """Channels of the tokens that come in."""
        return self.dim if self.downsample is None else self._incoming

    @in_dim.setter
    def in_dim(self, channels: int) -> None:
        self._incoming = channels

    def inner_axes(self) -> InnerAxes:
        own = [f"{name}.{index}" for name in ("entry", "blocks") for index in range(len(getattr(self, name)))]
        if self.downsample is None:
            return sharing(*own)
        ends = sharing("downsample")["downsample"] | {INCOMING.name: INCOMING}
        return sharing(*own) | {"downsample": ends}

    def build_slot(self, slot: str, spec: PartSpec) -> Part:
        """Another part for what is called ``slot``: the downsampling or an entry."""
        if slot == "downsample":
            return build_part(spec, self.in_dim, self.dim, grid=self.in_grid)
        return build_part(spec, self.dim, grid=self.grid)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return grid if self.downsample is None else self.downsample.output_grid(grid)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *out_grid out_channels"], Context]:
        if x.shape[-1] != self.in_dim:
            raise UserError(f"A stage expects tokens (batch, *grid, {self.in_dim}), and got {tuple(x.shape)}.")
        context = settled(self, context)
        if self.downsample is not None:
            x, context = self.downsample(x, context)
        for entry in self.entry:
            x, context = entry(x, context)
        for looped in self.loops(x, context):  # noqa: B007
            pass
        return looped

    def loops(self, x: Tensor, context: Context = EMPTY) -> Iterator[tuple[Tensor, Context]]:
        """The tokens after each time that they passed through all blocks; ``x`` are those that entered the first."""
        entered = x
        for repeat in range(self.repeats):
            if repeat and self.inject:
                x = x + entered
            for block in self.blocks:
                x, context = block(x, context)
            yield x, context

    def stream(self, x: Tensor, path: str, streams: Streams, context: Context = EMPTY) -> tuple[Tensor, Context]:
        """The stage on the next tokens; ``path`` is its name in the backbone."""
        if self.downsample is not None:
            x, context = streams.resampled(f"{path}.downsample", self.downsample, x, context)
        for e, entry in enumerate(self.entry):
            x, context = streams.resampled(f"{path}.entry.{e}", entry, x, context)  # type: ignore[arg-type]
        entered = x
        for repeat, where in enumerate(self._loop_paths(path)):
            if repeat and self.inject:
                x = x + entered
            for b, block in enumerate(self.blocks):
                x = block.stream(x, f"{where}.blocks.{b}", streams, context)  # type: ignore[operator]
        return x, context

    def parts(self, path: str) -> Iterator[tuple[str, Part]]:
        """The parts that a stream passes through, in order, by name; each repeat has a state of its own.

        Raises:
            UserError: tokens are merged before the blocks in a way that a stream cannot follow.
        """
        if self.downsample is not None:
            if not self.downsample.resamples:
                how = type(self.downsample).__name__
                raise UserError(f"A model that downsamples by {how} cannot stream; one by frame_subsampling can.")
            yield f"{path}.downsample", self.downsample
        for e, entry in enumerate(self.entry):
            yield f"{path}.entry.{e}", entry  # type: ignore[misc]
        for where in self._loop_paths(path):
            for b, block in enumerate(self.blocks):
                yield from block.parts(f"{where}.blocks.{b}")  # type: ignore[operator]

    def _loop_paths(self, path: str) -> list[str]:
        return [path] if self.repeats == 1 else [f"{path}.loops.{repeat}" for repeat in range(self.repeats)]


class Backbone(nn.Module):
    """Embedding and stages: images or other inputs to tokens on a grid.

    Args:
        embed: the part that turns the input into tokens.
        stages: one specification a stage.
        in_dim: channels of the input.
        grid: size of the input that parts with tables are built for.
        embed_dim: channels after the embedding; those of the first stage if unset.
    """

    def __init__(
        self,
        embed: PartSpec,
        stages: Sequence[StageSpec],
        in_dim: int,
        grid: tuple[int, ...],
        embed_dim: int | None = None,
    ) -> None:
        super().__init__()
        if not stages:
            raise UserError("A model needs at least one stage.")
        self.input_grid = grid
        self.in_dim = in_dim
        dim = stages[0].dim if embed_dim is None else embed_dim
        self.embed: Part = build_part(embed, in_dim, dim, grid=grid)
        grid = self.embed.output_grid(grid)
        modules = []
        for spec in stages:
            stage = Stage(spec, dim, grid)
            modules.append(stage)
            dim, grid = spec.dim, stage.grid
        self.stages = nn.ModuleList(modules)
        self.grid = grid

    @property
    def dim(self) -> int:
        """Channels of the tokens after the last stage."""
        return self.stages[-1].dim  # type: ignore[return-value]

    def widths(self, path: str, *readers: str) -> list[Width]:
        """The widths of the tokens from the embedding on: one for all stages up to one that downsamples, and so on.

        Args:
            path: what the backbone is called in the network.
            readers: paths of what takes the tokens of the last stage.
        """
        widths = [[(f"{path}.embed", RESIDUAL.name)]]
        for s, stage in enumerate(self.stages):
            if stage.downsample is not None:
                widths[-1].append((f"{path}.stages.{s}", INCOMING.name))
                widths.append([])
            widths[-1].append((f"{path}.stages.{s}", RESIDUAL.name))
        widths[-1] += [(reader, RESIDUAL.name) for reader in readers]
        return [Width(tuple(members)) for members in widths]

    def grids(self, grid: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The token grid after each stage, for an input of size ``grid``."""
        grids = [self.embed.output_grid(grid)]
        for stage in self.stages:
            grids.append(stage.output_grid(grids[-1]))  # type: ignore[operator]
        return grids[1:]

    def check_size(self, grid: tuple[int, ...]) -> None:
        """Refuse an input so small that nothing would be left of it.

        Raises:
            UserError: names the size given and the smallest one that works.
        """
        if min(min(stage) for stage in self.grids(grid)) >= 1:
            return
        raise UserError(
            f"An input of {' x '.join(map(str, grid))} is too small for this model: after its downsampling no token "
            f"would be left; it takes sides of at least {self.least_side}."
        )

    @property
    def least_side(self) -> int:
        """The sides of the smallest input of which tokens are left."""
        side = 1
        while min(min(stage) for stage in self.grids((side,) * len(self.input_grid))) < 1:
            side += 1
        return side

    def forward(self, x: Tensor, context: Context = EMPTY) -> tuple[Float[Tensor, "batch *grid dim"], Context]:
        """Tokens of what the embedding takes: images ``(batch, channels, *size)``, ids ``(batch, time)``, vectors."""
        x, context = self._embed(x, context)
        for stage in self.stages:
            x, context = stage(x, context)
        return x, context

    def parts(self) -> Iterator[tuple[str, Part]]:
        """The parts that a stream passes through, in order, by name.

        Raises:
            UserError: tokens are merged between stages, which a stream cannot do.
        """
        yield "embed", self.embed
        for s, stage in enumerate(self.stages):
            yield from stage.parts(f"stages.{s}")  # type: ignore[operator]

    def stream(self, x: Tensor, streams: Streams, context: Context = EMPTY) -> tuple[Tensor, Context]:
        """Tokens ``(batch, m, dim)`` that the next ``n`` inputs of every row complete, and their context."""
        x, context = streams.resampled("embed", self.embed, x, context)
        for s, stage in enumerate(self.stages):
            x, context = stage.stream(x, f"stages.{s}", streams, context)  # type: ignore[operator]
        return x, context

    def emitted(self, seen: Tensor) -> Tensor:
        """How many tokens each row has given in a stream of which so many inputs came in, and more may come."""
        for _, part in self.parts():
            seen = part.emitted(seen)
        return seen

    def _embed(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        check_input = getattr(self.embed, "check_input", None)
        if check_input is not None:
            check_input(x)
        elif x.ndim != 2 + len(self.input_grid) or x.shape[1] != self.in_dim:
            sizes = ", ".join("size" for _ in self.input_grid)
            raise UserError(f"Expected an input (batch, {self.in_dim}, {sizes}), and got {tuple(x.shape)}.")
        return self.embed(x, settled(self, context))

    def features(self, x: Tensor, at: Sequence[int], context: Context = EMPTY) -> list[Tensor]:
        """Token grids ``(batch, *grid, channels)`` after the stages ``at``; prefix tokens are left out."""
        return [tokens for tokens, _ in self.maps(x, at, context)]

    def maps(self, x: Tensor, at: Sequence[int], context: Context = EMPTY) -> list[tuple[Tensor, Context]]:
        """As :meth:`features`, each with the context of its tokens."""
        x, context = self._embed(x, context)
        maps: dict[int, tuple[Tensor, Context]] = {}
        for index, stage in enumerate(self.stages[: max(at) + 1]):
            x, context = stage(x, context)
            if index in at:
                maps[index] = on_grid(x, context) if context.flat else (x, context)
        return [maps[index] for index in at]
