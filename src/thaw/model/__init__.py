"""A timm network and the device that it runs on: heads, layer groups, freezing, weights."""
