# The daemon alone: no compiler, no embedded database, no sandbox, nobody's root.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src
RUN python3 -m venv /opt/orderheal && python3 -m venv /opt/build
# The dependencies change less often than the code: a layer of their own, pinned and hashed.
COPY requirements ./requirements
RUN /opt/orderheal/bin/pip install --require-hashes -r requirements/run.lock \
    && /opt/build/bin/pip install --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md ./
COPY daemon ./daemon
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/orderheal/bin/pip install --no-deps --no-index /tmp/wheel/*.whl

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin orderheal
COPY --from=build /opt/orderheal /opt/orderheal
COPY config.yaml /etc/orderheal/
COPY rules /etc/orderheal/rules
ENV PATH=/opt/orderheal/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /etc/orderheal
USER 10001:10001
EXPOSE 9464
ENTRYPOINT ["orderheal"]
CMD ["run", "--config", "/etc/orderheal/config.yaml"]
