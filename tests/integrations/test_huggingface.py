"""Losses in `transformers.Trainer` against a plain loop on large batches, in one process and in two."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

import lossmith
from lossmith.losses import CrossEntropyLoss, DynamicalLoss, MLoss, SoftDiceLoss
from lossmith.losses.loss import Loss

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="needs lossmith[huggingface]")
pytest.importorskip("accelerate", reason="needs lossmith[huggingface]")

from lossmith.integrations.huggingface import LossCallback, compute_loss_func  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # other libraries' own

ROWS, WORDS, LABELS, LENGTH = 24, 11, 3, 7
STEPS, LR = 3, 0.5
DYNAMICAL = "dynamical(m):amplitude=9,period=2"


def rows() -> list[dict[str, Any]]:
    """Sentences of which each has another number of labels that count."""
    generator = torch.Generator().manual_seed(5)
    words = torch.randint(WORDS, (ROWS, LENGTH), generator=generator)
    labels = torch.randint(LABELS, (ROWS, LENGTH), generator=generator)
    kept = torch.arange(LENGTH) < torch.randint(LENGTH, (ROWS, 1), generator=generator) + 1
    labels = labels.where(kept, -100)
    return [{"words": words[i], "labels": labels[i]} for i in range(ROWS)]


class Tagger(nn.Module):
    """Marks each word of a sentence; double, so that sums in another order agree to many digits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, 5, dtype=torch.float64)
        self.head = nn.Linear(5, LABELS, dtype=torch.float64)

    def forward(self, words: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.words(words).cumsum(1).tanh())}


class InOrder(transformers.Trainer):
    """Takes the rows in their order."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer_of(
    loss: Loss, folder: Path, batch: int, accumulated: int = 1, run: Any = None, metric: str = "loss", **options: Any
) -> Any:
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulated,
        "max_steps": STEPS,
        "learning_rate": LR,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
    }
    return InOrder(
        Tagger(),
        transformers.TrainingArguments(**(settings | options)),
        train_dataset=rows(),
        eval_dataset=rows(),
        compute_loss_func=compute_loss_func(loss),
        callbacks=[LossCallback(loss, run, metric)],
    )


def by_trainer(
    loss: Loss, folder: Path, batch: int, accumulated: int = 1, resume: str | None = None, **options: Any
) -> dict[str, Tensor]:
    """The weights after some steps of plain SGD."""
    trainer = trainer_of(loss, folder, batch, accumulated, **options)
    trainer.train(resume_from_checkpoint=resume)
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def by_hand(loss: Loss, batch: int) -> dict[str, Tensor]:
    """The same by a plain loop on large batches."""
    model, data = Tagger(), rows()
    optimizer = torch.optim.SGD(model.parameters(), LR)
    for step in range(STEPS):
        part = [data[(step * batch + i) % ROWS] for i in range(batch)]
        words, labels = (torch.stack([row[name] for row in part]) for name in ("words", "labels"))
        optimizer.zero_grad()
        loss(model(words)["logits"].transpose(1, 2), labels).backward()
        optimizer.step()
        loss.step()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("text", ["cross_entropy", "rooted:k=3", "ngl", "focal", "adaptive", DYNAMICAL])
@pytest.mark.parametrize(("batch", "accumulated"), [(8, 1), (2, 4), (1, 8)])
def test_uneven_small_batches_make_the_step_of_one_large_batch(
    text: str, batch: int, accumulated: int, tmp_path: Path
) -> None:
    """Rows hold 1 to 7 labels that count, so that a mean of the small batches' means is another number."""
    found = by_trainer(lossmith.create(text).double(), tmp_path, batch, accumulated)
    torch.testing.assert_close(found, by_hand(lossmith.create(text).double(), 8), rtol=1e-11, atol=1e-13)


