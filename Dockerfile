# The server with the shipped checkpoints, which need no torch, as a user without rights. See docs/server.md.
#
#   docker build -t crossatnet .
#   docker build -t crossatnet:milvus --build-arg EXTRAS=serve,quickstart,milvus .   # for galleries on a Milvus server
#   docker run --rm -p 127.0.0.1:8000:8000 -e CROSSATNET_TOKEN=... crossatnet

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/crossatnet
ENV PATH=/opt/crossatnet/bin:$PATH
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src
ARG EXTRAS=serve,quickstart
RUN pip install -c constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /data crossatnet
COPY --from=build /opt/crossatnet /opt/crossatnet
ENV PATH=/opt/crossatnet/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    CROSSATNET_CACHE=/data/cache
USER crossatnet
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/api/v1/health', timeout=4)"]
ENTRYPOINT ["crossatnet"]
CMD ["serve", "--host", "0.0.0.0"]
