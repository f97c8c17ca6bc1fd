"""Training: recipes, the loop, and continuing where it stopped."""

from formwright.training.loop import Progress, Trainer
from formwright.training.recipe import Recipe, Schedule

__all__ = ["Progress", "Recipe", "Schedule", "Trainer"]