def worker(rank: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    found = by_trainer(lossmith.create(DYNAMICAL), Path(folder), 2, 2, ddp_backend="gloo")
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no distributed training")
def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    """Each of them takes two batches of two rows a step, which together are the eight rows of a large batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, (str(tmp_path), port), nprocs=2)
    alone = by_hand(lossmith.create(DYNAMICAL), 8)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, alone, rtol=1e-11, atol=1e-13)


def test_a_resumed_training_goes_on_with_its_schedule(tmp_path: Path) -> None:
    whole, rest = lossmith.create(DYNAMICAL), lossmith.create(DYNAMICAL)
    found = by_trainer(whole, tmp_path, 8, save_strategy="steps", save_steps=2)
    resumed = by_trainer(rest, tmp_path, 8, resume=str(tmp_path / "checkpoint-2"))
    assert int(whole.steps_taken) == int(rest.steps_taken) == STEPS
    torch.testing.assert_close(resumed, found)


class Noted:
    """The part of a run that a callback uses."""

    steps = STEPS

    def __init__(self, stop_after: int | None = None) -> None:
        self.points: list[tuple[int, float]] = []
        self.stop_after = stop_after

    @property
    def should_stop(self) -> bool:
        return len(self.points) == self.stop_after

    def log(self, step: int, score: float) -> None:
        assert not self.points or step > self.points[-1][0]
        self.points.append((step, score))


@pytest.mark.parametrize("stop_after", [None, 2])
def test_evaluations_of_the_training_are_logged_and_end_it(stop_after: int | None, tmp_path: Path) -> None:
    """Each with the loss's base, whatever its schedule; evaluations afterwards are not logged."""
    run, loss = Noted(stop_after), lossmith.create(DYNAMICAL)
    options = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": ROWS}
    trainer = trainer_of(loss, tmp_path, 8, run=run, **options)
    trainer.train()
    assert [step for step, _ in run.points] == list(range(1, (stop_after or STEPS) + 1))
    assert int(loss.steps_taken) == len(run.points)
    last = -trainer.evaluate()["eval_loss"]
    assert run.points[-1][1] == pytest.approx(last)
    assert len(run.points) == int(loss.steps_taken)
    data = rows()
    words, labels = (torch.stack([row[name] for row in data]) for name in ("words", "labels"))
    with torch.no_grad():
        exact = lossmith.create("m")(trainer.model(words)["logits"].transpose(1, 2), labels)
    assert last == pytest.approx(-float(exact), rel=1e-6)


def test_a_metric_that_is_not_measured_is_named(tmp_path: Path) -> None:
    trainer = trainer_of(lossmith.create("m"), tmp_path, 8, run=Noted(), metric="f1", eval_strategy="epoch")
    with pytest.raises(ValueError, match=r"no metric 'eval_f1'.*eval_loss"):
        trainer.train()


def computed(loss: Loss | str, logits: Tensor, labels: Tensor, count: int | None) -> Tensor:
    made = lossmith.create(loss) if isinstance(loss, str) else loss
    return compute_loss_func(made)({"logits": logits}, labels, num_items_in_batch=count)


def test_tokens_are_divided_by_the_count() -> None:
    logits, labels = torch.randn(4, 6, 5), torch.randint(5, (4, 6))
    labels[:, 4:] = -100
    total = F.cross_entropy(logits.view(-1, 5), labels.view(-1), reduction="sum")
    torch.testing.assert_close(computed("cross_entropy", logits, labels, 40), total / 40)
    torch.testing.assert_close(computed("cross_entropy", logits, labels, None), total / 16)
    causal = compute_loss_func(CrossEntropyLoss(), causal=True)
    total = F.cross_entropy(logits[:, :-1].reshape(-1, 5), labels[:, 1:].reshape(-1), reduction="sum")
    torch.testing.assert_close(causal((logits,), labels, num_items_in_batch=12), total / 12)


def test_the_trainer_counts_the_labels_of_causal_models_as_the_shift_leaves_them(tmp_path: Path) -> None:
    """A row of T labels has T - 1 predictions."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=9, **sizes)).eval()
    arguments = transformers.TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    trainer = transformers.Trainer(
        model, arguments, compute_loss_func=compute_loss_func(CrossEntropyLoss(), causal=True)
    )
    ids = torch.randint(9, (4, 8))
    batch = {"input_ids": ids, "labels": ids}
    count = trainer._get_num_items_in_batch([batch, batch], torch.device("cpu"))
    assert int(count) == 2 * 4 * 7
    torch.testing.assert_close(
        2 * trainer.compute_loss(model, dict(batch), num_items_in_batch=count), model(**batch).loss
    )


def test_rows_pixels_probabilities_and_numbers() -> None:
    """Against torch's losses, at the count that the Trainer makes of such labels."""
    logits, classes = torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(computed("cross_entropy", logits, classes, 8), F.cross_entropy(logits, classes))
    pixels, masks = torch.randn(2, 5, 4, 3), torch.randint(5, (2, 4, 3))
    torch.testing.assert_close(computed("cross_entropy", pixels, masks, 24), F.cross_entropy(pixels, masks))
    soft = torch.rand(8, 5).softmax(1)
    torch.testing.assert_close(computed("cross_entropy", logits, soft, 40), F.cross_entropy(logits, soft))
    yes = torch.randint(2, (8, 5)).float()
    exact = F.binary_cross_entropy_with_logits(logits, yes)
    torch.testing.assert_close(computed(CrossEntropyLoss(task="binary"), logits, yes, 40), exact)
    tags, of_tags = torch.randn(4, 6, 5), torch.randint(2, (4, 6, 5)).float()  # several for each token
    exact = F.binary_cross_entropy_with_logits(tags, of_tags)
    torch.testing.assert_close(computed(CrossEntropyLoss(task="binary"), tags, of_tags, 120), exact)
    soft = torch.rand(4, 6, 5).softmax(2)
    exact = F.cross_entropy(tags.flatten(0, 1), soft.flatten(0, 1))
    torch.testing.assert_close(computed("cross_entropy", tags, soft, 120), exact)
    numbers = torch.randn(8)
    torch.testing.assert_close(computed("mse", logits[:, :1], numbers, 8), F.mse_loss(logits[:, 0], numbers))
    torch.testing.assert_close(computed("mse", logits[:, :1], numbers, None), F.mse_loss(logits[:, 0], numbers))


def test_data_parallel_counts_once_for_each_device() -> None:
    """There the Trainer repeats the count n times, multiplies the loss by n and takes the mean."""
    logits, classes = torch.randn(8, 5), torch.randint(5, (8,))
    count = torch.tensor(8).unsqueeze(0).expand(2, -1)
    loss = compute_loss_func(CrossEntropyLoss())({"logits": logits}, classes, num_items_in_batch=count)
    torch.testing.assert_close((2 * loss).mean(), F.cross_entropy(logits, classes))


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (SoftDiceLoss(), "averages over images"),
        (MLoss(reduction="sum"), "reduction='mean'"),
        (DynamicalLoss(MLoss(ignore_index=0)), "ignore_index=-100"),
        (nn.CrossEntropyLoss(), "one of Lossmith's"),
    ],
)
def test_what_could_not_be_exact_is_refused(loss: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compute_loss_func(loss)


def test_a_batch_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="no 'labels'"):
        compute_loss_func(MLoss())({"logits": torch.zeros(2, 2)}, None)
