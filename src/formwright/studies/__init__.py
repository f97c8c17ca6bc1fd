"""Benchmarks as commands: the Long Range Arena, and scaling laws of series."""
