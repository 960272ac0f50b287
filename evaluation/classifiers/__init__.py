"""Classifiers that can be used: those that evaluations train as zoo models, and what any classifier says of images."""

# Classes that are told of an image.
DEFAULT_TOP = 5
