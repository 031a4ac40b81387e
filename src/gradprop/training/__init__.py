"""How stacks of networks are trained and recorded."""
