"""ONNX files against the networks they were made of, by onnxruntime."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from transfer.conversion import convert
from zoo.model_spec import open_model

onnx = pytest.importorskip("onnx", reason="pip install 'backbone-loop[onnx]'")
pytest.importorskip("onnxscript", reason="pip install 'backbone-loop[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'backbone-loop[onnx]'")


@pytest.mark.parametrize(
    ("arch", "shapes"),
    [("resnet10_small", [(1, 3, 32, 32), (3, 3, 47, 40)]), ("test_vit", [(1, 3, 160, 160), (5, 3, 160, 160)])],
)
def test_onnxruntime_gives_our_features_for_any_batch_and_where_it_can_any_size(tmp_path, arch, shapes):
    conversion = convert(f"random:{arch}:3", "onnx", tmp_path / "a.onnx")
    assert conversion.checks[0].startswith("checked by a forward pass")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    model = open_model(f"random:{arch}:3")
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    for shape in shapes:
        images = torch.randn(shape, generator=torch.Generator().manual_seed(4))
        (features,) = session.run(["features"], {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(features, model.module(images).numpy(), rtol=1e-4, atol=1e-5)
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert json.loads(facts["mean"]) == [0.485, 0.456, 0.406]
    assert facts["tensors_sha256"] == model.tensors_sha256
