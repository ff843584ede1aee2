"""What a container engine leaves in the kernel's packet filter, and the commands that take it out again: pure."""

from __future__ import annotations

import re
from typing import Final

_CHAIN: Final = re.compile(r"^DOCKER(-\S+)?$")
_RULE: Final = re.compile(r"-(?:j|g) DOCKER(-\S+)?\b|-[io] (?:docker0|br-[0-9a-f]{12})\b|\bbr-[0-9a-f]{12}\b")
_POLICY: Final = re.compile(r"^:FORWARD (\S+)", re.MULTILINE)


def has_engine_chains(saved: str) -> bool:
    """Say whether an engine has chains in the packet filter, given what `iptables-save` prints."""
    return any(line.startswith(":DOCKER") for line in saved.splitlines())


def forward_policy(saved: str) -> str | None:
    """Return what happens to forwarded packets that no rule speaks of, or None where there is no such chain yet."""
    found = _POLICY.search(saved)
    return found.group(1) if found else None


def bridge_name(identity: str) -> str:
    """Return the name of the bridge that Docker makes for a network of this identity."""
    return f"br-{identity.strip()[:12]}"


def removals(saved: str, policy: str | None) -> list[list[str]]:
    """Return the calls of `iptables` that take out an engine's rules and chains and give back the old policy.

    Rules go first, for a chain that rules jump to cannot be deleted.

    Args:
        saved: What `iptables-save` prints now.
        policy: What FORWARD did before the engine came; None where the table had not been used.
    """
    table = ""
    rules: list[list[str]] = []
    chains: list[list[str]] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":") and _CHAIN.match(chain := line[1:].split()[0]):
            chains.append(["-t", table, "-X", chain])
            rules.append(["-t", table, "-F", chain])
        elif line.startswith("-A DOCKER"):
            continue
        elif line.startswith("-A ") and _RULE.search(line):
            rules.append(["-t", table, "-D", *_words(line)[1:]])
    restored = [["-P", "FORWARD", policy or "ACCEPT"]] if forward_policy(saved) else []
    flushes = [rule for rule in rules if rule[2] == "-F"]
    return [*(rule for rule in rules if rule[2] == "-D"), *flushes, *chains, *restored]


def _words(line: str) -> list[str]:
    return [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]
