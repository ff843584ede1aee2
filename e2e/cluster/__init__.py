"""A Kubernetes to test on: started, used and taken away again, also where no image registry can be reached.

It owns the pinned versions, the recipe that builds the programs and the node image from Go modules and Debian packages,
and the three providers behind one interface: `api` (a control plane of plain processes with simulated nodes), `kind`
(the real thing) and `existing` (a cluster that KUBECONFIG names). It does not know Headrace: no custom resource, image
or test of ours is named here.
"""
