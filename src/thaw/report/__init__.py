"""The output of a run: its figures, its report page, its metrics and W&B."""
