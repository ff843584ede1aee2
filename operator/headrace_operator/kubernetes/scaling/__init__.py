"""Autoscaling in a cluster: reads workers and routers, asks the policy, and tells KEDA or writes the numbers itself.

Owns everything of scaling that needs a client, a clock or a socket. Runs while this operator leads, beside the turns of
resources; it knows no rollout and makes no pod: all it moves is the number of an LLMPool.
"""
