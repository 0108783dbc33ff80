"""Hyperbolic geometry as free functions, in one convention (see `lorentz`)."""
