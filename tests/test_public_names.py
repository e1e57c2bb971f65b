"""What `import crossatnet` offers, and what it does not load for that."""

import subprocess
import sys

import pytest

import crossatnet
from crossatnet.gallery.gallery import Gallery
from crossatnet.model.interface import PictureModel
from crossatnet.model.network import CrossATNet
from crossatnet.runtime.onnx_model import OnnxModel

LOADED = """
import sys

import crossatnet

crossatnet.{name}
print(*sorted({{"torch", "onnxruntime", "faiss", "numpy"}} & set(sys.modules)))
"""


def test_every_public_name_is_there() -> None:
    for name in crossatnet.__all__:
        assert getattr(crossatnet, name), name
    assert crossatnet.Gallery is Gallery


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'crossatnet' has no attribute 'CrossATNett'"):
        _ = crossatnet.CrossATNett
    with pytest.raises(ImportError, match="cannot import name 'Galery' from 'crossatnet'"):
        from crossatnet import Galery  # noqa: F401


@pytest.mark.parametrize(
    ("name", "loaded"),
    [("__version__", ""), ("CrossATNet", "numpy"), ("Gallery", "faiss numpy"), ("evaluate", "numpy")],
)
def test_public_names_load_no_torch(name: str, loaded: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED.format(name=name)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded


def test_the_models_of_all_runtimes_are_the_public_class() -> None:
    onnx, network = (
        crossatnet.CrossATNet.from_pretrained("crossatnet-quickstart", runtime=name) for name in ("onnx", "torch")
    )
    assert isinstance(onnx, OnnxModel)
    assert isinstance(network, CrossATNet)
    for model in (onnx, network):
        assert isinstance(model, crossatnet.CrossATNet)
        assert isinstance(model, PictureModel)
        assert isinstance(model.fingerprint, str)
    assert issubclass(CrossATNet, crossatnet.CrossATNet)
    assert not isinstance(onnx, CrossATNet)  # the network of the paper is one of two
    for other in (object(), "crossatnet-open", crossatnet.CrossATNet):
        assert not isinstance(other, crossatnet.CrossATNet)


def test_neither_interface_nor_public_class_is_a_model_itself() -> None:
    for abstract in (PictureModel, crossatnet.CrossATNet):
        with pytest.raises(TypeError, match="abstract"):
            abstract()
