"""What makes the runs of tests short."""

FIND = ("find.trial_steps=3", "find.stored_steps=8", "find.stored_orders=1")  # a tenth of the steps of a find
