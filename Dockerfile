# syntax=docker/dockerfile:1

FROM python:3.13-slim AS build
RUN pip install --no-cache-dir "uv>=0.8,<1"
WORKDIR /build
RUN uv venv /opt/quarterdeck
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY src src
COPY migrations migrations
# What the wheel takes from the top of the repository; src/quarterdeck/hypercorn.toml is a link to the first.
COPY hypercorn.toml ./
COPY examples/quickstart.py examples/quickstart.py
# The lock also holds the tools of development; as constraints it pins what is needed, with hashes, and adds nothing.
RUN uv pip install --no-cache --compile-bytecode --python /opt/quarterdeck/bin/python \
    --constraints requirements.lock --build-constraints requirements.lock .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home quarterdeck \
    && install --directory --owner quarterdeck /var/lib/quarterdeck
COPY --from=build /opt/quarterdeck /opt/quarterdeck
WORKDIR /app
COPY hypercorn.toml ./
COPY examples examples
ENV PATH=/opt/quarterdeck/bin:$PATH PYTHONUNBUFFERED=1 QUARTERDECK_DATA_DIR=/var/lib/quarterdeck
USER quarterdeck
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
ENTRYPOINT ["qd"]
CMD ["serve", "--bind", "0.0.0.0:8000"]
