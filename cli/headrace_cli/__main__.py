"""`python -m headrace_cli` is `headrace`."""

import sys

from headrace_cli.main import main

sys.exit(main())
