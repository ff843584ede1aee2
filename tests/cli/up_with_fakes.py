"""`headrace up` with fake workers and a fake router: `up_with_fakes.py FOLDER STATE MODEL [--logs]`."""

import sys
from pathlib import Path

from headrace_cli import up
from headrace_cli.display import Display
from headrace_cli.errors import CliError
from headrace_operator.desired import DeploymentName, Desired, Pool, Router, Template
from headrace_operator.local.settings import LocalSettings

FAKE = (sys.executable, "-S", str(Path(__file__).parents[1] / "operator" / "fake_child.py"))
CHAT = DeploymentName("chat")


def run() -> int:
    folder, state, model = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    settings = LocalSettings(
        folder,
        state_file=state,
        worker_command=FAKE,
        router_command=FAKE,
        starting_poll_s=0.01,
        backoff_first_s=0.05,
        drain_deadline_s=600,
    )
    template = Template(model, threads=1)
    desired = Desired(
        (Pool(CHAT, "prefill", 1, template), Pool(CHAT, "decode", 1, template)), Router(frozenset({CHAT}))
    )
    with Display() as display:
        return up.bring_up(desired, settings, display, follow="--logs" in sys.argv)


if __name__ == "__main__":
    try:
        sys.exit(run())
    except CliError as error:
        sys.stderr.write(f"headrace: {error}\n")
        sys.exit(error.status)
