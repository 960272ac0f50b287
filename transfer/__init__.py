"""What a model is turned into: weights for other frameworks."""
