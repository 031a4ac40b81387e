"""What a cell is made of: data sets, initializers, activations and the rest."""
