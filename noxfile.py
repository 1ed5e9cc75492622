"""The project's commands. All sessions share one environment: torch alone takes 5 GB."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import nox

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "none"

ROOT = Path(__file__).parent
SHARED = Path(os.environ.get("DECATHLON_VENV", ROOT / ".venv"))
PYTHON = str(SHARED / ("Scripts" if os.name == "nt" else "bin") / "python")


def setup(session: nox.Session) -> None:
    """Make or update the shared environment; quick when nothing changed."""
    inputs = [ROOT / name for name in ("pyproject.toml", "constraints.txt")]
    stamp = SHARED / "installed"
    wanted = "".join(path.read_text() for path in inputs) + sys.version
    if stamp.exists() and stamp.read_text() == wanted:
        return
    session.log(f"setting up {SHARED} (torch and its CUDA libraries: minutes, about 6 GB)")
    if not Path(PYTHON).exists():
        venv.create(SHARED, with_pip=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True, cwd=ROOT)
    subprocess.run(
        [*pip, "--constraint", "constraints.txt", "--editable", ".", "--group", "dev"],
        check=True,
        cwd=ROOT,
    )
    stamp.write_text(wanted)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the quick profile, then measure throughput alone on the machine; leaves results/."""
    setup(session)
    session.run(PYTHON, "-m", "pytest", "experiments", "--profile", "quick", *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """Run the whole product with three seeds: hours."""
    setup(session)
    session.run(PYTHON, "-m", "pytest", "experiments", "--profile", "full", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The project's own tests."""
    setup(session)
    workers = min((os.cpu_count() or 1) + 1, 6)  # a test often waits for what it has started
    parallel = ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"]
    compiled = {"PYTHONDONTWRITEBYTECODE": ""}  # hundreds of processes load what is here
    session.run(PYTHON, "-m", "pytest", "tests", *parallel, *session.posargs, env=compiled)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    setup(session)
    session.run(PYTHON, "-m", "ruff", "check", ".")
    session.run(PYTHON, "-m", "ruff", "format", "--check", ".")
    session.run(PYTHON, "-m", "mypy")


@nox.session
def speed(session: nox.Session) -> None:
    """The harness beside bare loops, torch-fidelity, stable-baselines3; on an idle machine."""
    setup(session)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--constraint", "constraints.txt"]
    session.run(*pip, "--group", "speed")
    files = [f"experiments/speed_{name}.py" for name in ("cells", "fid", "rl", "population", "gpu")]
    session.run(PYTHON, "-m", "pytest", *files, "-q", "-s", "--profile", "full", *session.posargs)


@nox.session
def report(session: nox.Session) -> None:
    """Write the tables and the page of a run again: nox -s report -- results/quick."""
    setup(session)
    session.run(PYTHON, "-m", "harness", "report", *(session.posargs or ["results/quick"]))
