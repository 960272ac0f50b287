"""The model card: a zoo model folder's ``README.md``, made from its ``zoo.json`` and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.model_folder.again import command_on_card
from zoo.model_folder.citations import citations
from zoo.model_folder.licences import hub_licence
from zoo.model_folder.manifest import CURVE_FILE, Manifest
from zoo.model_folder.markdown import Markdown, block, code, escaped, plain, table
from zoo.results import Result

# The Hub's identifiers of data sets; of the others the Hub has no page to link to.
_HUB_DATASETS = {
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "fashion-mnist": "fashion_mnist",
    "imagenet": "imagenet-1k",
    "imagenet200": "imagenet-1k",
}

# What the Hub calls the tasks; what it has no name for is the classification that most of them are.
_HUB_TASKS = {"detection": "object-detection", "segmentation": "image-segmentation"}
# The method of networks that were trained as classifiers.
SUPERVISED = "supervised"
# Of how a classifier was trained, what the table says.
_OF_HEAD = ("task", "preset", "data", "level", "images", "backbone", "date")
# Names of classes on a card.
_SHOWN_CLASSES = 50
_PLACES = "`PLACE` is where the data lie, and"
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

    kind = "image-classification" if manifest.classes else "image-feature-extraction"
    self_supervised = manifest.method != SUPERVISED and not (manifest.classes and manifest.method is None)
    tags = [kind, *(["self-supervised-learning"] if self_supervised else []), "timm"]
    licence = hub_licence(manifest.licence, manifest.licence_link)
    data = ModelCardData(
        library_name="timm",
        pipeline_tag=kind,
        tags=[*tags, plain(manifest.method)] if manifest.method else tags,
        datasets=_hub_datasets(manifest) or None,
        model_name=manifest.name,
        license=licence.identifier,
        license_name=licence.name,
        license_link=licence.link,
        eval_results=[EvalResult(**_claim(result)) for result in manifest.results] or None,
    )
    return data.to_yaml()


def _hub_datasets(manifest: Manifest) -> list[str]:
    """The Hub's names of what the backbone, and the classifier on top of it, were trained on."""
    from zoo.data.spec import name_of

    names = [name_of(str(spec or "")) for spec in (manifest.data, _head(manifest).get("data"))]
    return list(dict.fromkeys(_HUB_DATASETS[name] for name in names if name in _HUB_DATASETS))


def _head(manifest: Manifest) -> Mapping[str, Any]:
    """How the classifier was trained; empty for a backbone."""
    found = manifest.source.get("classifier")
    return found if manifest.classes and isinstance(found, Mapping) else {}


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


def _summary(manifest: Manifest) -> str:
    how = "with labels" if manifest.method == SUPERVISED else f"without labels by {escaped(manifest.method)}"
    trained = f"pre-trained {how}" if manifest.method else "pre-trained"
    if manifest.data:
        trained += f" on {code(manifest.data)}"
    side = f"{manifest.image_size}x{manifest.image_size}"
    beyond = "" if manifest.timm_native else f" ({_beyond_timm(manifest)}, not part of timm)"
    rows = {
        "Architecture": Markdown(code(manifest.arch) + beyond),
        "Parameters": f"{manifest.parameters:,}",
        "Features": f"{manifest.num_features} per image",
        "Images": f"{side}" + (" only" if manifest.fixed_input else ""),
        "Mean, standard deviation": f"{list(manifest.mean)}, {list(manifest.std)} of pixels in [0, 1]",
        "Licence": _licence(manifest),
    }
    if manifest.classes:
        rows = {"Classes": _class_list(manifest.classes), **rows}
        text = f"A classifier ({code(manifest.arch)}) of {len(manifest.classes):,} classes. {_trained_on_top(manifest, trained)}"
    else:
        text = f"A backbone ({code(manifest.arch)}) {trained}; it turns an image into one feature vector."
    return f"{text}\n\n" + table(["", ""], list(rows.items()))


def _trained_on_top(manifest: Manifest, trained: str) -> str:
    """How a classifier came about: its backbone, then its last layer."""
    head = _head(manifest)
    if head.get("backbone_kind") == "random":
        begin = "Its backbone had random weights"
    elif manifest.method is None and head.get("backbone"):
        begin = f"Its backbone is that of {code(head['backbone'])}"
    else:
        begin = f"Its backbone was {trained}"
    if not head:
        return f"{begin}."
    what = "then a linear layer on top of it was trained" if head.get("trained") != "the whole network" else "then all of it was trained"
    on = f"with the labels of {code(head.get('data'))} (`evaluate --task {escaped(head.get('task'))}`, preset {code(head.get('preset'))})"
    return f"{begin}; {what} {on}."


def _class_list(classes: Sequence[str]) -> str:
    shown = ", ".join(map(plain, classes[:_SHOWN_CLASSES]))
    more = len(classes) - _SHOWN_CLASSES
    return shown + (f" and {more:,} more (`label_names` in `config.json`)" if more > 0 else "")


def _licence(manifest: Manifest) -> str:
    if manifest.licence is None or not manifest.licence.strip():
        return "not stated"
    link = hub_licence(manifest.licence, manifest.licence_link).link
    return Markdown(f"{escaped(manifest.licence)} ({escaped(link)})") if link else manifest.licence


def _beyond_timm(manifest: Manifest) -> str:
    return "norms with an epsilon of their own" if "norm_layer" in manifest.arguments else "3x3 stem without pooling"


