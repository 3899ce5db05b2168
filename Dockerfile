# The service, for CPUs (the default) or CUDA:
#   docker build -t lightningdrag .
#   docker build -t lightningdrag:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
FROM python:3.12-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
COPY constraints.txt .
# torch alone first: it is large and changes seldom.
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY examples examples
RUN pip install --no-cache-dir -c constraints.txt '.[service,sd15]' 'av>=16'

FROM python:3.12-slim
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/models
# Uploads live in /tmp (mount it as tmpfs to keep them in memory), fetched models in /models.
RUN useradd --create-home --uid 1000 lightningdrag && mkdir /models && chown lightningdrag /models
USER lightningdrag
VOLUME /models
EXPOSE 7860
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/readyz')"]
STOPSIGNAL SIGTERM
# Without LIGHTNINGDRAG_TOKEN in the environment it refuses to start.
ENTRYPOINT ["lightningdrag", "serve", "--host", "0.0.0.0"]
