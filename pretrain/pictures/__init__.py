"""Pictures of what a run follows: its boxes, and the tree of its prototypes."""
