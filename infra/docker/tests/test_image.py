"""Laying an image out: only what the recipe copies, only what .dockerignore leaves."""

from pathlib import Path

import pytest

from infra.docker.image import context_files, lay_out
from infra.docker.recipe import Recipe
from libs.common.errors import ConfigError

NONE = {"SERVICE": "none"}


def laid_out(tmp_path: Path, *copies: str) -> set[str]:
    recipe = Recipe("FROM x AS one\nWORKDIR /app\n" + "\n".join(f"COPY {copy}" for copy in copies))
    image = lay_out(recipe, "one", NONE, tmp_path)
    return {str(path.relative_to(image.workdir)) for path in image.files()}


def test_a_file_keeps_its_name_in_a_folder_and_takes_a_new_one_otherwise(tmp_path: Path) -> None:
    found = laid_out(tmp_path, "libs/common/ids.py libs/common/clock.py a/", "libs/common/ids.py b/named.py")
    assert found == {"a/ids.py", "a/clock.py", "b/named.py"}


def test_of_a_folder_its_contents_are_copied_without_tests_and_pages(tmp_path: Path) -> None:
    found = laid_out(tmp_path, "services/wallet/ wallet/")
    assert {"wallet/app.py", "wallet/__main__.py"} <= found
    assert not {name for name in found if name.startswith("wallet/tests/") or name.endswith(".md")}


def test_what_is_not_there_or_ignored_ends_the_build(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"COPY README\.md: nothing is there"):
        laid_out(tmp_path, "README.md .")


def test_no_test_no_secret_and_nothing_local_can_get_into_an_image() -> None:
    files = context_files()
    tops = {path.parts[0] for path in files}
    assert tops == {"infra", "libs", "requirements", "services"}
    forbidden = {"tests", "testing", "golden", "__pycache__"}
    assert [path for path in files if forbidden & set(path.parts) or "secret" in str(path)] == []
