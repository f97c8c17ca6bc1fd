"""Training: recipes, the loop, and continuing where it stopped."""

from formwright.training.loop import Progress, Trainer
from formwright.training.recipe import Group, Recipe, Schedule

__all__ = ["Group", "Progress", "Recipe", "Schedule", "Trainer"]
