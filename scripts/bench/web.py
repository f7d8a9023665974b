"""Mixed reads of pages and of the REST API at a fixed rate, with 1,000 DAGs and a million task instances.

    scripts/bench/run web [--rate 200] [--seconds 30] [--database URL] [--task-instances N]

Requests start by the clock, whether earlier ones are answered or not, and each latency counts from the moment when the
request was due: a server that falls behind can't hide it. Printed are percentiles for all and for each kind, the CPU
of the webserver, and, in the same run, how fast a scheduler with a worker gets through a fan-out of no-op tasks
without and with this load.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import os
import queue
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import web_sample
from core import FILES

from opskit.core.metastore import dags as dag_rows
from opskit.core.metastore import runs
from opskit.core.metastore.engine import open_engine, transaction

USER, PASSWORD = "bench", "a long enough password"
THREADS = 48
PAGE_LIMIT_BYTES = 200_000
FAN_OUT = "w1_fanout"


def kinds(dags: int, count: int) -> dict[str, tuple[int, list[str]]]:
    """name → (weight, paths to choose from)."""
    chosen = random.Random(7)
    known = sorted(f"{web_sample.TEAMS[n % 5]}_{n:04d}" for n in range(dags))
    newest = [
        (known[n], f"scheduled__{count // web_sample.TASKS - dags + n}")
        for n in chosen.sample(range(dags), min(dags, 60))
    ]
    dag_ids = [dag_id for dag_id, _ in newest]
    api = "/api/v1"
    return {
        "page: home": (4, ["/"]),
        "page: DAGs": (6, ["/dags", "/dags?tags=risk", "/dags?search=billing_01"]),
        "page: grid": (10, [f"/dags/{dag_id}" for dag_id in dag_ids]),
        "page: graph": (4, [f"/dags/{dag_id}/graph" for dag_id in dag_ids]),
        "page: run": (6, [f"/dags/{dag_id}/runs/{run}" for dag_id, run in newest]),
        "page: task": (6, [f"/dags/{dag_id}/runs/{run}/tasks/t8" for dag_id, run in newest]),
        "api: health": (10, ["/health"]),
        "api: dags": (8, [f"{api}/dags?limit=50", f"{api}/dags?limit=100&tags=growth&order_by=-dag_id"]),
        "api: dag": (12, [f"{api}/dags/{dag_id}" for dag_id in dag_ids]),
        "api: runs of a DAG": (12, [f"{api}/dags/{d}/dagRuns?limit=25&order_by=-execution_date" for d in dag_ids]),
        "api: failed runs": (4, [f"{api}/dags/~/dagRuns?state=failed&limit=50&order_by=-start_date"]),
        "api: task instances": (12, [f"{api}/dags/{d}/dagRuns/{r}/taskInstances" for d, r in newest]),
        "api: failed tasks": (2, [f"{api}/dags/~/dagRuns/~/taskInstances?state=failed&limit=50"]),
        "api: XCom": (4, [f"{api}/dags/{d}/dagRuns/{r}/taskInstances/t1/xcomEntries/return_value" for d, r in newest]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default=os.environ.get("OPSKIT_BENCH_DATABASE"))
    parser.add_argument("--keep", action="store_true", help="the database is filled already")
    parser.add_argument("--dags", type=int, default=1_000)
    parser.add_argument("--task-instances", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--fan-outs", type=int, default=4, help="runs of 302 no-op tasks, without and with the load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="opskit-bench-") as folder:
        home = Path(folder)
        url = arguments.database or f"sqlite:///{home}/opskit.db"
        if not arguments.keep:
            began = time.perf_counter()
            web_sample.fill(url, arguments.dags, arguments.task_instances)
            print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
        (home / "dags").mkdir()
        (home / "dags" / f"{FAN_OUT}.py").write_text(FILES[FAN_OUT])
        place = {**os.environ, "OPSKIT_HOME": str(home), "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url,
                 "OPSKIT__WEBSERVER__WEB_SERVER_PORT": "18089"}  # fmt: skip
        opskit(place, "db", "migrate")
        if arguments.keep:
            subprocess.run([sys.executable, "-m", "opskit", "users", "delete", "--username", USER, "--yes"], env=place,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        opskit(place, "users", "create", "--username", USER, "--role", "Admin", "--password", PASSWORD,
               "--firstname", "B", "--lastname", "B", "--email", "b@example.com")  # fmt: skip
        with daemon(place, home, "webserver") as server:
            wait_for("http://127.0.0.1:18089/health")
            wanted = kinds(arguments.dags, arguments.task_instances)
            sizes(wanted)
            one_by_one(wanted)
            load(wanted, arguments.rate, arguments.seconds, server.pid)
            if arguments.fan_outs:
                beside_a_scheduler(place, home, url, wanted, arguments.rate, arguments.fan_outs)
    return 0


def opskit(place: dict[str, str], *words: str) -> None:
    subprocess.run([sys.executable, "-m", "opskit", *words], env=place, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def daemon(place: dict[str, str], home: Path, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    with (home / f"{kind}.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "opskit", kind], env=place, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def headers() -> dict[str, str]:
    return {"Authorization": AUTHORIZATION}


def sizes(wanted: dict[str, tuple[int, list[str]]]) -> None:
    """Every kind answers 200, and no page is larger than its limit (uncompressed)."""
    connection = http.client.HTTPConnection("127.0.0.1", 18089, timeout=30)
    for name, (_, paths) in wanted.items():
        connection.request("GET", paths[0], headers=headers())
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{name}: GET {paths[0]} answered {answer.status}: {body[:500]!r}")
        if name.startswith("page") and len(body) > PAGE_LIMIT_BYTES:
            print(f"{name}: {len(body):,} bytes, the limit is {PAGE_LIMIT_BYTES:,}")


def one_by_one(wanted: dict[str, tuple[int, list[str]]]) -> None:
    """Server time of each kind, when nothing else is asked."""
    connection = http.client.HTTPConnection("127.0.0.1", 18089, timeout=30)
    print(f"{'one at a time':24} {'median':>8} {'longest':>8} {'bytes':>9}")
    for name, (_, paths) in wanted.items():
        spent, size = [], 0
        for number in range(20):
            began = time.perf_counter()
            connection.request("GET", paths[number % len(paths)], headers=headers())
            size = max(size, len(connection.getresponse().read()))
            spent.append((time.perf_counter() - began) * 1e3)
        print(f"{name:24} {statistics.median(spent):5.1f} ms {max(spent):5.1f} ms {size:9,}", flush=True)


class Load:
    """Asks at a fixed rate until it is told to stop."""

    def __init__(self, wanted: dict[str, tuple[int, list[str]]], rate: float) -> None:
        self._due: queue.SimpleQueue[tuple[float, str, str] | None] = queue.SimpleQueue()
        self._wanted = wanted
        self._rate = rate
        self.answers: list[tuple[str, float]] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def run(self, seconds: float) -> None:
        chosen = random.Random(11)
        names = list(self._wanted)
        weights = [self._wanted[name][0] for name in names]
        began = time.perf_counter()
        for number in range(int(self._rate * seconds)):
            due = began + number / self._rate
            time.sleep(max(0.0, due - time.perf_counter()))
            name = chosen.choices(names, weights)[0]
            self._due.put((due, name, chosen.choice(self._wanted[name][1])))
        for _ in self._threads:
            self._due.put(None)
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = connect()
        while (job := self._due.get()) is not None:
            due, name, path = job
            try:
                status = ask(connection, path)
                if status != b"200":
                    self.failures.append(f"{path}: {status!r}")
            except (OSError, ValueError) as error:
                self.failures.append(f"{path}: {error!r}")
                connection.close()
                connection = connect()
            self.answers.append((name, time.perf_counter() - due))
        connection.close()


def connect() -> socket.socket:
    return socket.create_connection(("127.0.0.1", 18089), timeout=60)


def ask(connection: socket.socket, path: str) -> bytes:
    """The status. With so little around it that asking takes no CPU from who answers."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:18089\r\nAuthorization: {AUTHORIZATION}\r\n\r\n"
    connection.sendall(request.encode())
    got = connection.recv(1 << 18)
    while (end := got.find(b"\r\n\r\n")) < 0 and (more := connection.recv(1 << 18)):
        got += more
    length = int(got[:end].lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    missing = end + 4 + length - len(got)
    while missing > 0 and (more := connection.recv(1 << 18)):
        missing -= len(more)
    if missing:
        raise ValueError("the answer is cut off")
    return got[9:12]


def cpu_seconds(process: psutil.Process) -> float:
    """Of a process and its workers."""
    times = [one.cpu_times() for one in [process, *process.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


def database() -> float:
    """CPU seconds of a PostgreSQL on this host, as far as its processes still live."""
    found = [one.cpu_times() for one in psutil.process_iter() if one.name() == "postgres"]
    return sum(one.user + one.system for one in found)


def load(wanted: dict[str, tuple[int, list[str]]], rate: float, seconds: float, pid: int) -> None:
    process = psutil.Process(pid)
    warm = Load(wanted, rate / 3)
    warm.run(8)
    before, own, stored = cpu_seconds(process), os.times().user + os.times().system, database()
    asked = Load(wanted, rate)
    began = time.perf_counter()
    asked.run(seconds)
    spent = time.perf_counter() - began
    cpu = cpu_seconds(process) - before
    memory = sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
    own, stored = os.times().user + os.times().system - own, database() - stored
    print(f"the asking itself: {own:.1f} s of CPU, the database: {stored:.1f} s")
    print(f"{len(asked.answers)} requests in {spent:.1f} s, {len(asked.failures)} failed {asked.failures[:3]}")
    print(f"webserver: {cpu / spent:.0%} of a core, {cpu / len(asked.answers) * 1e3:.2f} ms of CPU a request, "
          f"{memory >> 20} MiB")  # fmt: skip
    print(f"{'at ' + format(rate, '.0f') + '/s':24} {'p50':>8} {'p99':>8} {'longest':>8}")
    for name in [*wanted, "all"]:
        times = sorted(took * 1e3 for kind, took in asked.answers if name in (kind, "all"))
        p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
        print(f"{name:24} {statistics.median(times):5.1f} ms {p99:5.1f} ms {times[-1]:5.1f} ms")
    print(f"ratio of p99 to the limit of 150 ms: {p99 / 150:.2f}", flush=True)


def beside_a_scheduler(
    place: dict[str, str], home: Path, url: str, wanted: dict[str, tuple[int, list[str]]], rate: float, count: int
) -> None:
    engine = open_engine(url)
    # The fill's own DAGs are many and have no files: nothing of them may be scheduled meanwhile.
    with transaction(engine) as connection:
        dag_rows.set_paused(connection, [one.dag_id for one in dag_rows.list_dags(connection)], True, datetime.now(UTC))
    with daemon(place, home, "dag-processor"), daemon(place, home, "worker"), daemon(place, home, "scheduler"):
        deadline = time.monotonic() + 60
        while True:
            with transaction(engine) as connection:
                known = dag_rows.list_dags(connection, dag_ids=[FAN_OUT])
            if known:
                break
            if time.monotonic() > deadline:
                raise SystemExit("the fan-out was not loaded: " + (home / "dag-processor.log").read_text())
            time.sleep(0.1)
        with transaction(engine) as connection:
            dag_rows.set_paused(connection, [FAN_OUT], False, datetime.now(UTC))
        fan_out(engine, home, 1)
        alone, loaded = [], []
        for _ in range(count):
            alone.append(fan_out(engine, home, 1))
            asked = Load(wanted, rate)
            asking = threading.Thread(target=asked.run, args=(8.0,))
            asking.start()
            time.sleep(1)
            loaded.append(fan_out(engine, home, 1))
            asking.join()
    engine.dispose()
    fast, slow = statistics.median(alone), statistics.median(loaded)
    print(f"fan-out: {fast:.0f} tasks/s alone, {slow:.0f} beside {rate:.0f} requests/s: ratio {slow / fast:.2f}")


def fan_out(engine: object, home: Path, many: int) -> float:
    """Tasks per second of `many` runs, from the trigger to the end of the last task."""
    from opskit.core.metastore.engine import reading
    from opskit.system.wake import wake

    began = time.perf_counter()
    started = []
    for number in range(many):
        with transaction(engine) as connection:  # type: ignore[arg-type]
            started.append(runs.trigger(connection, FAN_OUT, datetime.now(UTC), run_id=f"b{time.time_ns()}_{number}"))
    wake(home / "run", "scheduler")
    while True:
        with reading(engine) as connection:  # type: ignore[arg-type]
            states = [runs.get_run(connection, FAN_OUT, run.run_id).state for run in started]
        if all(state in ("success", "failed") for state in states):
            assert set(states) == {"success"}, states
            return many * 302 / (time.perf_counter() - began)
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
