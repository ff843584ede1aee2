"""Questions to workers and routers over HTTP, the trial of a hand-off among them.

Every backend asks the same ones. Knows nothing of how processes are started, or of what is decided from the answers.
"""
