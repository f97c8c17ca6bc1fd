"""Augmentation that changes pictures, their boxes and their masks together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.boxes import NO_OBJECT, to_centres, to_corners


@dataclass(frozen=True)
class JointAugmentation:
    """What is done to training pictures and to what is marked in them; the default is nothing.

    - ``flip``: half of the pictures are mirrored left to right.
    - ``scale``: each is made smaller by a factor down to this one, or larger by up to its inverse, about its middle;
      what comes in at the border is black. 1 is off.
    - ``crop``: a rectangle of at least this share of the area, of sides from 3:4 to 4:3, becomes the whole. 1 is off.
    - ``colour``: brightness, contrast and saturation change by a factor of up to ``1 ± colour``, and the hue by a
      fifth of that.

    Raises:
        UserError: ``scale`` or ``crop`` is not above 0 and at most 1, or ``colour`` not from 0 to 1.
    """

    flip: bool = False
    scale: float = 1.0
    crop: float = 1.0
    colour: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.scale <= 1 and 0 < self.crop <= 1 and 0 <= self.colour <= 1):
            raise UserError(
                "Augmentation expects `scale` and `crop` above 0 and at most 1, and `colour` from 0 to 1; got "
                f"scale={self.scale}, crop={self.crop} and colour={self.colour}."
            )


@dataclass(frozen=True)
class Scene:
    """Pictures and what is marked in them.

    Attributes:
        images: from 0 to 255.
        objects: the class of each object, ``NO_OBJECT`` where there is none.
        boxes: centre, width and height as shares of the picture's sides.
        masks: 1 plus the row of the object that a pixel belongs to, or 0.
    """

    images: UInt8[Tensor, "batch height width channels"]
    objects: Int[Tensor, "batch most"]
    boxes: Float[Tensor, "batch most 4"]
    masks: UInt8[Tensor, "batch height width"] | None = None


def augment(scene: Scene, augmentation: JointAugmentation, random: np.random.Generator) -> Scene:
    """The scene changed by chance; boxes are clipped to the picture, and objects of which less than a pixel is left go.

    All chance comes from ``random``; PyTorch's own is left as it was.
    """
    from kornia.augmentation import AugmentationSequential, ColorJiggle, RandomAffine, RandomHorizontalFlip
    from kornia.augmentation import RandomResizedCrop as Crop

    height, width = scene.images.shape[1:3]
    steps = []
    if augmentation.flip:
        steps.append(RandomHorizontalFlip(p=0.5))
    if augmentation.scale != 1:
        steps.append(RandomAffine(0.0, scale=(augmentation.scale, 1 / augmentation.scale), p=1.0))
    if augmentation.crop != 1:
        steps.append(Crop((height, width), scale=(augmentation.crop, 1.0), p=1.0))
    if augmentation.colour:
        amount = augmentation.colour
        steps.append(ColorJiggle(amount, amount, amount, amount / 5, p=1.0))
    if not steps:
        return scene
    sides = torch.tensor([width, height, width, height], dtype=scene.boxes.dtype)
    # Its coordinates are those of pixels' middles, ours those of their edges.
    given = [scene.images.movedim(-1, 1).float() / 255, to_corners(scene.boxes) * sides - 0.5]
    keys = ["input", "bbox_xyxy"]
    if scene.masks is not None:
        given.append(scene.masks[:, None].float())
        keys.append("mask")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(random.integers(2**32)))
        images, corners, *masks = AugmentationSequential(*steps, data_keys=keys)(*given)
    changed = replace(
        scene,
        images=(images * 255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous(),
        masks=masks[0][:, 0].round().to(torch.uint8) if masks else None,
    )
    return _with_boxes(changed, corners + 0.5, sides)


def _with_boxes(scene: Scene, corners: Tensor, sides: Tensor) -> Scene:
    """The scene with ``corners`` in pixels, clipped, and without the objects that less than a pixel is left of."""
    corners = torch.minimum(corners.clamp(min=0), sides)
    left = (scene.objects != NO_OBJECT) & (corners[..., 2:] - corners[..., :2] >= 1).all(-1)
    masks = scene.masks
    if masks is not None:
        rows = torch.cat([torch.zeros_like(left[:, :1]), left], 1)  # the ground is nobody's
        batch = torch.arange(len(masks))[:, None, None]
        masks = torch.where(rows[batch, masks.long()], masks, torch.zeros_like(masks))
    return replace(
        scene,
        objects=torch.where(left, scene.objects, torch.full_like(scene.objects, NO_OBJECT)),
        boxes=torch.where(left[..., None], to_centres(corners / sides), torch.zeros_like(scene.boxes)),
        masks=masks,
    )
