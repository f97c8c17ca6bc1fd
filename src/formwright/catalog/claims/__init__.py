"""The claims of each system, one module a system, named after its card: each holds a list ``CLAIMS``."""
