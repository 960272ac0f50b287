"""The model card: a zoo model folder's ``README.md``, made from its ``zoo.json`` and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.model_folder.citations import citations
from zoo.model_folder.manifest import CURVE_FILE, Manifest
from zoo.results import Result

# The Hub's identifiers of data sets; of the others the Hub has no page to link to.
_HUB_DATASETS = {
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "fashion-mnist": "fashion_mnist",
    "imagenet": "imagenet-1k",
    "imagenet200": "imagenet-1k",
}
# The Hub knows licences by such identifiers; any other is "other" with a name.
_HUB_LICENCES = (
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "gpl-3.0",
    "mit",
)

# What the Hub calls the tasks; what it has no name for is the classification that most of them are.
_HUB_TASKS = {"detection": "object-detection", "segmentation": "image-segmentation"}
# The method of networks that were trained as classifiers.
SUPERVISED = "supervised"
_FROZEN = ("cluster", "knn", "linear", "voc07")


def make_card(manifest: Manifest) -> str:
    """The card of a zoo model: front matter for the Hub, then Markdown."""
    sections = [
        f"---\n{_front_matter(manifest)}\n---\n\n# {manifest.name}",
        _summary(manifest),
        _loading(manifest),
        _training(manifest),
        _results(manifest),
        _limitations(manifest),
        _citation(manifest),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(manifest: Manifest) -> str:
    # The Hub's client takes a moment to import, and `zoo info` uses this module too.
    from huggingface_hub import EvalResult, ModelCardData

    from zoo.data.spec import name_of

    tags = ["image-feature-extraction", *([] if manifest.method == SUPERVISED else ["self-supervised-learning"]), "timm"]
    name = name_of(manifest.data or "")
    licence, licence_name = _hub_licence(manifest.licence)
    data = ModelCardData(
        library_name="timm",
        pipeline_tag="image-feature-extraction",
        tags=[*tags, manifest.method] if manifest.method else tags,
        datasets=[_HUB_DATASETS[name]] if name in _HUB_DATASETS else None,
        model_name=manifest.name,
        license=licence,
        license_name=licence_name,
        eval_results=[EvalResult(**_claim(result)) for result in manifest.results] or None,
    )
    return data.to_yaml()


def _claim(result: Result) -> dict[str, Any]:
    """A result as an entry of the Hub's model-index: its number, its data, its preset and its date."""
    data, test = result.data, result.data.splits.get("test")
    metric = result.headline.metric
    return {
        "task_type": _HUB_TASKS.get(result.task, "image-classification"),
        "task_name": f"{result.task} evaluation of frozen features" if result.task in _FROZEN else result.task,
        # Also what results are grouped by, so it must tell `shapes` from `shapes:clutter=2`.
        "dataset_type": _HUB_DATASETS.get(data.name, data.spec),
        "dataset_name": data.spec,
        "dataset_config": data.level,
        "dataset_split": None if test is None else test.split,
        "metric_type": "accuracy" if metric.startswith("top") else metric,
        "metric_name": f"{result.task} {metric}",
        "metric_value": result.headline.value,
        "metric_config": result.preset,
        "metric_args": {
            "date": result.date[:10],
            **({"changed": result.protocol["changed"]} if result.protocol.get("changed") else {}),
            **({} if test is None else {"images": test.images, "fingerprint": test.fingerprint}),
        },
    }


def _hub_licence(licence: str | None) -> tuple[str | None, str | None]:
    """The Hub's identifier of a licence, and its name where the identifier is only "other"."""
    if licence is None:
        return None, None
    identifier = licence.lower()
    return (identifier, None) if identifier in _HUB_LICENCES else ("other", licence)


def _summary(manifest: Manifest) -> str:
    how = "with labels" if manifest.method == SUPERVISED else f"without labels by {manifest.method}"
    trained = f"pre-trained {how}" if manifest.method else "pre-trained"
    if manifest.data:
        trained += f" on `{manifest.data}`"
    side = f"{manifest.image_size}x{manifest.image_size}"
    rows = {
        "Architecture": f"`{manifest.arch}`" + ("" if manifest.timm_native else f" ({_beyond_timm(manifest)}, not part of timm)"),
        "Parameters": f"{manifest.parameters:,}",
        "Features": f"{manifest.num_features} per image",
        "Images": f"{side}" + (" only" if manifest.fixed_input else ""),
        "Mean, standard deviation": f"{list(manifest.mean)}, {list(manifest.std)} of pixels in [0, 1]",
        "Licence": manifest.licence or "not stated",
    }
    return f"A backbone (`{manifest.arch}`) {trained}; it turns an image into one feature vector.\n\n" + _markdown_table(
        ["", ""], list(rows.items())
    )


def _beyond_timm(manifest: Manifest) -> str:
    return "norms with an epsilon of their own" if "norm_layer" in manifest.arguments else "3x3 stem without pooling"


