"""How a baseline and a plan become a vector of counts: cells, lookup tables, constraints, and which baseline is in force.

Imported by both stages; never imports one of them.
"""
