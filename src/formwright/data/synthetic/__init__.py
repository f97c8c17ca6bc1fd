"""Data that is made here, so that tests, benchmarks and claims need no download."""