def _loading(manifest: Manifest) -> str:
    register = "" if manifest.timm_native else "import zoo.backbones  # registers this architecture with timm\n"
    size = f", img_size={manifest.image_size}" if manifest.fixed_input else ""
    size += "".join(f", {name}={value!r}" for name, value in manifest.arguments.items())
    return f"""## How to load it

`FOLDER` is this folder. On the Hugging Face Hub `hf-hub:ORG/NAME` takes the place of `local-dir:FOLDER`, `zoo.load("hub:ORG/NAME")` that of
`zoo.load("FOLDER")`, and `zoo pull ORG/NAME --out FOLDER` makes the folder.

With timm:

```python
import timm
{register}
model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
features = model(transform(image).unsqueeze(0))  # image: a PIL image in RGB; features: (1, {manifest.num_features})
```

With the toolkit that made it, which also checks the sha256 of the weights:

```python
import zoo

model = zoo.load("FOLDER")
```

With the weights alone, into the network that timm builds:

```python
import timm
from safetensors.torch import load_file
{register}
model = timm.create_model("{manifest.arch}", num_classes=0{size})
model.load_state_dict(load_file("FOLDER/model.safetensors"))
```"""


def _training(manifest: Manifest) -> str:
    facts = {
        "Method": manifest.method,
        "Encoder": manifest.encoder,
        "Data": manifest.data,
        "Epochs": manifest.epochs,
        "Optimizer steps": manifest.steps,
        "Run": manifest.source.get("run"),
        "Imported from": manifest.source.get("url") or (manifest.source.get("checkpoint") if "format" in manifest.source else None),
        "sha256 of the imported file": manifest.source.get("sha256"),
        "Layout of the imported file": _layout(manifest.source),
        "Assumed, since nobody says otherwise": "; ".join(manifest.source.get("assumed", ())),
        "Commit of the toolkit": manifest.source.get("commit"),
        "Versions": ", ".join(f"{name} {version}" for name, version in manifest.source.get("versions", {}).items() if version),
        "sha256 of `model.safetensors`": f"`{manifest.file_sha256}`",
        "sha256 of its tensors": f"`{manifest.tensors_sha256}`",
    }
    rows = [(name, str(value)) for name, value in facts.items() if value not in (None, "")]
    text = "## How it was trained\n\n" + _markdown_table(["", ""], rows)
    if manifest.curve_sha256 is not None:
        text += f"\n\n![Loss and learning rate over the steps of the training]({CURVE_FILE})"
    if manifest.recipe:
        text += f"\n\nThe resolved recipe:\n\n```json\n{json.dumps(manifest.recipe, indent=2, ensure_ascii=False)}\n```"
    return text


def _layout(source: Mapping[str, Any]) -> str | None:
    if "format" not in source:
        return None
    return f"{source['format']}" + ("" if source.get("format_confirmed") else " (not confirmed by a file of its authors)")


RESULT_COLUMNS = ("Task", "Data", "Test images", "Protocol", "Metric", "Value", "Measured")


def result_row(result: Result) -> tuple[str, ...]:
    """One line of a table with ``RESULT_COLUMNS``."""
    data, test = result.data, result.data.splits.get("test")
    changed = result.protocol.get("changed")
    return (
        result.task,
        f"{data.spec} ({data.classes} {data.level} labels)",
        "" if test is None else f"{test.images:,}" + (f" ({test.skipped} left out)" if test.skipped else ""),
        result.preset + (" (changed)" if changed else ""),
        result.headline.metric,
        f"{result.headline.value:.2f}",
        result.date[:10],
    )


def _results(manifest: Manifest) -> str:
    head = "## Results\n\n"
    if not manifest.results:
        return head + "None has been measured yet."
    table = _markdown_table(RESULT_COLUMNS, [result_row(result) for result in manifest.results])
    protocols = "\n".join(f"- {result.task}, {result.data.name}: {_protocol(result)}" for result in manifest.results)
    return (
        f"{head}Each was measured with these very weights; `zoo.json` holds it whole, with fingerprints of the data, counts, seeds and "
        "versions, and `zoo verify FOLDER --data NAME:ROOT` measures it again. "
        f"Accuracies are in percent.\n\n{table}\n\nThe protocols in full:\n\n{protocols}"
    )


def _protocol(result: Result) -> str:
    values = ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in result.protocol.items())
    return f"`{result.preset}`: {values}"


def _limitations(manifest: Manifest) -> str:
    lines = ["It gives features, not labels: a task needs a classifier, a nearest-neighbour search or fine-tuning on top."]
    if manifest.data:
        lines.append(
            f"It was trained on `{manifest.data}`: it carries that data's biases, and on other kinds of images it may be worth little."
        )
    lines.append(
        f"It takes images of {manifest.image_size} px only."
        if manifest.fixed_input
        else f"It was trained on images of {manifest.image_size} px; at other sizes nothing was measured unless a result above says so."
    )
    return "## Limitations\n\n" + "\n".join(f"- {line}" for line in lines)


def _citation(manifest: Manifest) -> str:
    entries = citations(manifest.method, manifest.recipe)
    return "## Citation\n\n```bibtex\n" + "\n\n".join(entries) + "\n```" if entries else ""


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)