def _loading(manifest: Manifest) -> str:
    register = "" if manifest.timm_native else "import zoo.backbones  # registers this architecture with timm\n"
    size = f", img_size={manifest.image_size}" if manifest.fixed_input else ""
    size += "".join(f", {name}={value!r}" for name, value in manifest.arguments.items())
    if manifest.classes:
        return _loading_classifier(manifest, register)
    through_timm = f"""import timm
{register}
model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
features = model(transform(image).unsqueeze(0))  # image: a PIL image in RGB; features: (1, {manifest.num_features})"""
    weights_alone = f"""import timm
from safetensors.torch import load_file
{register}
model = timm.create_model({json.dumps(manifest.arch)}, num_classes=0{size})
model.load_state_dict(load_file("FOLDER/model.safetensors"))"""
    return f"""## How to load it

`FOLDER` is this folder. On the Hugging Face Hub `hf-hub:ORG/NAME` takes the place of `local-dir:FOLDER`, `zoo.load("hub:ORG/NAME")` that of
`zoo.load("FOLDER")`, and `zoo pull ORG/NAME --out FOLDER` makes the folder.

With timm:

{block(through_timm, "python")}

With the toolkit that made it, which also checks the sha256 of the weights:

```python
import zoo

model = zoo.load("FOLDER")
```

With the weights alone, into the network that timm builds:

{block(weights_alone, "python")}"""


def _loading_classifier(manifest: Manifest, register: str) -> str:
    through_timm = f"""import timm
{register}
model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
outputs = model(transform(image).unsqueeze(0))  # image: a PIL image in RGB; outputs: (1, {len(manifest.classes)})
label = model.pretrained_cfg["label_names"][outputs.argmax().item()]"""
    backbone = f"""import timm
{register}
model = timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=0).eval()  # features: (1, {manifest.num_features})"""
    with_toolkit = """from zoo.model_spec import open_model

classifier = open_model("FOLDER", classifier=True)
model, names = classifier.module, classifier.classes"""
    return f"""## How to use it

`FOLDER` is this folder. On the Hugging Face Hub `hf-hub:ORG/NAME` takes the place of `local-dir:FOLDER`, and `zoo pull ORG/NAME
--out FOLDER` makes the folder.

Of a folder of images, the most likely classes of each as a table:

{block("zoo predict FOLDER PHOTOS --out predictions.csv --html predictions.html", "sh")}

With timm:

{block(through_timm, "python")}

With the toolkit that made it, which also checks the sha256 of the weights:

{block(with_toolkit, "python")}

The backbone alone, which turns an image into one feature vector (`zoo.load("FOLDER")` gives it, too):

{block(backbone, "python")}"""


def _training(manifest: Manifest) -> str:
    head, versions, assumed = _head(manifest), manifest.source.get("versions"), manifest.source.get("assumed")
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
        "Assumed, since nobody says otherwise": "; ".join(map(str, assumed)) if isinstance(assumed, list | tuple) else None,
        "Classifier": ", ".join(f"{name} {head[name]}" for name in _OF_HEAD if head.get(name) not in (None, "")),
        "Commit of the toolkit": manifest.source.get("commit"),
        "Versions": ", ".join(f"{name} {one}" for name, one in versions.items() if one) if isinstance(versions, Mapping) else None,
        Markdown("sha256 of `model.safetensors`"): code(manifest.file_sha256),
        "sha256 of its tensors": code(manifest.tensors_sha256),
        "sha256 of its tensors without the last layer": code(manifest.backbone_sha256 or ""),
    }
    rows = [(name, value) for name, value in facts.items() if value not in (None, "")]
    text = "## How it was trained\n\n" + table(["", ""], rows)
    if manifest.curve_sha256 is not None:
        text += f"\n\n![Loss and learning rate over the steps of the training]({CURVE_FILE})"
    if manifest.recipe:
        recipe = json.dumps(manifest.recipe, indent=2, ensure_ascii=False)
        text += f"\n\nThe resolved recipe:\n\n{block(recipe, 'json')}"
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
    below = " (top1), or with those below the last layer" if manifest.classes else ""
    rows = table(RESULT_COLUMNS, [result_row(result) for result in manifest.results])
    protocols = "\n".join(f"- {escaped(f'{result.task}, {result.data.name}')}: {_protocol(result)}" for result in manifest.results)
    commands = block("\n".join(plain(command_on_card(result, manifest)) for result in manifest.results), "sh")
    return (
        f"{head}Each was measured with these very weights{below}; `zoo.json` holds it whole, with fingerprints of the data, counts, seeds "
        "and versions, and `zoo verify FOLDER --data NAME:ROOT` measures it again. "
        f"Accuracies are in percent.\n\n{rows}\n\n"
        f"The commands that measure them again, in this order; {_PLACES} `FOLDER` is this folder:\n\n{commands}\n\n"
        f"The protocols in full:\n\n{protocols}"
    )


def _protocol(result: Result) -> str:
    values = ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in result.protocol.items())
    return f"{code(result.preset)}: {escaped(values)}"


def _limitations(manifest: Manifest) -> str:
    lines = [
        "It knows these classes and no other: an image of something else gets one of them, too, and often with a high probability."
        if manifest.classes
        else "It gives features, not labels: a task needs a classifier, a nearest-neighbour search or fine-tuning on top."
    ]
    if manifest.data:
        lines.append(
            f"It was trained on {code(manifest.data)}: it carries that data's biases, and on other kinds of images it may be worth little."
        )
    lines.append(
        f"It takes images of {manifest.image_size} px only."
        if manifest.fixed_input
        else f"It was trained on images of {manifest.image_size} px; at other sizes nothing was measured unless a result above says so."
    )
    return "## Limitations\n\n" + "\n".join(f"- {line}" for line in lines)


def _citation(manifest: Manifest) -> str:
    entries = citations(manifest.method, manifest.recipe)
    return "## Citation\n\n" + block("\n\n".join(entries), "bibtex") if entries else ""
