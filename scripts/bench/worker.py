"""How fast a worker runs no-op tasks, against what the machine can do: fork + exit + wait of a process of that size.

Feeds a worker over its socket, without scheduler and database. `worker.py [TASKS]` prints rates, ratios and memory.
"""

from __future__ import annotations

import gc
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.workers import Scheduler, WorkerProcess, attempt

ROUNDS = 5
DAG = """
from opskit import DAG
from opskit.operators import PythonOperator

def nothing():
    pass

with DAG("bench") as dag:
    PythonOperator(task_id="nothing", python_callable=nothing)
"""


def bare(folder: str, number: int, flying: int) -> float:
    """Forks a second of this very process, which has loaded the DAG file as a zygote does."""
    from opskit.core.dag import loading
    from opskit.core.runner import attempt as attempts
    from opskit.core.runner import zygote, zygote_spec

    zygote.import_runtime()
    loading.load_file(f"{folder}/bench.py", folder)
    attempts.prepare(zygote_spec.Spec("bench.py", folder))
    gc.collect()
    gc.freeze()
    began = time.perf_counter()
    running = 0
    for _ in range(number):
        if running == flying:
            os.wait()
            running -= 1
        if os.fork() == 0:
            os._exit(0)
        running += 1
    for _ in range(running):
        os.wait()
    return number / (time.perf_counter() - began)


def fed(scheduler: Scheduler, number: int, isolation: str) -> float:
    """Attempts a second of a fan-out, dispatched as a scheduler does: as many as there are slots, then one a result."""
    waiting = [attempt("nothing", "bench", "bench.py", isolation=isolation) for _ in range(number)]
    slots = scheduler.welcome["slots"]
    connection = scheduler.connection
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    began = time.perf_counter()
    connection.put({"t": "run", "attempts": waiting[:slots]})
    connection.flush()
    at, done = slots, 0
    while done < number:
        ended = []
        for frame in connection.receive():
            if frame["t"] == "result":
                assert frame["state"] == "success", frame
                ended.append(frame["key"])
        if not ended:
            poll.poll()
            continue
        done += len(ended)
        connection.put({"t": "ack", "keys": ended})
        if at < number:
            connection.put({"t": "run", "attempts": waiting[at : at + len(ended)]})
            at += len(ended)
        connection.flush()
    return number / (time.perf_counter() - began)


def chained(scheduler: Scheduler, number: int, isolation: str) -> float:
    """Milliseconds of one attempt after the other."""
    connection = scheduler.connection
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    began = time.perf_counter()
    for _ in range(number):
        each = attempt("nothing", "bench", "bench.py", isolation=isolation)
        connection.put({"t": "run", "attempts": [each]})
        connection.flush()
        while True:
            poll.poll()
            if any(frame["t"] == "result" for frame in connection.receive()):
                break
        connection.put({"t": "ack", "keys": [each["key"]]})
    return (time.perf_counter() - began) / number * 1000


def memory(pid: int) -> float:
    """Proportional set size in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def main(number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        worker = WorkerProcess(Path(folder))
        worker.write_dag(DAG, "bench.py")
        scheduler = worker.connect()
        scheduler.fence("bench", 1)
        rates: dict[str, list[float]] = {name: [] for name in ("alone", "flying", "fork", "reuse", "step", "warm step")}
        try:
            fed(scheduler, 50, "fork")
            fed(scheduler, 50, "reuse")
            for _ in range(ROUNDS):
                for name, flying in (("alone", 1), ("flying", 3)):
                    command = [sys.executable, __file__, "--bare", f"{folder}/dags", str(number), str(flying)]
                    rates[name].append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
                rates["fork"].append(fed(scheduler, number, "fork"))
                rates["reuse"].append(fed(scheduler, number * 5, "reuse"))
                rates["step"].append(chained(scheduler, 40, "fork"))
                rates["warm step"].append(chained(scheduler, 200, "reuse"))
            sizes = {
                name: memory(pid)
                for name, pid in (
                    ("worker", worker.process.pid),
                    *((kind, pid) for kind in ("template", "zygote") for pid in worker.children(f"opskit-{kind}")),
                )
            }
        finally:
            worker.stop()
    best = {name: statistics.median(values) for name, values in rates.items()}
    print(f"bare fork + exit + wait: {best['alone']:.0f}/s one at a time, {best['flying']:.0f}/s three in flight")
    print(
        f"fork per attempt:  {best['fork']:.0f} attempts/s, {best['fork'] / best['alone']:.2f} of bare one at a time, "
        f"{best['fork'] / best['flying']:.2f} of bare three in flight; one after the other {best['step']:.2f} ms each"
    )
    print(f"reuse:             {best['reuse']:.0f} attempts/s; one after the other {best['warm step']:.2f} ms each")
    print("memory (PSS):      " + ", ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        rate = bare(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        os.write(1, json.dumps(rate).encode())
        os._exit(0)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
