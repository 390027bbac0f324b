"""The loop of a stage, its ports, and the two stages: offsets, checkpoints and dead letters, without Faust.

Imported by ``worker`` and by the tests' simulator.
"""
