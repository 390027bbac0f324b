"""The demonstration on the embedded broker."""
