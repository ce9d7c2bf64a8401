import json

import pytest

from trainers import classification, seeds
from trainers.seeds import SeedSettings
from trainers.settings import parse

pytestmark = pytest.mark.filterwarnings("ignore:Sigma never left its start")


def test_means_standard_errors_and_paired_differences():
    tables = [
        [
            {"sparsity": s, "error": e, "nll": 0.2, "ece": 0.1}
            for s, e in [(0.0, base), (0.9, base + d)]
        ]
        for base, d in [(0.01, 0.001), (0.03, 0.003)]
    ]
    unpruned, pruned = seeds.summarise(tables)
    assert unpruned["error"] == pytest.approx((0.02, 0.01))
    assert unpruned["difference"] == (0.0, 0.0)
    # Paired: the spread between seeds cancels.
    assert pruned["difference"] == pytest.approx((0.002, 0.001))
    assert pruned["errors"] == pytest.approx([0.011, 0.033])
    assert seeds.summarise(tables[:1])[1]["error"] == (pytest.approx(0.011), None)


def test_seeds_that_are_there_are_not_run_again(tmp_path, monkeypatch, capsys):
    runs, tables = [], []
    real = classification.main

    def main(one):
        runs.append(one.seed)
        # The numbers of the first seed will do for the second.
        tables.append(tables[0] if tables else real(one))
        return tables[-1]

    monkeypatch.setattr(classification, "main", main)
    first = seeds.main(SeedSettings(output=str(tmp_path), smoke=True, seeds=(0,)))
    assert first["runs"] == ["digits-seed-0"]
    second = seeds.main(SeedSettings(output=str(tmp_path), smoke=True, seeds=(0, 1)))
    assert runs == [0, 1]
    assert second["rows"][0]["errors"][0] == first["rows"][0]["errors"][0]
    assert json.loads((tmp_path / "digits-seed.json").read_text())["runs"] == second["runs"]
    text = capsys.readouterr().out
    assert "digits-seed-0: there already" in text
    assert "2 seeds; test error" in text

    with pytest.raises(ValueError, match="run with other settings.*Received: pi=0.25, not 0.5"):
        seeds.main(SeedSettings(output=str(tmp_path), smoke=True, seeds=(0,), pi=0.25))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--seeds", "1", "1"],
            "`seeds` must be one or more, all different. Received: seeds=(1, 1)",
        ),
        (["--seeds", "-1"], "`seeds` must be at least 0 and below 2**32. Received: seeds=(-1,)"),
        # Not an abbreviation of it, and not without effect.
        (["--seed", "1"], "unrecognized arguments: --seed 1"),
    ],
)
def test_bad_seeds_are_errors(argv, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse({"digits": SeedSettings()}, argv=argv)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
