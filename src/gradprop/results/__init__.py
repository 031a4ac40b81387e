"""The tables on disk, and what was made from what."""
