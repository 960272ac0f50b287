"""How a model is made: views, methods, the training loop, recipes."""
