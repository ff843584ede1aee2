"""What another threshold, tier order, cache or ratio of pools would have cost, from a ledger's facts.

It owns the arithmetic, the rules of when nothing is said, and the words, tables and plots. Its analyses are pure: they
know no ledger, no network and no clock, and judge no quality themselves: of that they have the gate's belief alone.
"""
