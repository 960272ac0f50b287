"""The tasks of ``evaluate``, one folder each, and what all of them share."""
