"""One job carried out: its phases, the loop, the learning-rate finder, early stopping."""
