import dataclasses

import pytest

from trainers.settings import BY_DATASET, Settings, option, parse


@dataclasses.dataclass(frozen=True)
class Small:
    dataset: str = option("digits", "data set", ("digits", "mnist"))
    ratio: float | None = option(None, "50 % of what")
    sizes: tuple[int, ...] = option((1, 2), "sizes")
    loud: bool = option(False, "say more")


SMALL = {"digits": Small(), "mnist": Small(dataset="mnist", sizes=(3,), loud=True)}


def test_flags_have_the_types_of_the_fields():
    settings = parse(SMALL, argv=["--ratio", "0.5", "--sizes", "4", "5", "--loud"])
    assert settings == Small(ratio=0.5, sizes=(4, 5), loud=True)


def test_the_data_set_chooses_the_defaults():
    assert parse(SMALL, argv=[]) == SMALL["digits"]
    assert parse(SMALL, argv=["--dataset", "mnist"]) == SMALL["mnist"]
    assert parse(SMALL, argv=["--no-loud", "--dataset=mnist"]).loud is False


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nonsense", "1"], "unrecognized arguments: --nonsense"),
        (["--siz", "1"], "unrecognized arguments: --siz"),
        (["--sizes", "many"], "argument --sizes: invalid int value: 'many'"),
        (["--ratio", "half"], "argument --ratio: invalid float value: 'half'"),
        (["--dataset", "cats"], "argument --dataset: invalid choice: 'cats'"),
        (["--dataset"], "argument --dataset: expected one argument"),
    ],
)
def test_unknown_flags_and_wrong_types_are_errors(argv, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(SMALL, argv=argv)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_every_field_with_its_help_and_default(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(SMALL, "What it does.", ["--dataset", "mnist", "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "What it does." in text
    for part in ("50 % of what (default: none)", "--sizes INT", "(default: 3)", "--no-loud"):
        assert part in text


@pytest.mark.parametrize("dataset", BY_DATASET)
def test_the_settings_are_for_their_data_set_and_leave_beta_to_the_recipe(dataset):
    assert BY_DATASET[dataset].dataset == dataset
    assert BY_DATASET[dataset].beta is None
    assert parse(BY_DATASET, argv=["--dataset", dataset]) == BY_DATASET[dataset]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sparsity": 1.0},
        {"sparsities": (0.5, -0.1)},
        {"epochs": 0},
        {"learning_rate": float("nan")},
        {"sigma2": 0.0},
        {"largest_scale": -1.0},
        {"pi": 1.0},
        {"beta": float("inf")},
        {"seed": -1},
        {"seed": 2**32},
        {"output": ""},
        {"resume": ""},
        {"name": "a/b"},
        {"name": ".."},
    ],
)
def test_values_out_of_range_are_errors(wrong, capsys):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}="):
        Settings(**wrong)
    words = [str(v) for v in value] if isinstance(value, tuple) else [str(value)]
    with pytest.raises(SystemExit) as stopped:
        parse(BY_DATASET, argv=[f"--{name.replace('_', '-')}", *words])
    assert stopped.value.code == 2
    assert f"`{name}` must be" in capsys.readouterr().err


def test_the_table_has_the_unpruned_model_and_the_one_that_ships():
    assert Settings(sparsity=0.8, sparsities=(0.9,)).all_sparsities == [0.0, 0.8, 0.9]


def test_a_smoke_run_is_short():
    settings = Settings(smoke=True).effective()
    assert settings.epochs == 2
    assert settings.all_sparsities == [0.0, 0.5]
    assert Settings().effective() == Settings()
