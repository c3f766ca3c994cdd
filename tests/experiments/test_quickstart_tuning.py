import pytest
import quickstart_tuning


def test_candidates_are_measured_on_messages_that_are_not_drawn(discriminator, capsys):
    words = ["fine_tuning:1e-3:1", "--model", str(discriminator), "--seeds", "10", "11"]
    quickstart_tuning.main(words)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("fine_tuning     lr 0.001 epochs  1: ")
    # 28 messages a class, 8 of them drawn: 160 are measured, each 0.625 %.
    each = [float(value) for value in line.partition("(")[2].rstrip(")").split(", ")]
    assert len(each) == 2
    assert all(abs(160 * value / 100 - round(160 * value / 100)) < 0.1 for value in each)


def test_unknown_methods_are_refused(capsys):
    with pytest.raises(SystemExit):
        quickstart_tuning.main(["best:1e-3:1"])
    assert "no method 'best'; there are fine_tuning, dpt" in capsys.readouterr().err
