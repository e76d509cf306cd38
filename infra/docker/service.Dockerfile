# One image per service, and one with the operator's command lines: the same recipe with other arguments.
#
#   SERVICE  a folder of services/, or `tools`: picks requirements/<SERVICE>.txt and the code that is copied
#   PORT     where that service listens; docker-compose.yml gives both
#
# `make image-check` reads this file and does what it says in a temporary folder: keep to instructions it knows.
ARG PYTHON_IMAGE=python:3.11.15-slim-trixie

FROM ${PYTHON_IMAGE} AS packages
ARG SERVICE
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements/${SERVICE}.txt requirements.txt
# The environment has no pip of its own, and nothing is compiled: a package without a wheel ends the build.
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --quiet --only-binary :all: -r requirements.txt

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
COPY libs/ libs/

FROM base AS tools
COPY infra/__init__.py infra/
COPY infra/kafka/ infra/kafka/
COPY infra/local/__init__.py infra/local/json_lines.py infra/local/load.py infra/local/problem.py infra/local/venue.py infra/local/
COPY infra/local/operating.py infra/local/sample_venue.json infra/local/
COPY infra/docker/__init__.py infra/docker/load_venue.py infra/docker/
RUN python -m compileall -q .
USER 10001:10001
ENTRYPOINT ["python", "-m"]

FROM base AS service
ARG SERVICE
ARG PORT
COPY services/__init__.py services/
COPY services/${SERVICE}/ services/${SERVICE}/
COPY infra/docker/probe.py probe.py
# Compiled here, because the one who runs it may not write.
RUN python -m compileall -q .
ENV SERVICE=${SERVICE} HOST=0.0.0.0 PORT=${PORT}
USER 10001:10001
EXPOSE ${PORT}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-IS", "probe.py"]
# The shell is gone before Python starts: signals reach the service. Engines set HOSTNAME to a name no other copy has.
CMD ["sh", "-c", "INSTANCE=${INSTANCE:-$HOSTNAME}; export INSTANCE; exec python -m services.$SERVICE"]
