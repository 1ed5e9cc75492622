"""A run's folder with all that may lie in it, and ways to damage a file."""

import json
import os
import struct
import zlib

import pandas as pd

from harness.cell import Budget, Cell
from harness.results.record import Record
from harness.results.store import Store

DEEP = b"[" * 100_000 + b"]" * 100_000
GOOD = [
    Cell("gan", "dcgan", "ce", "cosine"),
    Cell("gan", "dcgan", "ce", "cosine", "ddp"),
    Cell("vgg", "vgg11", "ce", "cosine", seed=1),
]
BAD = Cell("gan", "dcgan", "mse", "cosine")
BENCHMARK = {
    "name": "test_throughput[vgg/vgg11]",
    "stats": {"median": 0.05},
    "extra_info": {"samples_per_s": 9.0},
}
EXACT = {"difference": 1e-7, "steps": 2, "exact": True, "equal": True, "reason": ""}


def png(width=8, height=8):
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (9 * 8))
    parts = (b"IHDR", head), (b"IDAT", pixels), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def record(cell, **more):
    return Record(
        cell,
        "f",
        "done",
        budget=Budget(10, 8),
        metrics={"score": 0.5 + 0.1 * cell.seed},
        baseline={"score": 0.1},
        directions={"score": "max"},
        curve={"step": [1.0, 2.0], "loss": [1.0, 0.5], "lr": [0.1, 0.1]},
        cost={"train_s": 1.0, "samples_per_s": 10.0},
        evaluation={"extractor": "digits", "real": 10},
        checkpoint={"state_equal": True, "metrics_equal": True, "bytes": 9, "save_s": 0.1},
        parity=EXACT if cell.parallel == "ddp" else {},
        samples={"grid": "samples/bad.png"} if cell == BAD else {},
        **more,
    )


def make(folder):
    """Fill a folder with all that a run and its studies leave."""
    store = Store(folder)
    for cell in [*GOOD, BAD]:
        store.write(record(cell))
    (folder / "samples").mkdir()
    (folder / "samples/bad.png").write_bytes(png())
    rest = {"topic": "gan", "model": "dcgan", "difference": 0.0}
    pd.DataFrame([rest | {"parallel": "ddp", "ranks": 2} | EXACT]).to_csv(
        folder / "parity.csv", index=False
    )
    whole = {"state_equal": True, "data_equal": True}
    pairs = {"saved_under": "ddp", "saved_ranks": 2, "loaded_under": "single", "loaded_ranks": 1}
    pd.DataFrame([rest | pairs | whole]).to_csv(folder / "resharding.csv", index=False)
    rates = ("step_ms", "samples_per_s", "sent_mb", "state_mb", "peak_memory_mb")
    scale = rest | {"parallel": "single", "ranks": 1, "speedup": 1.0, "efficiency": 1.0}
    pd.DataFrame([scale | dict.fromkeys(rates, 1.0)]).to_csv(folder / "scaling.csv", index=False)
    (folder / "benchmark.json").write_text(json.dumps({"benchmarks": [BENCHMARK]}))


def changed(**fields):
    """Damage that changes fields of the record."""

    def damage(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return damage


def replaced(data):
    """Damage that puts other bytes in the file's place."""
    return lambda path: path.write_bytes(data)


def a_folder(path):
    path.unlink()
    path.mkdir()


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere.json")


def link_in_a_circle(path):
    path.unlink()
    path.symlink_to(path.name)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def huge(path):
    with open(path, "ab") as file:
        file.truncate(100_000_000)
