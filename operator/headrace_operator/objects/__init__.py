"""The Kubernetes objects that a resource becomes, as plain manifests.

Owns every object's content, name and labels, and the order in which they are applied. Pure: knows no client, clock,
environment or chance; what is random or seen in the cluster is an argument.
"""

from headrace_operator.objects.child import Child, Lane
from headrace_operator.objects.children import deployment_children, router_children
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.revision import stamped
from headrace_operator.objects.site import Site

__all__ = ["Child", "Lane", "Manifest", "Owner", "Site", "deployment_children", "router_children", "stamped"]
