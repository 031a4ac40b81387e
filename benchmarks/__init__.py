"""Side-by-side measurements of gradprop's speed: `python -m benchmarks`."""
