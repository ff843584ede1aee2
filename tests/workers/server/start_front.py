"""Starts the real front before the core that stands beside this file: `start_front.py SETTINGS_FILE`."""

import asyncio
import logging
import sys
from pathlib import Path

from headrace_worker.server.front import listen, serve
from headrace_worker.settings import WorkerSettings

logging.basicConfig(level=logging.INFO)
settings = WorkerSettings.model_validate_json(Path(sys.argv[1]).read_bytes())
engine = (sys.executable, str(Path(__file__).with_name("fake_core.py")))
sys.exit(asyncio.run(serve(settings, listen(settings), engine)))
