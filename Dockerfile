# The daemon alone: no compiler, no embedded database, no sandbox, nobody's root. What goes in is pinned and hashed in
# requirements/*.lock, what comes out is the same files each time; share/orderheal/sbom.cdx.json lists it.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src
# The dependencies change less often than the code: a layer of their own. What only builds stays in environments of its own.
COPY requirements ./requirements
RUN python3 -m venv /opt/build && python3 -m venv /opt/sbom && python3 -m venv --without-pip /opt/orderheal \
    && /opt/build/bin/pip install --require-hashes -r requirements/build.lock \
    && /opt/sbom/bin/pip install --require-hashes -r requirements/sbom.lock \
    && /opt/build/bin/pip --python /opt/orderheal/bin/python install --no-compile --require-hashes -r requirements/run.lock
COPY pyproject.toml README.md ./
COPY daemon ./daemon
# Byte code that carries no times, for nothing can be written beside it later.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/build/bin/pip --python /opt/orderheal/bin/python install --no-compile --no-deps --no-index /tmp/wheel/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/orderheal/lib \
    && mkdir -p /opt/orderheal/share/orderheal \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
        --output-file /opt/orderheal/share/orderheal/sbom.cdx.json /opt/orderheal/bin/python

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="orderheal" \
      org.opencontainers.image.description="Finds business objects stuck between systems, remediates them, proves the healing and calls a person when it cannot" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Written by hand: useradd would note today's date.
RUN echo 'orderheal:x:10001:10001::/nonexistent:/usr/sbin/nologin' >>/etc/passwd && echo 'orderheal:x:10001:' >>/etc/group
COPY --from=build /opt/orderheal /opt/orderheal
COPY config.yaml /etc/orderheal/
COPY rules /etc/orderheal/rules
ENV PATH=/opt/orderheal/bin:$PATH PYTHONUNBUFFERED=1 ORDERHEAL_CONFIG=/etc/orderheal/config.yaml
WORKDIR /etc/orderheal
USER 10001:10001
EXPOSE 9464
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["orderheal"]
CMD ["run"]
