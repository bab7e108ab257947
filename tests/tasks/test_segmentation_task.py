"""Segmentation: what an image scores, against loops and scikit-learn, and trials that train it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, jaccard_score, log_loss

from lossmith.data import DataSpec, Examples, Splits, load_dataset
from lossmith.tasks import Judged, Segmentation, task_for
from lossmith.tasks.task import Raster
from lossmith.trials.batches import gathered
from lossmith.trials.models import ModelError, build_model
from lossmith.trials.options import Request
from lossmith.trials.request import draft
from lossmith.trials.result import judged_from_bytes, judged_to_bytes
from lossmith.trials.stacks import SingleModel
from lossmith.trials.steppers import PlainStepper
from lossmith.trials.training import splits_of, train
from lossmith.trials.trial import OptimizerSpec, Sources, Trial
from made_trials import changed, made

RNG = np.random.default_rng(0)
N, C, H, W = 12, 4, 6, 7
TRUTH = RNG.integers(0, C - 1, (N, H, W))  # class 3 never occurs
TRUTH[0] = 1
TRUTH[:, 0, :3] = -100
LOGITS = RNG.normal(size=(N, C, H, W)).astype(np.float32)
TASK = Segmentation(("a", "b", "c", "never"), 0.1)


def judge(logits: np.ndarray, truth: np.ndarray = TRUTH, batch: int = 5) -> Judged:
    images = torch.tensor(RNG.normal(size=(len(truth), 3, *truth.shape[1:])))
    examples = Examples(images, torch.tensor(truth).short(), torch.arange(len(truth)) + 100)
    starts = range(0, len(truth), batch)
    return Judged.join([TASK.judge(torch.tensor(logits)[i : i + batch], examples.rows(i, i + batch)) for i in starts])


def test_an_image_scores_the_mean_iou_of_the_classes_in_it() -> None:
    predicted = LOGITS.argmax(1)
    for score, p, y in zip(judge(LOGITS).score, predicted, TRUTH, strict=True):
        overlaps = []
        for c in range(C):
            both = either = there = 0
            for i in range(H):
                for j in range(W):
                    if y[i, j] != -100:
                        both += p[i, j] == c and y[i, j] == c
                        either += p[i, j] == c or y[i, j] == c
                        there += y[i, j] == c
            if there:
                overlaps.append(both / either)
        assert score == pytest.approx(np.mean(overlaps))


def test_a_class_that_is_predicted_but_absent_costs_the_classes_it_takes_pixels_from() -> None:
    """By hand: class 0 fills the image; a quarter of it is called class 3, which has no IoU of its own."""
    truth, logits = np.zeros((1, 4, 4), int), np.zeros((1, C, 4, 4), np.float32)
    logits[:, 0], logits[0, 3, 0] = 1, 2
    assert judge(logits, truth).score.tolist() == [0.75]


def test_the_whole_part_agrees_with_scikit_learn() -> None:
    judged = judge(LOGITS)
    valid = TRUTH != -100
    y, p = TRUTH[valid], LOGITS.argmax(1)[valid]
    told = TASK.metrics(judged) | TASK.columns(judged)
    assert told["data_set_iou"] == pytest.approx(jaccard_score(y, p, labels=np.unique(y), average="macro"))
    assert told["pixel_accuracy"] == pytest.approx(accuracy_score(y, p))
    probabilities = torch.tensor(LOGITS).double().softmax(1).movedim(1, -1)[torch.tensor(valid)].numpy()
    assert told["nll"] == pytest.approx(log_loss(y, probabilities, labels=range(C)), rel=1e-6)
    assert told["mean IoU"] == pytest.approx(judged.score.mean())
    assert (judged.index == np.arange(N) + 100).all()


def test_batches_do_not_matter() -> None:
    whole, parts = judge(LOGITS, batch=N), judge(LOGITS, batch=1)
    assert (whole.score == parts.score).all()
    assert all((whole.columns[name] == parts.columns[name]).all() for name in ("intersection", "union", "truth"))


def test_right_predictions_score_one_and_broken_ones_are_of_class_0() -> None:
    right = np.eye(C, dtype=np.float32)[np.maximum(TRUTH, 0)].transpose(0, 3, 1, 2)
    assert (judge(right).score == 1).all()
    broken = np.full_like(LOGITS, np.nan)
    judged = judge(broken)
    assert judged.score[0] == 0
    assert judged.score[1] == pytest.approx((TRUTH[1] == 0).sum() / (TRUTH[1] != -100).sum() / 3)
    assert np.isinf(judged.columns["nll"]).all()


def test_a_curve_point_is_the_score_and_the_cross_entropy_of_each_model() -> None:
    outputs = torch.tensor(np.stack([LOGITS, 3 * LOGITS]))
    targets = torch.tensor(TRUTH).expand(2, -1, -1, -1)
    point, reference = TASK.curve_point(outputs, targets), TASK.reference_values(outputs, targets)
    for i in range(2):
        judged = judge(outputs[i].numpy())
        assert point[0, i] == pytest.approx(judged.score.mean())
        assert point[1, i] == pytest.approx(judged.columns["nll"].mean(), rel=1e-6)
        assert reference[i] == pytest.approx(F.cross_entropy(outputs[i], targets[i]).item(), rel=1e-6)


def test_a_few_pictures_are_kept_of_the_test_part_alone() -> None:
    valid, test, fitted = TASK.conclude(judge(LOGITS), judge(LOGITS))
    assert test is not None
    assert (valid.few, fitted) == ({}, {})
    assert set(valid.columns) == set(test.columns) == {"intersection", "union", "truth", "nll"}
    again = judged_from_bytes(judged_to_bytes(test))
    rows = again.few["index"] - 100
    assert len(set(rows.tolist())) == 3
    masks = [raster.values[..., 0] for raster in TASK.originals(again)[3:]]
    np.testing.assert_array_equal(masks, np.where(TRUTH == -100, 255, TRUTH)[rows])
    np.testing.assert_array_equal([raster.values[..., 0] for raster in TASK.pictures(again)], LOGITS.argmax(1)[rows])
    assert TASK.originals(again)[0].shape == (H, W, 3)
    assert TASK.pictures(valid) == ()


def test_large_masks_are_shown_thinned() -> None:
    truth = np.zeros((1, 10, 500), int)
    truth[:, :, 250:] = 1
    few = TASK.conclude(judge(np.zeros((1, C, 10, 500), np.float32), truth), judge(np.zeros((1, C, 10, 500)), truth))
    assert few[1] is not None
    assert few[1].few["mask"].shape == (1, 3, 125)


@pytest.mark.parametrize("data", ["", "AAAA", "%", "eJxjYGBgAAAABAAB"])
def test_damaged_pictures_are_refused(data: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        _ = Raster("x", (2, 2, 3), data).values


def test_parts_are_gathered_up_to_a_size() -> None:
    parts = [torch.full((2, n, 3), float(n)) for n in (1, 2, 1, 5, 1)]
    assert [part.shape[1] for part in gathered(iter(parts), 18)] == [3, 1, 5, 1]
    assert torch.equal(torch.cat(list(gathered(parts, 18)), 1), torch.cat(parts, 1))


# --- trials ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Noisy images with two squares each on a ground, and a strip that is ignored."""
    rng, masks = np.random.default_rng(1), np.zeros((40, 13, 17), np.uint8)
    for mask in masks:
        for c in (1, 2):
            i, j = rng.integers(0, 8), rng.integers(0, 12)
            mask[i : i + 5, j : j + 5] = c
    images = rng.normal(90, 30, (*masks.shape, 3)) + 60 * np.eye(4)[masks][..., :3]
    masks[:, 6] = 255
    path = tmp_path_factory.mktemp("masks") / "squares.npz"
    np.savez(path, x=images.clip(0, 255).astype(np.uint8), y=masks, class_names=np.array(["ground", "a", "b", "none"]))
    return str(path)


