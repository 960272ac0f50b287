"""The one safe reader of files that are pickles or hold weights: nothing in them is run, and nothing beyond their size is allocated."""
