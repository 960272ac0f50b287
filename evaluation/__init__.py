"""What a model is worth: features, kNN, and the parts that every training shares."""
