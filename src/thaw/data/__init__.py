"""From image files to batches: sources, the scan, decoding, splits, augmentation."""
