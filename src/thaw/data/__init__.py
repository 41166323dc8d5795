"""Images on disk, made into batches."""
