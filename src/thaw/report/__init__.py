"""What people see of a run: its pictures, its page, its metrics and W&B."""
