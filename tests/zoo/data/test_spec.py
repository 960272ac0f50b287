"""The one parser of data specs."""

import pytest
from data_files import message_of
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.images import reading_of
from zoo.data.registry import data_names
from zoo.data.spec import KEYS, DataSpec, parse_spec, without_place


@pytest.mark.parametrize(
    ("text", "name", "place", "options"),
    [
        ("digits", "digits", "", {}),
        ("shapes", "shapes", "", {}),
        ("shapes:train=5,size=16", "shapes", "", {"train": "5", "size": "16"}),
        ("folder:/data/birds", "folder", "/data/birds", {}),
        ("folder:/data/cats, dogs", "folder", "/data/cats, dogs", {}),
        ("folder:/data/a,b=c,exif=ignore", "folder", "/data/a,b=c", {"exif": "ignore"}),
        ("folder:scans,range=0+4095,bands=4+3+2", "folder", "scans", {"range": "0+4095", "bands": "4+3+2"}),
        ("folder,exif=ignore", "folder", "", {"exif": "ignore"}),
        ("folder:C:\\x,holdout=0.2,seed=1", "folder", "C:\\x", {"holdout": "0.2", "seed": "1"}),
        ("csv:a.csv,root=/x,y/z,image=file name,label=l:k", "csv", "a.csv", {"root": "/x,y/z", "image": "file name", "label": "l:k"}),
        ("hf:user/set:plain,image=img", "hf", "user/set:plain", {"image": "img"}),
        ("wds:/d/{train,val}-*.tar", "wds", "/d/{train,val}-*.tar", {}),
        ("folder:range=0,night=1", "folder", "range=0,night=1", {}),
    ],
)
def test_texts_and_what_they_mean(text, name, place, options):
    spec = parse_spec(text)
    assert (spec.name, spec.place, dict(spec.options)) == (name, place, options)
    assert str(spec) == text


@given(
    st.sampled_from(["folder", "wds", "imagenet", "unheard-of"]),
    # A place that holds ",KEY=" with the key of an option is read as an option, as the grammar says; any other comma is the place's own.
    st.text(st.characters(exclude_characters=",=", codec="utf-8"), min_size=1).map(lambda text: f"{text},{text}"),
    st.dictionaries(st.just("exif"), st.text(st.characters(exclude_characters=",="), min_size=1)),
)
def test_any_place_comes_back(name, place, options):
    assert parse_spec(str(DataSpec(name, place, options))) == DataSpec(name, place, options)


def test_options_that_are_none():
    assert "no option 'bnads', did you mean 'bands'" in message_of(parse_spec, "folder:x,exif=ignore,bnads=1")
    assert "no option 'siz', did you mean 'size'" in message_of(parse_spec, "shapes:siz=4")
    assert "has no option 'range'" in message_of(parse_spec, "imagenet:x,range=0+1")
    assert "'cifar10' has no options, and 'exif' was given" in message_of(parse_spec, "cifar10:x,exif=apply")
    assert "'exif' is given twice" in message_of(parse_spec, "folder:x,exif=apply,exif=ignore")
    assert "'exif' has no value" in message_of(parse_spec, "folder:x,exif=")


def test_every_data_set_says_its_options():
    assert set(data_names()) <= set(KEYS)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("folder:x,range=1", "range=0+4095"),
        ("folder:x,range=5+5", "range=0+4095"),
        ("folder:x,range=0+inf", "range=0+4095"),
        ("folder:x,bands=1+2", "bands=4+3+2"),
        ("folder:x,bands=0+1+2", "bands=4+3+2"),
        ("folder:x,exif=yes", "apply or ignore, not 'yes'"),
    ],
)
def test_values_that_mean_nothing(text, wrong):
    assert wrong in message_of(reading_of, parse_spec(text))


def test_readings():
    reading = reading_of(parse_spec("folder:x,range=-1.5e+2+2e3,bands=4+3+2"))
    assert (reading.range, reading.bands, reading.exif) == ((-150.0, 2000.0), (4, 3, 2), "apply")
    assert reading_of(parse_spec("imagenet:x")).exif == "ignore"
    assert reading_of(parse_spec("imagenet:x,exif=apply")).exif == "apply"
    assert reading_of(parse_spec("coco:x,exif=ignore")).exif == "ignore"


@pytest.mark.parametrize(
    ("given", "published"),
    [
        ("folder:/home/somebody/birds,exif=ignore", "folder:birds,exif=ignore"),
        ("csv:/home/x/labels.csv,root=/home/x/images,image=f,label=c", "csv:labels.csv,image=f,label=c"),
        ("hf:somebody/birds:plain,image=img", "hf:somebody/birds:plain,image=img"),
        ("hf:/home/somebody/birds", "hf:birds"),
        ("imagenet:/data,exif=apply", "imagenet,exif=apply"),
        ("cifar10:cifar", "cifar10"),
    ],
)
def test_options_stay_and_places_do_not(given, published):
    assert without_place(given) == published


def test_a_claims_options_are_applied_to_the_place_at_hand():
    claimed = parse_spec("csv:labels.csv,image=f,label=c,exif=ignore")
    given = parse_spec("csv:/here/labels.csv,root=/here/images,image=g")
    assert str(given.with_options_of(claimed)) == "csv:/here/labels.csv,root=/here/images,image=f,label=c,exif=ignore"
