"""What people see of a run: its images, its page, its metrics and W&B."""
