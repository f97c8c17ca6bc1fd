"""Toys are computed faster by one thread than shared among several."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
