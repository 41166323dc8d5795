"""The jobs of a sweep: preview them, read their folders, rank and compare them, report on them."""
