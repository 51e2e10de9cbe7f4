"""A supervisor over the programs that a JSON text on its command line describes; `ready` names a file to exist."""

import json
import sys
from pathlib import Path

from deployer.supervisor import Pace, Program, Supervisor

told = json.loads(sys.argv[1])
programs = []
for each in told["programs"]:
    file = each.pop("ready", None)
    programs.append(Program(**each, ready=Path(file).exists if file else None))
sys.executable = told.get("python", sys.executable)  # what the guard is run by
logs = Path(told["logs"]) if "logs" in told else None
supervisor = Supervisor(programs, pace=Pace(**told["pace"]), logs=logs)
sys.exit(supervisor.run(lambda: supervisor.say("all are ready")))
