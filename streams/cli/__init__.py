"""The commands. Each imports what it runs when it is called, so that ``--help`` stays fast."""
