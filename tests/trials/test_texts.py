from __future__ import annotations

import pytest

from lossmith.data import DataSpec
from lossmith.trials.texts import REPLAY_STREAM, canonical, default_values, parse, with_loss
from lossmith.trials.trial import Adaptive, OptimizerSpec, Replay
from made_trials import changed, made

TRIAL = made(DataSpec("iris"), "mlp", "cross_entropy", OptimizerSpec("adam", 0.01), 4, 16, 3, engine="stacked")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("adaptive:every=1,meta_lr=0.001", "adaptive"),
        ("adaptive:max_scale=3,control=scale", "adaptive:control=scale,max_scale=3"),
        ("adaptive:scale=learned,max_scale=inf", "adaptive:max_scale=inf,scale=learned"),
        ("adaptive:online=false,offline=250", "adaptive:offline=250,online=false"),
        ("adaptive(rooted:k=5.0):meta_lr=1e-4,hidden=8,meta_data=next", None),
        ("adaptive:meta_lr=?,hidden=40,control=rate_replay", "adaptive:control=rate_replay,meta_lr=?"),
        ("ml3:offline=250,meta_data=fresh", "ml3:meta_data=fresh"),
        ("adaptive_regression:meta_lr=?", None),
        ("adaptive:scale=learned,max_scale=10", "adaptive:scale=learned"),
        ("1*adaptive:meta_lr=0.01", "adaptive:meta_lr=0.01"),
        ("adaptive:weight=[1,2,3]", "adaptive(cross_entropy:weight=[1,2,3])"),
        ("focal:gamma=2", "focal"),
    ],
)
def test_canonical_texts(text: str, same: str | None) -> None:
    same = "adaptive(rooted:k=5):hidden=8,meta_data=next,meta_lr=0.0001" if "rooted" in text else same or text
    assert canonical(text) == same
    assert canonical(same) == same


def test_a_text_says_the_loss_and_how_it_is_learned() -> None:
    trial = with_loss(TRIAL, "adaptive(focal):hidden=8,meta_data=next,meta_lr=0.01")
    assert trial.loss == "adaptive(focal):hidden=8"
    assert trial.stepper == Adaptive(meta_data="next", meta_lr=0.01)
    assert not trial.is_stacked
    assert with_loss(TRIAL, "adaptive:control=scale").stepper == Adaptive(scale="learned")
    assert with_loss(TRIAL, "ml3").stepper == Adaptive(
        online=False, offline=250, offline_lr=0.01, scale="learned"
    )  # fmt: skip
    assert default_values("ml3")["meta_lr"] == 1e-3


def test_a_replay_names_the_training_it_replays() -> None:
    """The rate replay that of the arm itself, so that it need not be trained again."""
    text = "adaptive(focal):meta_lr=0.01,scale=learned"
    own = with_loss(TRIAL, text)
    rate, loss = (with_loss(TRIAL, f"{text},control={kind}_replay") for kind in ("rate", "loss"))
    assert rate.stepper == Replay(own, "rate")
    assert rate.loss == "adaptive(focal):control=scale"
    assert loss.source == changed(own, seed=3 + REPLAY_STREAM, probes=("parameters",))
    assert loss.loss == own.loss
    assert len({own.hash, rate.hash, loss.hash}) == 3


@pytest.mark.parametrize("control", ["none", "rate_replay", "loss_replay"])
def test_every_spelling_of_a_loss_is_one_trial(control: str) -> None:
    trials = [
        with_loss(TRIAL, f"{text},control={control}")
        for text in (
            "adaptive:weight=[1,2,3]",
            "adaptive(cross_entropy:weight=[1,2,3]):every=1",
            "1*adaptive:every=1.0,weight=[1,2,3]",
        )
    ]
    assert len({trial.hash for trial in trials}) == 1
    assert "weight=[1,2,3]" in trials[0].loss


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("adaptive:meta_lrr=1", "did you mean 'meta_lr'"),
        ("adaptive:meta_data=elsewhere", "meta_data"),
        ("adaptive:meta_lr=-1", "meta_lr"),
        ("adaptive:offline=0.5", "offline"),
        ("adaptive:max_scale=3", "scale='learned'"),
        ("adaptive:scale=big", "scale"),
        ("adaptive:control=scale,scale=fixed", "leave out scale=fixed"),
        ("ml3:online=true", "no argument 'online'"),
        ("ml3:control=rate_replay", "no argument 'control'"),
        ("ml3:meta_data=next", "held_out, fresh or same"),
        ("focal:meta_lr=1", "no argument 'meta_lr'"),
    ],
)
def test_bad_settings_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        canonical(text)


def test_a_model_cannot_train_on_the_examples_that_teach_its_loss() -> None:
    with pytest.raises(ValueError, match="takes the clean examples as meta data"):
        with_loss(changed(TRIAL, clean="mixed", clean_share=0.5), "adaptive")


def test_settings_are_no_arguments_of_the_loss() -> None:
    assert parse("adaptive:meta_lr=?,hidden=8").settings.keys() == {"meta_lr"}
