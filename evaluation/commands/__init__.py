"""The ``evaluate`` command and ``zoo verify``: from what was typed to tables and result files."""
