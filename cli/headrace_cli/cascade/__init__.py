"""`headrace cascade`: trains, judges and tunes the models by which a router decides between tiers.

Owns the reading of labelled prompts, the fits (scikit-learn, in the extra `cascade`), the figures and the plots.
Does not know how a router serves: all that serving needs lies in the model file, computed by `headrace_router.cascade`.
"""

from headrace_cli.cascade.command import add_parser

__all__ = ["add_parser"]
