"""Placing a specimen by hand: a page that needs no network shows the slide and the MSI.

Pairs of points are clicked, or the MSI is moved as a whole; what is saved, landmarks or a matrix
and outlines of cancer, is what the manifest reads.
"""

from msiscale.place.pages import Placed, place

__all__ = ["Placed", "place"]
