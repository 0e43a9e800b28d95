"""What re-verification costs a server that keeps all cores busy and reads the weights itself."""

import hashlib
import mmap
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import time

RATES = (0, 50, 200)  # MB/s; 0 is without re-verification
WINDOW = 5.0
# The first pass begins a second after the start.
SETTLED = 1.5
STEP = 1 << 20


def serve(path, core, begin, counts, index):
    """Hashes mapped weights on one core, and counts the bytes of the window."""
    os.sched_setaffinity(0, {core})
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
        at, done = 0, 0
        while (now := time.monotonic()) < begin + WINDOW:
            hashlib.sha256(view[at : at + STEP]).digest()
            if now >= begin:
                done += min(STEP, len(view) - at)
            at = (at + STEP) % (len(view) // STEP * STEP)
    counts[index] = done


def bytes_read(process):
    io = pathlib.Path(f"/proc/{process.pid}/io").read_text()
    return int(next(line for line in io.splitlines() if line.startswith("rchar")).split()[1])


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def once(path, command, rate, cores):
    """Bytes per second of the server, bytes per second of the verifier, and the CPU time it took of a second."""
    verifier = None
    if rate:
        again = [command[0], "--every", "1", "--max-bytes-per-second", str(rate * 1_000_000), *command[1:]]
        # A session of its own is a scheduling group of its own (autogroup), as a container is: its low priority counts within
        # the group only, so this is the cost without the help of that.
        verifier = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        begin = time.monotonic() + SETTLED
        counts = multiprocessing.Array("q", len(cores), lock=False)
        servers = [
            multiprocessing.Process(target=serve, args=(path, core, begin, counts, index)) for index, core in enumerate(cores)
        ]
        for server in servers:
            server.start()
        time.sleep(max(begin - time.monotonic(), 0))
        before = verifier and (bytes_read(verifier), cpu_seconds(verifier))
        time.sleep(WINDOW)
        if verifier and verifier.poll() is not None:
            raise SystemExit(f"the verifier ended with {verifier.returncode}")
        after = verifier and (bytes_read(verifier), cpu_seconds(verifier))
        for server in servers:
            server.join()
    finally:
        if verifier:
            verifier.terminate()
            verifier.wait()
    own, cpu = ((new - old) / WINDOW for new, old in zip(after, before)) if verifier else (0, 0)
    return sum(counts) / WINDOW, own, cpu


def measure(path, command, cores, repetitions, say):
    """Rows of the table by rate: medians of runs that took turns."""
    samples = {rate: [] for rate in RATES}
    for repetition in range(repetitions):
        say(f"case d, {repetition + 1} of {repetitions}")
        for rate in RATES:
            samples[rate].append(once(path, command, rate, cores))
    return {rate: [statistics.median(column) for column in zip(*taken)] for rate, taken in samples.items()}


def table(rows, cores):
    print(f"\n(d) re-verification beside a server that hashes mapped weights on all {len(cores)} cores")
    print("{:<26} {:>12} {:>10} {:>14} {:>12}".format("", "server MB/s", "of alone", "verifier MB/s", "cores taken"))
    alone = rows[0][0]
    for rate, (served, own, cpu) in rows.items():
        name = f"at most {rate} MB/s" if rate else "without"
        print(f"{name:<26} {served / 1e6:>12.0f} {served / alone:>10.3f} {own / 1e6:>14.0f} {cpu:>12.3f}")
