FROM python:3.13-slim AS build
RUN pip install --no-cache-dir "uv>=0.8,<1" && uv venv /opt/quarterdeck
ENV VIRTUAL_ENV=/opt/quarterdeck UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
WORKDIR /build
# What is needed comes before the code, so that a change of the code installs it from the layer below. The lock holds
# the tools of development too: as constraints it pins, with hashes, what is needed, and adds nothing.
COPY pyproject.toml requirements.lock ./
RUN uv pip install --constraints requirements.lock --requirements pyproject.toml --extra redis
COPY README.md LICENSE hypercorn.toml ./
COPY migrations migrations
COPY examples examples
COPY src src
RUN uv pip install --no-deps --build-constraints requirements.lock .

# The embedded PostgreSQL stays in the image, for a third of its size: so the image works alone too, with a volume.
FROM python:3.13-slim
RUN groupadd --system --gid 10001 quarterdeck \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent quarterdeck \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/quarterdeck
COPY --from=build /opt/quarterdeck /opt/quarterdeck
WORKDIR /app
COPY hypercorn.toml ./
COPY examples examples
# They have the modes that they have in the working copy; under a umask of 077 only root could read them.
RUN chmod -R go+rX .
ENV PATH=/opt/quarterdeck/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    QUARTERDECK_BIND=0.0.0.0:8000 \
    QUARTERDECK_DATA_DIR=/var/lib/quarterdeck
# A number, since Kubernetes cannot tell whether a name is root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# http.client, since urllib would ask the proxy that the environment may name.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["qd"]
CMD ["serve"]
