"""Training the whole network with labels: the task `finetune`, and what `semi` builds on."""
