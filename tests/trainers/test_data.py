import os
import pathlib
import re

import numpy as np
import pytest

from trainers import data


def test_digits_are_split_by_class_without_overlap():
    dataset = data.load("digits")
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(labels) for _, labels in parts] == [1077, 360, 360]
    shares = [np.bincount(labels, minlength=10) / len(labels) for _, labels in parts]
    assert np.ptp(shares, axis=0).max() < 0.005
    images = np.concatenate([x for x, _ in parts]).reshape(-1, 64)
    from sklearn.datasets import load_digits

    # All of the real data, each image once.
    expected = load_digits().data / 16
    assert np.array_equal(_sorted_rows(images), _sorted_rows(expected.astype(np.float32)))
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0.0, 1.0)


def test_the_split_is_always_the_same():
    first, second = data.load("digits"), data.load("digits")
    for part in ("train", "validation", "test"):
        for one, other in zip(getattr(first, part), getattr(second, part), strict=True):
            assert np.array_equal(one, other)


def test_train_on_all_adds_the_validation_rows_only():
    plain, full = data.load("digits"), data.load("digits", train_on_all=True)
    assert len(full.train[1]) == 1077 + 360
    assert np.array_equal(full.train[0][1077:], plain.validation[0])
    assert np.array_equal(full.test[0], plain.test[0])


def test_a_part_has_a_title_for_pictures():
    assert data.load("digits").title("validation") == "360 validation rows"
    assert data.load("digits", train_on_all=True).title("train") == "1,437 train rows"


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="`name` must be one of .*Received: name='cats'"):
        data.load("cats")


def _broken_download(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(data, "_check_reachable", lambda address: None)

    def refuse(self, *args, **kwargs):
        # As the real downloader: it leaves a file behind before it fails.
        folder = kwargs["download_dir"]
        folder.mkdir(parents=True)
        (folder / "half.gz.tmp").write_bytes(b"half")
        raise OSError("Failed to resolve 'storage.example'")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_without_a_network_nothing_is_tried_for_minutes(name, tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds, "builder", lambda *a, **k: pytest.fail("tried to download"))
    # A proxy at which nobody is: no name is looked up, no packet leaves.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(OSError, match=f"{name!r} is not in .*--data-dir .*Received: ProxyError"):
        data.load(name, str(tmp_path / "tfds"))
    assert list(tmp_path.iterdir()) == []


def test_a_broken_download_says_what_to_set(tmp_path, monkeypatch):
    _broken_download(monkeypatch)
    folder = tmp_path / "new" / "tfds"
    expected = (
        f"The data set 'mnist' is not in {folder} .* TFDS_DATA_DIR or the flag --data-dir .*"
        "Received: OSError: Failed to resolve"
    )
    with pytest.raises(OSError, match=expected):
        data.load("mnist", str(folder))
    assert list(tmp_path.iterdir()) == []


def test_a_broken_download_leaves_the_data_folder_as_it_was(tmp_path, monkeypatch):
    _broken_download(monkeypatch)
    (tmp_path / "mine").write_text("kept")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        data.load("mnist")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_data_folder_with_half_a_data_set_is_an_error(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    with pytest.raises(OSError, match="could not be downloaded or read"):
        data.load("mnist", str(tmp_path))


def test_a_data_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="The data set 'mnist' is not in"):
        data.load("mnist", str(tmp_path / "file"))


@pytest.mark.realdata
def test_mnist_is_the_real_one():
    if "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("TFDS_DATA_DIR is not set; it must hold tensorflow-datasets' mnist")
    dataset = data.load("mnist")
    shapes = [part[0].shape for part in (dataset.train, dataset.validation, dataset.test)]
    assert shapes == [(50_000, 28, 28, 1), (10_000, 28, 28, 1), (10_000, 28, 28, 1)]
    assert dataset.train[0].max() == np.float32(255) / np.float32(126)
    labels = np.concatenate([dataset.train[1], dataset.validation[1]])
    # As published, http://yann.lecun.com/exdb/mnist/.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(labels).tolist() == counts
    assert np.bincount(dataset.test[1]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip


@pytest.mark.realdata
def test_cifar10_is_the_real_one():
    if not (pathlib.Path(os.environ.get("TFDS_DATA_DIR", ".")) / "cifar10").is_dir():
        pytest.skip("TFDS_DATA_DIR is not set, or holds no cifar10 of tensorflow-datasets")
    dataset = data.load("cifar10")
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(labels) for _, labels in parts] == [45_000, 5_000, 10_000]
    assert dataset.test[0].shape[1:] == (32, 32, 3)
    assert (dataset.train[0].min(), dataset.train[0].max()) == (0.0, 1.0)
    # As published, https://www.cs.toronto.edu/~kriz/cifar.html: as many of each class.
    labels = np.concatenate([dataset.train[1], dataset.validation[1]])
    assert np.bincount(labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test[1]).tolist() == [1000] * 10
    # Ships and planes are before the sky and the sea: the bluest of all.
    blueness = [
        np.mean(dataset.test[0][dataset.test[1] == label] @ [-0.5, -0.5, 1.0])
        for label in range(10)
    ]
    bluest = {dataset.class_names[label] for label in np.argsort(blueness)[-2:]}
    assert bluest == {"airplane", "ship"}


def _sorted_rows(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]
