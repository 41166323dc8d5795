"""What was computed, found again by what it depends on: artifacts, keys, locks, snapshots."""
