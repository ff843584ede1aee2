"""Headrace's own images for a test cluster: built by `images/Dockerfile` with the cluster's engine, loaded once.

Owns names, the base where none can be pulled, and what the build is told of the package index. Knows nothing of what
runs in the images.
"""
