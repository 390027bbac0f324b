"""The I/O layer: moves bytes and remembers offsets. What it computes lies in ``driftline.detectors``."""
