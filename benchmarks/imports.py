"""What an import costs: CPU time and modules of a fresh interpreter."""

import json

from benchmarks.harness import Bench, Figure

CODE = """
import json, sys, time
start = time.process_time()
import {module}
print(json.dumps([time.process_time() - start, len(sys.modules)]))
"""


async def measure(bench: Bench) -> list[Figure]:
    cpu = Figure("`import fastapi_users` ÷ `import fastapi`, CPU", target=1.4)
    modules = Figure("modules that `import fastapi_users` loads", target=520)
    for side in bench.sides:
        await side.output(CODE.format(module="fastapi_users"))  # compiles what no import has compiled before
    for side in bench.turns():
        seconds, loaded = json.loads(await side.output(CODE.format(module="fastapi_users")))
        of_fastapi, _ = json.loads(await side.output(CODE.format(module="fastapi")))
        cpu.add(side.name, seconds / of_fastapi, absolute=seconds)
        modules.add(side.name, loaded, absolute=loaded)
    return [cpu, modules]
