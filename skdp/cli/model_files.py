"""Models in files: joblib's, which run code when they are opened, and skops', which do not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from skdp.cli.errors import UsageError

__all__ = ["check_model_path", "load_model", "save_model"]

ENDINGS = (".joblib", ".pkl", ".pickle", ".skops")
_TRUSTED = ("skdp", "sklearn", "numpy", "pandas", "scipy", "builtins")


def check_model_path(path: str) -> None:
    """Refuse a path that models are not saved to.

    Parameters
    ----------
    path : str

    Raises
    ------
    UsageError
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise UsageError(f"{path!r} must end in .joblib or .skops")
    if Path(path).suffix.lower() == ".skops":
        _skops()


def save_model(model: Any, path: str) -> None:
    """Write a fitted pipeline, without the callbacks that watched its fit.

    Parameters
    ----------
    model : PrivatePipeline
    path : str
        Ends in ``.joblib`` or ``.skops``.
    """
    model.steps[-1][1].set_params(callbacks=None)
    if Path(path).suffix.lower() == ".skops":
        _skops().dump(model, path)
    else:
        import joblib

        joblib.dump(model, path)


def load_model(path: str) -> Any:
    """Read a model.

    Parameters
    ----------
    path : str

    Returns
    -------
    estimator

    Raises
    ------
    UsageError
        There is no such file, it holds no model, or types that are not to be trusted.
    """
    check_model_path(path)
    if not Path(path).is_file():
        raise UsageError(f"{path!r} is not a file")
    try:
        if Path(path).suffix.lower() == ".skops":
            strange = _skops().get_untrusted_types(file=path)
            foreign = [name for name in strange if name.partition(".")[0] not in _TRUSTED]
            if foreign:
                raise UsageError(f"{path!r} holds types of unknown origin, and was not opened: {', '.join(foreign)}")
            model = _skops().load(path, trusted=strange)
        else:
            import joblib

            print("warning: opening a pickle runs the code in it; open only what you or people you trust have saved "
                  "(.skops files run none)", file=sys.stderr)  # fmt: skip
            model = joblib.load(path)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a damaged or foreign file makes of the reader
        raise UsageError(f"cannot read a model from {path!r}: {str(error)[:200]}") from error
    if not hasattr(model, "predict"):
        raise UsageError(f"{path!r} holds a {type(model).__name__}, which predicts nothing")
    return model


def _skops() -> Any:
    try:
        from skops import io
    except ImportError as error:
        raise UsageError("files that end in .skops need skops: pip install skops; or use .joblib") from error
    return io
