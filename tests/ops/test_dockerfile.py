import re
import shutil
import subprocess
import sys
from pathlib import Path

from service.settings import Settings, variable

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
#: What the interpreter and its libraries read; everything else must be a setting.
RUNTIME = {"PATH", "HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "JOBLIB_TEMP_FOLDER"}


def final_stage() -> str:
    return TEXT[TEXT.rindex("\nFROM ") :]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint is installed by the extra `dev`"
    done = subprocess.run(
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_base_images_are_plain_pinned_names() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", TEXT, re.M))
    for image in re.findall(r"^FROM (\S+)", TEXT, re.M):
        if image in stages:
            continue
        name, _, tag = image.partition(":")
        assert "/" not in name, f"{image} names a registry"
        assert tag, f"{image} has no tag"
        assert tag != "latest"


def test_the_final_stage_runs_as_a_user_without_rights() -> None:
    user = re.findall(r"^USER (\S+)", final_stage(), re.M)
    assert user == ["10001:10001"]
    assert 'VOLUME ["/data"]' in final_stage()


def test_it_serves_everything_by_default() -> None:
    assert 'ENTRYPOINT ["offbeat"]' in final_stage()
    assert 'CMD ["serve"]' in final_stage()
    assert "/healthz" in final_stage()[final_stage().index("HEALTHCHECK") :]


def test_its_environment_is_known_to_the_settings() -> None:
    block = re.search(r"^ENV (.*?[^\\])$", final_stage(), re.M | re.S)
    assert block
    names = set(re.findall(r"(\w+)=", block[1])) - RUNTIME
    known = {variable(name) for name in Settings.model_fields}
    assert {"OFFBEAT_DATA_DIR", "OFFBEAT_HOST"} <= names
    assert names <= known, names - known


def test_what_it_copies_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "*" in ignored, "the ignore file starts from nothing"
    taken = [line[1:] for line in ignored if line.startswith("!")]
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.M):
        for source in sources.split():
            assert (ROOT / source).exists(), f"COPY {source}: there is no such file"
            assert any(source == t or source.startswith(t + "/") for t in taken), source


def test_the_vendor_files_are_those_of_the_makefile() -> None:
    wanted = set(re.findall(r"node_modules/(\S+\.(?:js|css))", (ROOT / "Makefile").read_text()))
    assert wanted
    assert set(re.findall(r"node_modules/(\S+\.(?:js|css))", TEXT)) == wanted
