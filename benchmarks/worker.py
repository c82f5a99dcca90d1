"""The process of a side: one order a line, one answer a line, until the input ends."""

import asyncio
import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is measured may print
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any]
        try:
            function = getattr(import_module(order["module"]), order["name"])
            answer = {"result": loop.run_until_complete(function(*order["args"], **order["kwargs"]))}
        except Exception:  # noqa: BLE001 -- it is told, whatever it is
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # threads of drivers would be waited for


if __name__ == "__main__":
    main()
