"""Brings what the real backends need into the user's cache folder, once for every checkout and every run.

$XDG_CACHE_HOME/stagedoor/ (or ~/.cache/stagedoor/)
    jars-<digest>/   lib/*.jar and classes/, made from `pom.xml` and `MongoStandIn.java`; another pin is another folder
    prometheus/      Debian's package, unpacked and not installed: nothing of the system changes, no service starts
    lock             held while one process fetches; the kernel lets go of it however that ends

Everything is made in a draft folder and renamed whole, so a fetch that was cut off leaves nothing half done.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.redis_server import find_redis_server
from libs.common.errors import ConfigError

HERE = Path(__file__).parent
JAVA_MIN = 17
JAVA_S = 30.0
FETCH_S = 600.0
"""For all that one command downloads, and for waiting while another process fetches."""

_VERSION = re.compile(r'version "(\d+)')
_TOOLCHAIN = "install Java 17 or later and Maven (apt-get install default-jdk-headless maven), or leave BACKENDS unset"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Jars:
    """What every Java child is started from."""

    java: str
    folder: Path

    @property
    def are_there(self) -> bool:
        return self.folder.is_dir()

    @property
    def class_path(self) -> str:
        return f"{self.folder}/lib/*{os.pathsep}{self.folder}/classes"


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is there (`where`), or is not (`missing` says how to get it)."""

    name: str
    where: str = ""
    missing: str = ""


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    root = environment.get("XDG_CACHE_HOME", "").strip() or "~/.cache"
    return Path(root).expanduser().absolute() / "stagedoor"


def planned_jars() -> Jars:
    """Where the Java parts are, or will be once fetched. Raises ConfigError when what that takes is missing."""
    java, folder = _java(), _jars_folder()
    missing = [] if folder.is_dir() else [program for program in ("mvn", "javac") if shutil.which(program) is None]
    if missing:
        raise ConfigError(f"BACKENDS: native needs {' and '.join(missing)} on PATH; {_TOOLCHAIN}")
    return Jars(java, folder)


def fetch_jars(say: Say) -> Jars:
    """The Java parts, fetched first where they are missing. Raises ConfigError when that cannot be."""
    planned = planned_jars()
    if not planned.are_there:
        with _locked():
            if not planned.are_there:
                say("fetching Kafka and the stand-in for MongoDB, once: about 50 MB")
                with _draft() as draft:
                    _make_jars(draft)
                    draft.rename(planned.folder)
    return planned


def prometheus_bin(say: Say) -> Path | None:
    """The folder of `prometheus` and `promtool`: on PATH, or unpacked from Debian's package. None where neither can be.

    Debian keeps one version a release, so that is its pin.
    """
    found = _prometheus_there()
    if found is not None or shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return found
    with _locked():
        if _prometheus_there() is None:
            say("fetching Debian's prometheus, once: about 20 MB")
            with _draft() as draft:
                try:
                    _unpack_package("prometheus", draft)
                except ConfigError as why:
                    say(str(why))
                    return None
                draft.rename(cache_folder() / "prometheus")
    return _prometheus_there()


def parts() -> list[Part]:
    """Everything that `fetch` sees to, in the order of need."""
    fetch = "run python -m infra.native fetch"
    prometheus = _prometheus_there()
    folder = _jars_folder()
    return [
        _or_missing("java", _java),
        _or_missing("redis-server", lambda: str(find_redis_server())),
        _whether("maven", shutil.which("mvn"), _TOOLCHAIN),
        _whether("kafka, mongo stand-in", str(folder) if folder.is_dir() else None, fetch),
        _whether("prometheus, promtool", str(prometheus) if prometheus else None, f"{fetch}, or install prometheus"),
    ]


def _whether(name: str, where: str | None, missing: str) -> Part:
    return Part(name, where=where) if where else Part(name, missing=missing)


def _or_missing(name: str, find: Callable[[], str]) -> Part:
    try:
        return Part(name, where=find())
    except ConfigError as sentence:
        return Part(name, missing=str(sentence))


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise ConfigError(f"BACKENDS: native needs java on PATH; {_TOOLCHAIN}")
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=JAVA_S, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        told = ""
    version = _VERSION.search(told)
    if version is None or int(version[1]) < JAVA_MIN:
        # macOS has a `java` that only says where to get one.
        raise ConfigError(
            f"BACKENDS: native needs Java {JAVA_MIN} or later, {java} is older or does not run; {_TOOLCHAIN}"
        )
    return java


def _jars_folder() -> Path:
    made_from = (HERE / "pom.xml").read_bytes() + (HERE / "MongoStandIn.java").read_bytes()
    return cache_folder() / f"jars-{hashlib.sha256(made_from).hexdigest()[:12]}"


def _make_jars(draft: Path) -> None:
    """Run where Maven may write: it keeps notes beside the pom."""
    shutil.copy(HERE / "pom.xml", draft)
    lib, classes = draft / "lib", draft / "classes"
    _run(
        ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={lib}", "-DincludeScope=runtime"],
        draft,
        "Maven could not fetch Kafka and the stand-in",
    )
    stand_in = str(HERE / "MongoStandIn.java")
    release = ["--release", str(JAVA_MIN)]
    _run(
        ["javac", *release, "-cp", f"{lib}/*", "-d", str(classes), stand_in],
        draft,
        "the stand-in for MongoDB does not compile",
    )


def _prometheus_there() -> Path | None:
    on_path = shutil.which("promtool")
    if on_path and shutil.which("prometheus"):
        return Path(on_path).parent
    cached = cache_folder() / "prometheus" / "usr" / "bin"
    return cached if (cached / "promtool").is_file() else None


def _unpack_package(name: str, folder: Path) -> None:
    failed = f"apt-get could not fetch {name}"
    try:
        _run(["apt-get", "download", "--quiet", name], folder, failed)
    except ConfigError:
        if os.getuid() != 0:
            raise
        _run(["apt-get", "update", "--quiet"], folder, failed)  # a new machine has no list of packages yet
        _run(["apt-get", "download", "--quiet", name], folder, failed)
    (package,) = folder.glob("*.deb")
    _run(["dpkg-deb", "--extract", package.name, "."], folder, f"{package.name} cannot be unpacked")
    package.unlink()


def _run(command: Sequence[str], folder: Path, failed: str) -> None:
    """Raises ConfigError with `failed` and the last words of the command."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{failed} within {FETCH_S:g} s") from None
    if done.returncode != 0:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        why = next((line for line in said if "ERROR" in line or line.startswith("E:")), said[-1] if said else "")
        raise ConfigError(f"{failed}: {why[:300] or f'exit code {done.returncode}'}")


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the cache against another fetch, waiting at most `FETCH_S` for it."""
    cache = cache_folder()
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (cache / "lock").open("a")
    except OSError as why:
        raise ConfigError(f"XDG_CACHE_HOME: {cache} cannot be used: {why.strerror}") from None
    with lock:
        deadline = time.monotonic() + FETCH_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigError(f"another process has been fetching into {cache} for {FETCH_S:g} s") from None
                time.sleep(0.2)
        yield


@contextmanager
def _draft() -> Iterator[Path]:
    """A folder beside those that are to be made; whoever holds the lock also clears what a killed fetch left behind."""
    cache = cache_folder()
    for left_behind in cache.glob("draft-*"):
        shutil.rmtree(left_behind)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=cache))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
