# syntax=docker/dockerfile:1
# A node, a relay or a gateway, headless: docs/docker.md.
# Both engines are in it; `pylon models use needle-1 --engine llama` serves by llama.cpp.
FROM python:3.13-slim-trixie AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake ninja-build
WORKDIR /src
COPY requirements/uv.txt requirements/llama.txt requirements/
# Not for this processor alone: the image may run on another.
RUN python -m venv /opt/pylon \
    && /opt/pylon/bin/python -m pip install --no-cache-dir --require-hashes --target /tmp/uv -r requirements/uv.txt \
    && VIRTUAL_ENV=/opt/pylon CMAKE_ARGS="-DGGML_NATIVE=OFF" \
       /tmp/uv/bin/uv pip sync --no-cache --require-hashes --compile-bytecode requirements/llama.txt
COPY pylon pylon
RUN cp -r pylon "$(/opt/pylon/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/" \
    && /opt/pylon/bin/python -m compileall -q /opt/pylon/lib/python3.13/site-packages/pylon \
    && printf '#!/opt/pylon/bin/python\nfrom pylon.cli.main import main\n\nmain()\n' > /opt/pylon/bin/pylon \
    && chmod 755 /opt/pylon/bin/pylon

FROM python:3.13-slim-trixie
# MLX on Linux brings a slow BLAS of its own; the inference child loads this one instead.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libopenblas0-pthread libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 pylon \
    && install -d -o pylon -g pylon -m 700 /home/pylon/.pylon \
       /home/pylon/.local /home/pylon/.local/state /home/pylon/.local/state/pylon
COPY --from=build /opt/pylon /opt/pylon
COPY docker/entrypoint docker/healthy.py /opt/pylon/bin/
ENV PATH=/opt/pylon/bin:$PATH PYTHONUNBUFFERED=1
USER pylon
VOLUME /home/pylon/.pylon
# `docker stop` sends SIGTERM: the node finishes what it has. Give it --stop-timeout 70.
ENTRYPOINT ["/opt/pylon/bin/entrypoint"]
CMD ["start"]
HEALTHCHECK --interval=60s --timeout=10s --start-period=120s CMD ["/opt/pylon/bin/python", "/opt/pylon/bin/healthy.py"]
