"""Which workers there are: from state files or from a cluster's pods, and the registry that all other parts ask."""
