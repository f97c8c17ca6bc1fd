"""Models that answer for every place of a picture, a series or a volume."""
