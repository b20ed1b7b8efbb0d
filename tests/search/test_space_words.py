from __future__ import annotations

import pytest
import yaml

from convoy.config.options import Options
from convoy.search.space_words import split_space
from convoy.search.study_config import study_of

WORDS = {
    "optimizer.lr=interval(0.001,0.1)": {"float": [0.001, 0.1]},
    "optimizer.lr=tag(log,interval(0.001,1))": {"log_float": [0.001, 1.0]},
    "trainer.max_epochs=int(interval(1,8))": {"int": [1, 8]},
    "model=lenet5,vgg11": {"choice": ["lenet5", "vgg11"]},
    "model=choice(lenet5,vgg11)": {"choice": ["lenet5", "vgg11"]},
    "model=glob(vgg11*)": {"choice": ["vgg11", "vgg11_bn"]},
    "seed=range(1,4)": {"choice": [1, 2, 3]},
    "model.layers=[CONV3-4,'FC-10'],[FC-10]": {"choice": [["CONV3-4", "FC-10"], ["FC-10"]]},
}


@pytest.mark.parametrize(("text", "expected"), WORDS.items())
def test_values_of_a_sweep_become_a_parameter(text: str, expected: dict[str, list[object]]) -> None:
    space, others = split_space(["data=digits", text, "trainer.max_epochs=3"], Options())
    assert space == {text.partition("=")[0]: expected}
    assert others == ["data=digits", "trainer.max_epochs=3"]
    written = yaml.safe_load(yaml.safe_dump({"space": space}, default_flow_style=None))
    (parameter,) = study_of("search", written).space
    assert parameter.kind in expected
