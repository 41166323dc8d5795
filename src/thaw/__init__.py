"""thaw: a pretrained network, from frozen to a finished image classifier."""
