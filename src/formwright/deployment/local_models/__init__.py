"""Forecasters of single series, fitted to many of them at once in NumPy alone."""
