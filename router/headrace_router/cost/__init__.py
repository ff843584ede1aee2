"""What requests cost and who pays: prices, tenants, budgets, the ledger and its reports.

It owns money, in whole billionths of the currency, so that sums are exact. It does not know HTTP, workers or how an
answer travels: an exchange opens an account, tells it what frames say, and closes it.
"""
