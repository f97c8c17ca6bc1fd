"""Spaces of candidates, and the drivers that look through them."""
