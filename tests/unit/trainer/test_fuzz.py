"""Whatever params, idx files, tables and images contain: it works, or an error names it."""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trainer import DataError, Params, ParamsError
from trainer.data.idx import read_idx, save_data
from trainer.data.splits import open_split
from trainer.data.table import read_table
from trainer.params.files import read_params

modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SMALL = {"net_arch": [], "device": "cpu", "n_classes": 2}
PICTURE = cv2.imencode(".png", np.arange(784, dtype=np.uint8).reshape(28, 28))[1].tobytes()
FORMS = {
    suffix: cv2.imencode(suffix, np.zeros((28, 28), np.uint8))[1].tobytes()
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tif", ".pgm")
}

plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["torch.nn.Conv2d", "torch.optim.Adam", "cpu", "cuda", "loss", "balanced"]),
)  # fmt: skip
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6), inner, max_size=3)
        | st.fixed_dictionaries({"class": inner}, optional={"kwargs": inner, "every": inner})
    ),
    max_leaves=8,
)
NAMES = {
    "net_arch": "torch.nn.{}",
    "learning_rate_schedule": "torch.optim.lr_scheduler.{}",
    "additional_transforms": "torchvision.transforms.v2.{}",
    "augmentations": "torchvision.transforms.v2.{}",
    "metrics": "torchmetrics.{}",
}
CLASSES = {
    "net_arch": ["Conv2d", "Linear", "LSTM", "Embedding", "MaxPool2d", "Upsample", "Unflatten"],
    "learning_rate_schedule": [
        "StepLR",
        "LambdaLR",
        "OneCycleLR",
        "SequentialLR",
        "ChainedScheduler",
    ],
    "additional_transforms": ["Resize", "Pad", "RandomCrop", "Compose", "Lambda", "Normalize"],
    "augmentations": ["Resize", "ColorJitter", "RandomErasing", "GaussianBlur"],
    "metrics": ["Accuracy", "AUROC", "ROC", "MetricCollection", "MeanSquaredError", "Recall"],
}


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@st.composite
def components(draw: st.DrawFn) -> dict[str, Any]:
    """A list of real classes with any keyword arguments, of the usual names or any."""
    key = draw(st.sampled_from(sorted(NAMES)))
    names = ["in_channels", "out_channels", "kernel_size", "size", "padding", "p", "step_size"]
    kwargs = st.dictionaries(st.sampled_from(names) | st.text(max_size=4), values, max_size=3)
    one = st.fixed_dictionaries(
        {"class": st.sampled_from(CLASSES[key]).map(NAMES[key].format), "kwargs": kwargs}
    )
    return {key: draw(st.lists(one, min_size=1, max_size=2))}


def is_named(finding: str, keys: Iterable[object]) -> bool:
    """Return whether a finding begins with one of the keys, or one that has a default."""
    return finding.startswith((*map(str, keys), *Params.model_fields))


def must_name(error: DataError | ParamsError, what: object) -> None:
    """Assert that an error names a file."""
    assert str(what) in str(error)


@settings(modest, max_examples=30)
@given(
    st.dictionaries(st.sampled_from(sorted(Params.model_fields)), values, max_size=4)
    | st.dictionaries(st.text(max_size=8), values, max_size=3)
    | components()
)
@example({"image_height": 65536, "image_width": 65536})
@example({"n_classes": 2**62})
@example({"batch_size": 2**70})
def test_any_params_are_right_or_named(params: dict[str, Any]) -> None:
    """Known and unknown keys with any values, classes with any arguments."""
    try:
        Params.validate_all(params)
    except ParamsError as error:
        unnamed = [finding for finding in error.findings if not is_named(finding, params)]
    else:
        unnamed = []
    assert unnamed == []


@modest
@given(
    st.binary(max_size=60) | st.text(max_size=40).map(str.encode), st.sampled_from(["toml", "json"])
)
@example(b"[" * 100_000, "json")
@example(b"a = " + b"[" * 100_000, "toml")
def test_any_params_file_is_read_or_named(content: bytes, suffix: str) -> None:
    """Bytes that are not text, and text that is neither TOML nor JSON."""
    with folder() as place:
        file = place / f"params.{suffix}"
        file.write_bytes(content)
        try:
            Params.validate_all(read_params(file)[0])
        except ParamsError as error:
            must_name(error, file if str(file) in str(error) else ":")


@modest
@given(
    st.lists(
        st.text(max_size=20)
        | st.tuples(st.text(max_size=9), values).map(
            lambda pair: f"{pair[0]}={json.dumps(pair[1])}"
        ),
        max_size=3,
    )
)
@example(["a=" + "[" * 100_000])
@example(["manual_seed=" + "9" * 5000])
@example([".".join("a" * 5000) + "=1"])
def test_any_words_of_params_are_read_or_named(words: list[str]) -> None:
    """`--set` with any text."""
    try:
        Params.validate_all(read_params(None, words)[0])
    except ParamsError as error:
        must_name(error, ":")


