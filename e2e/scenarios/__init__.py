"""Scenarios of the whole product on a cluster: real images, real pods, a real model.

Owns how the operator is installed for a test, traffic from a pod, and what a scenario waits for. Knows the product only
as a user does: manifests, conditions, metrics, answers.
"""
