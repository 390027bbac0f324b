"""Tests, distances and tails as functions of counts and numbers.

They know no signal names, no plan and no state; whatever measures or fits may import them.
"""
