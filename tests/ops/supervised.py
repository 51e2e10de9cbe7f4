"""Runs a supervisor over the programs that the JSON text on its command line describes.

The key `ready` of a program names a file: the program is ready when that file exists.
"""

import json
import sys
from pathlib import Path

from deployer.local.programs import Program, Timing
from deployer.local.supervisor import Supervisor

settings = json.loads(sys.argv[1])
programs = []
for each in settings["programs"]:
    file = each.pop("ready", None)
    programs.append(Program(**each, ready=Path(file).exists if file else None))
sys.executable = settings.get("python", sys.executable)  # the interpreter that runs the watchdog
logs = Path(settings["logs"]) if "logs" in settings else None
supervisor = Supervisor(programs, timing=Timing(**settings["timing"]), logs=logs)
sys.exit(supervisor.run(lambda: supervisor.console.print_line("all are ready")))
