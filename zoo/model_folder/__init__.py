"""A zoo model on disk: its folder, ``zoo.json``, card and claims, and the importing of checkpoints of others."""
