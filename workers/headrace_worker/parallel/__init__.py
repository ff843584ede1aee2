"""The ranks of one worker: how many there are, the processes they run in, and what they send each other.

Knows process groups, pipes and deadlines; nothing of models, schedules or requests.
"""
