"""Theory applied to a cell and its data."""
