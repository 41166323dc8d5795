"""Pictures on disk, made into batches."""
