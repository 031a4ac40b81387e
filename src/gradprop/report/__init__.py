"""Chapters to one HTML file: prose, inline figures, final results, provenance.

The file needs no network, and it is complete without its script, which adds controls where scripts
run. The same results give the same bytes: nothing in it depends on the date, the machine that
writes it or the order of a directory.
"""
