"""What a command line becomes, and every way in which it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from convoy.config.compose import compose, from_saved, overlay, to_config
from convoy.config.faults import UserError, closest
from convoy.config.options import Options
from convoy.config.rules import check
from convoy.training.preflight import read


def refused(*overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        read(list(overrides))
    return [str(fault) for fault in caught.value.faults]


def test_the_command_line_overrides_the_model_and_the_model_the_optimizer() -> None:
    assert to_config(compose(["model=vgg16"])).optimizer["lr"] == 0.005
    assert to_config(compose(["model=vgg16", "optimizer=adamw"])).optimizer["lr"] == 1e-4
    assert to_config(compose(["model=resnet18"])).optimizer["lr"] == 0.1
    assert to_config(compose(["model=vgg16", "optimizer.lr=0.3"])).optimizer["lr"] == 0.3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.gpu=2", "trainer.gpu=2: no such key; did you mean trainer.gpus?"),
        ("max_epochs=3", "max_epochs=3: no such key; did you mean trainer.max_epochs?"),
        ("modle=vgg16", "modle=vgg16: no such key; did you mean model?"),
        (
            "data=",
            f"data: needs a value; one of {', '.join(Options().of('data'))}",
        ),
        (
            "optimizer=null",
            f"optimizer=null: needs a value; one of {', '.join(Options().of('optimizer'))}",
        ),
        ("optimizer.momentm=0.8", "optimizer.momentm=0.8: no such key; did you mean optimizer.momentum?"),
        (
            "optimizer.fused=true",
            "optimizer.fused=true: no such key; write +optimizer.fused=… if it is an argument of the optimizer",
        ),
        ("data.augment.flp=true", "data.augment.flp=true: no such key; did you mean data.augment.flip?"),
        ("trainer.max_epochs=ten", "trainer.max_epochs=ten: must be a whole number"),
        ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5: must be a whole number"),
        (
            "trainer.compile=maybe",
            "trainer.compile=maybe: must be false, true, auto, reduce-overhead, max-autotune or "
            "max-autotune-no-cudagraphs",
        ),
        ("trainer.global_batch_size=null", "trainer.global_batch_size=null: can't be null"),
        ("data.mean=0.4", "data.mean=0.4: must be a list; write data.mean=[…]"),
        (
            "optimizer.weight_decay=high",
            "optimizer.weight_decay=high: must be a number; its default is 0.0005",
        ),
        ("optimizer.nesterov=3", "optimizer.nesterov=3: must be true or false; its default is True"),
        (
            "+trainer.foo=1",
            "+trainer.foo=1: trainer takes no new keys; see convoy train --help trainer",
        ),
        ("+trainer.max_epoch=3", "+trainer.max_epoch=3: trainer takes no new keys; did you mean trainer.max_epochs?"),
        ("+trainer.max_epochs=3", "+trainer.max_epochs=3: exists already; write trainer.max_epochs=3"),
        ("+sed=1", "+sed=1: no such key; did you mean seed?"),
        ("trainer.no.key=1", "trainer.no.key=1: no such key; see convoy train --help trainer"),
        ("no.such.key=1", "no.such.key=1: no such key; see convoy train --help"),
        ("+no.such.key=1", "+no.such.key=1: no such key; see convoy train --help"),
        ("+trainer.no.key=1", "+trainer.no.key=1: no such key; see convoy train --help trainer"),
        ("seed.x=1", "seed.x=1: seed is a value, so it has no keys; write seed=…"),
        ("+seed.x=1", "+seed.x=1: seed is a value, so it has no keys; write seed=…"),
        ("resume.x=1", "resume.x=1: resume is null, so it has no keys; write resume=…"),
        ("data.mean.x=1", "data.mean.x=1: data.mean is a list, so it has no keys; write data.mean=[…]"),
        ("model.name.a.b=1", "model.name.a.b=1: model.name is a value, so it has no keys; write model.name=…"),
        (
            "+data.train.x=1",
            "+data.train.x=1: data.train is null, so it has no keys; "
            "write data=dataset 'data.train={_target_: module.Class, x: 1}'",
        ),
        (
            "+data.arguments.x=1",
            "+data.arguments.x=1: data.arguments is null, so it has no keys; write 'data.arguments={x: 1}'",
        ),
        ("++=3", "'++=3': has no key; remove it, or add a key before ="),
        ("~seed", "~seed: a key can't be deleted; write seed=null to switch it off"),
        ("seed=1,2", "seed=1,2: several values are a sweep; add -m to run each, or [brackets] for a list"),
        ("trainer", "trainer: is not key=value; write trainer=<option>, such as trainer=cpu2"),
        ("--fast", "--fast: no such flag; see convoy train --help"),
        ("model=timm", "model.name: must be set; write model.name=…"),
        (
            "logger=csv,wandb",
            "logger=csv,wandb: several options are a sweep; add -m to run each, or write logger=[csv,wandb]",
        ),
        (
            "hydra.run.dir=x",
            "hydra.run.dir: Convoy, not Hydra, manages a run's folder and log; "
            "set output_root or name for the folder, -m for a sweep",
        ),
        ("data.augment={flip:true,cutout:true}", "data.augment.cutout=true: must be a whole number"),
        ("data.augment={flip:true,cutoff:3}", "data.augment.cutoff: no such key; did you mean data.augment.cutout?"),
        ("name=latest", "name=latest: is the newest run in run=latest and resume=latest; choose another name"),
    ],
)
def test_one_wrong_override_is_one_message(override: str, message: str) -> None:
    assert refused(override) == [message]


def test_an_unknown_option_lists_the_known_ones_and_the_nearest() -> None:
    (message,) = refused("optimizer=sdg")
    assert message.startswith("optimizer=sdg: no such option; did you mean sgd? (options: adam, adamw,")


def test_all_kinds_of_faults_are_reported_together() -> None:
    messages = refused("trainer.gpu=2", "model=vgg99", "trainer.max_epochs=ten", "optimizer.lr=-1", "seed=-1")
    assert [message.partition("=")[0] for message in messages] == [
        "model",
        "trainer.gpu",
        "trainer.max_epochs",
        "seed",
        "optimizer.lr",
    ]


def test_new_arguments_of_a_library_are_added_with_plus() -> None:
    assert to_config(compose(["+optimizer.foreach=true"])).optimizer["foreach"] is True


def test_the_class_of_a_data_set_takes_new_arguments_with_plus() -> None:
    words = ["data=dataset", "data.train={_target_: torchvision.datasets.MNIST}"]
    assert to_config(compose([*words, "+data.train.root=x"])).data.train == {
        "_target_": "torchvision.datasets.MNIST",
        "root": "x",
    }
    rule = "no such key; write +data.train.root=… if it is an argument of the class of data.train"
    assert refused(*words, "data.num_classes=10", "data.train.root=x") == [f"data.train.root=x: {rule}"]
    # The remedies of a value below null.
    assert to_config(compose([*words, "data.arguments={x: 1}"])).data.arguments == {"x": 1}
    words = ["data=dataset", "data.train={_target_: module.Class, x: 1}"]
    assert to_config(compose(words)).data.train == {"_target_": "module.Class", "x": 1}


def test_plus_before_an_option_chooses_it() -> None:
    assert to_config(compose(["+model=vgg16"])).model["name"] == "vgg16"
    assert refused("+model=vgg99")[0].startswith("model=vgg99: no such option")


def test_loggers_can_be_several() -> None:
    logger = to_config(compose(["logger=[csv,tensorboard]"])).logger
    assert (logger.wandb, logger.csv is not None, logger.tensorboard is not None) == (None, True, True)


def test_an_option_in_a_user_folder_needs_one_file(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# Mine.\nname: mine\n_target_: convoy.models.chain.Chain\nlayers: [FC-10]\n"
    )
    config = read(["model=mine"], Options(tmp_path))
    assert (config.name, config.model["layers"]) == ("mine", ["FC-10"])


def test_an_option_in_a_folder_that_is_not_in_use_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "mynet.yaml").write_text("_target_: convoy.models.chain.Chain\nlayers: [FC-10]\n")
    assert refused("model=mynet") == ["model=mynet: no such option; write --config-dir mine, which has it"]
    assert refused("model=../x/y") != []


def test_a_mistake_in_a_user_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "mine.yaml").write_text("max_epoch: 3\n")
    with pytest.raises(
        UserError, match=r"max_epoch: in conf/trainer/mine\.yaml: no such key; did you mean trainer\.max_epochs\?"
    ):
        read(["trainer=mine"], Options(tmp_path))


def test_a_file_that_is_not_yaml_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: mine\nlayers: [FC-{num_classes}]\n")
    with pytest.raises(UserError, match=r'is not YAML in ".*mine\.yaml", line 2.*quoted'):
        read(["model=mine"], Options(tmp_path))


def test_a_saved_config_survives_writing_and_reading() -> None:
    config = to_config(compose(["model=vgg16", "data=cifar10", "trainer.max_time=00:10:00"]))
    text = OmegaConf.to_yaml(OmegaConf.structured(config), resolve=True)
    assert to_config(from_saved(OmegaConf.to_container(OmegaConf.create(text)))) == config  # type: ignore[arg-type]


def test_overrides_of_a_saved_config_change_nothing_else() -> None:
    saved = compose(["model=vgg16", "optimizer=sgd", "seed=7"])
    config = to_config(overlay(saved, ["optimizer=adamw", "trainer.max_epochs=99"]))
    assert config.model["name"] == "vgg16"
    assert (config.seed, config.trainer.max_epochs) == (7, 99)
    # The learning rate is VGG16's for AdamW, not the default model's.
    assert (config.optimizer["_target_"], config.optimizer["lr"]) == ("torch.optim.AdamW", 1e-4)


def test_an_experiment_is_not_put_over_a_run() -> None:
    with pytest.raises(UserError, match="experiment can't override an existing run"):
        overlay(compose([]), ["experiment=fashion_mnist_fast"])


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["trainer.precision=bf16"], "trainer.precision"),
        (["trainer.precision=bf16-mixed", "hardware=v100"], "trainer.precision"),
        (["trainer.precision=16-mixed", "trainer.gpus=0"], "trainer.precision"),
        (["trainer.gpus=-1"], "trainer.gpus"),
        (["trainer.gpus=two"], "trainer.gpus"),
        (["trainer.gpus=3", "hardware=a100_40gb"], "trainer.gpus"),
        (["trainer.processes=2"], "trainer.processes"),
        (["trainer.max_epochs=null"], "trainer.max_epochs"),
        (["trainer.max_epochs=null", "trainer.max_time=00:01:00"], "trainer.max_epochs"),
        (["trainer.max_time=90"], "trainer.max_time"),
        (["scheduler.warmup_steps=5"], "scheduler.warmup_steps"),
        (["loss.label_smoothing=1"], "loss.label_smoothing"),
        (
            ["loss=cross_entropy_dice", "loss.terms.cross_entropy.label_smoothing=1"],
            "loss.terms.cross_entropy.label_smoothing",
        ),
        (["loss=focal", "loss.gamma=-1"], "loss.gamma"),
        (["optimizer.momentum=1"], "optimizer.momentum"),
        (["optimizer=lamb", "optimizer.betas=[0.9,2]"], "optimizer.betas"),
        (["scheduler.final_fraction=-0.1"], "scheduler.final_fraction"),
        (["scheduler=step", "scheduler.gamma=0"], "scheduler.gamma"),
        (["scheduler=plateau", "scheduler.factor=1"], "scheduler.factor"),
        (["scheduler=multistep", "scheduler.milestones=[-5,2]"], "scheduler.milestones"),
        (["trainer.ema_decay=1.5"], "trainer.ema_decay"),
        (["trainer.clip_grad_norm=0"], "trainer.clip_grad_norm"),
        (["task.mixup=0.2", "trainer.micro_batch_size=1"], "task.mixup"),
        (["trainer.global_batch_size=101", "trainer.gpus=0", "trainer.processes=2"], "trainer.global_batch_size"),
        (["name=a/b"], "name"),
        (["name=.."], "name"),
        (["model._target_=3"], "model._target_"),
        (["data.source=imagnet"], "data.source"),
        (["data.channels=2"], "data.channels"),
    ],
)
def test_rules_across_groups_are_enforced(overrides: list[str], key: str) -> None:
    with pytest.raises(UserError) as caught:
        read(overrides)
    assert key in {fault.key for fault in caught.value.faults}


def test_a_run_limited_by_time_needs_a_schedule_without_a_length() -> None:
    config = to_config(compose(["trainer.max_epochs=null", "trainer.max_time=00:01:00", "scheduler=constant"]))
    assert check(config) == []


def test_a_file_that_hydra_cannot_compose_is_reported_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("defaults: null\n_target_: torch.nn.HuberLoss\n")
    with pytest.raises(UserError, match=r"loss=mine: Invalid defaults list in 'loss/mine', defaults must be a list"):
        read(["loss=mine"], Options(tmp_path))


def test_an_empty_callback_is_refused() -> None:
    (message,) = refused("+callback.mine=null")
    assert message.startswith("callback.mine._target_: is missing; write _target_: module.Class")


def test_the_only_key_of_a_name_is_suggested_before_similar_ones() -> None:
    assert closest("max_epochs", ["task.mix_epochs", "trainer.max_epochs"]) == "trainer.max_epochs"