@pytest.fixture(scope="module")
def sources(squares: str) -> Sources:
    return Sources({"squares": squares, load_dataset(squares).digest: squares})


@pytest.fixture(scope="module")
def trial(squares: str) -> Trial:
    data = DataSpec(load_dataset(squares).digest, task="segmentation")
    optimizer = OptimizerSpec("adam", 0.02)
    return made(data, "unet:depth=2,width=4", "cross_entropy", optimizer, 40, 8, 0, evaluations=2, final=True)


@pytest.fixture(scope="module")
def splits(trial: Trial, sources: Sources) -> Splits:
    return splits_of(trial, sources)


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy+soft_dice", "dynamical:amplitude=3,period=5"])
def test_squares_are_found(trial: Trial, sources: Sources, splits: Splits, loss: str) -> None:
    result = train(changed(trial, loss=loss), sources)
    assert result.test is not None
    assert result.test.score.mean() > 0.5 > 1.5 * task_for(splits).guess
    assert result.curve.score[-1] == pytest.approx(result.scores["mean IoU"])
    assert not result.diverged


@pytest.mark.parametrize(
    "loss", ["adaptive", "rooted", "ngl", "logit_adjusted", "0.5*gce+soft_dice", "adaptive(cross_entropy+soft_dice)"]
)
def test_every_kind_of_loss_trains(trial: Trial, sources: Sources, loss: str) -> None:
    result = train(changed(trial, loss=loss, steps=2), sources)
    assert np.isfinite(result.curve.valid["nll"]).all()
    assert 0 <= result.extended_share <= 1


