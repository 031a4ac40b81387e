"""Chapters to one HTML file: prose, inline figures, final results, provenance.

The file needs no network and no script. The same results give the same bytes: nothing in it
depends on the date, the machine that writes it or the order of a directory.
"""
