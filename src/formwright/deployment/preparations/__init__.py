"""Preparations, one per task, in a module that is called like the task; none needs PyTorch."""
