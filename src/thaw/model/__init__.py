"""A timm network and the device it runs on: heads, layer groups, freezing, weights."""
