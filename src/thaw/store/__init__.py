"""Stored results, found again by what they depend on: artifacts, keys, locks, snapshots."""
