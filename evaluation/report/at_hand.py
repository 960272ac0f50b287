"""What of a result's images and features can be had here and now: never other images, never those of other weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.tasks.model_source import ModelSource
from zoo.data import Data, Images, open_data
from zoo.data.files import listing_at_most
from zoo.data.scan import check_images
from zoo.data.spec import PLACE_KEYS, DataSpec, is_hub_folder, name_of, parse_spec
from zoo.errors import UserError
from zoo.models.runs import CHECKPOINT_FOLDER
from zoo.results import Result

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evaluation.tasks.runtime import Runtime
    from zoo.models.model import Model
    from zoo.models.transforms import EvalTransform


# Of a place that a result names, entries of folders that are looked at: for each of its images, beside that, and at most. The largest
# set of images, ImageNet-21k, has 14 million.
_ENTRIES_AN_IMAGE, _ENTRIES, _MOST_ENTRIES = 4, 10_000, 60_000_000
# What lies there is no file.
_SYSTEM = ("/proc", "/sys", "/dev")


@dataclass(frozen=True)
class Missing:
    """Something that a page cannot show: why, and how it can be had."""

    why: str
    how: str


@dataclass
class AtHand:
    """Images and features of results.

    Attributes
    ----------
    data
        Data sets (``NAME[:ROOT]``) that are tried, for results of data of that name, before the one that the result names.
    models
        Models from which features are computed where none are kept.
    numbers_only
        Open nothing.
    device
        As ``--device`` of ``evaluate``, for networks and votes.
    say
        Called with a sentence for the user.
    """

    data: Sequence[str] = ()
    models: Sequence[ModelSource] = ()
    numbers_only: bool = False
    device: str = "auto"
    say: Callable[[str], None] = lambda _text: None
    _opened: dict[str, Data | UserError] = field(default_factory=dict, repr=False)
    _images: dict[tuple[str, str, str], Images | Missing] = field(default_factory=dict, repr=False)
    _features: dict[tuple[str, ...], Tensor | Missing] = field(default_factory=dict, repr=False)
    _networks: dict[tuple[str, str | None, Any], Model] = field(default_factory=dict, repr=False)
    _runtime: Runtime | None = field(default=None, repr=False)

    def check(self, results: Sequence[Result]) -> None:
        """Raise UserError where a data set or a model was given that none of the results is of."""
        names = list(dict.fromkeys(name_of(result.data.spec) for result in results))
        for spec in self.data:
            if name_of(spec) not in names:
                raise UserError(f"no result is of data '{name_of(spec)}' (--data {spec}); they are of {', '.join(names)}")
        inputs = list(dict.fromkeys((result.protocol.get("layer"), result.protocol.get("crop")) for result in results))
        weights = {result.model.tensors_sha256 for result in results}
        for source in self.models:
            self._open(source, inputs, weights)

    def images(self, result: Result, role: str) -> Images | Missing:
        """The images that a result used as ``role``, known by their fingerprint."""
        if self.numbers_only:
            return Missing("the report was made of numbers alone", "leave --numbers-only out")
        split = result.data.splits.get(role)
        if split is None:
            return Missing(f"the result used no {role} images", f"give a result that has {role} images")
        key = (result.data.spec, split.split, split.fingerprint)
        if key not in self._images:
            self._images[key] = self._find_images(result, role)
        return self._images[key]

    def features(self, result: Result, role: str) -> Tensor | Missing:
        """float32 (N, D): the features of these images that the result was counted on, kept or computed again."""
        images = self.images(result, role)
        if isinstance(images, Missing):
            return images
        facts = result.data.splits[role]
        key = (result.model.tensors_sha256, facts.split, facts.fingerprint, str(sorted(result.protocol.items(), key=lambda item: item[0])))
        if key not in self._features:
            self._features[key] = self._find_features(result, images, facts.fingerprint)
        return self._features[key]

    def _find_images(self, result: Result, role: str) -> Images | Missing:
        facts, name = result.data.splits[role], name_of(result.data.spec)
        how = f"give --data {name}:ROOT, with the folder that the images lie in"
        why = ""
        # The place that was given, read as the result's own was.
        measured = parse_spec(result.data.spec)
        given = [str(parse_spec(spec).with_options_of(measured)) for spec in self.data if name_of(spec) == name]
        for spec in [*given, *([] if result.data.spec in given else [result.data.spec])]:
            try:
                images = self._data(spec, bad=facts.skipped > 0, named_by=None if spec in given else result).split(facts.split)
                if facts.skipped:
                    images = check_images(images, "skip")
                if len(images) == facts.images and images.fingerprint() == facts.fingerprint:
                    return images
                found = f"the {facts.split} images of '{spec}' are not those of the result ({len(images):,} images, another fingerprint)"
                if spec in given:
                    self.say(found)
            except UserError as error:
                found = str(error)
            why = why or found
        return Missing(why, how)

    def _data(self, spec: str, *, bad: bool, named_by: Result | None) -> Data:
        key = f"{spec} {bad} {named_by is None}"
        if key not in self._opened:
            try:
                if named_by is None:
                    self._opened[key] = open_data(spec, "skip" if bad else "refuse")
                else:
                    # Whoever wrote the result chose the place: it may be the whole disk.
                    check_place(parse_spec(spec))
                    used = sum(split.images + split.skipped for split in named_by.data.splits.values())
                    with listing_at_most(min(_ENTRIES_AN_IMAGE * used + _ENTRIES, _MOST_ENTRIES)):
                        self._opened[key] = open_data(spec, "skip" if bad else "refuse")
            except UserError as error:
                self._opened[key] = error
        found = self._opened[key]
        if isinstance(found, UserError):
            raise found
        return found

    def _find_features(self, result: Result, images: Images, fingerprint: str) -> Tensor | Missing:
        from evaluation.extraction.descriptions import data_key, describe_features

        how = f"give --model {result.model.spec or 'MODEL'}, from which they are computed"
        try:
            transform = _transform(result)
        except (KeyError, TypeError, ValueError):
            return Missing("the result's protocol does not say how images reached the network", "evaluate the model again")
        description = describe_features(
            images,
            data_key(images, fingerprint),
            transform,
            tensors_sha256=result.model.tensors_sha256,
            arch=result.model.arch,
            kind=result.model.kind,
            layer=result.protocol.get("layer"),
            dtype=result.dtype,
            device=result.device,
            versions=result.versions,
        )
        runtime = self._ready()
        assert runtime.cache is not None
        kept = runtime.cache.look_up(description)
        if kept is not None:
            return kept
        model = self._networks.get((result.model.tensors_sha256, result.protocol.get("layer"), result.protocol.get("crop")))
        if model is None:
            other = "none of the models given has its weights" if self.models else "no model was given"
            return Missing(f"the features of {result.model.name} are not kept on this machine, and {other}", how)
        self.say(f"computing features of {len(images):,} images by {result.model.name}")
        try:
            return replace(runtime, dtype=result.dtype).features(model, images, transform, fingerprint=fingerprint).features
        except UserError as error:
            self.say(str(error))
            return Missing(str(error), "mend that, and make the report again")

    def place(self) -> torch.device:
        """Where networks run and similarities are computed."""
        return self._ready().device

    def _ready(self) -> Runtime:
        if self._runtime is None:
            from evaluation.extraction.cache import FeatureCache, cache_folder, cache_limit
            from evaluation.parallel import ALONE, choose_device
            from evaluation.tasks.runtime import Runtime

            cache = FeatureCache(cache_folder(), limit=cache_limit(), say=self.say)
            self._runtime = Runtime(device=choose_device(self.device), processes=ALONE, progress=True, cache=cache)
        return self._runtime

    def _open(self, source: ModelSource, inputs: Sequence[tuple[Any, Any]], weights: set[str]) -> None:
        from zoo.model_spec import open_model

        found, refusal = False, None
        for layer, crop in inputs:
            how = {**source.arguments, "layer": layer, "image_size": crop if isinstance(crop, int) else None}
            try:
                model = open_model(**how)
                if model.tensors_sha256 not in weights:  # the result may be of its classifier
                    model = open_model(**how, classifier=True)
            except UserError as error:
                refusal = error
                continue
            if model.tensors_sha256 in weights:
                found = True
                self._networks[model.tensors_sha256, layer, crop] = model
            else:
                refusal = UserError(
                    f"no result is of --model {source.name}: none has its weights (tensors_sha256 {model.tensors_sha256[:12]}); "
                    "leave it out, or evaluate it first"
                )
        if refusal is not None and not found:
            raise refusal


def check_place(spec: DataSpec) -> None:
    """Raise UserError for a place that is not opened because a result names it: one that holds far more than data, or the Hub's."""
    if spec.name == "hf" and not is_hub_folder(spec.place):
        raise UserError(f"'{spec}' would be fetched from the Hub, which a report does not do because a result says so")
    home, here = Path.home().resolve(), Path.cwd().resolve()
    for place in filter(None, (spec.place, *(spec.options.get(key) for key in PLACE_KEYS))):
        path = Path(place).expanduser().resolve()
        if path in (home, *home.parents, *here.parents) or any(path.is_relative_to(system) for system in _SYSTEM):
            raise UserError(f"'{spec}' is no place of data alone, and is not searched because a result names it")


def run_folder(result: Result) -> Path | None:
    """The run folder that a result's model was, or was a checkpoint of, by its name; None for other models."""
    if result.model.kind != "run" or not result.model.spec:
        return None
    path = Path(result.model.spec).expanduser()
    return path.parent.parent if path.parent.name == CHECKPOINT_FOLDER else path


def _transform(result: Result) -> EvalTransform:
    from zoo.models.transforms import EvalTransform

    protocol, model = result.protocol, result.model
    return EvalTransform(
        protocol["resize"], protocol["crop"], protocol["interpolation"], model.mean, model.std, protocol.get("channels", "rgb")
    )
