"""Our speed, as ratios taken side by side in one run: ``make bench``."""

import asyncio

from benchmarks import growth, speed

asyncio.run(speed.main())
asyncio.run(growth.main())
