"""One job: its phases, the training loop, the learning rate finder and early stopping."""
