"""Which workers there are: state files read by polling, and the registry that all other parts ask."""
