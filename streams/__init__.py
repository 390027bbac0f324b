"""The edge: moves bytes and remembers offsets. It computes nothing; that is ``driftline.detectors``' part."""
