"""`headrace render FILE…`: the resources as they are understood, with every default written out."""

import argparse
import sys
from typing import Any

import yaml

from headrace_cli.files import load


def add_parser(commands: Any) -> None:
    """Add `render` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "render",
        help="print resources with their defaults",
        description="Check files of resources and print them as YAML with every default written out.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML file with LLMDeployment and LLMRouter resources")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the resources; return the exit status."""
    documents = [resource.model_dump(by_alias=True, mode="json", exclude_none=True) for resource in load(options.files)]
    sys.stdout.write(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120))
    return 0