@st.composite
def idx_files(draw: st.DrawFn) -> bytes:
    """An idx file whose header may be wrong and whose values may be too few."""
    header = draw(
        st.sampled_from([b"\0\0\x08\x03", b"\0\0\x08\x01", b"\0\0\x0d\x02"]) | st.binary(max_size=4)
    )
    sizes = draw(st.lists(st.sampled_from([0, 1, 2, 3, 28, 2**31, 2**32 - 1]), max_size=4))
    return header + struct.pack(f">{len(sizes)}I", *sizes) + draw(st.binary(max_size=40))


@st.composite
def packed(draw: st.DrawFn) -> bytes:
    """Bytes that may be gzip, whole, cut short or with a byte changed."""
    data = draw(idx_files() | st.binary(max_size=40))
    if draw(st.booleans()):
        data = gzip.compress(data, mtime=0)
    return draw(damaged(data))


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """A file as it is, cut short, with other bytes somewhere, or with more behind it."""
    at = draw(st.integers(0, len(data)))
    some = draw(st.binary(max_size=4))
    return draw(
        st.sampled_from([data, data[:at], data[:at] + some + data[at + len(some) :], data + some])
    )


@modest
@given(packed(), st.sampled_from([1, 3]), st.sampled_from(["idx", "idx.gz"]))
def test_any_idx_file_is_read_or_named(content: bytes, dimensions: int, name: str) -> None:
    """Wrong headers, missing values, and bytes that are not gzip."""
    with folder() as place:
        path = place / name
        path.write_bytes(content)
        try:
            values = read_idx(path, dimensions)
        except DataError as error:
            must_name(error, path)
        else:
            assert values.ndim == dimensions


@modest
@given(st.lists(packed(), min_size=4, max_size=4), st.sampled_from(["", ".gz"]))
def test_any_four_idx_files_are_unpacked_or_named(files: list[bytes], end: str) -> None:
    """Nothing is written unless all of them are right."""
    names = [
        f"{kind}-{what}-ubyte{end}"
        for kind in ("train", "test")
        for what in ("images-idx3", "labels-idx1")
    ]
    with folder() as place:
        for name, content in zip(names, files, strict=True):
            (place / name).write_bytes(content)
        try:
            save_data(place, place / "data")
        except DataError as error:
            must_name(error, place)
            written = (place / "data").exists()
        else:
            written = False
        assert not written


cells = st.text(max_size=6) | st.sampled_from(["a.png", "a.png ", "..", ".", "/", "0", "1", "\0"])
tables = (
    st.binary(max_size=60)
    | st.lists(st.lists(cells, max_size=4).map(",".join), max_size=4).map(
        lambda rows: "\n".join(["files,type", *rows]).encode()
    )
    | st.builds(
        lambda text, encoding: text.encode(encoding, "replace"),
        st.just("files,type\na.png,1\n"),
        st.sampled_from(["utf-16", "utf-8-sig", "latin-1", "utf-32", "cp037"]),
    )
)


@modest
@given(tables)
@example(b"files,type\n" + b"x" * 200_000 + b",1\n")
@example(b"files,type\na.png," + b"9" * 5000 + b"\n")
@example(b"files,files,type\na.png,b.png,1\n")
@example(b'files,type\n"a.png,1\n')
@example(b"files,type,\na.png,1,2,3,4\n")
@example("files,type\na.png,\u0663\na.png,\u00b2\n".encode())
def test_any_table_is_read_or_named(content: bytes) -> None:
    """Other columns and encodings, zeros, endless cells: the error names the table."""
    with folder() as place:
        (place / "train").mkdir()
        (place / "train" / "info.csv").write_bytes(content)
        (place / "train" / "a.png").write_bytes(PICTURE)
        try:
            table = read_table(place / "train")
            assert len(table.files) == len(table.labels)
            open_split(Params.validate_all(SMALL), "train", place)
        except DataError as error:
            must_name(error, place / "train")


@modest
@given(
    st.binary(max_size=80) | st.sampled_from(sorted(FORMS.values())).flatmap(damaged),
    st.booleans(),
)
def test_any_image_file_is_decoded_or_named(content: bytes, resize: bool) -> None:
    """Any bytes, and files of each format that are cut short or damaged."""
    with folder() as place:
        (place / "train").mkdir()
        (place / "train" / "info.csv").write_text("files,type\na.png,1\n")
        (place / "train" / "a.png").write_bytes(content)
        params = Params.validate_all({**SMALL, "resize_images": resize})
        try:
            split = open_split(params, "train", place)
        except DataError as error:
            must_name(error, place / "train" / "a.png")
        else:
            assert split.images.array.shape == (1, 28, 28, 1)
