# `uv run just VERB`; continuous integration (.ci/run) calls the same commands.

set shell := ["bash", "-euo", "pipefail", "-c"]

# List the verbs
default:
    @just --list

# Make or refresh the environment
setup:
    uv sync

# Every quick test; `just test -m night` for the longest ones, `just test tests/log` for a part
test *args:
    uv run pytest {{ args }}

# The slower tests, of everything or of a part
test-slow *args:
    uv run pytest -m "slow and not night" {{ args }}

# The tests that need dbt (slow ones included, as in the verbs below), which does not fit into the environment of the others
test-dbt *args:
    uv run --isolated --no-default-groups --extra dbt --with hypothesis,pytest,pytest-timeout,pytest-xdist \
        pytest -m "not night" tests/flow/test_dbt.py {{ args }}

# The tests that need Metaflow, which runs flows in processes and folders of its own
test-metaflow *args:
    uv run --isolated --no-default-groups --extra metaflow --with hypothesis,pytest,pytest-timeout,pytest-xdist \
        pytest -m "not night" tests/flow/test_metaflow.py {{ args }}

# The tests with a client of MLflow's, with the oldest one that is supported
test-mlflow *args:
    uv run --isolated --no-project --with-editable . \
        --with mlflow-skinny==2.22.5,hypothesis,lightgbm,pandas,psutil,pytest,pytest-timeout,pytest-xdist,scikit-learn,xgboost-cpu \
        pytest -m "not night" tests/api/test_mlflow.py tests/api/test_mlflow_libraries.py tests/api/test_mlflow_registry.py {{ args }}

# The conversion of models to ONNX, with packages that the other tests do without
test-onnx *args:
    uv run --isolated --extra onnx-convert pytest -m "not night" tests/models/test_onnx_form.py {{ args }}

# The tests that need PyTorch: 6.6 GB, which the environment of the others does without
test-torch *args:
    uv run --isolated --extra torch --extra onnx-convert --with lightning==2.6.6 \
        pytest -m "not night" tests/models/test_pytorch.py tests/docs/test_models_page.py tests/api/test_mlflow_pytorch.py {{ args }}

# The tests of predictions with real clients of the Open Inference Protocol
test-clients *args:
    uv run --isolated --with "tritonclient[http]==2.73.0,kserve==0.21.0" \
        pytest -m "not night" tests/serve/test_protocols.py tests/serve/test_tensor_models.py \
        tests/docs/test_tensors_page.py {{ args }}

# Style, types, import floors
lint:
    uv run ruff check --no-cache
    uv run ruff format --check
    uv run mypy
    uv run lint-imports

# Write docs/reference/ from the code, then check the pages
docs:
    uv run python docs/generate.py
    uv run pytest tests/test_project.py tests/test_readme.py tests/cli/test_reference.py

# One table of figures beside floors and peers: `just bench`, `just bench help noop --quick`
bench *args:
    @env -u PYTHONDONTWRITEBYTECODE uv run python -m bench {{ args }}

# The whole job on real order lines
demo *args:
    uv run sampan demo {{ args }}

# Pictures of every page of a workspace's hub, light and dark, wide and narrow: `just screenshots sampan-demo shots`
screenshots workspace folder:
    uv run python -m tests.browser.screenshots {{ workspace }} {{ folder }}

# Renew the pinned versions in pyproject.toml
pin:
    uv run --no-project python .ci/pin.py
