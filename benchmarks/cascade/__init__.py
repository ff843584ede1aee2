"""`make bench-cascade`: two real models as tiers, tasks that can be checked, and a gate on the cheap one's answers.

Owns the tasks, the asking of both models and the plots. Training and figures are those of `headrace cascade`.
"""
