"""Kinds of data, each in a module that is called like it."""
