"""The reader of the Dockerfile: what it says of a stage is what an engine would make of it."""

from textwrap import dedent

import pytest

from infra.docker.image import DOCKERFILE
from infra.docker.recipe import Copy, Recipe
from infra.local.settings import ROOMS
from libs.common.errors import ConfigError

TWO_STAGES = Recipe(
    dedent(
        """\
        # A comment, and a default that every stage may take.
        ARG BASE=python:3.11
        FROM ${BASE} AS base
        WORKDIR /app
        ENV A=1 PATH=/opt/bin:$PATH
        COPY libs/ libs/
        FROM base AS service
        ARG SERVICE
        ARG PORT=80
        COPY services/${SERVICE}/ \\
             services/$SERVICE/
        COPY --from=base /app/x /y
        ENV PORT=${PORT} NAME=$SERVICE-$A
        HEALTHCHECK --interval=1s CMD ["probe", "$PORT"]
        ENTRYPOINT ["run"]
        CMD ["it"]
        """
    )
)


def test_a_stage_has_what_it_is_built_on_and_its_arguments_filled_in() -> None:
    stage = TWO_STAGES.stage("service", {"SERVICE": "queue"})
    assert stage.image == "python:3.11"
    assert stage.copies == [
        Copy(("libs/",), "/app/libs/", None),
        Copy(("services/queue/",), "/app/services/queue/", None),
        Copy(("/app/x",), "/y", "base"),
    ]
    assert stage.environment == {"A": "1", "PATH": "/opt/bin:$PATH", "PORT": "80", "NAME": "queue-1"}


def test_commands_are_taken_as_they_stand_because_no_shell_fills_them_in() -> None:
    stage = TWO_STAGES.stage("service", {"SERVICE": "queue"})
    assert stage.health == ["probe", "$PORT"]
    assert stage.command == ["run", "it"]


def test_the_stage_another_is_built_on_does_not_change_with_it() -> None:
    TWO_STAGES.stage("service", {"SERVICE": "queue"})
    assert TWO_STAGES.stage("base", {}).command == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ADD x y", "ADD is not known"),
        ("CMD python -m services.queue", "CMD has to be a JSON list"),
        ("COPY --chown=1 x y", "only --from is known"),
    ],
)
def test_what_is_not_understood_is_refused_and_never_skipped(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Recipe(f"FROM x AS one\n{line}\n").stage("one", {})


def test_a_stage_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="no stage three; it has base, service"):
        TWO_STAGES.stage("three", {})


@pytest.mark.parametrize(("target", "service"), [("tools", "tools"), *(("service", room) for room in ROOMS)])
def test_every_image_runs_as_nobody_in_particular_from_one_pinned_base(target: str, service: str) -> None:
    recipe = Recipe.read(DOCKERFILE)
    arguments = {"SERVICE": service, "PORT": "1"}
    stage = recipe.stage(target, arguments)
    assert stage.user.split(":")[0].isdigit()
    assert stage.user != "0"
    assert stage.image == recipe.stage("packages", arguments).image
    assert stage.image.startswith("python:3.11.")
