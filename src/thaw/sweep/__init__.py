"""The jobs of a sweep: previewed, read from the files they leave, ranked, compared, shown."""