def test_guessing_is_the_best_constant_class(splits: Splits) -> None:
    """Of a class everywhere, the IoU is its share of the pixels; other classes present have 0."""
    masks = splits.train.targets.numpy()

    def score(constant: int, mask: np.ndarray) -> float:
        there = np.unique(mask[mask >= 0])
        return float(np.mean([(mask == c).sum() / (mask >= 0).sum() if c == constant else 0.0 for c in there]))

    best = max(np.mean([score(constant, mask) for mask in masks]) for constant in range(4))
    assert task_for(splits).guess == pytest.approx(best, rel=1e-5)


def test_class_counts_leave_out_ignored_pixels_and_a_class_without_a_pixel_counts_as_one(splits: Splits) -> None:
    masks = splits.train.targets
    counts = [int((masks == c).sum()) for c in range(3)]
    assert task_for(splits).facts(splits) == {"class_counts": [*counts, 1]}


@pytest.mark.parametrize("weight", [None, [1.0, 5.0, 0.5, 1.0]])
def test_a_step_takes_the_gradient_of_torchs_cross_entropy(
    trial: Trial, sources: Sources, splits: Splits, weight: list[float] | None
) -> None:
    text = "cross_entropy" if weight is None else f"cross_entropy:weight=[{','.join(map(str, weight))}]"
    trial, task = changed(trial, loss=text), task_for(splits)
    models = SingleModel(build_model(trial.ours.model, splits, task.outputs, sources, 0), trial.optimizer)
    stepper = PlainStepper([trial], models, splits, task, "cpu")
    targets = splits.train.batch(torch.arange(8))[1][None]
    outputs = torch.randn(1, 8, 4, 13, 17, requires_grad=True)
    (ours,) = torch.autograd.grad(stepper.groups[0].means(outputs, targets, 8).sum(), outputs)
    torchs = F.cross_entropy(outputs[0], targets[0], None if weight is None else torch.tensor(weight))
    torch.testing.assert_close(ours, torch.autograd.grad(torchs, outputs)[0])


def test_the_evaluation_is_bounded_by_pixels(trial: Trial) -> None:
    seen: list[int] = []

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return x

    spy = Spy()
    spy.unused = torch.nn.Parameter(torch.zeros(1))
    models = SingleModel(spy, trial.optimizer)
    assert sum(part.shape[1] for part in models.predict(torch.zeros(10, 3, 512, 512))) == 10
    assert seen == [1] * 10
    seen.clear()
    list(models.predict(torch.zeros(600, 3, 32, 32)))
    assert seen == [256, 256, 88]


def test_large_masks_make_small_batches(tmp_path: Path) -> None:
    masks = np.zeros((40, 128, 96), np.uint8)
    masks[:, :9] = 1
    np.savez_compressed(tmp_path / "large.npz", x=masks, y=masks)
    assert draft(Request(data=str(tmp_path / "large.npz"), model="unet"), Sources()).trial.ours.batch_size == 5


def test_mistakes_are_told_in_a_sentence(squares: str, sources: Sources, trial: Trial, splits: Splits) -> None:
    drafted = draft(Request(data=squares, model="unet"), Sources())
    assert (drafted.trial.ours.engine, drafted.trial.ours.batch_size) == ("single", 16)
    with pytest.raises(ModelError, match="no output for each pixel: use unet"):
        build_model("mlp", splits, 4, sources, 0)
    with pytest.raises(ValueError, match="segmentation, not for classification"):
        train(changed(trial, data=DataSpec("iris"), model="linear", loss="soft_dice"), Sources())
    with pytest.raises(ValueError, match="regression, not for segmentation"):
        train(changed(trial, loss="mse"), sources)


CAMVID = Path(__file__).parents[3] / "shared" / "data" / "camvid"


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid lies beside a developer's checkout only")
def test_camvid_is_learned_beyond_the_road(tmp_path: Path) -> None:
    """A third of the pixels are road; a U-Net finds sky, buildings, road and trees within a few hundred steps."""
    script = Path(__file__).parents[2] / "benchmarks" / "camvid.py"
    subprocess.run([sys.executable, script, CAMVID, tmp_path / "camvid.npz", "64", "48"], check=True)
    drafted = draft(
        Request(data=str(tmp_path / "camvid.npz"), model="unet:width=8", batch_size=8, steps=150), Sources()
    )
    sources = Sources({drafted.trial.ours.data.source: str(tmp_path / "camvid.npz")})
    assert [len(part) for part in (drafted.splits.train, drafted.splits.valid, drafted.splits.test)] == [367, 101, 233]
    optimizer = replace(drafted.trial.optimizer, lr=0.008)
    result = train(changed(drafted.trial, optimizer=optimizer, final=True, evaluations=3), sources)
    assert result.test is not None
    assert drafted.task.metrics(result.test)["mean IoU"] > 4 * drafted.task.guess
    assert drafted.task.columns(result.test)["pixel_accuracy"] > 0.6
