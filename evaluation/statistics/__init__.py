"""Counting right answers, intervals, and comparing models image by image."""
